"""The files of a subject."""

from __future__ import annotations

import pytest

from tests.tiny_subjects import write_subject


@pytest.fixture
def subject(tmp_path):
    return write_subject(tmp_path / "S1")
