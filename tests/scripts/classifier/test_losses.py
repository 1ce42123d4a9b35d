"""The focal loss against its formula."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import brier_score_loss
from torch.nn.functional import cross_entropy

from scripts.classifier.losses import ClassFocalLoss, brier_score, focal_alpha
from scripts.statistics.classification_measures import brier, value_of


def test_the_default_weighs_the_first_class_three_times_the_second() -> None:
    assert focal_alpha(2) == [0.75, 0.25]


@pytest.mark.parametrize(
    ("alpha", "mode", "expected"),
    [(0.25, "class", [0.75, 0.25, 0.25]), (0.25, "constant", [0.25] * 3), ([0.1, 0.2, 0.7], "class", [0.1, 0.2, 0.7])],
)
def test_alpha_of_three_classes(alpha: float | list[float], mode: str, expected: list[float]) -> None:
    assert focal_alpha(3, alpha, mode) == expected


def test_the_factors_of_classes_go_along_with_rotated_labels() -> None:
    loss = ClassFocalLoss(3, alpha=[0.2, 0.3, 0.5], label_rotation=1)
    assert loss.alpha.tolist() == pytest.approx([0.5, 0.2, 0.3])
    own = ClassFocalLoss(3, alpha_mode="inverse_frequency", class_counts=[1, 2, 3], label_rotation=1)
    assert own.alpha.tolist() == pytest.approx([2, 1, 2 / 3])


@pytest.mark.parametrize(("alpha", "mode"), [(1.5, "class"), ([0.5, 0.5], "class"), (0.25, "both")])
def test_a_wrong_alpha_is_refused(alpha: float | list[float], mode: str) -> None:
    with pytest.raises(ValueError, match=r"must be one"):
        focal_alpha(3, alpha, mode)


def test_inverse_frequency_lets_all_classes_weigh_alike_and_the_mean_image_one() -> None:
    counts = [76, 259]
    factors = focal_alpha(2, 0.25, "inverse_frequency", counts)
    weights = [factor * count for factor, count in zip(factors, counts, strict=True)]
    assert weights[0] == pytest.approx(weights[1])
    assert sum(weights) == pytest.approx(sum(counts))


@pytest.mark.parametrize("counts", [None, [3], [4, 0]])
def test_inverse_frequency_without_the_images_of_each_class_is_refused(counts: list[int] | None) -> None:
    with pytest.raises(ValueError, match="class_counts must be 2 numbers above 0"):
        focal_alpha(2, alpha_mode="inverse_frequency", class_counts=counts)


def test_without_focus_it_is_weighted_cross_entropy() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = ClassFocalLoss(num_classes=3, gamma=0.0, alpha=1.0, alpha_mode="constant")
    assert torch.allclose(loss(logits, labels), cross_entropy(logits, labels))


def test_the_loss_is_the_published_formula() -> None:
    logits, labels = torch.randn(8, 2, dtype=torch.float64), torch.tensor([0, 1] * 4)
    p = logits.softmax(dim=1)[torch.arange(8), labels]
    alpha = torch.tensor([0.75, 0.25])[labels]
    expected = (alpha * (1 - p) ** 2 * -p.log()).mean()
    assert torch.allclose(ClassFocalLoss()(logits, labels).double(), expected, atol=1e-6)


def test_the_brier_score_of_two_classes_is_that_of_scikit_learn() -> None:
    logits, labels = torch.randn(9, 2), torch.arange(9) % 2
    expected = brier_score_loss(labels.numpy(), logits.softmax(dim=1)[:, 1].numpy())
    assert float(brier_score(logits, labels)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_brier_score_of_the_selection_is_on_the_scale_of_the_report(num_classes: int) -> None:
    logits, labels = torch.randn(9, num_classes), torch.arange(9) % num_classes
    expected = value_of(brier, labels.numpy(), logits.softmax(dim=1).double().numpy())
    assert float(brier_score(logits, labels)) == pytest.approx(expected, rel=1e-5)
    assert float(brier_score(-99.0 * torch.eye(num_classes), torch.arange(num_classes))) <= 1


def test_the_brier_score_of_no_idea_depends_on_the_number_of_classes_only() -> None:
    assert float(brier_score(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]))) == pytest.approx(1 / 3)
