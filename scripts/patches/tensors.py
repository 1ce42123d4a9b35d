"""Patches of one part of a fold, decoded once into one tensor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import NibabelReader
from monai.transforms import LoadImage
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from scripts.provenance.image_form import image_facts
from scripts.running.files import read_json
from scripts.splits.parts import load_part


class PatchTensorDataset(Dataset):
    """All patches of a part in memory, or on the device, so that an epoch decodes nothing.

    335 patches of 4 x 96 x 96 are 50 MB. An index may be a list: a batch is then one indexing. Items hold "image" and,
    where every patch has a grade, "label".

    Args:
        patches_path: `patches.json`.
        splits_path: `splits.json`.
        fold: number of the fold.
        part: "train", "inner" or "validation".
        class_name: keep patches of this class only; None keeps all, ungraded ones too.
        num_channels: channels that the images must have.
        spatial_dims: 2 or 3.
        device: where the tensor lies.
        require_labels: refuse subjects without a grade, as a network conditioned on the class must.

    Raises:
        ValueError: if there is no image, an image's shape or range is not what it must be, or `patches.json` does not
            say of what the patches are made.
    """

    def __init__(
        self,
        patches_path: str,
        splits_path: str,
        fold: int,
        part: str,
        class_name: str | None,
        num_channels: int,
        spatial_dims: int = 2,
        device: torch.device | str = "cpu",
        require_labels: bool = False,
    ) -> None:
        classes = None if class_name is None else [class_name]
        self.image_facts = image_facts(patches_header(patches_path), patches_path)
        self.entries: list[dict[str, Any]] = load_part(patches_path, splits_path, fold, part, classes, require_labels)
        images = [load_patch(entry["image"], num_channels, spatial_dims) for entry in self.entries]
        refuse_other_shapes([entry["image"] for entry in self.entries], images, "run patches again")
        self.images = torch.stack(images).to(device)
        labels = [entry["label"] for entry in self.entries]
        self.labels = None if None in labels else torch.tensor(labels, device=device)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | Sequence[int]) -> dict[str, Tensor]:
        batch = {"image": self.images[index]}
        return batch if self.labels is None else {**batch, "label": self.labels[index]}

    @property
    def subject_ids(self) -> list[str]:
        """Subjects of the patches, each once, sorted."""
        return sorted({entry["subject_id"] for entry in self.entries})


def load_patch(path: str, num_channels: int, spatial_dims: int = 2) -> Tensor:
    """Read a patch or a synthetic image with stock MONAI and check it.

    Args:
        path: NIfTI of shape (H, W, 1, C) for 2D or (H, W, D, C) for 3D.
        num_channels: C.
        spatial_dims: 2 or 3.

    Returns:
        Intensities in [-1, 1], shape (C, *spatial), float32.

    Raises:
        ValueError: if the shape does not fit, or a value is outside [-1, 1] or not a number.
    """
    image = LoadImage(reader=NibabelReader, ensure_channel_first=True, image_only=True)(path).as_tensor().float()
    if spatial_dims == 2 and image.shape[-1] == 1:
        image = image.squeeze(-1)
    if image.ndim != spatial_dims + 1 or len(image) != num_channels:
        raise ValueError(
            f"{path} must be an image of {num_channels} channels and {spatial_dims} dimensions,"
            f" got (C, *spatial) = {tuple(image.shape)}; set modalities and spatial_dims as the patches stage had them"
        )
    # NaN fails this comparison too.
    if not bool((image.abs() <= 1).all()):
        raise ValueError(
            f"{path} must lie in [-1, 1], got {float(image.min()):g} to {float(image.max()):g};"
            " run the patches stage again"
        )
    return image


def batches(dataset: Dataset, batch_size: int, epoch_images: int | None = None) -> DataLoader:
    """Iterate over shuffled full batches.

    An epoch is rounded up to whole batches, and starts over in a new order where the images do not fill it: eight
    images make one batch of 32 with four noises each. Every image is drawn once before any is drawn again.

    Args:
        dataset: takes a list of indices.
        batch_size: images a batch.
        epoch_images: images an epoch, as for a class of few images; None is the number of images there are.

    Returns:
        Loader of dictionaries of batched tensors, shuffled by torch's global random state.
    """
    wanted = len(dataset) if epoch_images is None else epoch_images  # type: ignore[arg-type]
    sampler = RandomSampler(dataset, num_samples=math.ceil(wanted / batch_size) * batch_size)  # type: ignore[arg-type]
    return DataLoader(dataset, sampler=BatchSampler(sampler, batch_size, drop_last=True), batch_size=None)


def class_counts(patches_path: str, splits_path: str, fold: int) -> dict[str, int]:
    """Count the training patches of a fold by class name; "" stands for those without a grade."""
    names = {int(label): name for label, name in patches_header(patches_path)["labels"].items()}
    labels = Counter(entry["label"] for entry in load_part(patches_path, splits_path, fold, "train"))
    return {names.get(label, ""): labels[label] for label in sorted(labels, key=str)}


def patches_header(patches_path: str) -> Mapping[str, Any]:
    """Return `patches.json` without its list of images."""
    return {key: value for key, value in read_json(patches_path).items() if key != "training"}


def refuse_other_shapes(paths: Sequence[str], images: Sequence[Tensor], way_out: str) -> None:
    """Stop where an image has another shape than the first.

    Args:
        paths: file of each image.
        images: at least one.
        way_out: what the user can do, for the message.

    Raises:
        ValueError: naming both files and shapes.
    """
    expected = tuple(images[0].shape)
    for path, image in zip(paths, images, strict=True):
        if tuple(image.shape) != expected:
            raise ValueError(
                f"{path} must have the shape of {paths[0]} {expected}, got {tuple(image.shape)}; {way_out}"
            )
