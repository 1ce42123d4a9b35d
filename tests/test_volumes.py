"""Volumes of heads through every stage: no mask, no class, no classifier, and a report that speaks of none of them."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.stages import run_invocation
from tests.helpers import ROOT, TINY, config_files
from tests.volume_folders import write_bids, write_ixi, write_oasis

SMALL = {"patch_size": [8, 8, 8], "patch_spacing_mm": 2.5, "num_folds": 1, "max_brain_ml": None, "device": "cpu"}
SOURCES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ixi": (write_ixi, {"name_pattern": r"IXI(?P<patient>\d+)-(?P<site>[A-Za-z]+)-"}),
    "oasis": (
        write_oasis,
        {
            "name_pattern": r"OAS1_(?P<patient>\d+)_MR",
            "source_files": "**/*_t88_masked_gfc.img",
            "orientation": "LAS",
        },
    ),
    "bids": (write_bids, {}),
}
OF_OTHERS = re.compile(r"(?i:glioma|tumor|lesion|classifier|\bgrades?\b|ensemble)|\bNone\b")


def run(*names: str, recipe: str = "volumes", **overrides: Any) -> None:
    files = (*config_files(*names), TINY, str(ROOT / "configs/recipes" / f"{recipe}.yaml"))
    known = Invocation(files, {}).merged()
    settings = {**SMALL, **overrides}
    run_invocation(Invocation(files, {key: value for key, value in settings.items() if key in known}))


@pytest.fixture(scope="module", params=SOURCES)
def study(request, tmp_path_factory) -> Path:
    """Cohort, patches, splits, a generator of one step and a set of it."""
    folder = tmp_path_factory.mktemp(request.param)
    write, settings = SOURCES[request.param]
    place = {"stage_belongs_to": {"cohort": request.param}}
    run("cohort", source_path=str(write(folder / "source", 12)), output_dir=str(folder / "cohort"), **settings, **place)
    cohort = {"cohort_path": str(folder / "cohort/cohort.json")}
    run("patches", output_dir=str(folder / "patches"), **cohort, **place)
    run("splits", output_dir=str(folder / "splits"), inner_fraction=0.2, test_fraction=0.3, **cohort, **place)
    place = {"stage_belongs_to": {"cohort": request.param, "fold": 0, "method": "ddpm"}, **lists(folder)}
    run("train_generator", output_dir=str(folder / "generator"), generator_max_epochs=1, **place)
    run("generate", output_dir=str(folder / "synthetic"), generator_path=str(folder / "generator/model.pt"), **place)
    return folder


def lists(folder: Path) -> dict[str, str]:
    return {"patches_path": str(folder / "patches/patches.json"), "splits_path": str(folder / "splits/splits.json")}


def test_volumes_of_every_kind_of_folder_train_a_generator_and_are_drawn(study):
    patches = read_json(study / "patches/patches.json")
    assert (patches["labels"], patches["spatial_dims"], patches["spacing_mm"]) == ({}, 3, 2.5)
    assert {row["label"] for row in patches["training"]} == {None}
    splits = read_json(study / "splits/splits.json")
    drawn = read_json(study / "synthetic/synthetic.json")
    assert len(drawn["training"]) == len(splits["folds"][0]["train"])
    assert drawn["training"][0]["image"] == "synthetic_0000.nii.gz"


@pytest.mark.parametrize("study", ["ixi"], indirect=True)
def test_the_report_is_of_generators_alone(study):
    place = {"cohort": "ixi", "fold": 0}
    control = {"control": "pca_gaussian", "method": "pca_gaussian", "output_dir": str(study / "control")}
    run("generate_control", **control, **lists(study), stage_belongs_to={**place, "method": "pca_gaussian"})
    for name, method in (("synthetic", "ddpm"), ("control", "pca_gaussian")):
        own = {"synthetic_path": str(study / name / "synthetic.json"), "stage_belongs_to": {**place, "method": method}}
        run("audit", output_dir=str(study / f"audit_{method}"), **own, **lists(study))
        real = {"real_path": lists(study)["patches_path"], "splits_path": lists(study)["splits_path"]}
        run("measure_images", output_dir=str(study / f"measures_{method}"), **own, **real)
    run("report", study_dir=str(study), output_dir=str(study / "report"))
    html = (study / "report/report.html").read_text(encoding="utf-8")
    shown = unescape(
        re.sub(r"(?s)<svg.*?</svg>|<style>.*?</style>|<dl>.*?</dl>|data:image/png;base64,[^\"]*", "", html)
    )
    assert [shown[max(0, match.start() - 60) : match.end() + 30] for match in OF_OTHERS.finditer(shown)] == []
    assert "in three planes through the middle" in shown
    assert ".036" in shown
    assert "MMD, linear kernel, pixels, no network" in shown
    summary = (study / "report/summary.txt").read_text(encoding="utf-8")
    assert re.search(r"(?m)^generator +audit +copies .*MMD", summary)
    assert all(re.search(rf"(?m)^{method} +\w", summary) for method in ("ddpm", "pca_gaussian"))
    assert (study / "report/pictures/contact_sheet.png").is_file()
    assert not (study / "report/metrics.json").exists()


def test_lesions_in_3d_train_a_generator_and_a_classifier(tmp_path):
    of_patients = {"recipe": "volumes_lesion", "max_brain_ml": 2200.0, "patch_spacing_mm": 12.0, "num_folds": 2}
    cohort = {"cohort_path": str(tmp_path / "cohort/cohort.json"), **of_patients}
    run("phantom", output_dir=str(tmp_path / "cohort"), **of_patients)
    run("patches", output_dir=str(tmp_path / "patches"), **cohort)
    run("splits", output_dir=str(tmp_path / "splits"), **cohort)
    training = {**lists(tmp_path), **of_patients, "fold": 0, "generator_condition": "label", "generator_max_epochs": 1}
    run("train_generator", output_dir=str(tmp_path / "generator"), **training)
    training |= {"classifier_max_epochs": 1, "classifier_backbone": "resnet10_thin"}
    run("train_classifier", output_dir=str(tmp_path / "classifier"), **training)
    facts = read_json(tmp_path / "classifier/provenance.json")["images"]
    assert (facts["patch_size"], facts["labels"]) == ([8, 8, 8], ["LGG", "HGG"])
