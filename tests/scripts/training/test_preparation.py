"""The data of a training made of a folder of patients: by the flat config, once, and of one source."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from scripts.running.configs import Invocation
from scripts.running.errors import root_cause
from scripts.running.files import read_json
from scripts.running.stages import OtherRunError, invoked, run_invocation
from scripts.training.preparation import make_training_data, refuse_keys_of_cohort
from tests.helpers import ROOT
from tests.tiny_subjects import write_cohort

SIZES: dict[str, Any] = {
    "bundle_root": str(ROOT),
    "device": "cpu",
    "num_threads": 1,
    "num_folds": 2,
    "patch_size": [16, 16],
    "patch_spacing_mm": 6.0,
    "classifier_backbone": "resnet10_thin",
    "classifier_stem_stride": 1,
    "classifier_max_epochs": 1,
    "classifier_batch_size": 4,
}


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data") / "patients")


def train(folder: Path, **changed: Any) -> None:
    """Run the flat train.json with its files in a folder."""
    paths = {f"{name}_path": str(folder / name / f"{name}.json") for name in ("patches", "splits")}
    settings = {**SIZES, **paths, "output_dir": str(folder / "classifier"), **changed}
    try:
        run_invocation(Invocation((str(ROOT / "configs" / "train.json"),), settings))
    except RuntimeError as error:
        raise root_cause(error) from None


@pytest.fixture(scope="module")
def trained(patients, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    train(folder, dataset_dir=str(patients))
    return folder


def write_table(cohort: Path) -> Path:
    """Write the cohort as a table, which the cohort stage reads."""
    rows = [
        {"subject_id": subject["subject_id"], "grade": subject["grade"], "site": "A"}
        | subject["images"]
        | {"mask": subject["mask"]}
        for subject in read_json(cohort / "cohort.json")["subjects"]
    ]
    path = cohort.parent / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_folder_of_patients_ends_in_a_trained_fold(trained, patients):
    assert (trained / "classifier" / "model.pt").is_file()
    records = {name: read_json(trained / name / "stage.json") for name in ("patches", "splits", "classifier")}
    assert [record["finished"] for record in records.values()] == [True] * 3
    patches = read_json(trained / "patches" / "patches.json")
    assert (patches["patch_size"], patches["spacing_mm"]) == ([16, 16], 6.0)
    assert len(read_json(trained / "splits" / "splits.json")["folds"]) == 2
    assert not (trained / "cohort").exists()  # the folder's own is taken


def test_what_is_finished_is_passed_over(trained, patients, tmp_path):
    made = {path: path.stat().st_mtime_ns for name in ("patches", "splits") for path in (trained / name).iterdir()}
    train(trained, dataset_dir=str(patients), fold=1, output_dir=str(tmp_path / "fold1"))
    assert read_json(tmp_path / "fold1" / "stage.json")["finished"]
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_other_settings_and_another_source_are_refused_in_the_same_folders(trained, patients, tmp_path):
    out = str(tmp_path / "out")
    with pytest.raises(OtherRunError, match=r"dataset_dir .* differs in patch_spacing_mm.*--patches_path and"):
        train(trained, dataset_dir=str(patients), patch_spacing_mm=5.0, output_dir=out)
    with pytest.raises(OtherRunError, match=r"dataset_dir .* differs in intensity_percentiles; give"):
        train(trained, dataset_dir=str(patients), intensity_percentiles="$(1, 99)", output_dir=out)
    for of_training in ("$1.25 * @classifier_batch_size", "@classifier_batch_size"):  # a key that cohorts do not have
        with pytest.raises(OtherRunError, match=r"dataset_dir .* differs in patch_spacing_mm; give"):
            train(trained, dataset_dir=str(patients), patch_spacing_mm=of_training, output_dir=out)
    with pytest.raises(OtherRunError, match=r"dataset_dir .* differs in intensity_percentiles; give"):
        train(trained, dataset_dir=str(patients), intensity_percentiles=["$0.5 + 0.5", 99.5], output_dir=out)
    table = write_table(patients)
    with pytest.raises(OtherRunError, match=r"dataset_dir .*table.csv cannot be made into these folders.* inputs "):
        train(trained, dataset_dir=str(table), mask_codes="brats_2017", output_dir=out)
    cohort = read_json(trained / "cohort" / "cohort.json")  # made of the table, beside the patches
    assert len(cohort["subjects"]) == 10
    assert not (tmp_path / "out").exists()


def files_of(folder: Path, *names: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for name in names for path in (folder / name).iterdir()}


def test_what_a_training_may_overwrite_is_never_its_data(trained, patients, tmp_path):
    made = files_of(trained, "patches", "splits")
    out = str(tmp_path / "out")
    train(trained, dataset_dir=str(patients), overwrite=True, seed=1, num_threads=2, output_dir=out)  # its own
    assert read_json(tmp_path / "out" / "stage.json")["identity"]["seed"] == 1
    with pytest.raises(OtherRunError, match=r"differs in patch_spacing_mm; give --patches_path and"):
        train(trained, dataset_dir=str(patients), overwrite=True, patch_spacing_mm=5.0, output_dir=out)
    with pytest.raises(OtherRunError, match=r"patches must be .* differs in seed; give --patches_path"):
        train(trained, dataset_dir=str(patients), overwrite=True, output_dir=out, **{"data_settings#seed": 1})
    assert files_of(trained, "patches", "splits") == made


def test_keys_of_a_cohort_are_refused_where_it_was_made_without_them(trained, patients, tmp_path):
    message = "must hold a cohort.json that was made with the keys of the cohort, got class_map, leave_out, which"
    keys: dict[str, Any] = {"leave_out": ["S1"], "class_map": {"astro II": "LGG"}}
    out = str(tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        train(trained, dataset_dir=str(patients), output_dir=out, **keys)
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("leave_out: [S1]\n", encoding="utf-8")
    recipe = str(ROOT / "configs" / "recipes" / "volumes.yaml")  # which says require_masks, of folders without masks
    said = {**keys, "require_masks": False}
    with invoked(Invocation((str(ROOT / "configs" / "train.json"), recipe, str(overlay)))):
        with pytest.raises(ValueError, match="got class_map, leave_out, which"):
            refuse_keys_of_cohort(patients, ROOT / "configs", said)
        record = {"finished": True, "identity": {"settings": keys}}
        (tmp_path / "stage.json").write_text(json.dumps(record), encoding="utf-8")
        refuse_keys_of_cohort(tmp_path, ROOT / "configs", said)  # made with them


def test_what_is_missing_is_told_with_what_to_type(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"patches.json does not exist; pass --dataset_dir DATA"):
        train(tmp_path)


def test_files_of_other_names_are_refused(patients, tmp_path):
    with pytest.raises(ValueError, match="splits_path must be named splits.json where dataset_dir makes it"):
        train(tmp_path, dataset_dir=str(patients), splits_path=str(tmp_path / "parts.json"))


def test_keys_of_the_stages_before_are_known_where_these_run_and_nowhere_else(trained, tmp_path):
    with pytest.raises(ValueError, match="--mask_codes must name a key"):
        train(trained, mask_codes="brats_2017", output_dir=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="--source_path must name a key"):
        train(trained, dataset_dir="data", source_path="data", output_dir=str(tmp_path / "out"))


def test_cases_of_monai_label_need_no_data_of_a_fold(tmp_path):
    missing = [str(tmp_path / name) for name in ("patches.json", "splits.json")]
    files = (str(ROOT / "configs" / "train.json"),)
    with invoked(Invocation(files, {"train#dataset#data": [{"image": "a.nii.gz", "label": "b.nii.gz"}]})):
        make_training_data("data", str(ROOT / "configs"), *missing, settings={})
    with invoked(Invocation(files)), pytest.raises(FileNotFoundError, match="pass --dataset_dir DATA"):
        make_training_data("data", str(ROOT / "configs"), *missing, settings={})
