"""Pictures (PNG, JPEG, TIFF, BMP) read as volumes of one slice: upright, grey or in colors, from 0 to 255."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import PILReader
from PIL import Image, ImageOps

from scripts.volumes.headers import VolumeError, naming
from scripts.volumes.volume import Volume

RGB = ("red", "green", "blue")  # modalities of a picture in colors, in the order of a file
GREY_MODES = ("1", "L", "LA", "La")  # of Pillow
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # 16 bits of grey; Pillow hands some of them on as 32
DEEPEST = 65535
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # of TIFF; Pillow turns up to 8 bits of it round, and no more
COLOR_STEP = 16  # of 255 between the channels of a pixel, above which it has a color: JPEG moves a grey one by less
MARKED, COLORED = 0.001, 0.02  # share of the pixels with a color, from which a picture has marks, or colors
LUMINANCE = (19595, 38470, 7471)  # of red, green and blue, in 1/65536 (ITU-R BT.601), as Pillow rounds it
THUMBNAIL = LEAST_SIDE = 32  # pixels: every picture that has a thumbnail is as large at least
ROWS_RUN_DOWN = np.diag([1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Picture:
    """A picture as it is shown.

    Args:
        path: of its file.
        planes: (C, H, W), C = 1 for grey or 3 for red, green and blue; rows from the top, columns from the left; in
            [0, 255], uint8, or float32 where the file holds 16 bits.
        mode: how the file stores them, Pillow's word: L, RGB, P, RGBA, CMYK, 1, I;16.
    """

    path: str
    planes: np.ndarray
    mode: str

    @cached_property
    def colored_share(self) -> float:
        """Share of the pixels that have a color, in [0, 1]."""
        if self._is_plain_grey:
            return 0.0
        return float((self.planes.max(axis=0) - self.planes.min(axis=0) > COLOR_STEP).mean())

    def facts(self) -> dict[str, Any]:
        """Return `size` (width and height), `mode` and `content`: grey, grey with colored marks, or colors.

        The mode tells how a picture is stored: grey saved as RGB has the mode RGB and the content grey.
        """
        share = self.colored_share
        content = "colors" if share >= COLORED else "grey with colored marks" if share >= MARKED else "grey"
        return {"size": [*self.planes.shape[:0:-1]], "mode": self.mode, "content": content}

    def volumes(self, channel_order: Sequence[str]) -> dict[str, Volume]:
        """Return the channels as volumes of one slice, whose voxels are 1 long: a picture knows no mm.

        Args:
            channel_order: one name, of grey, or three, of red, green and blue.

        Returns:
            Name -> volume of shape (W, H, 1) in [0, 255]; a grey picture has three equal colors.

        Raises:
            VolumeError: if there are other names, or the picture has colors where grey is asked for.
        """
        require_channels(channel_order, self.path)
        planes = self._channels(channel_order)
        if len(channel_order) == len(RGB):
            planes = planes[[RGB.index(name) for name in channel_order]]
        named = zip(channel_order, planes, strict=True)
        paths = [self.path] if len(channel_order) == 1 else [f"{self.path} ({name})" for name in channel_order]
        return {
            name: Volume(path, plane.T[:, :, None], ROWS_RUN_DOWN)
            for (name, plane), path in zip(named, paths, strict=True)
        }

    def thumbnail(self) -> np.ndarray | None:
        """Shrink the picture to `THUMBNAIL` x `THUMBNAIL` cells by means, mean of its channels, uint8.

        Returns:
            None for one of fewer than `LEAST_SIDE` pixels a side, in which likeness and copy cannot be told apart.
        """
        if min(self.planes.shape[1:]) < LEAST_SIDE:
            return None
        planes = self.planes[:1] if self._is_plain_grey else self.planes
        size, way = (THUMBNAIL, THUMBNAIL), Image.Resampling.BOX
        small = [np.asarray(Image.fromarray(plane).resize(size, way), np.float32) for plane in planes]
        return np.rint(np.mean(small, axis=0)).astype(np.uint8)

    def digest(self, channel_order: Sequence[str]) -> str:
        """Hash the pixels of these channels, sha256: equal for one picture in two formats without loss."""
        channels = np.ascontiguousarray(self._channels(channel_order))
        return hashlib.sha256(f"{channels.shape} {channels.dtype}".encode() + channels.tobytes()).hexdigest()

    @cached_property
    def _is_plain_grey(self) -> bool:
        return all(np.array_equal(plane, self.planes[0]) for plane in self.planes[1:])

    def _channels(self, channel_order: Sequence[str]) -> np.ndarray:
        """Planes of the channels asked for, (1 or 3, H, W)."""
        if len(channel_order) == 3:
            return np.broadcast_to(self.planes, (3, *self.planes.shape[1:]))
        if self._is_plain_grey:
            return self.planes[:1]
        if self.colored_share >= COLORED:
            raise VolumeError(
                f"{self.path} must be grey, as the one modality {channel_order[0]} says, got colors in"
                f" {self.colored_share:.0%} of its pixels; set modalities to [red, green, blue], or save it in grey"
            )
        weighted = sum(plane.astype(np.uint32) * weight for plane, weight in zip(self.planes, LUMINANCE, strict=True))
        return ((weighted + 0x8000) >> 16).astype(np.uint8)[None]


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a picture by MONAI's reader.

    Args:
        path: PNG, JPEG, TIFF or BMP.

    Raises:
        FileNotFoundError: if there is no such file.
        VolumeError: if it is cut short or no picture, holds several, has transparent pixels or real numbers.
    """
    path = Path(path)
    with naming(path, "picture"):
        mode, _ = _described(path)
        reader = PILReader(converter=upright)
        pixels = np.asarray(reader.get_data(reader.read(str(path)))[0])
        planes = np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 1, 0))
        if pixels.dtype == np.uint8:
            return Picture(str(path), planes, mode)
        if pixels.min() < 0 or pixels.max() > DEEPEST:
            raise VolumeError(
                f"{path} must hold 8 or 16 bits of grey, got {pixels.min()} to {pixels.max()}; save it as 16-bit PNG,"
                " or as NIfTI"
            )
        return Picture(str(path), planes.astype(np.float32) * np.float32(255 / DEEPEST), mode)


def picture_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return `size` (width and height as it is shown) and `mode` of a picture, from the beginning of its file.

    Raises:
        FileNotFoundError: if there is no such file.
        VolumeError: if it is no picture.
    """
    path = Path(path)
    with naming(path, "picture"):
        mode, size = _described(path)
        return {"size": size, "mode": mode}


def upright(image: Any) -> Any:
    """Turn a picture as its camera says (EXIF), and its pixels to grey or colors; 16 bits of grey stay.

    MONAI's reader does neither, and takes the numbers of a palette for intensities.

    Args:
        image: of Pillow, as it was opened.

    Returns:
        Image of mode L or RGB, or one of `DEEP_MODES`.

    Raises:
        ValueError: if there are several pictures in it, pixels are transparent, hold real numbers, or 16 bits of which
            0 is white.
    """
    require_one_picture(image)
    if image.mode == "F":
        raise ValueError("pixels of real numbers, whose range nobody knows; save 8 or 16 bits, or NIfTI")
    if "A" in image.mode.upper() and image.mode != "LAB" or "transparency" in image.info:
        _require_opaque(image)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in DEEP_MODES:
        return image
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def require_one_picture(image: Any) -> None:
    """Refuse a file of several pictures, and 16 bits of grey of which 0 is white, which Pillow hands on as a negative.

    Args:
        image: of Pillow, as it was opened.

    Raises:
        ValueError: with the way out.
    """
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"a stack of {image.n_frames} pictures, of which one would be read; save each by itself")
    if image.mode in DEEP_MODES and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise ValueError("16 bits of grey of which 0 is white; save it with 0 as black")


def require_channels(channel_order: Sequence[str], where: str | os.PathLike[str]) -> None:
    """Refuse channels that no picture has.

    Raises:
        VolumeError: if they are not one, or the three of `RGB`.
    """
    if len(channel_order) != 1 and sorted(channel_order) != sorted(RGB):
        raise VolumeError(
            f"modalities must be one, such as [grey], or the three [red, green, blue] for pictures, got"
            f" {list(channel_order)} for {where}; set modalities"
        )


def _require_opaque(image: Any) -> None:
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if alpha.min() < 255:
        raise ValueError(
            f"an alpha channel by which {float((alpha < 255).mean()):.0%} of the pixels are transparent; save it on the"
            " background that it is meant to have, without alpha"
        )


def _described(path: Path) -> tuple[str, list[int]]:
    with Image.open(path) as image:
        turned = image.format in ("JPEG", "MPO", "PNG") and image.getexif().get(0x0112, 1) > 4
        width, height = image.size
        return image.mode, [height, width] if turned else [width, height]
