from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from scripts.image_quality.feature_networks import ClassifierFeatures, classifier_network
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.nearest_images import Alignment
from scripts.memorization.stage import audit_images, require_same_form
from scripts.memorization.suspicious_pairs import SuspiciousPair, caption, difference
from scripts.patches.real_images import RealImages, real_images, seen_by_generator
from scripts.patches.tensors import load_patch
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subject, hash_subjects
from scripts.running.files import read_json, write_json
from tests.helpers import run_stage
from tests.ring_or_blob import messages
from tests.scripts.image_quality.test_feature_networks import save_classifier


def draw(count, shape, seed):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def test_patches_that_lack_a_subject_of_the_generator_are_refused():
    with pytest.raises(ValueError, match="without 1 of them"):
        seen_by_generator({"subjects": [hash_subject("A"), hash_subject("B")]}, [{"subject_id": "A"}])


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
    [{"modality": {"0": "b", "1": "a", "2": "c", "3": "d"}}, {"patch_size": [5, 6]}, {"spatial_dims": 3}],
    ids=["order", "size", "dimensions"],
)
def test_sets_of_other_form_are_refused_by_name(study, changes):
    patches = read_json(study["patches_path"])
    (key,) = changes
    with pytest.raises(ValueError, match=f"{key} of the synthetic set must be that of the patches"):
        require_same_form({**patches, **changes}, patches)


def test_the_features_of_another_cohorts_classifier_are_one_similarity_more(study, tmp_path):
    path, network = save_classifier(tmp_path, subjects=["somebody else"])
    names = {"classifier_backbone": "resnet10", "classifier_stem_stride": 2, "audit_num_permutations": 99}
    run_stage("audit", **study, **names, audit_features_path=path)
    lgg = read_json(f"{study['output_dir']}/audit.json")["classes"]["LGG"]
    features = ClassifierFeatures(classifier_network(path, "resnet10", 2, 4, 2, 2))
    folder = Path(study["synthetic_path"]).parent
    first, nearest = (load_patch(str(folder / name), 4) for name in ("LGG_0.nii.gz", nearest_of(lgg, "features")[0]))
    expected = -torch.dist(*features(torch.stack([first, nearest])))
    assert lgg["images"][0]["features"]["training"]["value"] == pytest.approx(float(expected), abs=1e-4)


def test_a_classifier_that_was_trained_on_the_compared_subjects_is_refused(study, tmp_path):
    path, _ = save_classifier(tmp_path, subjects=["S0"])
    names = {"classifier_backbone": "resnet10", "classifier_stem_stride": 2}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_stage("audit", **study, **names, audit_features_path=path)
    assert "must be trained on none of the subjects that are compared" in messages(caught.value)


def test_scans_of_one_patient_are_one_subject(tmp_path):
    entries = [
        {"image": f"{name}.nii.gz", "subject_id": name, "patient_id": name[:1], "label": 0}
        for name in ("A0", "A1", "B0")
    ]
    for entry in entries:
        image = nibabel.Nifti1Image(np.zeros((4, 4, 1, 2), np.float32), np.eye(4))
        nibabel.save(image, tmp_path / entry["image"])
    listing = {"modality": {"0": "a", "1": "b"}, "spatial_dims": 2}
    real = real_images(tmp_path / "patches.json", listing, entries, label=0)
    assert (list(real.subject_ids), real.subjects) == (["A", "A", "B"], ["A", "B"])


def test_too_few_exchanges_for_the_threshold_are_refused():
    with pytest.raises(ValueError, match="audit_num_permutations must be at least 99 for a gap to reach"):
        MemorizationAudit(num_permutations=98)


@pytest.mark.parametrize("max_shift", [-1, 2])
def test_a_shift_that_leaves_little_overlap_is_refused(max_shift):
    images = draw(3, (1, 6, 5), 0)
    with pytest.raises(ValueError, match="max_shift must be 0 to a quarter"):
        MemorizationAudit(max_shift=max_shift)(images, RealImages(images, "abc"), RealImages(images[:0], []))


def test_the_difference_of_a_brighter_copy_is_nothing():
    reference = draw(1, (2, 8, 8), 1)[0].tanh()
    same = Alignment((False, False), (0, 0))
    assert difference(0.5 * reference + 0.1, reference, same).abs().max() < 1e-5


def test_a_caption_says_who_and_how():
    pair = SuspiciousPair(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), "LGG_0007.nii.gz", "S1", 0.123, 0.98, True)
    said = caption(pair, Alignment((True, False), (2, -1)))
    assert said == "COPY: LGG_0007 and S1\nd1/d2 0.12, similarity 0.98, flipped along x, moved by +2, -1 pixels"


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


def test_subjects_that_selected_the_generator_are_no_baseline(study):
    provenance = {**read_json(study["synthetic_path"])["provenance"], "selection_subjects": hash_subjects(["S4"])}
    change(study["synthetic_path"], provenance=provenance)
    with pytest.raises(RuntimeError) as caught:
        run_stage("audit", **study)
    assert "'validation' with ['S4']; pass --held_out_part test" in messages(caught.value)


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
