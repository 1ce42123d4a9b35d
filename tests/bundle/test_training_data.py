"""Both trainings of a package from a folder of patients, by the package's own stages and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import run_workflow

from scripts.running.files import read_json
from tests.tiny_subjects import write_cohort


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data") / "patients")


def test_both_trainings_of_a_package_make_their_data_of_a_folder(patients, elsewhere, tmp_path):
    settings: dict[str, Any] = {
        "bundle_root": str(elsewhere),
        "device": "cpu",
        "num_threads": 1,
        "dataset_dir": str(patients),
        "min_et_ml": 0.02,  # a key of patches.json
    }
    for name, more in (
        ("train", {"classifier_max_epochs": 1}),
        ("train_generator", {"generator_max_epochs": 1, "generator_num_validation_draws": 2}),
    ):
        out = tmp_path / name
        config = str(elsewhere / "configs" / f"{name}.json")
        run_workflow(
            config_file=config, workflow_type="train", logging_file=False, output_dir=str(out), **settings, **more
        )
        assert read_json(out / "stage.json")["finished"]
        assert (out / "model.pt").is_file()
    patches = read_json(tmp_path / "runs" / "patches" / "patches.json")
    assert (patches["patch_size"], patches["spacing_mm"]) == ([16, 24], 6.0)
    assert read_json(tmp_path / "runs" / "patches" / "stage.json")["identity"]["settings"]["min_et_ml"] == 0.02
