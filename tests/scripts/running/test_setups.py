"""What a config says of the classifiers of a study, and how a setup is named with one of them."""

from __future__ import annotations

import pytest

from scripts.running.setups import (
    Setup,
    classifier_of,
    permutation_of,
    permutations_of,
    read_classifiers,
    setup_of,
    with_classifier,
    without_classifier,
)


def test_a_list_of_backbones_is_a_mapping_without_further_settings():
    assert read_classifiers(["resnet10", "densenet121"]) == read_classifiers({"resnet10": {}, "densenet121": None})
    assert read_classifiers(["resnet10"]) == {"resnet10": {"classifier_backbone": "resnet10"}}


def test_a_name_of_its_own_keeps_its_backbone():
    vgg = {"classifier_backbone": "torchvision_vgg16", "classifier_learning_rate": 1e-4}
    assert read_classifiers({"vgg": vgg}) == {"vgg": vgg}


@pytest.mark.parametrize(
    ("classifiers", "message"),
    [
        ("resnet10", "classifiers must be a list of backbones or a mapping, got 'resnet10'; write"),
        (["resnet10", "resnet10"], "classifiers must be names, each once, got 'resnet10' twice"),
        ([{"vgg": {}}], "classifiers must be names, each once, got .*; write them as .*resnet18, densenet121"),
        ({"vgg": "vgg.pth"}, "classifiers.vgg must be a mapping such as {classifier_backbone: .*, got 'vgg.pth'"),
        ({"vgg": {"patch_size": [64, 64]}}, "classifiers.vgg must hold whole keys .*_, got patch_size; write it as"),
        (
            {"vgg": {"classifier_def#backbone": "x"}},
            "classifiers.vgg must hold whole keys .* got classifier_def#backbo",
        ),
    ],
)
def test_what_are_no_classifiers_is_refused_with_the_way_out(classifiers, message):
    with pytest.raises(ValueError, match=message):
        read_classifiers(classifiers)


@pytest.mark.parametrize("pair", [("real", None), ("ddpm_mi", "efficientnet-b0"), ("ratio_0.5", "vgg.16+x")])
def test_a_setup_and_its_classifier_can_be_read_from_their_name(pair):
    name = with_classifier(*pair)
    assert (setup_of(name), classifier_of(name)) == pair


@pytest.mark.parametrize("classifier", [None, "vgg.16+x"])
def test_a_permutation_can_be_read_from_its_name(classifier):
    control = Setup(labels="shuffled", train_on_real=False, permutations=11)
    names = [with_classifier(name, classifier) for name in permutations_of("shuffled-2", control, 2)]
    assert [permutation_of(name) for name in names] == list(range(1, 12))
    assert {setup_of(name) for name in names} == {"shuffled-2"}
    assert {classifier_of(name) for name in names} == {classifier}
    assert [without_classifier(name) for name in names] == permutations_of("shuffled-2", control, 2)


@pytest.mark.parametrize("number", [0, 1.5, True, "2"])
def test_permutations_are_a_whole_number(number):
    with pytest.raises(ValueError, match="setups.control#permutations must be a whole number >= 1, got"):
        Setup.of("control", {"labels": "shuffled", "permutations": number})


def test_labels_beside_true_ones_have_no_permutations():
    beside = {"method": "ddpm", "labels": "shuffled"}
    assert permutations_of("beside", Setup.of("beside", beside), 3) == ["beside"]
    with pytest.raises(ValueError, match="permutations must be left out but for shuffled labels without real images"):
        Setup.of("beside", {**beside, "permutations": 2})
