"""Radial power spectra: at which frequencies a synthetic set is weak or strong, beside how much real images differ."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scripts.splits.patients import number_patients

NYQUIST = 0.5  # cycles per pixel
MAX_BANDS = 16
SMALLEST_SIDE = 8  # pixels, of which four bands are told apart
MIN_PATIENTS = 10  # in the real set: fewer say too little of what is usual
CONFIDENCE = 0.95
MIN_SPREAD = 1e-9  # dB, of equal images
MIN_POWER = 1e-12  # of a channel, intensities in [-1, 1], below which it is constant but for rounding
WEAK, STRONG = "weak", "strong"


def band_edges(spatial_shape: Sequence[int]) -> np.ndarray:
    """Limits (B + 1,) of equally wide bands of frequencies, from 0 to 0.5 cycles per pixel.

    As many as the smallest side can tell apart, 16 at most.

    Raises:
        ValueError: if a side has fewer than 8 pixels.
    """
    side = min(spatial_shape)
    if side < SMALLEST_SIDE:
        raise ValueError(
            f"a spectrum must be of images of at least {SMALLEST_SIDE} pixels along each side, got"
            f" {tuple(spatial_shape)}; make larger patches (patch_size)"
        )
    return np.linspace(0, NYQUIST, min(MAX_BANDS, side // 2) + 1)


def radial_power_spectrum(images: Tensor) -> Tensor:
    """Power of images in bands of frequencies, averaged over all directions, in decibels.

    Each channel less its mean is tapered by a Hann window along every axis, so that borders that do not match add
    nothing, and its power is the mean of |F|^2 over the frequencies of a band. Frequencies are cycles per pixel along
    each axis, so that unequal sides share their bands; those beyond 0.5, in the corners, count nowhere.

    Source: van der Schaaf, van Hateren 1996, "Modelling the power spectra of natural images: statistics and
    information".

    Args:
        images: (N, C, *spatial) in [-1, 1], two or three axes.

    Returns:
        (N, B) float64, 10 log10 of the power, mean over channels; -inf where a channel is constant.

    Raises:
        ValueError: if a side is too small, see `band_edges`.
    """
    shape = images.shape[2:]
    edges = torch.from_numpy(band_edges(shape)).to(images.device)
    bands = _bands(shape, edges)
    window = torch.ones((), dtype=torch.float64, device=images.device)
    for size in shape:
        window = window[..., None] * torch.hann_window(size + 1, dtype=torch.float64, device=images.device)[1:]
    weight = window.square().sum()
    axes = tuple(range(1, 1 + len(shape)))
    spectra = []
    for image in images:
        centered = image.double() - image.double().mean(axes, keepdim=True)
        power = torch.fft.fftn(centered * window, dim=axes).abs().square().flatten(1) / weight
        sums = power.new_zeros(len(image), len(edges)).index_add(1, bands, power)[:, :-1]
        mean = sums / bands.bincount(minlength=len(edges))[:-1]
        is_constant = power.mean(1, keepdim=True) < MIN_POWER
        spectra.append((10 * torch.where(is_constant, 0.0, mean).log10()).mean(0))
    return torch.stack(spectra)


def spectral_distance(first: Tensor, second: Tensor) -> float:
    """Root mean square, over the bands, of the difference of two mean spectra; lower is better, >= 0, decibels.

    Args:
        first: spectra (N, B) of `radial_power_spectrum`.
        second: (M, B).

    >>> spectral_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])) == 12.5 ** 0.5
    True
    """
    return float((first.mean(0) - second.mean(0)).square().mean().sqrt())


def mean_by_patient(spectra: Tensor, patients: Sequence[Hashable] | None) -> Tensor:
    """Average spectra (N, B) of one patient: (P, B). None is a patient for each."""
    if patients is None:
        return spectra
    numbers = torch.from_numpy(number_patients(patients)).to(spectra.device)
    sums = spectra.new_zeros(int(numbers.max()) + 1, spectra.shape[1]).index_add(0, numbers, spectra)
    return sums / numbers.bincount()[:, None]


class Spectra(NamedTuple):
    """Spectra (N, B) of `radial_power_spectrum`, and the limits (B + 1,) of their bands; or why there are none.

    `values` and `edges` are None where images are too small; a channel that is constant has a reason, too.
    """

    values: Tensor | None
    edges: np.ndarray | None
    reason: str | None

    @classmethod
    def of(cls, images: Tensor) -> Spectra:
        """Compute those of images (N, C, *spatial) in [-1, 1]."""
        try:
            edges = band_edges(images.shape[2:])
        except ValueError as error:
            return cls(None, None, str(error))
        values = radial_power_spectrum(images)
        count = int((~values.isfinite().all(1)).sum())
        reason = f"{count} of {len(values)} images have a constant channel, which has no spectrum; look at the images"
        return cls(values, edges, reason if count else None)


def compare_spectra(
    spectra: Spectra,
    num_synthetic: int,
    patients: Sequence[Hashable],
    spacing_mm: float | None = None,
    num_draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Say in which bands a synthetic set differs from real images by more than real images from each other.

    Real patients are drawn with replacement, many times, and compared with all real patients: the largest difference in
    any band, in the standard errors that the drawn ones have, stays below a limit in 95 % of the draws. A synthetic set
    is outside in a band where its difference is beyond as many standard errors, for its own number of images. That each
    draw has its own errors is what widens the band where few real patients say little of how much patients vary.

    Source: Efron, Tibshirani 1993, "An introduction to the bootstrap", section 12.5, the bootstrap-t interval; here of
    all bands at once.

    Args:
        spectra: of all images, the synthetic ones first.
        num_synthetic: synthetic images.
        patients: whose each image is; spectra of one patient are averaged.
        spacing_mm: length of a pixel, for frequencies in cycles per mm; None where it is unknown.
        num_draws: draws of real patients.
        seed: of the draws.

    Returns:
        `edges` in `unit`; `synthetic_db`, `real_db` and `difference_db` of each band, `band_db`, up to which real sets
        differ, `outside`: ranges of frequencies `low` to `high` that are `direction` "weak" or "strong" by up to
        `largest_db`, `num_synthetic` and `num_real` patients, `sentence`, and `reason` why there is nothing.
    """
    unit = "cycles per pixel" if spacing_mm is None else "cycles per mm"
    names = (patients[:num_synthetic], patients[num_synthetic:])
    counts = [len(set(part)) for part in names]
    result: dict[str, Any] = {"unit": unit, "edges": None, "outside": []}
    result |= dict.fromkeys(("synthetic_db", "real_db", "difference_db", "band_db", "sentence", "reason"))
    result |= dict(zip(("num_synthetic", "num_real"), counts, strict=True))
    few = f"a band needs real images of at least {MIN_PATIENTS} subjects, got {counts[1]}"
    reason = spectra.reason or (few if counts[1] < MIN_PATIENTS else None)
    if reason is not None or spectra.values is None or spectra.edges is None:
        return {**result, "reason": reason}
    scaled = spectra.edges / (spacing_mm or 1.0)
    sets = (spectra.values[:num_synthetic], spectra.values[num_synthetic:])
    ours, theirs = (mean_by_patient(values, part).cpu().numpy() for values, part in zip(sets, names, strict=True))
    difference = ours.mean(0) - theirs.mean(0)
    spread = np.maximum(theirs.std(0, ddof=1), MIN_SPREAD)
    limit = _limit(theirs, num_draws, seed)
    band = limit * spread * math.sqrt(1 / len(ours) + 1 / len(theirs))
    result |= {"edges": scaled.round(6).tolist(), "outside": _ranges(difference, band, scaled)}
    columns = {"synthetic_db": ours.mean(0), "real_db": theirs.mean(0), "difference_db": difference, "band_db": band}
    return {
        **result,
        **{name: values.round(4).tolist() for name, values in columns.items()},
        "sentence": _in_words(result["outside"], unit),
    }


def _bands(shape: Sequence[int], edges: Tensor) -> Tensor:
    """Number of the band of each frequency (P,); B, behind the last, is none."""
    axes = [torch.fft.fftfreq(size, dtype=torch.float64, device=edges.device) for size in shape]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt().flatten()
    # A frequency on a limit is of the band below, and 0 is in none.
    bands = torch.bucketize(radius - 1e-9, edges) - 1
    return torch.where((bands < 0) | (bands >= len(edges) - 1), len(edges) - 1, bands)


def _limit(real: np.ndarray, num_draws: int, seed: int) -> float:
    """Standard errors that the largest difference of drawn real patients from all stays below in 95 % of draws."""
    random = np.random.default_rng(seed)
    count, mean = len(real), real.mean(0)
    largest = []
    for _ in range(num_draws):
        drawn = real[random.integers(count, size=count)]
        error = np.maximum(drawn.std(0, ddof=1), MIN_SPREAD) / math.sqrt(count)
        largest.append(np.abs((drawn.mean(0) - mean) / error).max())
    return float(np.quantile(largest, CONFIDENCE))


def _ranges(difference: np.ndarray, band: np.ndarray, edges: np.ndarray) -> list[dict[str, Any]]:
    """Put bands outside that lie side by side together."""
    signs = np.where(np.abs(difference) > band, np.sign(difference), 0).astype(int).tolist()
    ranges, start = [], 0
    for sign, group in groupby(signs):
        end = start + len(list(group))
        if sign:
            largest = float(np.abs(difference[start:end]).max())
            low, high = (round(float(edges[index]), 4) for index in (start, end))
            direction = WEAK if sign < 0 else STRONG
            ranges.append({"low": low, "high": high, "direction": direction, "largest_db": round(largest, 3)})
        start = end
    return ranges


def _in_words(outside: Sequence[dict[str, Any]], unit: str) -> str:
    if not outside:
        return "No band of frequencies differs by more than real images do among each other."
    named = [
        f"{item['direction']} from {item['low']:.2g} to {item['high']:.2g} {unit}, by up to {item['largest_db']:.2g} dB"
        for item in outside
    ]
    return f"More than real images differ among each other, synthetic ones are {', and '.join(named)}."
