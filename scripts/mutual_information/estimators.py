"""Mutual information between two images of a pair, in nats, with a gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Kernel width in bins; MONAI's GlobalMutualInformationLoss has the same.
SIGMA_IN_BINS = 0.5
# Ridge on variances, in squared units of [-1, 1]: a standard deviation of 1e-3 still counts, a constant image does not.
VARIANCE_RIDGE = 1e-8
# Smaller shares are none: processors work on numbers near the least of float32 (1e-38) many times more slowly.
NEGLIGIBLE_SHARE = 1e-20


def parzen_weights(values: Tensor, num_bins: int) -> Tensor:
    """Share each value out among histogram bins with a Gaussian kernel.

    The bins are centered from -1 to 1. Up to a factor that cancels, exp(-(x - c)^2 / 2 sigma^2) is
    exp((x c - c^2 / 2) / sigma^2), so the shares are a softmax over the bins: they sum to one for any x, also far
    outside [-1, 1], where the outermost bin takes all and the gradient vanishes.

    Args:
        values: intensities, shape (B, N), meant for [-1, 1].
        num_bins: number of bins, >= 2.

    Returns:
        Shares, shape (B, num_bins, N), in [0, 1], summing to one over the bins; those below `NEGLIGIBLE_SHARE` are 0.

    Raises:
        ValueError: if `num_bins` is below 2.
    """
    if num_bins < 2:
        raise ValueError(f"mi_num_bins must be >= 2, got {num_bins!r}; 16 to 32 suit images of 96 x 96")
    centers = torch.linspace(-1, 1, num_bins, dtype=values.dtype, device=values.device)
    precision = ((num_bins - 1) / (2 * SIGMA_IN_BINS)) ** 2
    offsets, slopes = (-0.5 * precision * centers**2)[:, None], (precision * centers)[:, None]
    # Pixels last: three times as fast on a CPU as bins last.
    shares = torch.softmax(torch.addcmul(offsets, values[:, None], slopes), dim=1)
    return torch.nn.functional.threshold(shares, NEGLIGIBLE_SHARE, 0.0)


def joint_histogram(first: Tensor, second: Tensor, num_bins: int) -> Tensor:
    """Estimate the joint distribution of two images' intensities by Parzen windows.

    Args:
        first: intensities in [-1, 1], shape (B, N).
        second: intensities in [-1, 1], shape (B, N).
        num_bins: bins on each axis.

    Returns:
        Probabilities, shape (B, num_bins, num_bins), summing to one; rows belong to `first`.
    """
    weights = parzen_weights(second, num_bins).transpose(1, 2)
    return parzen_weights(first, num_bins) @ weights / first.shape[1]


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats over all but the first dimension; 0 log 0 counts as 0, with a finite gradient."""
    floor = torch.finfo(probabilities.dtype).tiny
    return -(probabilities * probabilities.clamp_min(floor).log()).flatten(1).sum(1)


def parzen_gaussian(first: Tensor, second: Tensor, num_bins: int = 23) -> Tensor:
    """Mutual information of a Parzen-window histogram: sum p(x, y) log [p(x, y) / (p(x) p(y))].

    Equals minus MONAI's `GlobalMutualInformationLoss(kernel_type="gaussian")` of images brought to [0, 1].
    The estimate is that of intensities blurred by the kernel, whose standard deviation s is half a bin
    (1 / (num_bins - 1) in units of [-1, 1]). It is biased in two known ways:

    - downwards by the blur: a Gaussian pair of correlation rho and standard deviations a, b reads as one of
      correlation rho a b / sqrt((a^2 + s^2) (b^2 + s^2)); images alike to within a bin read a finite number;
    - upwards by the sample: independent images of N pixels read up to (num_bins - 1)^2 / (2 N).

    It does not depend on the order of the two, nor on a sign flip of either; it does depend on scale, since the bins
    are fixed: bring intensities to [-1, 1] first.

    Args:
        first: intensities in [-1, 1], shape (B, N).
        second: intensities in [-1, 1], shape (B, N).
        num_bins: bins on each axis.

    Returns:
        Nats, shape (B,), >= 0 and 0 for a constant image.
    """
    information, _, _ = _information_and_entropies(first, second, num_bins)
    return information


def nmi(first: Tensor, second: Tensor, num_bins: int = 23) -> Tensor:
    """Mutual information over the mean of the two entropies (symmetric uncertainty).

    Source: Witten and Frank, "Data Mining", 2nd ed., section 7.1.

    Args:
        first: intensities in [-1, 1], shape (B, N).
        second: intensities in [-1, 1], shape (B, N).
        num_bins: bins on each axis.

    Returns:
        Dimensionless, shape (B,), in [0, 1].
    """
    information, entropy_first, entropy_second = _information_and_entropies(first, second, num_bins)
    # The kernel alone gives every image, a constant one too, an entropy well above zero.
    return 2 * information / (entropy_first + entropy_second)


def gaussian(first: Tensor, second: Tensor, num_bins: int = 23) -> Tensor:
    """Mutual information of two Gaussians with the images' correlation: -log(1 - rho^2) / 2.

    Blind to dependence that is not linear. Does not depend on offset, sign or scale of either image as long as its
    standard deviation is well above 1e-4; a constant image reads 0, and equal images read a finite number.

    Args:
        first: intensities, shape (B, N).
        second: intensities, shape (B, N).
        num_bins: not read; all estimators are called alike.

    Returns:
        Nats, shape (B,), >= 0.
    """
    first = first - first.mean(1, keepdim=True)
    second = second - second.mean(1, keepdim=True)
    variance_first = first.square().mean(1) + VARIANCE_RIDGE
    variance_second = second.square().mean(1) + VARIANCE_RIDGE
    squared_correlation = (first * second).mean(1).square() / (variance_first * variance_second)
    # 1 - rho^2 cannot fall below the ridge's share but for rounding.
    return -0.5 * (1 - squared_correlation).clamp_min(torch.finfo(first.dtype).eps).log()


@torch.no_grad()
def histogram(first: Tensor, second: Tensor, num_bins: int = 23) -> Tensor:
    """Mutual information of a plain histogram on [-1, 1]; it has no gradient, so it is for logs only.

    Equals `sklearn.metrics.mutual_info_score` of the bin numbers.

    Args:
        first: intensities in [-1, 1], shape (B, N); values outside count in the outermost bins.
        second: intensities in [-1, 1], shape (B, N).
        num_bins: bins on each axis, of equal width.

    Returns:
        Nats, shape (B,), >= 0.
    """
    cells = bin_numbers(first, num_bins) * num_bins + bin_numbers(second, num_bins)
    counts = torch.stack([torch.bincount(row, minlength=num_bins**2) for row in cells])
    joint = (counts.to(torch.float64) / first.shape[1]).reshape(-1, num_bins, num_bins)
    return (entropy(joint.sum(2)) + entropy(joint.sum(1)) - entropy(joint)).clamp_min(0)


def bin_numbers(values: Tensor, num_bins: int) -> Tensor:
    """Number of the equal-width bin on [-1, 1] for each value, from 0 to num_bins - 1."""
    return ((values + 1) * (num_bins / 2)).floor().long().clamp(0, num_bins - 1)


ESTIMATORS: dict[str, Callable[..., Tensor]] = {"parzen_gaussian": parzen_gaussian, "nmi": nmi, "gaussian": gaussian}
WITHOUT_GRADIENT: dict[str, Callable[..., Tensor]] = {"histogram": histogram}
CHANNEL_MODES = ("per_channel", "pooled")


def mutual_information(
    first: Tensor,
    second: Tensor,
    estimator: str = "parzen_gaussian",
    channels: str = "per_channel",
    num_bins: int = 23,
) -> Tensor:
    """Mutual information of each pair of images in two batches, computed in float32 or better whatever autocast says.

    Half precision is not enough: fp16 gradients are NaN, bf16 ones wrong by 5 to 14 %.

    Args:
        first: intensities in [-1, 1], shape (B, C, *spatial).
        second: intensities in [-1, 1], same shape.
        estimator: "parzen_gaussian", "nmi" or "gaussian"; "histogram", which has no gradient, for logs.
        channels: "per_channel" averages over the channels' own values; "pooled" puts all channels of an image into
            one histogram, which then also counts what the channels' mean intensities share.
        num_bins: bins on each axis of a histogram.

    Returns:
        Nats (dimensionless for "nmi"), shape (B,), >= 0.

    Raises:
        ValueError: if the shapes differ, or `estimator` or `channels` is unknown.
    """
    if first.shape != second.shape:
        raise ValueError(f"second must have the shape of first {tuple(first.shape)}, got {tuple(second.shape)}")
    check_options(estimator, channels, with_gradient=False)
    batch = first.shape[0]
    rows = batch * first.shape[1] if channels == "per_channel" else batch
    with torch.autocast(device_type=first.device.type, enabled=False):
        dtype = torch.promote_types(first.dtype, torch.float32)
        pair = (image.to(dtype).reshape(rows, -1) for image in (first, second))
        information = {**ESTIMATORS, **WITHOUT_GRADIENT}[estimator](*pair, num_bins)
        return information.to(dtype).reshape(batch, -1).mean(1)


def check_options(estimator: str, channels: str, with_gradient: bool = True) -> None:
    """Raise ValueError if `estimator` or `channels` is unknown, or the estimator lacks the gradient that is needed."""
    if estimator in WITHOUT_GRADIENT and with_gradient:
        raise ValueError(
            f"mi_estimator must have a gradient, got {estimator!r}, which is for logs (mi_weight 0); use"
            " 'parzen_gaussian'"
        )
    if estimator not in (known := {**ESTIMATORS, **({} if with_gradient else WITHOUT_GRADIENT)}):
        raise ValueError(f"mi_estimator must be one of {', '.join(known)}, got {estimator!r}")
    if channels not in CHANNEL_MODES:
        raise ValueError(f"mi_channels must be one of {', '.join(CHANNEL_MODES)}, got {channels!r}")


def _information_and_entropies(first: Tensor, second: Tensor, num_bins: int) -> tuple[Tensor, Tensor, Tensor]:
    joint = joint_histogram(first, second, num_bins)
    entropy_first, entropy_second = entropy(joint.sum(2)), entropy(joint.sum(1))
    # The shares sum to one, so this is a Kullback-Leibler divergence and negative by rounding only.
    return (entropy_first + entropy_second - entropy(joint)).clamp_min(0), entropy_first, entropy_second
