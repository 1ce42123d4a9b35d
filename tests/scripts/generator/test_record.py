"""The record of a generator."""

from __future__ import annotations

import pytest

from scripts.generator.record import checked_provenance


def test_weights_without_a_record_are_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(FileNotFoundError, match="provenance.json"):
        checked_provenance(str(tmp_path / "model.pt"), "LGG")
