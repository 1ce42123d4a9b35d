"""A patient, and weights that answer."""

from __future__ import annotations

import pytest

from tests.inference_requests import make_weights
from tests.tiny_subjects import write_subject


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights") / "models")


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("patient"))
