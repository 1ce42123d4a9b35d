"""What the two terms of a regularized loss do at low and at high noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SUMS = ("count", "noise_loss", "mutual_information", "noise_gradient", "mutual_information_gradient")


class NoiseLevels:
    """Sums of the loss terms and of their squared gradients over bands of timesteps of equal width.

    The sums stay on the device until `take`, which empties them.

    Args:
        num_bands: number of bands, >= 1; band 0 holds the least noise.
    """

    def __init__(self, num_bands: int = 4) -> None:
        if num_bands < 1:
            raise ValueError(f"num_bands must be >= 1, got {num_bands!r}")
        self.num_bands = num_bands
        self._sums: Tensor | None = None

    @torch.no_grad()
    def add(
        self,
        relative_timesteps: Tensor,
        noise_loss: Tensor,
        information: Tensor,
        noise_gradient: Tensor,
        information_gradient: Tensor,
    ) -> None:
        """Add the images of a training step.

        Args:
            relative_timesteps: t / T of each image, shape (B,), in [0, 1).
            noise_loss: of each image, shape (B,).
            information: mutual information of each image in nats, shape (B,).
            noise_gradient: gradient of the weighted noise loss by the predicted noise, shape (B, C, *spatial).
            information_gradient: gradient of the weighted mutual information by the predicted noise, same shape.
        """
        squares = [gradient.float().flatten(1).square().sum(1) for gradient in (noise_gradient, information_gradient)]
        columns = [torch.ones_like(noise_loss), noise_loss, information, *squares]
        values = torch.stack([column.detach().float() for column in columns], dim=1)
        if self._sums is None:
            self._sums = torch.zeros(self.num_bands, len(SUMS), device=values.device)
        bands = (relative_timesteps * self.num_bands).long().clamp(0, self.num_bands - 1)
        self._sums.index_add_(0, bands.to(values.device), values)

    def take(self) -> list[dict[str, Any]]:
        """Return one row a band and start again.

        Returns:
            {"from", "to": timesteps over T; "noise_loss"; "mutual_information" in nats; "gradient_ratio": norm of the
            mutual information's weighted gradient over that of the noise loss}, the latter three null in a band
            without an image.
        """
        sums = [[0.0] * len(SUMS)] * self.num_bands if self._sums is None else self._sums.double().tolist()
        self._sums = None
        return [self._row(band, dict(zip(SUMS, row, strict=True))) for band, row in enumerate(sums)]

    def _row(self, band: int, sums: dict[str, float]) -> dict[str, Any]:
        row: dict[str, Any] = {"from": band / self.num_bands, "to": (band + 1) / self.num_bands}
        for name in ("noise_loss", "mutual_information"):
            row[name] = sums[name] / sums["count"] if sums["count"] else None
        noise = sums["noise_gradient"]
        row["gradient_ratio"] = (sums["mutual_information_gradient"] / noise) ** 0.5 if noise > 0 else None
        return row
