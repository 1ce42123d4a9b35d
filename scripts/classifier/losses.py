"""What the classifier minimizes, and what its epoch is selected on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import FocalLoss
from torch import Tensor

ALPHA_MODES = ("class", "constant", "inverse_frequency")


def focal_alpha(
    num_classes: int,
    alpha: float | Sequence[float] = 0.25,
    alpha_mode: str = "class",
    class_counts: Sequence[int] | None = None,
) -> list[float]:
    """Weight of each class in the focal loss.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 3.1. The paper this project follows gives
    alpha = .25 without saying for which class; `class` reads it as the detector's: class 0 gets 1 - alpha.

    Args:
        num_classes: K >= 2.
        alpha: factor in [0, 1], or one per class.
        alpha_mode: `class` gives 1 - alpha to class 0 and alpha to the others (LGG .75, HGG .25 by default);
            `constant` gives alpha to all; `inverse_frequency` gives class k of n_k among n images n / (K n_k) and does
            not read alpha, so that all classes weigh alike and the mean image weighs 1.
        class_counts: training images of each class, K numbers > 0; read for `inverse_frequency`.

    Returns:
        K factors.

    Raises:
        ValueError: if `alpha` is outside [0, 1], of another length than K, the mode is unknown or lacks its counts.
    """
    if alpha_mode not in ALPHA_MODES:
        raise ValueError(f"classifier_focal_alpha_mode must be one of {', '.join(ALPHA_MODES)}, got {alpha_mode!r}")
    if alpha_mode == "inverse_frequency":
        counts = list(class_counts or [])
        if len(counts) != num_classes or min(counts) < 1:
            raise ValueError(f"class_counts must be {num_classes} numbers above 0, got {class_counts!r}")
        return [sum(counts) / (num_classes * count) for count in counts]
    factors = [float(factor) for factor in ([alpha] if isinstance(alpha, (int, float)) else alpha)]
    if not all(0 <= factor <= 1 for factor in factors) or len(factors) not in (1, num_classes):
        raise ValueError(
            f"classifier_focal_alpha must be one number in [0, 1], or {num_classes}, one per class; got {alpha!r}"
        )
    if len(factors) == num_classes:
        return factors
    first = 1 - factors[0] if alpha_mode == "class" else factors[0]
    return [first] + factors * (num_classes - 1)


class ClassFocalLoss(FocalLoss):
    """MONAI's softmax focal loss, one label per image: the mean over the batch of alpha_y (1 - p_y)^gamma (-log p_y).

    MONAI's own mean also divides by the number of classes; this is the published one.

    Args:
        num_classes: K >= 2.
        gamma: focusing exponent, >= 0; 0 is weighted cross-entropy.
        alpha: see `focal_alpha`.
        alpha_mode: see `focal_alpha`.
        class_counts: see `focal_alpha`, of the labels as they are trained on.
        label_rotation: r of labels that became (l + r) mod K, by which the factors of `class` and of a list go along.
    """

    alpha: Tensor

    def __init__(
        self,
        num_classes: int = 2,
        gamma: float = 2.0,
        alpha: float | Sequence[float] = 0.25,
        alpha_mode: str = "class",
        class_counts: Sequence[int] | None = None,
        label_rotation: int = 0,
    ) -> None:
        if not gamma >= 0:
            raise ValueError(f"classifier_focal_gamma must be >= 0, got {gamma!r}; 0 is cross-entropy")
        factors = focal_alpha(num_classes, alpha, alpha_mode, class_counts)
        if alpha_mode != "inverse_frequency":
            start = -label_rotation % num_classes
            factors = factors[start:] + factors[:start]
        super().__init__(to_onehot_y=True, gamma=gamma, alpha=factors, reduction="none", use_softmax=True)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar >= 0.

        Args:
            input: logits, shape (B, K).
            target: labels, shape (B,), integers in 0..K-1.
        """
        # MONAI copies the factors to the device at every call, and a GPU's copy is waited for: once is enough.
        self.alpha = self.alpha.to(input.device)
        per_class = super().forward(input, target.reshape(-1, 1))
        return per_class.sum(dim=1).mean()


def brier_score(logits: Tensor, labels: Tensor) -> Tensor:
    """Brier score: half the mean squared distance of the probabilities from the truth; lower is better, [0, 1].

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", halved, so that it is on the
    scale of the report's `scripts.statistics.classification_measures.brier`. Unlike the focal loss it is bounded: on a
    handful of selection subjects, one sure mistake does not outweigh many right answers. Equal probabilities of K
    classes score (K - 1) / 2K.

    Args:
        logits: shape (B, K).
        labels: shape (B,), integers in 0..K-1.
    """
    probabilities = logits.float().softmax(dim=1)
    truth = torch.nn.functional.one_hot(labels.reshape(-1), logits.shape[1])
    return (probabilities - truth).square().sum(dim=1).mean() / 2
