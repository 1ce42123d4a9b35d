from __future__ import annotations

from itertools import combinations

import nibabel
import numpy as np
import pytest
import torch

from scripts.files import read_json, write_json
from scripts.memorization import audit, max_pearson, maximum_weights, pearson_matrix, seen_by_generator
from scripts.provenance import hash_subject, hash_subjects
from tests.helpers import run_stage
from tests.ring_or_blob import messages

SHAPES = pytest.mark.parametrize("shape", [(2, 5, 6), (1, 4, 5, 6)], ids=["2d", "3d"])


def draw(count, shape, seed):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@SHAPES
def test_pearson_matrix_equals_numpy(shape):
    images, references = draw(4, shape, 0), draw(3, shape, 1)
    expected = np.corrcoef(images.flatten(1).numpy(), references.flatten(1).numpy())[:4, 4:]
    np.testing.assert_allclose(pearson_matrix(images, references).numpy(), expected, atol=1e-7)


@SHAPES
def test_a_brighter_copy_is_found_with_correlation_one(shape):
    references = draw(5, shape, 2)
    values, nearest = max_pearson(3 * references[[4, 1]] - 7, references)
    assert nearest.tolist() == [4, 1]
    torch.testing.assert_close(values, torch.ones(2, dtype=torch.float64))


def test_blocks_do_not_change_the_result():
    images, references = draw(7, (2, 4, 4), 3), draw(5, (2, 4, 4), 4)
    one, other = max_pearson(images, references, block_size=2), max_pearson(images, references, block_size=100)
    torch.testing.assert_close(one[0], other[0])
    assert one[1].tolist() == other[1].tolist()


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_expected_maximum_equals_the_mean_over_all_subsets(size):
    values = np.sort(np.random.default_rng(0).normal(size=6))
    expected = np.mean([max(subset) for subset in combinations(values, size)])
    weights = maximum_weights(6, size)
    assert weights.sum() == pytest.approx(1)
    assert weights @ values == pytest.approx(expected)


def test_weights_of_large_sets_do_not_overflow():
    assert maximum_weights(5000, 1000).sum() == pytest.approx(1)


def test_copies_have_a_gap_and_fresh_images_have_none():
    training, held_out, fresh = (draw(40, (1, 6, 6), seed) for seed in (5, 6, 7))
    copied = audit(training[:20] + 0.1 * fresh[:20], training, held_out)
    honest = audit(fresh, training, held_out)
    assert copied["train_minus_held_out"]["mean"] > 0.3
    assert abs(honest["train_minus_held_out"]["mean"]) < 0.05
    assert honest["synthetic_to_training"]["mean"] == pytest.approx(honest["held_out_to_training"]["mean"], abs=0.05)


def test_without_held_out_images_the_baselines_are_none():
    result = audit(draw(2, (1, 4, 4), 0), draw(3, (1, 4, 4), 1), torch.empty(0))
    assert result["held_out_to_training"] is None
    assert result["train_minus_held_out"] is None


def test_a_constant_image_is_refused():
    with pytest.raises(ValueError, match="must not be constant"):
        pearson_matrix(torch.full((1, 2, 4, 4), 0.1), draw(2, (2, 4, 4), 0))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="references must have the shape"):
        pearson_matrix(draw(1, (2, 4, 4), 0), draw(1, (2, 4, 5), 0))


def test_patches_that_lack_a_subject_of_the_generator_are_refused():
    with pytest.raises(ValueError, match="without 1 of them"):
        seen_by_generator({"subjects": [hash_subject("A"), hash_subject("B")]}, [{"subject_id": "A"}])


def test_the_stage_compares_with_exactly_the_subjects_behind_the_generator(study):
    run_stage("audit", **study)
    result = read_json(f"{study['output_dir']}/max_pearson.json")
    lgg = result["classes"]["LGG"]
    assert (result["method"], result["fold"], result["num_training"]) == ("ddpm", 0, 3)
    assert lgg["nearest_training"] == [2, 0]  # the set was made of these two
    assert lgg["held_out_to_training"]["n"] == 2
    assert lgg["synthetic_to_training"]["max"] > 0.99
    assert list(result["classes"]) == ["LGG"]
    assert result["held_out_part"] == "validation"


def change(path, **values):
    write_json(path, {**read_json(path), **values})


def test_images_of_a_class_are_compared_with_training_images_of_that_class_alone(study, tmp_path):
    everyone = hash_subjects(["S0", "S1", "S2", "S3"])  # S3 is of the other class
    change(
        study["synthetic_path"], provenance={**read_json(study["synthetic_path"])["provenance"], "subjects": everyone}
    )
    (tmp_path / "LGG_0.nii.gz").write_bytes((tmp_path / "S3.nii.gz").read_bytes())
    run_stage("audit", **study)
    result = read_json(f"{study['output_dir']}/max_pearson.json")
    lgg = result["classes"]["LGG"]
    assert (result["num_training"], lgg["num_training"]) == (4, 3)
    assert lgg["synthetic_to_training"]["values"][0] < 0.9
    assert max(lgg["nearest_training"]) < 3


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
    result = read_json(f"{study['output_dir']}/max_pearson.json")
    assert result["held_out_part"] == "test"
    assert result["classes"]["LGG"]["held_out_to_training"]["n"] == 1


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
    return {**paths, "output_dir": str(tmp_path / "measures"), "device": "cpu"}
