"""Control generators as a stage: what is read, what is written, and that nobody held out is among it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from scripts.classifier.datasets import ClassifierData
from scripts.generator.controls import CONTROLS, Draw, pca_gaussian
from scripts.generator.noise import image_seed
from scripts.memorization.verdict import MEMORIZES
from scripts.patches.tensors import load_images
from scripts.provenance.image_form import image_facts
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subjects
from scripts.running.files import read_json, write_json
from scripts.splits.lists import read_list, with_digest
from scripts.splits.parts import load_part
from tests.helpers import run_stage
from tests.patches import write_tiny_patches
from tests.ring_or_blob import messages

SIZE = (8, 12)


@pytest.fixture
def patches(tmp_path: Path) -> dict[str, str]:
    return write_tiny_patches(tmp_path / "patches", SIZE, subjects_per_class=12)


def draw(folder: Path, name: str, patches: dict[str, str], control: str = "mixed", **overrides: Any) -> Path:
    output_dir = folder / name
    settings = {"fold": 0, "generator_class": "LGG", "patch_size": list(SIZE), "num_images": 7, "device": "cpu"}
    run_stage("generate_control", output_dir=str(output_dir), control=control, **{**patches, **settings, **overrides})
    return output_dir


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*folder.glob("*.nii.gz"), folder / "synthetic.json"]}


def images_of(folder: Path) -> torch.Tensor:
    listing = read_list(folder / "synthetic.json", "synthetic")
    return load_images([{**row, "image": str(folder / row["image"])} for row in listing["training"]], 4)


def training_of(patches: dict[str, str], class_name: str = "LGG") -> list[dict[str, Any]]:
    return load_part(patches["patches_path"], patches["splits_path"], 0, "train", [class_name])


@pytest.mark.parametrize("control", CONTROLS)
def test_a_set_is_drawn_from_the_training_patches_of_its_class_and_says_so(tmp_path, patches, control):
    folder = draw(tmp_path, "set", patches, control)
    listing = read_list(folder / "synthetic.json", "synthetic")
    assert listing == with_digest(listing)
    training = training_of(patches)
    provenance = listing["provenance"]
    assert provenance["subjects"] == hash_subjects(row["subject_id"] for row in training)
    told = {key: provenance[key] for key in ("cohort", "method", "control", "fold", "class_name", "simulated")}
    assert told == {
        "cohort": "tiny",
        "method": control,
        "control": control,
        "fold": 0,
        "class_name": "LGG",
        "simulated": True,
    }
    assert [(row["image"], row["label"]) for row in listing["training"]] == [
        (f"LGG_{k:04d}.nii.gz", 0) for k in range(7)
    ]
    assert image_facts(listing, "set") == image_facts(read_json(patches["patches_path"]), "patches")
    drawn = CONTROLS[control](load_images(training, 4))(1, torch.Generator().manual_seed(image_seed(0, 2)))
    near = drawn.abs().le(0.9)  # off the background, which is snapped
    torch.testing.assert_close(images_of(folder)[2][near[0]], drawn[near], rtol=0, atol=1e-5)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_set_of_volumes_without_classes_is_drawn_as_one(tmp_path, control):
    size = (10, 8, 9)
    paths = write_tiny_patches(tmp_path / "patches", size, ("t1n",), ("LGG",), subjects_per_class=12, graded=False)
    listing = read_json(paths["patches_path"])
    write_json(Path(paths["patches_path"]), {**listing, "labels": {}})
    form = {"modalities": ["t1n"], "classes": {}, "spatial_dims": 3, "patch_size": list(size)}
    folder = draw(tmp_path, "set", paths, control, **form, generator_class=None, num_images=3)
    rows = read_list(folder / "synthetic.json", "synthetic")["training"]
    assert [row["label"] for row in rows] == [None] * 3
    drawn = load_images([{**row, "image": str(folder / row["image"])} for row in rows], 1, 3)
    assert drawn.shape == (3, 1, *size)
    assert (drawn == -1).any()
    assert (drawn > -0.5).any()


@pytest.mark.parametrize("control", CONTROLS)
def test_no_held_out_patch_reaches_a_control(tmp_path, patches, control):
    whole = files_of(draw(tmp_path, "whole", patches, control))
    folder, kept = Path(patches["patches_path"]).parent, {row["image"] for row in training_of(patches)}
    for path in folder.glob("*.nii.gz"):
        if str(path) not in kept:
            path.unlink()
    assert files_of(draw(tmp_path, "without_them", patches, control)) == whole


def test_a_training_patch_changes_the_set_and_what_it_records(tmp_path, patches):
    first = read_json(draw(tmp_path, "first", patches) / "synthetic.json")
    changed = Path(training_of(patches)[0]["image"])
    image = nibabel.load(changed)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.5, image.affine), changed)
    second = read_json(draw(tmp_path, "second", patches) / "synthetic.json")
    assert first["provenance"]["weights_sha256"] != second["provenance"]["weights_sha256"]


@pytest.mark.parametrize("control", ["mixed", "pca_gaussian"])
def test_a_stopped_set_continues_byte_for_byte_and_in_batches_of_any_size(tmp_path, patches, control):
    whole = draw(tmp_path, "whole", patches, control)
    stopped = draw(tmp_path, "stopped", patches, control)
    for name in ("synthetic.json", "LGG_0003.nii.gz"):
        (stopped / name).unlink()
    draw(tmp_path, "stopped", patches, control)
    in_batches = draw(tmp_path, "batches", patches, control, generate_batch_size=2)
    assert files_of(stopped) == files_of(whole) == files_of(in_batches)
    other = draw(tmp_path, "other", patches, control, seed=1)
    assert not torch.equal(images_of(other), images_of(whole))


def test_the_training_images_are_taken_in_once_a_set(tmp_path, patches, monkeypatch):
    taken: list[int] = []

    def counted(images: torch.Tensor) -> Draw:
        taken.append(len(images))
        return pca_gaussian(images)

    monkeypatch.setitem(CONTROLS, "pca_gaussian", counted)
    draw(tmp_path, "set", patches, "pca_gaussian", generate_batch_size=2)
    assert taken == [len(training_of(patches))]


def test_a_control_draws_as_many_images_as_a_classifier_takes_which_refuses_those_of_a_held_out_subject(
    tmp_path, patches
):
    sets = [
        draw(tmp_path, name, patches, generator_class=name, num_images=None) / "synthetic.json"
        for name in ("LGG", "HGG")
    ]
    settings = {"fold": 0, "classes": {"LGG": 0, "HGG": 1}, "synthetic_method": "mixed"}
    data = ClassifierData(**patches, **settings, synthetic_paths=[str(path) for path in sets])
    assert {row["label"] for row in data.synthetic} == {0, 1}
    assert len(data.synthetic) == len(training_of(patches)) + len(training_of(patches, "HGG"))
    splits = read_json(patches["splits_path"])
    moved = training_of(patches)[0]["subject_id"]
    for fold in splits["folds"]:
        fold.update({part: [name for name in names if name != moved] for part, names in fold.items()})
    write_json(tmp_path / "moved.json", {**splits, "test": [*splits["test"], moved]})
    with pytest.raises(LeakageError, match=moved):
        ClassifierData(
            **{**patches, "splits_path": str(tmp_path / "moved.json")}, **settings, synthetic_paths=[str(sets[0])]
        )


@pytest.mark.parametrize("control", ["pca_gaussian", "mixed"])
def test_a_fold_with_one_image_of_a_class_is_refused_by_its_class_fold_and_way_out(tmp_path, patches, control):
    splits = read_json(patches["splits_path"])
    alone, *others = {row["subject_id"] for row in training_of(patches)}
    for fold in splits["folds"]:
        fold.update({part: [name for name in names if name not in others] for part, names in fold.items()})
    write_json(tmp_path / "few.json", {**splits, "test": [*splits["test"], *others]})
    few = {**patches, "splits_path": str(tmp_path / "few.json")}
    message = rf"{control} must have at least 2 training images of LGG in fold 0 of .*few.json, got 1; .*controls: \[\]"
    with pytest.raises(RuntimeError) as caught:
        draw(tmp_path, "set", few, control)
    assert re.search(message, messages(caught.value))
    draw(tmp_path, "noise", few, "noisy")
    assert training_of(few)[0]["subject_id"] == alone


def test_the_audit_reads_the_set_of_a_control_as_that_of_any_generator(tmp_path, patches):
    folder = draw(tmp_path, "set", patches, num_images=40)
    places = {"synthetic_path": str(folder / "synthetic.json"), "output_dir": str(tmp_path / "audit")}
    run_stage("audit", **patches, **places, audit_max_shift=2, patch_size=list(SIZE), device="cpu")
    content = read_json(tmp_path / "audit" / "audit.json")
    result = content["classes"]["LGG"]
    assert (content["method"], result["num_synthetic"]) == ("mixed", 40)
    assert result["num_training_subjects"] == len(training_of(patches))
    assert result["verdict"] == MEMORIZES


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"control": "gan"}, "control must be one of pca_gaussian, mixed, deformed, noisy, got 'gan'"),
        ({"num_images": 0}, "num_images must be >= 1, got 0"),
        ({"patch_size": [16, 12]}, r"must have patch_size \[8, 12\], as .*patches.json has, got \[16, 12\]"),
        ({"generator_class": "GBM"}, "generator_class must be one of LGG, HGG, or null for all, got 'GBM'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_work(tmp_path, patches, overrides, message):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        draw(tmp_path, "set", patches, **overrides)
    assert re.search(message, messages(caught.value))
    assert not (tmp_path / "set" / "synthetic.json").exists()
