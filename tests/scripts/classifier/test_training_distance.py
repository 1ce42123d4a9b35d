"""How far images are from the training images: Gaussians with known answers, and files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest
from sklearn.decomposition import PCA

from scripts.classifier.training_distance import (
    FeatureGaussian,
    TrainingDistance,
    read_training_distance,
    write_training_distance,
)


def draw(count: int, seed: int, length: int = 20) -> torch.Tensor:
    """Features of a Gaussian with five wide directions and equal variances along the others."""
    scales = torch.cat([torch.tensor([9.0, 7, 5, 4, 3]), torch.ones(15)]).double()
    rotation = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(99)).double()).Q
    normal = torch.randn(count, length, generator=torch.Generator().manual_seed(seed)).double()
    return 3 + torch.cat([(normal[:, :20] * scales) @ rotation, normal[:, 20:]], dim=1)


def fitted(training: int = 40, held_out: int = 25, members: int = 3) -> TrainingDistance:
    """Of members that see the same world in other units, each with training and held-out images of its own."""
    seen = [in_units(draw(training, seed), seed) for seed in range(members)]
    unseen = [in_units(draw(held_out, 10 + seed), seed) for seed in range(members)]
    return TrainingDistance.fit("a" * 64, seen, unseen)


def in_units(images: torch.Tensor, member: int) -> list[torch.Tensor]:
    """What a member reads: eight features first, in units of its own, and the others last."""
    return [10.0**member * images[:, :8], images[:, 8:]]


def as_seen(images: torch.Tensor, members: int = 3) -> list[list[torch.Tensor]]:
    return [in_units(images, member) for member in range(members)]


def test_distances_are_those_of_the_probabilistic_pca_of_scikit_learn() -> None:
    training, others = draw(60, 0), draw(7, 1)
    centered = (others - training.mean(dim=0)).numpy()
    # Its covariance is divided by N - 1.
    precision = PCA(n_components=8).fit(training.numpy()).get_precision() * 60 / 59
    expected = np.einsum("nd,de,ne->n", centered, precision, centered)
    distances = FeatureGaussian.fit(training).squared_distances(others)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-8)


def test_squared_distances_of_a_gaussian_are_chi_square() -> None:
    distances = FeatureGaussian.fit(draw(20000, 0)).squared_distances(draw(2000, 1))
    assert kstest(distances.numpy(), chi2(20).cdf).pvalue > 0.05


@pytest.mark.parametrize("count", [2, 5, 9])
def test_fewer_images_than_features_give_finite_distances_that_do_not_depend_on_the_batch(count: int) -> None:
    gaussian, others = FeatureGaussian.fit(draw(count, 0, length=2048)), draw(6, 1, length=2048)
    distances = gaussian.squared_distances(others)
    assert distances.isfinite().all()
    alone = torch.cat([gaussian.squared_distances(one[None]) for one in others])
    torch.testing.assert_close(alone, distances)


def test_shares_of_images_like_those_of_the_cohort_are_uniform_and_others_are_beyond_all() -> None:
    shares = torch.cat([_fitted_at(seed).shares_nearer(as_seen(draw(1, 5000 + seed))) for seed in range(300)])
    assert kstest(shares.numpy(), "uniform").pvalue > 0.05
    distance = fitted()
    assert distance.number == 75
    assert (distance.shares_nearer(as_seen(draw(5, 3) + 40)) == 1).all()
    assert (distance.shares_nearer(_centers(distance)) == 0).all()
    # Far in one kind of features is far.
    assert (distance.shares_nearer([[near, far + 40] for near, far in as_seen(draw(5, 3))]) == 1).all()


def _centers(distance: TrainingDistance) -> list[list[torch.Tensor]]:
    return [[gaussian.mean[None] for gaussian in member.gaussians] for member in distance.members]


def _fitted_at(seed: int) -> TrainingDistance:
    """Members whose training images are held out from one another, as those of folds are."""
    folds = draw(3 * 25, 500 + seed).split(25)
    training = [torch.cat([fold for other, fold in enumerate(folds) if other != member]) for member in range(3)]
    return TrainingDistance.fit(
        "a" * 64,
        [in_units(part, member) for member, part in enumerate(training)],
        [in_units(fold, member) for member, fold in enumerate(folds)],
    )


def test_a_member_that_held_nothing_out_says_nothing() -> None:
    distance = TrainingDistance.fit("a" * 64, [[draw(9, 0)], [draw(9, 1)]], [[draw(4, 2)], []])
    assert distance.number == 4
    with pytest.raises(ValueError, match="held_out must hold an image that a member was not trained on, got none"):
        TrainingDistance.fit("a" * 64, [[draw(9, 0)]], [[]])


def test_images_that_all_look_alike_to_a_network_are_refused() -> None:
    same, damaged = "differ, got a variance of 0", "be finite, got NaN"
    for features, fault in ((torch.ones(5, 8), same), (torch.ones(1, 8), same), (torch.tensor([[torch.nan]]), damaged)):
        with pytest.raises(ValueError, match=f"images must {fault}"):
            FeatureGaussian.fit(features)


def test_a_file_holds_the_distance_in_a_few_megabytes(tmp_path: Path) -> None:
    path, members = tmp_path / "training_distance.json", 5
    features = [[draw(40, seed, length=128), draw(40, seed, length=2048)] for seed in range(members)]
    distance = TrainingDistance.fit("b" * 64, features, [[part[:10] + 1 for part in one] for one in features])
    write_training_distance(path, distance)
    assert path.stat().st_size < 2e6
    again, others = read_training_distance(path), [draw(3, 7, length=128), draw(3, 7, length=2048)]
    assert (again.weights_sha256, again.number) == ("b" * 64, 50)
    for one, other in zip(again.members, distance.members, strict=True):
        torch.testing.assert_close(one.distances(others), other.distances(others), rtol=1e-4, atol=0)
    torch.testing.assert_close(again.shares_nearer([others] * members), distance.shares_nearer([others] * members))
    for member in json.loads(path.read_text(encoding="utf-8"))["members"]:
        assert all(value == round(value, 2) for value in member["held_out"]), "coarse: nobody's distance is told by it"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("weights_sha256"),
        lambda content: content["members"][0].pop("gaussians"),
        lambda content: content["members"][0]["gaussians"][1]["mean"].pop(),
        lambda content: content["members"][0]["gaussians"][0].update(variances=["wide"]),
        lambda content: content["members"].clear(),
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, change) -> None:
    path = tmp_path / "training_distance.json"
    write_training_distance(path, fitted())
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"training_distance\.json must be what .* got a damaged file .*evaluate again"
    ):
        read_training_distance(path)
