"""A set is unfinished where it stays below a gate that real images reach, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from scripts.image_quality.feature_networks import FeatureNetwork
from scripts.image_quality.gate import FINISHED, UNDECIDED, UNFINISHED, Gate, label_area
from scripts.patches.image_sets import ALL, ImageSet

NAMES = ["LGG", "HGG"]
GATE = Gate(label_auc=0.8, coverage=0.6)


def area(value, real=0.9, reason=None):
    return {"value": value, "real": real, "reason": reason}


def coverage(value, real=0.8, reason=None, network="resnet10", of_all_images=1.0):
    known = {"value": None, "value_at_floor_n": None, "floor": None}
    if value is not None:
        known = {"value": of_all_images, "value_at_floor_n": value, "floor": {"mean": real}}
    return {"measure": "coverage", "network": network, **known, "reason": reason}


@pytest.mark.parametrize(
    ("label_auc", "row", "verdict", "reason"),
    [
        (area(0.8), coverage(0.6), FINISHED, None),
        (area(0.79), coverage(0.9), UNFINISHED, "label AUC 0.79 is below the gate 0.8; real images reach 0.90"),
        (area(0.99), coverage(0.2), UNFINISHED, "coverage 0.20 is below the gate 0.6; real images reach 0.80"),
        (
            area(0.6, real=0.7),
            coverage(0.9),
            UNDECIDED,
            "label AUC 0.60 is below the gate 0.8, but real images reach 0.70",
        ),
        (
            area(0.9, real=0.7),
            coverage(0.9),
            UNDECIDED,
            "of real images it reaches 0.70 only",
        ),
        (area(0.9, real=None), coverage(0.9), UNDECIDED, "may not know the classes: no real images were measured"),
        (area(0.9, real=0.7), coverage(0.2), UNFINISHED, "coverage 0.20"),
        (area(0.6, real=None), coverage(0.9), UNDECIDED, "real images were not measured"),
        (area(None, None, "no classifier"), coverage(0.9), UNDECIDED, "label AUC was not measured: no classifier"),
        (area(0.9), coverage(None, None, "too few"), UNDECIDED, "coverage was not measured: too few"),
        (area(0.5), coverage(None, None, "too few"), UNFINISHED, "label AUC 0.50"),
    ],
)
def test_a_set_is_judged_by_the_gravest_of_its_gates(label_auc, row, verdict, reason):
    judged = GATE.judge(label_auc, [row, {"measure": "MMD", "network": "resnet10"}], "resnet10")
    assert judged["verdict"] == verdict
    assert judged["reasons"] == [] if reason is None else any(reason in text for text in judged["reasons"])


def test_coverage_counts_at_the_number_of_images_at_which_real_images_were_judged():
    judged = GATE.judge(area(0.9), [coverage(0.5, real=0.8, of_all_images=0.7)], "resnet10")
    assert (judged["verdict"], judged["coverage"], judged["real_coverage"]) == (UNFINISHED, 0.5, 0.8)


@pytest.mark.parametrize("first", [True, False])
def test_the_coverage_in_the_features_of_the_classifier_counts(first):
    rows = [coverage(0.9), coverage(0.1, network="Inception-v3")]
    assert GATE.judge(area(0.9), rows if first else rows[::-1], "resnet10")["coverage"] == 0.9


def test_without_a_classifier_nothing_can_be_told_of_the_coverage():
    judged = GATE.judge(area(0.9), [coverage(0.1, network="Inception-v3")], None)
    assert (judged["verdict"], judged["coverage"]) == (UNDECIDED, None)
    assert judged["reasons"] == ["coverage was not measured: no classifier of real images; give classifier_path"]


@pytest.mark.parametrize("limits", [{"label_auc": 1.1}, {"coverage": -0.1}])
def test_a_gate_out_of_range_is_refused(limits):
    with pytest.raises(ValueError, match=rf"gate_{next(iter(limits))} must be in \[0, 1\]"):
        Gate(**limits)


def classifier():
    """Says HGG where an image is bright."""

    def forward(images):
        brightness = images.flatten(1).mean(1)
        return images.flatten(1), torch.stack([-brightness, brightness], 1)

    return FeatureNetwork("brightness", forward, [lambda images: images], "", tells_classes=True)


def images(values, names):
    tensor = torch.tensor(values)[:, None, None, None].expand(-1, 2, 3, 4)
    return ImageSet(tensor, [None] * len(values), class_names=names)


def test_the_label_auc_is_the_share_of_pairs_that_the_classifier_orders_as_they_were_drawn():
    synthetic = images([0.1, 0.3, 0.2, 0.9], ["LGG", "LGG", "HGG", "HGG"])
    real = images([0.1, 0.2, 0.5, 0.7], ["LGG", "HGG", "HGG", ALL])
    found = label_area(classifier(), synthetic, real, NAMES)
    assert (found["value"], found["num_images"]) == (0.75, 4)
    assert (found["real"], found["num_real"]) == (1.0, 3)
    assert found["low"] < 0.75 < found["high"]
    assert found["reason"] is None


def test_real_images_without_a_grade_leave_the_floor_open():
    synthetic = images([0.1, 0.9], NAMES)
    assert label_area(classifier(), synthetic, images([0.2], [ALL]), NAMES)["real"] is None


@pytest.mark.parametrize(
    ("network", "names", "reason"),
    [
        (None, NAMES, "no classifier of real images; give classifier_path"),
        (classifier(), ["LGG", "LGG"], "no synthetic images of HGG; give their lists in label_paths"),
    ],
)
def test_what_is_missing_is_a_reason(network, names, reason):
    found = label_area(network, images([0.1, 0.2], names), images([0.1], ["LGG"]), NAMES)
    assert (found["value"], found["reason"]) == (None, reason)
