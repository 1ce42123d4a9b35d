"""How far an image is from the training images, in the features that the members of an ensemble read in both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.running.files import read_json, write_text

FILE_NAME = "training_distance.json"  # beside the weights that it is of
MAX_COMPONENTS = 8
IMAGES_PER_COMPONENT = 4  # a variance of fewer images is mostly chance
HELD_OUT_DECIMALS = 2  # with more, who has the images of a patient could look for their distance among the held-out

Features = Sequence[Tensor]  # of each kind, (N, D)


@dataclass(frozen=True)
class FeatureGaussian:
    """A Gaussian of features whose covariance few images can tell: principal components, and one variance for the rest.

    Source: Tipping, Bishop 1999, "Probabilistic principal component analysis", eqs. 7 and 8, for the covariance.

    Args:
        mean: (D,).
        components: orthonormal rows, (Q, D).
        variances: along them, (Q,), > 0.
        residual_variance: along every other direction, > 0.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    residual_variance: float

    @classmethod
    def fit(cls, features: Tensor) -> FeatureGaussian:
        """Fit by maximum likelihood, with a component for every four images, and eight at most.

        Args:
            features: (N, D), N >= 2.

        Raises:
            ValueError: if they are the same for all images, or not finite.
        """
        values = features.double()
        if not values.isfinite().all():
            raise ValueError(f"features of {len(values)} images must be finite, got NaN or infinity")
        mean = values.mean(dim=0)
        _, singular, directions = torch.linalg.svd(values - mean, full_matrices=False)
        variances = singular.square() / len(values)
        kept = min(MAX_COMPONENTS, len(values) // IMAGES_PER_COMPONENT, values.shape[1] - 1)
        residual = float(variances[kept:].sum()) / (values.shape[1] - kept)
        if not residual > 0:
            raise ValueError(f"features of {len(values)} images must differ, got a variance of {residual:g}")
        return cls(mean, directions[:kept], variances[:kept], residual)

    def squared_distances(self, features: Tensor) -> Tensor:
        """Compute squared Mahalanobis distances from the mean.

        Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial
        attacks", eq. 2, with one mean for all classes.

        Args:
            features: (N, D).

        Returns:
            (N,), float64, >= 0.
        """
        centered = features.double() - self.mean
        along = centered @ self.components.T
        beside = (centered - along @ self.components).square().sum(dim=1)
        return (along.square() / self.variances).sum(dim=1) + beside / self.residual_variance


@dataclass(frozen=True)
class MemberDistance:
    """Gaussians of the training images of one classifier, and how far images are that it was not trained on.

    Args:
        gaussians: one for each kind of features.
        held_out: distances of the images held out from its training, sorted, (N,).
    """

    gaussians: Sequence[FeatureGaussian]
    held_out: Tensor

    @classmethod
    def fit(cls, training: Features, held_out: Features) -> MemberDistance:
        """Fit to the features of both parts; nothing of the second is held out by nobody.

        Raises:
            ValueError: if those of the training images are the same, or not finite.
        """
        fitted = cls([FeatureGaussian.fit(part) for part in training], torch.empty(0, dtype=torch.float64))
        return replace(fitted, held_out=fitted.distances(held_out).sort().values) if held_out else fitted

    def distances(self, features: Features) -> Tensor:
        """Sum the logarithms of the squared Mahalanobis distances over the kinds of features.

        Lee et al. 2018, section 2.2, weigh layers by images of other kinds, which nobody has here. In the sum of
        logarithms no kind counts more for its number of features.

        Args:
            features: of each kind, (N, D).

        Returns:
            (N,), float64.
        """
        pairs = zip(self.gaussians, features, strict=True)
        return torch.stack([gaussian.squared_distances(part).log() for gaussian, part in pairs]).sum(dim=0)


@dataclass(frozen=True)
class TrainingDistance:
    """How far images are from the training images of an ensemble.

    Args:
        weights_sha256: hash of the ensemble's weights.
        members: of each of its networks; at least one image was held out of one of them.
    """

    weights_sha256: str
    members: Sequence[MemberDistance]

    @classmethod
    def fit(cls, weights_sha256: str, training: Sequence[Features], held_out: Sequence[Features]) -> TrainingDistance:
        """Fit to the features of both parts, as each member sees them.

        Raises:
            ValueError: if a member gives its training images the same features, or nothing was held out.
        """
        distance = cls(weights_sha256, [MemberDistance.fit(*both) for both in zip(training, held_out, strict=True)])
        if not distance.number:
            raise ValueError("held_out must hold an image that a member was not trained on, got none")
        return distance

    @property
    def number(self) -> int:
        """Images held out, of all members together."""
        return sum(len(member.held_out) for member in self.members)

    def shares_nearer(self, features: Sequence[Features]) -> Tensor:
        """Compute which share of the held-out images is nearer to the training images.

        Every held-out image is compared in the features of the member that was not trained on it: networks of other
        folds measure in other units. For images like those of the cohort the shares are about uniform.

        Source: Vovk 2015, "Cross-conformal predictors", section 2: one less the p-value, but for the image itself.

        Args:
            features: of each member, as for `MemberDistance.distances`.

        Returns:
            (N,), float64, in [0, 1].
        """
        pairs = zip(self.members, features, strict=True)
        nearer = [torch.searchsorted(member.held_out, member.distances(seen)) for member, seen in pairs]
        return torch.stack(nearer).sum(dim=0) / self.number


def write_training_distance(path: Path, distance: TrainingDistance) -> None:
    """Write a distance as JSON, whole or not at all: means and components of features, no image and no name."""
    members = [
        {
            "gaussians": [_described(one) for one in member.gaussians],
            "held_out": [round(value, HELD_OUT_DECIMALS) for value in member.held_out.tolist()],
        }
        for member in distance.members
    ]
    content = {"weights_sha256": distance.weights_sha256, "members": members}
    # A number a line, as of other files, would be a hundred thousand lines.
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def read_training_distance(path: Path) -> TrainingDistance:
    """Read what `write_training_distance` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged.
    """
    content = read_json(path)
    try:
        distance = TrainingDistance(str(content["weights_sha256"]), [_member(one) for one in content["members"]])
        if not distance.number:
            raise ValueError("no image was held out")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # the last of shapes that do not fit
        raise ValueError(
            f"{path} must be what configs/evaluate.yaml writes, got a damaged file ({error}); evaluate again, or delete"
            " it: answers then do not say how far a patch is from the training images"
        ) from error
    return distance


def _described(gaussian: FeatureGaussian) -> dict[str, Any]:
    return {
        "mean": _rounded(gaussian.mean),
        "components": [_rounded(row) for row in gaussian.components],
        "variances": _rounded(gaussian.variances),
        "residual_variance": gaussian.residual_variance,
    }


def _member(content: Mapping[str, Any]) -> MemberDistance:
    held_out = torch.tensor(content["held_out"], dtype=torch.float64)
    return MemberDistance([_gaussian(one) for one in content["gaussians"]], held_out)


def _gaussian(content: Mapping[str, Any]) -> FeatureGaussian:
    mean, variances = (torch.tensor(content[key], dtype=torch.float64) for key in ("mean", "variances"))
    components = torch.tensor(content["components"], dtype=torch.float64).reshape(len(variances), len(mean))
    return FeatureGaussian(mean, components, variances, float(content["residual_variance"]))


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
