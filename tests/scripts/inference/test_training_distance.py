"""What answers say about how far a patch is from the training images."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from scripts.classifier.networks import FoldEnsemble
from scripts.classifier.training_distance import FILE_NAME, TrainingDistance, write_training_distance
from scripts.inference.training_distance import describe_distance, distance_beside, sentence
from scripts.running.files import sha256_file
from tests.inference_requests import ask


@pytest.fixture(scope="module")
def network(weights):
    network = FoldEnsemble("resnet10_thin", 2).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network


def features_of(network: FoldEnsemble, images: torch.Tensor) -> list[list[torch.Tensor]]:
    """What each member reads first, and, by taking the last layer off, what stands behind its logits."""
    kept = [member.fc for member in network.members]
    for member in network.members:
        member.fc = torch.nn.Identity()
    with torch.no_grad():
        first = [member.conv1(images).flatten(2) for member in network.members]
        last = [member(images) for member in network.members]
    for member, layer in zip(network.members, kept, strict=True):
        member.fc = layer
    return [
        [torch.cat([one.mean(2), one.std(2, correction=0)], dim=1), two] for one, two in zip(first, last, strict=True)
    ]


@pytest.fixture(scope="module")
def distance(network, weights):
    images = torch.rand(30, 4, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.2 - 1
    seen, unseen = (features_of(network, part) for part in images.split([20, 10]))
    return TrainingDistance.fit(sha256_file(weights), seen, unseen)


def test_an_answer_says_how_far_its_patch_is_where_a_file_of_its_weights_tells(
    network, distance, patient, weights, tmp_path, caplog
):
    models = shutil.copytree(Path(weights).parent, tmp_path / "models")
    request = {"images": patient["images"], "mask": patient["mask"], "explanation": "none"}
    assert ask(tmp_path / "without", str(models / "model.pt"), **request)["training_distance"] is None

    write_training_distance(models / FILE_NAME, distance)
    answer = ask(tmp_path / "with", str(models / "model.pt"), **request)
    patch = torch.as_tensor(np.asarray(nibabel.load(tmp_path / "with" / "patch.nii.gz").dataobj, np.float32))
    share = float(distance.shares_nearer(features_of(network, patch[:, :, 0].permute(2, 0, 1)[None]))[0])
    assert answer["training_distance"] == {"share_nearer": share, "number": 20, "text": sentence(share, 20)}

    (models / FILE_NAME).write_text("{}", encoding="utf-8")
    assert distance_beside(models / "model.pt") is None
    assert "got a damaged file" in caplog.text


def test_a_file_of_other_weights_is_never_used(network, distance):
    image = torch.rand(4, 32, 32) * 2 - 1
    assert describe_distance(distance, network, "0" * 64, image) is None
    assert describe_distance(None, network, distance.weights_sha256, image) is None
    assert describe_distance(distance, network, distance.weights_sha256, image)["share_nearer"] == 1


@pytest.mark.parametrize(
    ("share", "number", "words"),
    [
        (0, 80, "No farther from the training images than any of 80 images held out"),
        (0.004, 250, "Farther from the training images than hardly any of 250 images held out"),
        (0.975, 80, "Farther from the training images than 97 % of 80 images held out"),
        (0.9996, 2500, "Farther from the training images than 99 % of 2500 images held out"),
        (1, 80, "Farther from the training images than all 80 images held out"),
    ],
)
def test_only_all_of_the_images_are_called_all(share, number, words):
    assert sentence(share, number) == f"{words} from training."
