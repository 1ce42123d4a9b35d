from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from scripts.image_quality.feature_networks import ClassifierFeatures, classifier_network
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.stage import audit_images
from scripts.patches.tensors import load_patch
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subject, hash_subjects
from scripts.running.files import read_json, write_json
from tests.helpers import image_form, run_stage
from tests.ring_or_blob import messages
from tests.scripts.image_quality.test_feature_networks import save_classifier


def draw(count, shape, seed):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def test_the_stage_compares_with_exactly_the_subjects_behind_the_generator(study):
    run_stage("audit", **study)
    result = read_json(f"{study['output_dir']}/audit.json")
    lgg = result["classes"]["LGG"]
    assert (result["method"], result["fold"], result["num_training"]) == ("ddpm", 0, 3)
    # The set was made of these two, at half the contrast.
    assert nearest_of(lgg, "pearson") == nearest_of(lgg, "aligned") == ["S2.nii.gz", "S0.nii.gz"]
    assert [row["image"] for row in lgg["images"]] == ["LGG_0.nii.gz", "LGG_1.nii.gz"]
    assert [row["copy"] for row in lgg["images"]] == [True, True]
    assert (lgg["verdict"], lgg["copies"]["number"]) == ("memorizes", 2)
    assert lgg["measures"]["pearson"]["held_out_to_training"]["n"] == 2
    assert lgg["measures"]["pearson"]["synthetic_to_training"]["max"] > 0.99
    assert list(result["classes"]) == ["LGG"]
    assert result["held_out_part"] == "validation"


def nearest_of(result, measure):
    return [row[measure]["training"]["image"] for row in result["images"]]


def test_the_picture_of_the_pairs_is_the_same_each_time_and_shows_them(study, tmp_path):
    audit = MemorizationAudit(max_shift=1, num_permutations=99)
    paths = {key: study[key] for key in ("synthetic_path", "patches_path", "splits_path")}
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        audit_images(**paths, output_dir=str(folder), audit=audit)
    one, two = ((folder / "suspicious_pairs.png").read_bytes() for folder in folders)
    assert one == two
    assert one.startswith(b"\x89PNG")


def test_a_set_without_provenance_is_refused(study):
    change(study["synthetic_path"], provenance=None)
    paths = {key: study[key] for key in ("synthetic_path", "patches_path", "splits_path", "output_dir")}
    with pytest.raises(LeakageError, match=r"configs/generate.yaml"):
        audit_images(**paths, audit=MemorizationAudit(max_shift=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": {"0": "b", "1": "a", "2": "c", "3": "d"}},
        {"patch_size": [5, 6]},
        {"spacing_mm": 3.0},
        {"intensity_mode": "zscore", "intensity_percentiles": None, "zscore_limit": 4.0},
    ],
    ids=["order", "size", "spacing", "intensities"],
)
def test_sets_made_otherwise_are_refused_by_name(study, changes):
    change(study["synthetic_path"], **changes)
    with pytest.raises(RuntimeError) as caught:
        run_stage("audit", **study)
    message = messages(caught.value)
    assert f"synthetic.json must have {next(iter(changes))} " in message
    assert "make both with one" in message


def test_a_set_that_does_not_say_how_it_was_made_is_refused(study):
    content = read_json(study["synthetic_path"])
    write_json(study["synthetic_path"], {key: value for key, value in content.items() if key != "intensity_mode"})
    with pytest.raises(RuntimeError) as caught:
        run_stage("audit", **study)
    assert "must say of what its images are made, got no intensity_mode" in messages(caught.value)


def test_the_features_of_another_cohorts_classifier_are_one_similarity_more(study, tmp_path):
    path, network = save_classifier(tmp_path, subjects=["somebody else"])
    names = {"classifier_backbone": "resnet10_thin", "classifier_stem_stride": 2, "audit_num_permutations": 99}
    run_stage("audit", **study, **names, audit_features_path=path)
    lgg = read_json(f"{study['output_dir']}/audit.json")["classes"]["LGG"]
    features = ClassifierFeatures(classifier_network(path, "resnet10_thin", 2, image_form()))
    folder = Path(study["synthetic_path"]).parent
    first, nearest = (load_patch(str(folder / name), 4) for name in ("LGG_0.nii.gz", nearest_of(lgg, "features")[0]))
    expected = -torch.dist(*features(torch.stack([first, nearest])))
    assert lgg["images"][0]["features"]["training"]["value"] == pytest.approx(float(expected), abs=1e-4)


def test_a_classifier_that_was_trained_on_the_compared_subjects_is_refused(study, tmp_path):
    path, _ = save_classifier(tmp_path, subjects=["S0"])
    names = {"classifier_backbone": "resnet10_thin", "classifier_stem_stride": 2}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_stage("audit", **study, **names, audit_features_path=path)
    assert "must be trained on none of the subjects that are compared" in messages(caught.value)


def change(path, **values):
    write_json(path, {**read_json(path), **values})


def test_images_of_a_class_are_compared_with_training_images_of_that_class_alone(study, tmp_path):
    everyone = hash_subjects(["S0", "S1", "S2", "S3"])  # S3 is of the other class
    change(
        study["synthetic_path"], provenance={**read_json(study["synthetic_path"])["provenance"], "subjects": everyone}
    )
    (tmp_path / "LGG_0.nii.gz").write_bytes((tmp_path / "S3.nii.gz").read_bytes())
    run_stage("audit", **study)
    result = read_json(f"{study['output_dir']}/audit.json")
    lgg = result["classes"]["LGG"]
    assert (result["num_training"], lgg["num_training"]) == (4, 3)
    assert lgg["measures"]["pearson"]["synthetic_to_training"]["values"][0] < 0.9
    assert set(nearest_of(lgg, "pearson")) <= {"S0.nii.gz", "S1.nii.gz", "S2.nii.gz"}


def test_copies_of_held_out_subjects_stop_the_study_after_the_audit_is_written(study, tmp_path):
    (tmp_path / "LGG_0.nii.gz").write_bytes((tmp_path / "S5.nii.gz").read_bytes())
    with pytest.raises(RuntimeError) as caught:
        run_stage("audit", **study)
    assert "LGG in" in messages(caught.value)
    assert "are copies of held-out subjects of" in messages(caught.value)
    result = read_json(f"{study['output_dir']}/audit.json")["classes"]["LGG"]
    assert (result["verdict"], result["images"][0]["of"]) == ("knows the held-out subjects", "S5.nii.gz")


def test_subjects_that_selected_the_generator_are_no_baseline(study):
    provenance = {**read_json(study["synthetic_path"])["provenance"], "selection_subjects": hash_subjects(["S4"])}
    change(study["synthetic_path"], provenance=provenance)
    with pytest.raises(RuntimeError) as caught:
        run_stage("audit", **study)
    assert "'validation' with S4; pass --held_out_part test" in messages(caught.value)


def test_splits_that_select_on_validation_take_the_test_part_as_baseline(study):
    selected = hash_subjects(["S4", "S5", "S7"])
    provenance = {**read_json(study["synthetic_path"])["provenance"], "selection_subjects": selected}
    change(study["synthetic_path"], provenance=provenance)
    (fold,) = read_json(study["splits_path"])["folds"]
    change(study["splits_path"], selection="validation", folds=[{**fold, "inner": fold["validation"]}])
    run_stage("audit", **study)
    result = read_json(f"{study['output_dir']}/audit.json")
    assert result["held_out_part"] == "test"
    assert result["classes"]["LGG"]["num_held_out"] == 1


def test_images_outside_the_range_are_refused_by_file(study, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.full((6, 5, 1, 4), 3.0), np.eye(4)), tmp_path / "LGG_0.nii.gz")
    with pytest.raises(RuntimeError) as caught:
        run_stage("audit", **study)
    assert "LGG_0.nii.gz must lie in [-1, 1]" in messages(caught.value)


@pytest.fixture
def study(tmp_path):
    """Patches of eight subjects, a fold, and a synthetic set that copies two of the three training subjects of LGG."""
    images = draw(8, (6, 5, 1, 4), 9).tanh().numpy()
    names = [f"S{index}" for index in range(8)]
    labels = {"0": "LGG", "1": "HGG"}
    entries = []
    for name, image in zip(names, images, strict=True):
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / f"{name}.nii.gz")
        label = int(name in {"S3", "S7"})
        entries.append({"image": f"{name}.nii.gz", "label": label, "subject_id": name})
    common = {
        "simulated": True,
        "modality": dict(enumerate("abcd")),
        "labels": labels,
        "spatial_dims": 2,
        "patch_size": [6, 5],
        "spacing_mm": 1.0,
        "intensity_mode": "percentile",
        "intensity_percentiles": [0.5, 99.5],
        "zscore_limit": None,
        "preprocessing": {"ChooseCenterd.slice": "largest"},
    }
    write_json(tmp_path / "patches.json", {"name": "A", **common, "training": entries})
    fold = {"train": ["S0", "S1", "S2", "S3"], "inner": [], "validation": ["S4", "S5", "S7"]}
    write_json(tmp_path / "splits.json", {"seed": 0, "num_folds": 1, "test": ["S6"], "folds": [fold]})
    for index, source in enumerate((2, 0)):
        nibabel.save(nibabel.Nifti1Image(images[source] * 0.5, np.eye(4)), tmp_path / f"LGG_{index}.nii.gz")
    provenance = {"cohort": "A", "method": "ddpm", "fold": 0, "subjects": [hash_subject(f"S{i}") for i in range(3)]}
    listing = [{"image": f"LGG_{index}.nii.gz", "label": 0, "k": index, "seed": 0} for index in range(2)]
    write_json(tmp_path / "synthetic.json", {"name": "A", **common, "provenance": provenance, "training": listing})
    paths = {f"{name}_path": str(tmp_path / f"{name}.json") for name in ("patches", "splits", "synthetic")}
    return {**paths, "output_dir": str(tmp_path / "audit"), "device": "cpu", "audit_max_shift": 1}
