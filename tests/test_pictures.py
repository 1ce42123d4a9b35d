"""A picture set through every stage: no brain, no lesion, no mm, and nothing trips over what is not there."""

from __future__ import annotations

import importlib.util
import re
import unittest
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from bundle import grade
from bundle.pack import pack
from bundle.package import packaged_scripts
from bundle.trained import Trained
from bundle.verify import verify
from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.stages import run_invocation
from tests.helpers import ROOT, TINY, config_files
from tests.picture_folders import LEUKEMIA_CLASSES, pixels, save_picture, write_leukemia

PICTURES = str(ROOT / "configs" / "recipes" / "pictures.yaml")
WORDS = {"task_case": "smear", "task_package": "leukemia_classification", "task_published": ["nafi_2024_leukemia"]}
OF_OTHERS = re.compile(r"(?i:glioma|tumor|brain|\bMRI\b|lesion|\bmm\b|modalities of|anatomy)|\bNone\b")
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
    of_cohort = {"cohort": "leukemia"}
    lists = {"patches_path": str(folder / "patches/patches.json"), "splits_path": str(folder / "splits/splits.json")}
    cohort = {"cohort_path": str(folder / "cohort/cohort.json")}
    place = {"stage_belongs_to": of_cohort}
    run("cohort", source_path=str(source), subtree="Original", output_dir=str(folder / "cohort"), **place)
    run("patches", output_dir=str(folder / "patches"), **cohort, **place)
    run("splits", output_dir=str(folder / "splits"), inner_fraction=0.2, **cohort, **place)
    place = {"stage_belongs_to": {**of_cohort, "fold": 0, "method": "ddpm"}}
    run("train_generator", output_dir=str(folder / "generator"), **lists, **place)
    generator = {"generator_path": str(folder / "generator/model.pt"), "guidance_scale": 1.5}
    for name in LEUKEMIA_CLASSES:
        where = {"generator_class": name, "output_dir": str(folder / f"synthetic_{name}"), "num_images": 8}
        run("generate", **lists, **generator, **where, **place)
    sets = [str(folder / f"synthetic_{name}/synthetic.json") for name in LEUKEMIA_CLASSES]
    synthetic = {"synthetic_method": "ddpm", "synthetic_paths": sets, "train_on_real": False, "setup": "synthetic_only"}
    place = {"stage_belongs_to": {**of_cohort, "setup": "synthetic_only"}}
    fold = {"stage_belongs_to": {**of_cohort, "setup": "synthetic_only", "fold": 0}}
    run("train_classifier", output_dir=str(folder / "classifier"), **lists, **synthetic, **fold)
    members = {"member_paths": [str(folder / "classifier/model.pt")], "setup": "synthetic_only"}
    run("evaluate", output_dir=str(folder / "evaluation"), **members, **lists, **place)
    run("measure_images", output_dir=str(folder / "measures"), synthetic_path=sets[0], measure_real_parts=["test"],
        real_path=lists["patches_path"], splits_path=lists["splits_path"])  # fmt: skip
    run("audit", output_dir=str(folder / "audit"), synthetic_path=sets[0], held_out_part="test", **lists)
    run("report", study_dir=str(folder), output_dir=str(folder / "report"), **WORDS)
    return folder


@pytest.fixture(scope="module")
def package(study, tmp_path_factory) -> Path:
    """The package of that study."""
    folder = tmp_path_factory.mktemp("dist")
    terms = folder / "terms.txt"
    terms.write_text("CC BY-NC-SA 4.0", encoding="utf-8")
    trained = Trained.find(str(study), "synthetic_only")
    return pack(trained, str(folder), url_base="https://example.org/weights", data_license=str(terms))


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


def words_of_others(text: str) -> list[str]:
    """What a text of a picture study must not hold, with what stands around it; pictures inside a page are no text."""
    plain = unescape(re.sub(r"(?s)<svg.*?</svg>|<style>.*?</style>|data:image/png;base64,[^\"]*", "", text))
    return [plain[max(0, match.start() - 60) : match.end() + 30] for match in OF_OTHERS.finditer(plain)]


def test_the_report_speaks_of_smears_and_of_nothing_that_they_have_not(study):
    html = (study / "report" / "report.html").read_text(encoding="utf-8")
    assert words_of_others(html) == []
    assert words_of_others((study / "report" / "summary.txt").read_text(encoding="utf-8")) == []
    assert "Nobody recorded which smears of leukemia are of one patient" in unescape(html)
    assert ".9138" in html


def test_card_metadata_and_papers_of_a_package_do_so_too(package):
    assert package.name == "leukemia_classification"
    for name in ("docs/README.md", "docs/data_license.txt", "configs/metadata.json", "large_files.yml"):
        text = (package / name).read_text(encoding="utf-8")
        assert words_of_others(text.replace("brats_mri", "")) == [], name
    card = (package / "docs" / "README.md").read_text(encoding="utf-8")
    assert "**Split by image**" in card
    assert "--image new.png" in card
    image = read_json(package / "configs" / "metadata.json")["network_data_format"]["inputs"]["image"]
    assert (image["format"], image["channel_def"]) == ("RGB", {"0": "red", "1": "green", "2": "blue"})


def test_the_package_keeps_every_rule(package):
    assert {name: faults for name, faults in verify(package) if faults} == {}


def test_pictures_are_graded_by_one_line(package, tmp_path):
    names = {"new (1).png": "new_1", "new_2.jpg": "new_2"}
    paths = [str(save_picture(tmp_path / name, pixels(name, 1, (32, 32), colors=True))) for name in names]
    rows = grade(paths, str(tmp_path / "answers"), str(package), explanation="none")
    assert [row["subject_id"] for row in rows] == list(names.values())
    assert all(list(row["probabilities"]) == list(LEUKEMIA_CLASSES) for row in rows)


def test_the_package_answers_a_picture_by_its_own_test(package, monkeypatch):
    monkeypatch.chdir(package)
    with packaged_scripts(package):
        path = package / "tests" / "test_leukemia_classification.py"
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromModule(module))
    assert (result.testsRun, result.failures + result.errors) == (2, [])
