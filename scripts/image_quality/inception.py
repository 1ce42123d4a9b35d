"""Inception-v3 as the Frechet inception distance uses it, with the names of its published PyTorch weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.provenance.state_dicts import load_state, refuse_other_state
from scripts.running.files import sha256_file

INPUT_SIZE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008
PUBLISHED_FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
PUBLISHED_SHA256_PREFIX = "6726825d"  # the name of the published file carries it
COUNTER = "num_batches_tracked"  # not in weights converted from TensorFlow, and read only in training
PUBLISHED_AT = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"


@dataclass(frozen=True)
class Step:
    """A convolution of a branch: end of its name, output channels, kernel and stride."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


class Convolution(nn.Module):
    """Convolution without bias, batch normalization and ReLU; stride 1 keeps the size unless `padding` says other."""

    def __init__(self, in_channels: int, step: Step, padding: tuple[int, int] | None = None) -> None:
        super().__init__()
        same = (step.kernel[0] // 2, step.kernel[1] // 2) if step.stride == 1 else (0, 0)
        self.conv = nn.Conv2d(in_channels, step.channels, step.kernel, step.stride, padding or same, bias=False)
        self.bn = nn.BatchNorm2d(step.channels, eps=0.001)

    def forward(self, image: Tensor) -> Tensor:
        """Filter (B, C, H, W)."""
        return F.relu(self.bn(self.conv(image)))


class MixedBlock(nn.Module):
    """Branches side by side, their outputs along the channels, the pooled input last.

    Args:
        in_channels: channels of the input.
        branches: name -> steps one after the other; two steps whose names end in "a" and "b" read the same input.
        pool: "average" (without the padded zeros, as TensorFlow), "max", or "halve" (max with stride 2, not filtered).
        pool_channels: channels of the 1 x 1 convolution behind the pooling; None with "halve".
    """

    def __init__(
        self, in_channels: int, branches: Mapping[str, Sequence[Step]], pool: str, pool_channels: int | None = None
    ) -> None:
        super().__init__()
        self.chains: list[list[list[str]]] = []
        self.pool = pool
        for name, steps in branches.items():
            channels, chain = in_channels, []
            for step in steps:
                full = f"branch{name}{step.name}"
                if not step.name.endswith("b"):  # a fork: b reads what a reads
                    before, channels = channels, step.channels
                    chain.append([full])
                else:
                    chain[-1].append(full)
                self.add_module(full, Convolution(before, step))
            self.chains.append(chain)
        if pool_channels is not None:
            self.branch_pool = Convolution(in_channels, Step("", pool_channels))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, H, W) to the channels of all branches."""
        return torch.cat([*(self._follow(chain, image) for chain in self.chains), self._pooled(image)], dim=1)

    def _follow(self, chain: list[list[str]], image: Tensor) -> Tensor:
        for names in chain:
            image = torch.cat([self.get_submodule(name)(image) for name in names], dim=1)
        return image

    def _pooled(self, image: Tensor) -> Tensor:
        if self.pool == "halve":
            return F.max_pool2d(image, 3, stride=2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(image, 3, stride=1, padding=1))
        return self.branch_pool(F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False))


class InceptionV3(nn.Module):
    """Inception-v3 of 2015-12-05 with the pooling of TensorFlow; its last block takes the maximum, as the weights need.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision"; Heusel et al. 2017 for
    its use in the FID; names and pooling as in the state dict `pt_inception-2015-12-05` of pytorch-fid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, Step("", 32, (3, 3), 2))
        self.Conv2d_2a_3x3 = Convolution(32, Step("", 32, (3, 3)), padding=(0, 0))
        self.Conv2d_2b_3x3 = Convolution(32, Step("", 64, (3, 3)))
        self.Conv2d_3b_1x1 = Convolution(64, Step("", 80))
        self.Conv2d_4a_3x3 = Convolution(80, Step("", 192, (3, 3)), padding=(0, 0))
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, "average")
        self.Mixed_7c = _block_e(2048, "max")
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features and logits.

        Args:
            image: (B, 3, H, W) in [-1, 1]; resized to 299 x 299, bilinear, as pytorch-fid does.

        Returns:
            Features (B, 2048), and logits (B, 1008) without the bias, as torch-fidelity's inception score takes them.
        """
        image = F.interpolate(image, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        image = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        image = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(image, 3, stride=2)))
        image = F.max_pool2d(image, 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                image = block(image)
        features = image.mean(dim=(2, 3))
        return features, features @ self.fc.weight.T


def load_inception(path: str | Path) -> InceptionV3:
    """Build the network with weights of a local file.

    Args:
        path: state dict of tensors in the layout of pytorch-fid.

    Returns:
        Network in evaluation mode, without gradients, on the CPU.

    Raises:
        FileNotFoundError: naming the file to get and where to put it.
        ValueError: if the file is of another network.
    """
    network = InceptionV3()
    counters = {key: value for key, value in network.state_dict().items() if key.endswith(COUNTER)}
    state = {**counters, **load_state(path, how_to_get_weights())}
    demand = f"{path} must be the Inception-v3 of pytorch-fid"
    refuse_other_state(network.state_dict(), state, demand, how_to_get_weights())
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def find_weights() -> Path | None:
    """Return the published weights in torch's usual cache, or None where they are not."""
    cached = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in PUBLISHED_FILES]
    return next((path for path in cached if path.is_file()), None)


def how_to_get_weights() -> str:
    """Tell which file to put where, in the same words on every machine, because the report repeats them."""
    return (
        f"put {PUBLISHED_FILES[0]} ({PUBLISHED_AT}{PUBLISHED_FILES[0]}) into ~/.cache/torch/hub/checkpoints"
        " (torch.hub.get_dir()), or give its path as inception_path"
    )


def is_published(path: str | Path) -> bool:
    """Tell by its hash whether a file holds the published weights, the only ones whose score is called FID."""
    return sha256_file(path).startswith(PUBLISHED_SHA256_PREFIX)


def _block_a(in_channels: int, pool_channels: int) -> MixedBlock:
    branches = {
        "1x1": [Step("", 64)],
        "5x5": [Step("_1", 48), Step("_2", 64, (5, 5))],
        "3x3dbl": [Step("_1", 64), Step("_2", 96, (3, 3)), Step("_3", 96, (3, 3))],
    }
    return MixedBlock(in_channels, branches, "average", pool_channels)


def _block_b(in_channels: int) -> MixedBlock:
    branches = {
        "3x3": [Step("", 384, (3, 3), 2)],
        "3x3dbl": [Step("_1", 64), Step("_2", 96, (3, 3)), Step("_3", 96, (3, 3), 2)],
    }
    return MixedBlock(in_channels, branches, "halve")


def _block_c(inner: int) -> MixedBlock:
    row, column = (1, 7), (7, 1)
    branches = {
        "1x1": [Step("", 192)],
        "7x7": [Step("_1", inner), Step("_2", inner, row), Step("_3", 192, column)],
        "7x7dbl": [
            Step("_1", inner),
            Step("_2", inner, column),
            Step("_3", inner, row),
            Step("_4", inner, column),
            Step("_5", 192, row),
        ],
    }
    return MixedBlock(768, branches, "average", 192)


def _block_d(in_channels: int) -> MixedBlock:
    branches = {
        "3x3": [Step("_1", 192), Step("_2", 320, (3, 3), 2)],
        "7x7x3": [Step("_1", 192), Step("_2", 192, (1, 7)), Step("_3", 192, (7, 1)), Step("_4", 192, (3, 3), 2)],
    }
    return MixedBlock(in_channels, branches, "halve")


def _block_e(in_channels: int, pool: str) -> MixedBlock:
    branches = {
        "1x1": [Step("", 320)],
        "3x3": [Step("_1", 384), Step("_2a", 384, (1, 3)), Step("_2b", 384, (3, 1))],
        "3x3dbl": [
            Step("_1", 448),
            Step("_2", 384, (3, 3)),
            Step("_3a", 384, (1, 3)),
            Step("_3b", 384, (3, 1)),
        ],
    }
    return MixedBlock(in_channels, branches, pool, 192)
