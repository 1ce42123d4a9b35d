"""The real cases come in by a table: two name styles, masks by model, two without grade."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scripts.cohorts.scan import scan_cohort
from tests.cohort_files import write_table

VARIABLE = "BRATS_REAL_DATA_DIR"
KINDS = {"-": ("t1n", "t1c", "t2w", "t2f"), "_": ("t1", "t1ce", "t2", "flair")}
CASES = [  # subject, separator, kind of the mask, its source, its codes, grade
    ("BraTS-GLI-00000-000", "-", "seg", "expert", "brats_2023", ""),
    ("BraTS-GLI-00001-000", "-", "autoseg", "model", "brats_2023", ""),
    ("TCGA-DU-7294", "_", "autoseg", "model", "brats_2017", "LGG"),
    ("TCGA-FG-6692", "_", "autoseg", "model", "brats_2017", "LGG"),
]


@pytest.fixture
def real_dir():
    folder = os.environ.get(VARIABLE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{VARIABLE} does not name the folder of the four real cases")
    return Path(folder)


def real_table(real_dir: Path, path: Path, codes: bool = True) -> Path:
    rows = []
    for subject_id, separator, mask_kind, source, convention, grade in CASES:
        stem = real_dir / subject_id / subject_id
        files = {kind: f"{stem}{separator}{own}.nii.gz" for kind, own in zip(KINDS["-"], KINDS[separator], strict=True)}
        mask = {"mask": f"{stem}{separator}{mask_kind}.nii.gz", "mask_source": source}
        rows.append({"subject_id": subject_id, "grade": grade, "site": "", **files, **mask})
        rows[-1] |= {"mask_codes": convention} if codes else {}
    return write_table(path, rows)


def test_the_four_real_cases_come_in_by_a_table(real_dir, tmp_path):
    cohort = json.loads(scan_cohort(real_table(real_dir, tmp_path / "real.csv"), tmp_path / "out").read_text())
    assert [s["grade"] for s in cohort["subjects"]] == [None, None, "LGG", "LGG"]
    assert [s["mask_source"] for s in cohort["subjects"]] == ["expert", "model", "model", "model"]
    enhancing = [s.get("mask_codes", cohort["mask_codes"])["enhancing"] for s in cohort["subjects"]]
    assert enhancing == [3, 3, 4, 4]
    assert cohort["subjects"][1]["patient_id"] == "BraTS-GLI-00001"


def test_two_conventions_in_one_table_must_be_declared(real_dir, tmp_path):
    with pytest.raises(ValueError, match="mask codes must fit the conventions of layout table"):
        scan_cohort(real_table(real_dir, tmp_path / "real.csv", codes=False), tmp_path / "out", check_voxels=False)


def test_the_folder_of_two_styles_is_referred_to_a_table(real_dir, tmp_path):
    with pytest.raises(ValueError, match="got files of both styles; list the files in a table"):
        scan_cohort(real_dir, tmp_path / "out")
