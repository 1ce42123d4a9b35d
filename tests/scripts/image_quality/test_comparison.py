from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.image_quality.comparison import (
    LOWER,
    Measure,
    feature_measures,
    measure_sets,
    pixel_measures,
    random_splits,
)
from scripts.image_quality.distances import frechet_distance, polynomial_kernel, squared_discrepancy
from scripts.image_quality.diversity import inception_score
from scripts.image_quality.feature_networks import FeatureNetwork, Features
from scripts.image_quality.spectrum import Spectra

NETWORK = FeatureNetwork("a network", lambda images: (images, images), [], "0" * 64)


def draw(count, length=5, seed=0, shift=0.0):
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def rows_of(features, num_synthetic, network=NETWORK, num_splits=6, patients=None):
    views = [Features(item, item) for item in features]
    num_real = len(features[0]) - num_synthetic
    patients = patients or [str(i) for i in range(len(features[0]))]
    splits, _ = random_splits(num_synthetic, patients, num_splits)
    measures = feature_measures(network, views, patients)
    rows = [measure_sets(measure, num_synthetic, num_real, splits, num_permutations=99) for measure in measures]
    return {row["measure"]: row for row in rows}


def test_halves_are_of_different_patients_and_hold_one_image_of_each():
    patients = [f"image {index}" for index in range(20)] + [f"patient {index // 3}" for index in range(30)]
    splits, size = random_splits(20, patients, num_splits=5)
    for split in splits:
        assert len(split.one_half) == len(split.other_half) == len(split.synthetic) == size == 5
        assert len({patients[index] for half in split[:2] for index in half}) == 10
        assert min(*split.one_half, *split.other_half) >= 20
        assert max(split.synthetic) < 20
    assert len({tuple(sorted(split.one_half)) for split in splits}) > 1


def test_few_synthetic_images_shorten_the_halves():
    splits, size = random_splits(4, [str(index) for index in range(34)])
    assert size == 4
    assert all(len(part) == 4 for split in splits for part in split)


def test_values_are_means_over_the_views():
    views = [draw(40, seed=1), draw(40, seed=2)]
    rows = rows_of(views, 15)
    expected = np.mean([frechet_distance(view[:15], view[15:]) for view in views])
    assert rows["FD"]["value"] == pytest.approx(expected)
    expected = np.mean([squared_discrepancy(polynomial_kernel(view), 15) for view in views])
    assert rows["KD"]["value"] == pytest.approx(expected)


def test_scores_are_called_fid_and_kid_from_the_published_network_only():
    published = FeatureNetwork("Inception-v3", NETWORK.forward, [], "0" * 64, published=True, names_classes=True)
    own, standard = rows_of([draw(30)], 15), rows_of([draw(30)], 15, published)
    assert list(own) == ["KD", "FD", "precision", "recall", "density", "coverage", "MMD"]
    assert list(standard) == ["KID", "FID", "precision", "recall", "density", "coverage", "MMD", "IS"]
    assert standard["IS"]["value"] == pytest.approx(inception_score(draw(30)[:15]))
    assert {row["network"] for row in own.values()} == {"a network"}
    assert own["KD"]["value"] == standard["KID"]["value"]


def test_of_one_distribution_the_values_are_at_the_floor_and_of_a_shifted_one_above():
    same = rows_of([draw(120, seed=6)], 60)
    shifted = rows_of([torch.cat([draw(60, seed=4, shift=1.5), draw(60, seed=5)])], 60)
    assert same["FD"]["ratio"] == pytest.approx(1, abs=0.5)
    assert shifted["FD"]["ratio"] > 5
    assert same["KD"]["low"] < 0 < same["KD"]["high"]
    assert shifted["KD"]["low"] > 0
    assert (same["KD"]["p_value"] > 0.05, shifted["KD"]["p_value"]) == (True, 0.01)
    assert shifted["MMD"]["value"] > shifted["MMD"]["floor"]["high"]
    assert shifted["coverage"]["value"] < same["coverage"]["floor"]["low"]
    assert same["FD"]["floor"]["n"] == 30


def test_every_row_says_what_it_is():
    for row in rows_of([draw(40)], 20).values():
        assert row["direction"] in ("lower is better", "higher is better")
        assert (row["num_synthetic"], row["num_real"], row["floor"]["num_splits"]) == (20, 20, 6)
        assert row["range"]
        assert row["reason"] is None


def test_too_few_images_give_no_value_and_say_how_many_are_needed():
    rows = rows_of([draw(14)], 4)
    assert rows["KD"]["value"] is not None
    for name in ("precision", "recall", "density", "coverage"):
        assert (rows[name]["value"], rows[name]["floor"]) == (None, None)
        assert rows[name]["reason"].startswith(f"{name} needs at least 6 synthetic images and real images of 12")
        assert rows[name]["reason"].endswith("got 4 and 10, and 4 of different subjects in a half")


def test_images_of_few_patients_give_no_value_whatever_their_number():
    rows = rows_of([draw(80)], 20, patients=[f"image {i}" for i in range(20)] + [f"patient {i % 4}" for i in range(60)])
    assert {name: row["value"] is None for name, row in rows.items()} == {
        **dict.fromkeys(("KD", "FD", "MMD"), False),
        **dict.fromkeys(("precision", "recall", "density", "coverage"), True),
    }
    assert rows["recall"]["reason"].endswith("got 20 and 60, and 2 of different subjects in a half")


def test_two_images_have_no_interval_and_say_why():
    row = rows_of([draw(22)], 2)["KD"]
    assert (row["low"], row["high"], row["p_value"] is None) == (None, None, False)
    assert row["interval_reason"].startswith("kernel must be of images of at least 3 patients in each set, got 2")


def test_two_scans_of_each_patient_leave_the_measures_at_the_floor():
    real = draw(60, seed=8).repeat_interleave(2, dim=0)
    scanned = real + 0.05 * draw(120, seed=9)
    features = torch.cat([draw(60, seed=7), scanned])
    patients = [f"image {i}" for i in range(60)] + [f"patient {i // 2}" for i in range(120)]
    rows = rows_of([features], 60, patients=patients)
    assert rows["KD"]["floor"]["n"] == 30
    assert rows["FD"]["ratio"] == pytest.approx(1, abs=0.5)
    assert rows["KD"]["p_value"] > 0.05
    for name in ("precision", "recall", "coverage"):
        assert rows[name]["value"] > 0.7, name


def test_no_real_image_is_a_reason_and_no_error():
    rows = rows_of([draw(8)], 8)
    assert {row["value"] for row in rows.values()} == {None}


def test_images_that_are_all_alike_to_a_network_are_a_reason():
    rows = rows_of([torch.ones(20, 5)], 10)
    assert "median distance of 0" in rows["MMD"]["reason"]
    assert rows["FD"]["value"] == 0
    assert rows["FD"]["ratio"] is None


def test_pixels_give_similarity_and_discrepancy():
    images = torch.rand(30, 2, 20, 24, generator=torch.Generator().manual_seed(6)) * 2 - 1
    images[:10] = images[0]  # a generator of one image
    splits, _ = random_splits(10, [str(index) for index in range(30)], 4)
    similarity, discrepancy, *_ = (
        measure_sets(m, 10, 20, splits, 99) for m in pixel_measures(images, Spectra.of(images))
    )
    assert similarity["value"] == pytest.approx(1, abs=1e-5)
    assert similarity["floor"]["high"] < 0.3
    assert similarity["direction"] == "nearest to the floor is best"
    assert (similarity["scales"], similarity["window_pixels"]) == (3, 5)
    assert discrepancy["p_value"] == 0.01
    assert "median distance" in discrepancy["kernel"]
    small = images[..., :8]
    similarity, *_ = (measure_sets(m, 10, 20, splits, 9) for m in pixel_measures(small, Spectra.of(small)))
    assert "at least 10 pixels along each side" in similarity["reason"]


def test_a_measure_is_given_disjoint_indices_of_the_right_sets():
    seen = []
    measure = Measure("x", "none", lambda s, r: float(seen.append((set(s), set(r))) or 1), LOWER, "")
    splits, _ = random_splits(6, [str(index) for index in range(14)], 2)
    row = measure_sets(measure, 6, 8, splits)
    *pairs, (synthetic, real) = seen
    assert (synthetic, real) == (set(range(6)), set(range(6, 14)))
    assert all(not one & other for one, other in pairs)
    assert all(one <= real and other <= real for one, other in pairs[:2])
    assert all(one <= synthetic and other <= real for one, other in pairs[2:])
    assert (row["value"], row["floor"]["sd"]) == (1, 0)


@pytest.mark.parametrize("shape", [(2, 12, 10), (1, 8, 9, 10)], ids=["2d", "3d"])
def test_the_discrepancies_of_pixels_are_those_of_their_named_kernels_in_plain_numpy(shape):
    images = torch.rand(13, *shape, generator=torch.Generator().manual_seed(0)) - 0.5
    images[:5] += 0.2
    splits, _ = random_splits(5, range(13), 2)
    rows = {
        row["measure"]: row
        for row in (measure_sets(m, 5, 8, splits, 9) for m in pixel_measures(images, Spectra.of(images), num_pairs=1))
    }
    pixels = images.flatten(1).double().numpy()
    first, second = pixels[:5], pixels[5:]
    distances = [np.linalg.norm(a - b) for number, a in enumerate(pixels) for b in pixels[number + 1 :]]
    width = np.sort(distances)[(len(distances) - 1) // 2]
    kernels = {
        "MMD": lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * width**2)),
        "MMD, linear kernel": lambda a, b: np.mean(a * b),
    }
    for name, kernel in kernels.items():
        within = [
            np.mean([kernel(a, b) for i, a in enumerate(part) for j, b in enumerate(part) if i != j])
            for part in (first, second)
        ]
        across = np.mean([kernel(a, b) for a in first for b in second])
        assert rows[name]["value"] == pytest.approx(sum(within) - 2 * across, rel=1e-6)
    assert rows["MMD"]["bandwidth"] == [pytest.approx(width)]
    assert f"{width:.4g}" in rows["MMD"]["kernel"]
