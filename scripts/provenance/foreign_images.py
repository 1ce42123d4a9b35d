"""Images that another program left in files: NIfTI, pictures and arrays, read by MONAI's readers in their own units."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader, NibabelReader, NumpyReader, PILReader
from torch import Tensor

from scripts.running.errors import root_cause, some_names
from scripts.running.files import require_file
from scripts.volumes.file_names import NIFTI_ENDINGS, PICTURE_ENDINGS, is_nifti, stem_of
from scripts.volumes.picture_files import require_one_picture

logger = logging.getLogger(__name__)

ARRAYS = (".npy", ".npz")
ENDINGS = (*NIFTI_ENDINGS, *PICTURE_ENDINGS, *ARRAYS)
AXES = "N images of a file, C channels, and H, W, D the axes of an image in their order"
PLAIN_MODES = {"P": "RGB", "RGBA": "RGB", "LA": "L", "1": "L"}  # of Pillow: a palette is no intensity, alpha no channel


@dataclass(frozen=True)
class ForeignImages:
    """Images as another program wrote them.

    Args:
        images: (N, C, *spatial) float32, in the units of their files.
        names: file of each; FILE[3] is the fourth image of an array.
        path: folder or file that they were read from.
        is_8_bit: whether all files hold whole numbers of 8 bits, whose range is 0 to 255.
    """

    images: Tensor
    names: Sequence[str]
    path: str
    is_8_bit: bool

    def __len__(self) -> int:
        return len(self.images)

    @property
    def extent(self) -> tuple[float, float]:
        """Lowest and highest intensity of all."""
        return float(self.images.min()), float(self.images.max())

    def scaled(self, value_range: Sequence[float]) -> Tensor:
        """Return the images with `value_range` brought to [-1, 1], linearly; nothing is clipped.

        Args:
            value_range: the two intensities that become -1 and 1.

        Raises:
            ValueError: if a value lies outside, or all of them in one half, as of images in [0, 1] said to be in
                [-1, 1].
        """
        low, high = value_range
        lowest, highest = self.extent
        if lowest < low or highest > high:
            raise ValueError(
                f"{self.path} must lie in value_range [{low:g}, {high:g}], got {lowest:g} to {highest:g}; give the"
                " intensities that mean -1 and 1 in these images"
            )
        middle = (low + high) / 2
        if lowest >= middle or highest <= middle:
            raise ValueError(
                f"{self.path} must use value_range [{low:g}, {high:g}], got {lowest:g} to {highest:g}, which lies in"
                f' one half of it; give --value_range "[{lowest:g}, {highest:g}]" if that is what -1 and 1 mean in'
                " these images"
            )
        return ((self.images.double() - low) * (2 / (high - low)) - 1).clamp(-1, 1).float()  # clamped: rounding only


def image_files(path: str | Path) -> list[str]:
    """List the image files of a folder, sorted by name, or the one file that is given.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the folder holds no image, or the file is none.
    """
    place = Path(path)
    if not place.is_dir():
        require_file(place, "give a folder of images, or one file of many")
        if not _is_image(place):
            raise ValueError(f"{path} must be an image ({', '.join(ENDINGS)}), got another ending; export it again")
        return [str(place)]
    entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    files = [str(entry) for entry in entries if _is_image(entry)]
    others = [entry.name for entry in entries if not _is_image(entry)]
    if files and others:
        logger.warning("%s: not read as images, %d beside %d: %s", path, len(others), len(files), some_names(others, 3))
    if not files:
        raise ValueError(
            f"{path} must hold at least one image ({', '.join(ENDINGS)}), got"
            f" {some_names((entry.name for entry in entries), limit=3) or 'nothing'}; give the folder of the images"
            " themselves"
        )
    return files


def read_foreign(
    path: str | Path, image_axes: str | None = None, channel_endings: Sequence[str] | None = None
) -> ForeignImages:
    """Read all images of a folder or a file.

    A picture is read as it is shown, x to the right and y up, as the pictures of a report are drawn.

    Args:
        path: folder of images, each of the same size; or one file, such as an array of many images.
        image_axes: what each axis of a file is, such as "HWC", "CHW" or "NHW" (see `AXES`). None: NIfTI has its
            channels in the fourth dimension, pictures have colors, and an array of two dimensions is one image.
        channel_endings: where each channel has a file of its own, the endings of their names (without ".png") in the
            order of the channels: case_t1n.png, case_t1c.png for ["t1n", "t1c"].

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: naming the file that cannot be read, is of another size, lacks a channel, or of which nothing says
            what its axes are; or if a value is not finite.
    """
    paths = image_files(path)
    cases = [[name] for name in paths] if channel_endings is None else _cases(paths, channel_endings)
    images: list[np.ndarray] = []
    names: list[str] = []
    dtypes = set()
    for files in cases:
        channels = [_read_file(name, image_axes) for name in files]
        dtypes |= {array.dtype for array in channels}
        _refuse_other_shapes(channels, files, "the other channels of the image")
        array = np.concatenate(channels, axis=1).astype(np.float32)
        if images:
            _refuse_other_shapes([images[0], array], [names[0], files[0]], "the other images of the folder")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{files[0]} must hold finite numbers, got NaN or infinity; leave it out or export it again"
            )
        images.append(array)
        base = Path(files[0]).name
        names += [base] if len(array) == 1 else [f"{base}[{index}]" for index in range(len(array))]
    stacked = torch.from_numpy(np.concatenate(images))
    return ForeignImages(stacked, names, str(path), dtypes == {np.dtype(np.uint8)})


def check_reading(
    value_range: Sequence[float] | None, image_axes: str | None, channel_endings: Sequence[str] | None
) -> None:
    """Refuse what no image could be read by, before any file is read.

    Args:
        value_range: the two intensities that become -1 and 1, or None.
        image_axes: as in `read_foreign`.
        channel_endings: likewise.

    Raises:
        ValueError: naming the key.
    """
    numbers = isinstance(value_range, (list, tuple)) and all(type(value) in (int, float) for value in value_range)
    if value_range is not None and not (numbers and len(value_range) == 2 and value_range[0] < value_range[1]):
        raise ValueError(f"value_range must be two increasing numbers, such as [0, 255], or null, got {value_range!r}")
    if image_axes is not None:
        letters = str(image_axes)
        spatial = [letter for letter in letters if letter in "HWD"]
        if not re.fullmatch("[NCHWD]+", letters) or len(set(letters)) < len(letters) or len(spatial) not in (2, 3):
            raise ValueError(f"image_axes must be letters, each once, of {AXES}, or null, got {image_axes!r}")
    if channel_endings is not None and (
        not isinstance(channel_endings, (list, tuple)) or len(set(channel_endings)) < max(1, len(channel_endings))
    ):
        raise ValueError(f"channel_endings must be a list of different names, or null, got {channel_endings!r}")


def stem(name: str) -> str:
    """Return the name of an image without folder and ending.

    >>> stem("a/case_t1n.PNG"), stem("case.nii.gz"), stem("all.npy[3]")
    ('case_t1n', 'case', 'all.npy[3]')
    """
    base = stem_of(name)
    ending = Path(base).suffix
    return base.removesuffix(ending) if ending.lower() in (*PICTURE_ENDINGS, *ARRAYS) else base


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower().endswith(ENDINGS) and path.is_file()


def _cases(paths: Sequence[str], endings: Sequence[str]) -> list[list[str]]:
    """Put the files of the channels of each image together, by what their names have in common."""
    cases: dict[str, dict[str, str]] = {}
    for path in paths:
        name = stem(path)
        ending = max((one for one in endings if name.lower().endswith(one.lower())), key=len, default=None)
        if ending is None:
            raise ValueError(
                f"{path} must end in the name of a channel ({', '.join(endings)}), got {name!r}; rename it, or correct"
                " channel_endings"
            )
        cases.setdefault(name[: len(name) - len(ending)], {})[ending] = path
    for files in cases.values():
        missing = [ending for ending in endings if ending not in files]
        if missing:
            raise ValueError(
                f"{next(iter(files.values()))} must have a file for each of channel_endings beside it, got none for"
                f" {', '.join(missing)}; add it, or leave the image out"
            )
    return [[files[ending] for ending in endings] for files in cases.values()]


def _read_file(path: str, image_axes: str | None) -> np.ndarray:
    """Read the images of one file, (N, C, *spatial), in the type of the file."""
    try:
        reader = _reader_of(path)
        data = reader.read(path)
        if isinstance(data, list):
            raise ValueError(f"an archive of {len(data)} arrays")
        array = np.asarray(reader.get_data(data)[0])
    except Exception as error:  # whatever Pillow, nibabel, numpy and MONAI raise of a damaged file
        reason = str(root_cause(error)).strip().splitlines()
        raise ValueError(
            f"{path} must be a readable image or array (without pickled objects, one array to a file), got"
            f" {type(error).__name__} ({reason[0] if reason else ''}); export it again"
        ) from error
    is_picture = path.lower().endswith(PICTURE_ENDINGS)
    if is_picture:
        array = array[:, ::-1]  # rows run down, y runs up
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers, got {array.dtype}; export it again")
    if image_axes is None:
        return _by_kind(path, array, is_picture)
    return _by_axes(path, array, image_axes)


def _reader_of(path: str) -> ImageReader:
    if is_nifti(path):
        return NibabelReader()
    if path.lower().endswith(ARRAYS):
        return NumpyReader(allow_pickle=False)
    return PILReader(converter=_plain)


def _plain(image: Any) -> Any:
    """Turn palettes and the like into grey or colors; refuse what holds several pictures, or a negative."""
    require_one_picture(image)
    return image.convert(PLAIN_MODES.get(image.mode, image.mode))


def _by_kind(path: str, array: np.ndarray, is_picture: bool) -> np.ndarray:
    """Tell the axes of a file from what it is, where that is beyond doubt."""
    if is_picture:
        return _by_axes(path, array, "HW" if array.ndim == 2 else "HWC")
    if is_nifti(path) and array.ndim in (3, 4) and array.shape[2] == 1:
        return _by_axes(path, array[:, :, 0], "HW" if array.ndim == 3 else "HWC")
    axes = {2: "HW", 3: "HWD", 4: "HWDC"} if is_nifti(path) else {2: "HW"}
    if array.ndim not in axes:
        raise ValueError(
            f"image_axes must say what the axes of {path} are, whose shape is {array.shape}; pass --image_axes with"
            f" {array.ndim} letters, of {AXES}"
        )
    return _by_axes(path, array, axes[array.ndim])


def _by_axes(path: str, array: np.ndarray, axes: str) -> np.ndarray:
    if array.ndim != len(axes):
        raise ValueError(
            f"{path} must have the {len(axes)} axes of image_axes {axes!r}, got the shape {array.shape}; {AXES}"
        )
    spatial = [place for place, letter in enumerate(axes) if letter in "HWD"]
    moved: Any = array.transpose([*(axes.index(letter) for letter in "NC" if letter in axes), *spatial])
    moved = moved if "C" in axes else np.expand_dims(moved, 1 if "N" in axes else 0)
    return moved if "N" in axes else moved[None]


def _refuse_other_shapes(arrays: Sequence[np.ndarray], names: Sequence[str], of: str) -> None:
    for array, name in zip(arrays, names, strict=True):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"{name} must have channels and size of {of}, {arrays[0].shape[1:]} as {names[0]}, got"
                f" {array.shape[1:]}; leave it out, or make all of one size"
            )
