"""The record beside weights."""

from __future__ import annotations

import pytest

from scripts.provenance.record import hash_subject, hash_subjects, read_provenance, write_provenance


def test_provenance_ties_hashed_subjects_to_weights(tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    written = write_provenance(
        weights, cohorts=["a"], subjects=["s2", "s1", "s1"], simulated=True, fold=1, method="ddpm"
    )
    record = read_provenance(weights)
    assert record["subjects"] == hash_subjects(["s1", "s2"])
    assert len(record["subjects"]) == 2
    assert "s1" not in written.read_text()
    assert hash_subject("s1") in record["subjects"]
    weights.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="must be about model.pt"):
        read_provenance(weights)
