"""A picture set through every stage: no brain, no lesion, no mm, and nothing trips over what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.stages import run_invocation
from tests.helpers import ROOT, TINY, config_files
from tests.picture_folders import LEUKEMIA_CLASSES, pixels, save_picture, write_leukemia

PICTURES = str(ROOT / "configs" / "recipes" / "pictures.yaml")
FEW = {"generator_condition": "label", "generator_max_epochs": 1, "classifier_max_epochs": 1, "num_folds": 1}


def run(*names: str, **overrides: Any) -> None:
    settings = {"classes": LEUKEMIA_CLASSES, "device": "cpu", **FEW, **overrides}
    known = Invocation((*config_files(*names), TINY, PICTURES), {}).merged()
    run_invocation(
        Invocation((*config_files(*names), TINY, PICTURES), {k: v for k, v in settings.items() if k in known})
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The stages of a leukemia-like set, by hand and in order."""
    folder = tmp_path_factory.mktemp("pictures")
    source = write_leukemia(folder / "leukemia", count=12)
    lists = {"patches_path": str(folder / "patches/patches.json"), "splits_path": str(folder / "splits/splits.json")}
    cohort = {"cohort_path": str(folder / "cohort/cohort.json")}
    run("cohort", source_path=str(source), subtree="Original", output_dir=str(folder / "cohort"))
    run("patches", output_dir=str(folder / "patches"), **cohort)
    run("splits", output_dir=str(folder / "splits"), inner_fraction=0.2, **cohort)
    run("train_generator", output_dir=str(folder / "generator"), **lists)
    generator = {"generator_path": str(folder / "generator/model.pt"), "guidance_scale": 1.5}
    for name in LEUKEMIA_CLASSES:
        where = {"generator_class": name, "output_dir": str(folder / f"synthetic_{name}"), "num_images": 8}
        run("generate", **lists, **generator, **where)
    sets = [str(folder / f"synthetic_{name}/synthetic.json") for name in LEUKEMIA_CLASSES]
    synthetic = {"synthetic_method": "ddpm", "synthetic_paths": sets, "train_on_real": False, "setup": "synthetic_only"}
    run("train_classifier", output_dir=str(folder / "classifier"), **lists, **synthetic)
    members = [str(folder / "classifier/model.pt")]
    run("evaluate", output_dir=str(folder / "evaluation"), setup="synthetic_only", member_paths=members, **lists)
    run("measure_images", output_dir=str(folder / "measures"), synthetic_path=sets[0], measure_real_parts=["test"],
        real_path=lists["patches_path"], splits_path=lists["splits_path"])  # fmt: skip
    run("audit", output_dir=str(folder / "audit"), synthetic_path=sets[0], held_out_part="test", **lists)
    run("report", study_dir=str(folder), output_dir=str(folder / "report"))
    return folder


def test_patches_tell_nothing_that_pictures_do_not_have(study):
    patches = read_json(study / "patches" / "patches.json")
    assert patches["spacing_mm"] is None
    assert patches["preprocessing"]["MeasureIntensitiesd.range"] == [0, 255]
    assert patches["preprocessing"]["MeasureIntensitiesd.background"] is False
    assert {row["region"] for row in patches["training"]} == {None}


def test_synthetic_images_have_no_background_either(study):
    assert read_json(study / "synthetic_Benign" / "synthetic.json")["spacing_mm"] is None
    assert read_json(study / "generator" / "provenance.json")["images"]["patch_size"] == [16, 16]


def test_a_classifier_of_synthetic_pictures_is_tested_on_real_ones(study):
    roles = {role["role"]: role for role in read_json(study / "evaluation" / "metrics.json")["roles"]}
    assert roles["locked_test"]["n"] >= 8


def test_measures_audit_and_report_are_written(study):
    assert read_json(study / "measures" / "measures.json")
    assert read_json(study / "audit" / "audit.json")
    assert (study / "report" / "report.html").stat().st_size > 10_000


def test_a_picture_is_answered_without_a_click(study):
    path = save_picture(study / "new (1).jpg", pixels("new", 2, (32, 32), colors=True), quality=95)
    weights = str(study / "evaluation" / "model.pt")
    run("patches", "inference", image=str(path), weights_path=weights, output_dir=str(study / "answer"))
    answer = read_json(study / "answer" / "answer.json")
    assert list(answer["probabilities"]) == list(LEUKEMIA_CLASSES)
    assert answer["crop"]["source"] == "whole image"
    assert answer["lesion_volume_ml"] is None
