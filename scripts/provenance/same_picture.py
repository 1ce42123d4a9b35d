"""One picture under two names, also where it was scaled, stored as another type, shifted or mirrored in between."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import interpolate

from scripts.running.files import file_state

logger = logging.getLogger(__name__)

# Correlation from which on two images are one picture. Measured by benchmarks/same_picture.py: different patients reach
# .72 at most; copies that were scaled, rounded, shifted by pixels or mirrored .9999, with noise .98.
SAME_PICTURE = 0.95
ALIKE_THUMBNAILS = 0.8  # correlation of thumbnails from which on two images are read again and compared in full
THUMBNAIL_CELLS = {2: 12, 3: 8}  # of each axis, by the number of axes
MAX_SHIFT = 2  # pixels, and at most one of 16
KEPT_IMAGES = 32  # in memory, while pairs are compared in full
SMALL_CELL = 6  # pixels; in a smaller cell of a thumbnail a shift shows, so that shifted images have thumbnails, too
PAIRS_PER_IMAGE = 2  # compared in full, the most alike first
ALIKE_BY_DESIGN = 8  # images, and more than half of a set: that many are not one person, but alike by design
# Pictures of little detail, such as digits of 8 x 8 pixels, are alike without being one picture. Where the thumbnail of
# the 8th nearest patient correlates by .7, a pair must stand out: its distance, 1 - correlation, must be a 16th of that
# to this patient. Measured by benchmarks/same_picture.py: simulated patients reach .62; of scikit-learn's digits, which
# reach .95, the least such share is .074.
CROWD = 8
CROWDED = 0.7
SHARE_OF_CROWD = 1 / 16

Shifts = tuple[int, ...]
Key = tuple[str, str, str, tuple[int, int]]  # path, patient, cohort, state of the file


class Picture(NamedTuple):
    """An image file and whose it is.

    `cohort`: where it is given, pairs of one cohort are not asked for, and cost nothing.
    """

    path: str
    patient: str
    cohort: str = ""


class SamePicture(NamedTuple):
    """Numbers of two images that show one picture, and their correlation inside the brain."""

    first: int
    second: int
    correlation: float


class Fingerprint(NamedTuple):
    """What is kept of an image: the hash of shape and intensities, the shape (C, *spatial), and its thumbnails."""

    digest: str
    shape: tuple[int, ...]
    thumbnails: np.ndarray


def same_pictures(pictures: Sequence[Picture]) -> list[SamePicture]:
    """Find images of different patients that are one picture.

    Thumbnails are compared at every flip, by matrix products; pairs that are alike are read again and compared in full.
    Images of one patient, such as neighboring slices, are not compared, nor are those of one named cohort. An image
    that is blank, or constant inside the brain, is the picture of nobody. Where most images are nearly as alike to
    `CROWD` other patients, they hold too little to tell people by: a pair must then be far more alike, and the log says
    so. Where more than half of the images are one picture, and at least `ALIKE_BY_DESIGN`, they are alike by design:
    nobody is returned, and the log says so.

    Args:
        pictures: image files as the patches stage writes them.

    Returns:
        Pairs with a `correlation` of at least `SAME_PICTURE` that stand out from the crowd, each with the smaller
        number first, the highest first.
    """
    return list(_same_pictures(tuple((*picture, file_state(picture.path)) for picture in pictures)))


def fingerprint(path: str) -> Fingerprint:
    """Read an image, unless this process has read it and it has not changed since; keep what tells it from others."""
    return _fingerprint(path, file_state(path))


def thumbnails_of(image: np.ndarray) -> np.ndarray:
    """Shrink a picture: standardized inside the brain, 0 outside, averaged over cells, of unit length.

    Args:
        image: (C, *spatial), any unit; background is what is the minimum in every channel.

    Returns:
        (S, C, *cells) float32: of the image and, if the cells are small, of the image at S - 1 shifts; zeros if no
        channel has contrast.
    """
    standardized, shape = _standardized(image), image.shape[1:]
    cells = [min(THUMBNAIL_CELLS[len(shape)], size) for size in shape]
    is_small = any(size < SMALL_CELL * count for size, count in zip(shape, cells, strict=True))
    steps = [(0, limit, -limit) if is_small and limit else (0,) for limit in _shift_limits(shape)]
    axes = tuple(range(1, image.ndim))
    shifted = np.stack([np.roll(standardized, shifts, axes) for shifts in product(*steps)])
    small = interpolate(torch.from_numpy(shifted), size=cells, mode="area").numpy()
    length = np.linalg.norm(small.reshape(len(small), -1), axis=1).reshape(-1, *[1] * image.ndim)
    return small / np.maximum(length, 1e-12)


def correlation(image: np.ndarray, other: np.ndarray) -> float:
    """Correlate two pictures inside the brain, at the flip and the shift where they agree best.

    The shift is the peak of the cross-correlation of the standardized pictures, by the Fourier transform. Pearson's
    correlation is then taken where both show brain, channel by channel, so that gain and offset change nothing.

    Args:
        image: (C, *spatial), any unit; background is what is the minimum in every channel.
        other: same shape, any unit.

    Returns:
        Mean over the channels with contrast, in [-1, 1]; 0 if the brains share half of what they cover or less.
    """
    # A flipped picture standardized is the standardized picture flipped.
    standardized, spectrum = _standardized(image), _spectrum(_standardized(other))
    return max(
        _correlation_at(image[flipped], other, _best_shifts(standardized[flipped], spectrum))
        for flipped in ((slice(None), *flips) for flips in _flips(image.ndim - 1))
    )


@functools.lru_cache(maxsize=16)
def _same_pictures(keys: tuple[Key, ...]) -> tuple[SamePicture, ...]:
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, (path, *_, state) in enumerate(keys):
        one = _fingerprint(path, state)
        if one.thumbnails.any():
            by_shape[one.shape].append(number)
    pairs = [pair for numbers in by_shape.values() for pair in _same_of_shape(keys, numbers)]
    return tuple(sorted(pairs, key=lambda pair: -pair.correlation))


def _same_of_shape(keys: Sequence[Key], numbers: Sequence[int]) -> list[SamePicture]:
    limit = PAIRS_PER_IMAGE * len(numbers)
    pairs = []
    alike = _alike([keys[number] for number in numbers])
    if len(alike) > limit:
        logger.warning(
            "%d pairs of images are so alike that only the first %d were compared in full; one picture under two names"
            " may be among the others",
            len(alike),
            limit,
        )
    read = functools.lru_cache(maxsize=KEPT_IMAGES)(_read)  # each is in a few pairs
    for one, other, least in alike[:limit]:
        first, second = numbers[one], numbers[other]
        value = correlation(read(keys[first][0]), read(keys[second][0]))
        if value >= least:
            pairs.append(SamePicture(first, second, value))
    largest = _largest_group(pairs)
    if len(largest) >= ALIKE_BY_DESIGN and 2 * len(largest) > len(numbers):
        logger.warning(
            "%s and %d of %d images show one picture, as if by design: whether one person is among them under two names"
            " cannot be told",
            keys[largest[0]][0],
            len(largest) - 1,
            len(numbers),
        )
        return []
    return pairs


def _largest_group(pairs: Sequence[SamePicture]) -> list[int]:
    """Numbers of the most images that are one picture, by whichever pairs they are linked."""
    if not pairs:
        return []
    images = sorted({number for pair in pairs for number in (pair.first, pair.second)})
    ends = np.searchsorted(images, [(pair.first, pair.second) for pair in pairs])
    links = coo_array((np.ones(len(pairs)), ends.T), shape=(len(images), len(images)))
    groups = connected_components(links, directed=False)[1]
    return [number for number, group in zip(images, groups, strict=True) if group == np.bincount(groups).argmax()]


def _alike(keys: Sequence[Key]) -> list[tuple[int, int, float]]:
    """Pairs of images of different patients whose thumbnails are alike at a flip, the most alike first.

    With each pair the correlation from which on it is one picture.
    """
    shifted = np.stack([_fingerprint(path, state).thumbnails for path, *_, state in keys], axis=1)
    best = likeness_of(shifted)
    owners = _numbered([patient for _, patient, *_ in keys])
    cohorts, is_named = _numbered([key[2] for key in keys]), torch.tensor([bool(key[2]) for key in keys])
    is_asked = (owners[:, None] != owners) & ~((cohorts[:, None] == cohorts) & is_named)
    crowd = crowd_of(best, owners)
    if bool((crowd > 0).any()):
        logger.warning(
            "%d of %d images are alike to %d others and more, as pictures of little detail are: only copies that stand"
            " out from these are told",
            int((crowd > 0).sum()),
            len(crowd),
            CROWD,
        )
    # Thumbnails of a copy may lie a little farther apart than the images: half the way to the crowd is near enough.
    is_alike = (best >= ALIKE_THUMBNAILS) & (1 - best <= (1 - torch.minimum(crowd[:, None], crowd)) / 2) & is_asked
    first, second = torch.nonzero(torch.triu(is_alike), as_tuple=True)
    order = best[first, second].argsort(descending=True, stable=True)
    first, second = first[order], second[order]
    least = least_correlation(torch.maximum(crowd[first], crowd[second]))
    return list(zip(first.tolist(), second.tolist(), least.tolist(), strict=True))


def likeness_of(shifted: np.ndarray) -> Tensor:
    """Compare the thumbnails of all images, at the flip and the shift where they agree best.

    Args:
        shifted: (S, N, C, *cells), `thumbnails_of` N images, along the second axis.

    Returns:
        (N, N), symmetric: the correlation of each pair.
    """
    lying = _flat(shifted[0])
    best = lying.new_full((len(lying), len(lying)), -1.0)
    for flips in _flips(shifted.ndim - 3):
        for thumbnails in shifted:
            best = torch.maximum(best, lying @ _flat(thumbnails[(slice(None), slice(None), *flips)]).T)
    return torch.maximum(best, best.T)


def least_correlation(crowd: Tensor) -> Tensor:
    """Return the correlation from which on two images are one picture.

    Args:
        crowd: of any shape, how alike the thumbnail of one of them is to that of its `CROWD`-th most alike patient.
    """
    return (1 - (1 - crowd) * SHARE_OF_CROWD).clamp_min(SAME_PICTURE)


def crowd_of(likeness: Tensor, owners: Tensor) -> Tensor:
    """Say how alike each image is to the patient who is its `CROWD`-th most alike, where that is much.

    Args:
        likeness: (N, N), symmetric, of the thumbnails of N images.
        owners: (N,), number of the patient of each, from 0.

    Returns:
        (N,); -1 where there are fewer others, where it is below `CROWDED`, and everywhere if most are: one picture
        under many names is no crowd.
    """
    num_owners = int(owners.max()) + 1
    if num_owners <= CROWD:
        return likeness.new_full((len(likeness),), -1.0)
    by_owner = likeness.new_full((len(likeness), num_owners), -1.0)
    by_owner.scatter_reduce_(1, owners.expand(len(likeness), -1), likeness, "amax")
    by_owner[torch.arange(len(likeness)), owners] = -1.0
    crowd = by_owner.topk(CROWD, dim=1).values[:, -1]
    return torch.where((crowd < CROWDED) | (crowd.median() < CROWDED), -1.0, crowd)


def _numbered(names: Sequence[str]) -> Tensor:
    """Number names, equal ones alike."""
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[name] for name in names])


def _flat(thumbnails: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(thumbnails)).flatten(1)


@functools.cache
def _fingerprint(path: str, state: tuple[int, int]) -> Fingerprint:
    image = _read(path)
    lying = np.moveaxis(image, 0, -1)
    digest = hashlib.sha256(str(lying.shape).encode() + np.ascontiguousarray(lying).tobytes()).hexdigest()
    return Fingerprint(digest, image.shape, thumbnails_of(image))


def _read(path: str) -> np.ndarray:
    """Read an image, (C, *spatial); as float32, to which every image is cast; 0 and -0 are one intensity."""
    image: Any = nib.load(path)
    array = np.moveaxis(np.asarray(image.dataobj, dtype=np.float32) + 0.0, -1, 0)
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def _brain(image: np.ndarray) -> np.ndarray:
    lowest = image.min(axis=tuple(range(1, image.ndim)), keepdims=True)
    brain: np.ndarray = (image > lowest).any(0)
    return brain


def _standardized(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance inside the brain in each channel; 0 outside and in channels without contrast."""
    brain, axes = _brain(image), tuple(range(1, image.ndim))
    count = max(int(brain.sum()), 1)
    centered = (image - (image * brain).sum(axes, keepdims=True) / count) * brain
    deviation = np.sqrt((centered**2).sum(axes, keepdims=True) / count)
    scale = np.where(deviation > 1e-5 * np.abs(image).max(initial=0), deviation, np.inf)
    standardized: np.ndarray = (centered / scale).astype(np.float32)
    return standardized


def _flips(num_axes: int) -> Iterator[tuple[slice, ...]]:
    return product((slice(None), slice(None, None, -1)), repeat=num_axes)


def _shift_limits(shape: Sequence[int]) -> list[int]:
    return [min(MAX_SHIFT, size // 16) for size in shape]


def _spectrum(standardized: np.ndarray) -> Tensor:
    return torch.fft.rfftn(torch.from_numpy(standardized), dim=tuple(range(1, standardized.ndim)))


def _best_shifts(standardized: np.ndarray, spectrum: Tensor) -> Shifts:
    """Shifts by which a standardized image must be moved back to lie best over the one of this spectrum."""
    shape = standardized.shape[1:]
    product_sum = torch.fft.irfftn((_spectrum(np.ascontiguousarray(standardized)) * spectrum.conj()).sum(0), s=shape)
    candidates = list(product(*(range(-limit, limit + 1) for limit in _shift_limits(shape))))
    return max(candidates, key=lambda shifts: float(product_sum[shifts]))


def _correlation_at(image: np.ndarray, other: np.ndarray, shifts: Shifts) -> float:
    sizes = list(zip(shifts, image.shape[1:], strict=True))
    own = tuple(slice(max(0, step), size + min(0, step)) for step, size in sizes)
    others = tuple(slice(max(0, -step), size + min(0, -step)) for step, size in sizes)
    brain, other_brain = _brain(image)[own], _brain(other)[others]
    shared = brain & other_brain
    if 2 * shared.sum() <= (brain | other_brain).sum():
        return 0.0
    first, second = (
        one[(slice(None), *part)][:, shared].astype(np.float64) for one, part in ((image, own), (other, others))
    )
    first, second = (one - one.mean(1, keepdims=True) for one in (first, second))
    lengths = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    has_contrast = lengths > 1e-9 * max(1, shared.sum())
    return float(((first * second).sum(1)[has_contrast] / lengths[has_contrast]).mean()) if has_contrast.any() else 0.0
