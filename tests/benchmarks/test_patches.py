"""The bench of patches compares two ways to the same numbers."""

from __future__ import annotations

import sys

from benchmarks import patches
from scripts.running.files import write_json
from tests.tiny_subjects import AFFINE, MASK_CODES, MODALITIES, make_images, make_mask, reoriented, write_subject


def test_the_stock_chain_gives_the_same_patch_and_ratios_are_printed(tmp_path, monkeypatch, capsys):
    images = {key: reoriented(array, AFFINE, "LPS")[0] for key, array in make_images().items()}
    mask, affine = reoriented(make_mask(), AFFINE, "LPS")
    subjects = [write_subject(tmp_path / "S1", images, mask, affine)]
    cohort = {"name": "tiny", "modalities": MODALITIES, "mask_codes": MASK_CODES, "subjects": subjects}
    write_json(tmp_path / "cohort.json", cohort)
    monkeypatch.setattr(sys, "argv", ["patches", str(tmp_path / "cohort.json"), "--repeats", "1"])
    patches.main()
    printed = capsys.readouterr().out
    assert "stock MONAI chain" in printed
    assert "1.00 x" in printed
