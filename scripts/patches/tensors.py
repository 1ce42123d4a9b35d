"""Images of a list, read, checked and decoded once into one tensor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from monai.data import NibabelReader
from monai.transforms import Compose, LoadImage
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from scripts.provenance.image_form import ImageForm, image_facts
from scripts.running.errors import root_cause
from scripts.running.files import require_file, sha256_file
from scripts.splits.lists import read_list
from scripts.splits.parts import load_part

Items = Sequence[Mapping[str, Any]]
# Of an intensity in [-1, 1] stored as a 16-bit integer: half a step is 1.5e-5, and -1, 0 and 1 are exact.
STEPS = 32767


class LabeledImages(Dataset):
    """Images and labels decoded once into two tensors, on the device if it has room (335 patches are 50 MB).

    Real and synthetic files go through the same reader and checks. An index may be a list: a batch is then one
    indexing, and random transforms, if there are any, are applied image by image. Items hold "image" and, where every
    image has a grade, "label".

    Args:
        items: see `load_images`; `label` of each is an integer, or None without a grade.
        form: that the images must have: channels and dimensions.
        device: where the tensors lie.
        transform: random transforms of {"image": (C, *spatial) in [-1, 1]}.
        as_integers: keep the images as 16-bit integers, in half of the memory, rounded to 1.5e-5; they are handed out
            as float32.
        batch_transform: random changes of all images of an index at once, (B, C, *spatial) in [-1, 1] and back.

    Raises:
        ValueError: as `load_images`.
    """

    def __init__(
        self,
        items: Items,
        form: ImageForm,
        device: torch.device | str = "cpu",
        transform: Compose | None = None,
        as_integers: bool = False,
        batch_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.items = list(items)
        self._stored = load_images(self.items, form.num_channels, form.spatial_dims, as_integers).to(device)
        labels = [item["label"] for item in self.items]
        self.labels = None if None in labels else torch.tensor(labels, dtype=torch.long, device=device)
        self.transform = transform
        self.batch_transform = batch_transform

    @property
    def images(self) -> Tensor:
        """All images, (N, C, *spatial), float32; those kept as integers are turned into floats each time."""
        return _as_floats(self._stored)

    @images.setter
    def images(self, images: Tensor) -> None:
        self._stored = images

    def blocks(self, size: int = 16) -> Iterator[Tensor]:
        """Hand out all images in their order, `size` at a time, (B, C, *spatial) float32, without random transforms.

        Of images kept as integers no float copy of all of them is made.
        """
        for block in self._stored.split(size):
            yield _as_floats(block)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int | Sequence[int]) -> dict[str, Tensor]:
        place = index if isinstance(index, int) else _indices(index, self._stored.device)
        images = _as_floats(self._stored[place])
        if self.transform is not None and self.transform.transforms:
            one = isinstance(index, int)
            images = self._transformed(images) if one else torch.stack([self._transformed(image) for image in images])
        if self.batch_transform is not None:
            images = self.batch_transform(images[None])[0] if isinstance(index, int) else self.batch_transform(images)
        return {"image": images} if self.labels is None else {"image": images, "label": self.labels[place]}

    @property
    def subject_ids(self) -> list[str]:
        """Subjects of the images, each once, sorted."""
        return sorted({item["subject_id"] for item in self.items})

    def _transformed(self, image: Tensor) -> Tensor:
        transform: Callable[[dict[str, Tensor]], Any] | None = self.transform
        assert transform is not None
        return convert_to_tensor(transform({"image": image.clone()})["image"], track_meta=False).to(image)


class NamedDataset(Dataset):
    """Hands on a dataset given as `data`, the id that the model zoo and MONAI Label look up in `train#dataset`.

    MONAI's own `Dataset` answers a list of indices with a `Subset`; ours answer it with a batch.

    Args:
        data: the dataset itself.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int | Sequence[int]) -> Any:
        return self.data[index]


class PatchTensorDataset(LabeledImages):
    """All patches of a part of a fold in memory, or on the device, so that an epoch decodes nothing.

    Args:
        patches_path: `patches.json`.
        splits_path: `splits.json`.
        fold: number of the fold.
        part: "train", "inner" or "validation".
        class_name: keep patches of this class only; None keeps all, ungraded ones too.
        form: that the images must have: channels and dimensions.
        device: where the tensor lies.
        require_labels: refuse subjects without a grade, as a network conditioned on the class must.
        transform: as for `LabeledImages`.
        as_integers: likewise.
        batch_transform: likewise.

    Raises:
        ValueError: as `load_images` and `scripts.splits.parts.load_part`, or if `patches.json` does not say of what the
            patches are made.
    """

    def __init__(
        self,
        patches_path: str,
        splits_path: str,
        fold: int,
        part: str,
        class_name: str | None,
        form: ImageForm,
        device: torch.device | str = "cpu",
        require_labels: bool = False,
        transform: Compose | None = None,
        as_integers: bool = False,
        batch_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        classes = None if class_name is None else [class_name]
        self.image_facts = image_facts(patches_header(patches_path), patches_path)
        items = load_part(patches_path, splits_path, fold, part, classes, require_labels)
        super().__init__(items, form, device, transform, as_integers, batch_transform)


def bytes_of_images(
    patches_path: str,
    splits_path: str,
    fold: int,
    parts: Sequence[str],
    class_name: str | None,
    shape: Sequence[int],
    as_integers: bool = False,
) -> int:
    """Return the bytes that the images of some parts of a fold take as `PatchTensorDataset`, without reading them.

    Args:
        patches_path: `patches.json`.
        splits_path: `splits.json`.
        fold: number of the fold.
        parts: names of the parts, each of which is kept by itself.
        class_name: as for `PatchTensorDataset`.
        shape: (C, *spatial) of what is kept of an image: itself, or its latent.
        as_integers: as for `PatchTensorDataset`.

    Raises:
        ValueError: as `scripts.splits.parts.load_part`.
    """
    classes = None if class_name is None else [class_name]
    count = sum(len(load_part(patches_path, splits_path, fold, part, classes)) for part in parts)
    return count * math.prod(shape) * (torch.int16 if as_integers else torch.float32).itemsize


def load_images(items: Items, num_channels: int, spatial_dims: int = 2, as_integers: bool = False) -> Tensor:
    """Read the images of a list, all of one shape.

    Args:
        items: `image` (path) of each and, where the list records it, `image_sha256`, the hash of the file.
        num_channels: channels that the images must have.
        spatial_dims: 2 or 3.
        as_integers: each of them as int16, times `STEPS` and rounded, as soon as it is read.

    Returns:
        (N, C, *spatial) float32 in [-1, 1], or int16; (0,) without items.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if an image has another shape or range than it must have, or is not the file that was listed.
    """
    images: list[Tensor] = []
    for item in items:
        _refuse_other_file(item)
        image = load_patch(item["image"], num_channels, spatial_dims)
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"{item['image']} must have the shape of {items[0]['image']} {tuple(images[0].shape)}, got"
                f" {tuple(image.shape)}; make all images of a set, real and synthetic, with one patch_size"
            )
        images.append((image * STEPS).round().to(torch.int16) if as_integers else image)
    return torch.stack(images) if images else torch.empty(0)


def load_patch(path: str, num_channels: int, spatial_dims: int = 2) -> Tensor:
    """Read a patch or a synthetic image with stock MONAI and check it.

    Args:
        path: NIfTI of shape (H, W, 1, C) for 2D or (H, W, D, C) for 3D.
        num_channels: C.
        spatial_dims: 2 or 3.

    Returns:
        Intensities in [-1, 1], shape (C, *spatial), float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, the shape does not fit, or a value is outside [-1, 1] or not a number.
    """
    require_file(path)
    try:
        image = _loader()(path).as_tensor().float()
    except Exception as error:  # whatever zlib, nibabel or MONAI raise of a damaged file
        reason = str(root_cause(error)).strip().splitlines()
        raise ValueError(
            f"{path} must be a readable NIfTI image, got {type(error).__name__} ({reason[-1] if reason else ''});"
            " run the stage that writes it again"
        ) from error
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
            " run the patches stage again, or import images of another program with configs/import_synthetic.yaml"
            " (value_range)"
        )
    return image


@cache
def _loader() -> LoadImage:
    # Made once: a new one looks on the disk for the readers of all formats, which takes longer than to read a patch.
    with warnings.catch_warnings():
        # The one of DICOM, which is not used here, says that it does without a plugin.
        warnings.filterwarnings("ignore", "NvImgCodecPydicomReader", UserWarning)
        return LoadImage(reader=NibabelReader, ensure_channel_first=True, image_only=True)


def batches(dataset: Dataset, batch_size: int, epoch_images: int | None = None, num_parts: int = 1) -> DataLoader:
    """Iterate over shuffled full batches.

    An epoch is rounded up to whole batches, and starts over in a new order where the images do not fill it: eight
    images make one batch of 32 with four noises each. Every image is drawn once before any is drawn again.

    Args:
        dataset: takes a list of indices.
        batch_size: images per batch.
        epoch_images: images per epoch, as for a class of few images; None is the number of images there are.
        num_parts: equal parts in which a batch is handed out one after the other, to a trainer that adds up their
            gradients.

    Returns:
        Loader of dictionaries of batched tensors, shuffled by torch's global random state.
    """
    wanted = len(dataset) if epoch_images is None else epoch_images  # type: ignore[arg-type]
    sampler = RandomSampler(dataset, num_samples=full_batches(wanted, batch_size))  # type: ignore[arg-type]
    return in_batches(dataset, sampler, batch_size // num_parts)


def full_batches(num_images: int, batch_size: int) -> int:
    """Round a number of images up to full batches."""
    return math.ceil(num_images / batch_size) * batch_size


def in_batches(dataset: Dataset, sampler: Sampler[int], batch_size: int) -> DataLoader:
    """Ask a dataset for one batch of what a sampler draws at a time; the last batch may be smaller."""
    return DataLoader(dataset, sampler=BatchSampler(sampler, batch_size, drop_last=False), batch_size=None)


def patches_header(patches_path: str) -> Mapping[str, Any]:
    """Return `patches.json` without its list of images."""
    return {key: value for key, value in read_list(patches_path, "patches").items() if key != "training"}


def _refuse_other_file(item: Mapping[str, Any]) -> None:
    recorded = item.get("image_sha256")
    if recorded is not None and sha256_file(item["image"]) != recorded:
        raise ValueError(
            f"{item['image']} must be the file that its list records (image_sha256 {recorded[:12]}...), got another;"
            " run the stage that made the list again, or take image_sha256 out of its row if the change is meant"
        )


def _as_floats(images: Tensor) -> Tensor:
    return images.float() / STEPS if images.dtype == torch.int16 else images


def _indices(numbers: Sequence[int], device: torch.device) -> Tensor:
    # From pinned memory: a list, or a copy from other memory, would make the process wait for the GPU at every batch.
    indices = torch.as_tensor(numbers, dtype=torch.long)
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices
