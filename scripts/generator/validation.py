"""The validation of a generator: its images with noise and timesteps that are the same every time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.engines import DiffusionPrepareBatch
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn
from torch.utils.data import Dataset

from scripts.generator.autoencoder import to_generated
from scripts.generator.guidance import predict_noise
from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import training_target


class ValidationNoiseDataset(Dataset):
    """Images with the same timesteps and the same noise every time, so that two validations differ by the network only.

    Stock validation draws them anew: that alone scatters the loss of 10 to 50 images by 17 to 38 %.

    Args:
        images: dataset of dictionaries with "image", shape (C, *spatial).
        num_draws: timesteps per image.
        num_train_timesteps: T of the noise scheduler.
        seed: seed of the noise.
    """

    def __init__(self, images: Dataset, num_draws: int, num_train_timesteps: int, seed: int = 0) -> None:
        if num_draws < 1:
            raise ValueError(f"num_draws must be >= 1, got {num_draws!r}")
        self.images = images
        self.timesteps = stratified_timesteps(len(images), num_draws, num_train_timesteps)  # type: ignore[arg-type]
        self.seed = seed

    def __len__(self) -> int:
        return self.timesteps.numel()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, draw = divmod(index, self.timesteps.shape[1])
        original = self.images[image]["image"]
        noise = ImageNoise(self.seed, [index], original.shape).draw()[0]
        item = {**self.images[image], "image": original}
        return {**item, "noise": noise, "timesteps": self.timesteps[image, draw]}


class StoredNoisePrepareBatch(DiffusionPrepareBatch):
    """`DiffusionPrepareBatch` that takes noise and timesteps from the batch instead of drawing them.

    Args:
        scheduler: noise scheduler of the training, which says what the network should predict.
        condition_name: key of the batch that the network is conditioned on; None for none.
    """

    def __init__(self, scheduler: Scheduler, condition_name: str | None = None) -> None:
        super().__init__(num_train_timesteps=0, condition_name=condition_name)
        self.scheduler = scheduler

    def __call__(  # type: ignore[override]
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Tensor]]:
        """Return (images, target, (), {"noise", "timesteps" and, if asked for, "condition"}) on `device`."""
        images, noise = (batchdata[key].to(device, non_blocking=non_blocking, **kwargs) for key in ("image", "noise"))
        timesteps = batchdata["timesteps"].to(device, non_blocking=non_blocking)
        arguments = {"noise": noise, "timesteps": timesteps}
        if self.condition_name is not None:
            arguments["condition"] = batchdata[self.condition_name].to(device, non_blocking=non_blocking)
        return images, training_target(self.scheduler, images, noise, timesteps), (), arguments


@dataclass(frozen=True)
class DenoisingLosses:
    """The loss of a trained generator on single images, with the same timesteps and noises for every image.

    Args:
        network: the generator, in eval mode.
        scheduler: noise scheduler of its training.
        condition: "label" for a generator told the class, None for one that is not.
        num_levels: timesteps, the middles of as many equal parts of all.
        num_draws: noises of each timestep.
        seed: of the noises.
        batch_size: images at once; bounds memory only.
    """

    network: nn.Module
    scheduler: Scheduler
    condition: str | None = None
    num_levels: int = 10
    num_draws: int = 4
    seed: int = 0
    batch_size: int = 64

    @property
    def timesteps(self) -> Tensor:
        """The timesteps at which images are denoised, (levels,)."""
        middles = (torch.arange(self.num_levels) + 0.5) / self.num_levels
        return (middles * int(self.scheduler.num_train_timesteps)).long()

    @torch.no_grad()
    def __call__(self, images: Tensor, label: int | None = None) -> Tensor:
        """Return the mean squared error of the prediction, (N, levels) float64 on the CPU.

        Args:
            images: (N, C, *spatial) in [-1, 1].
            label: their class; None where the generator is not told it.
        """
        device = next(self.network.parameters()).device
        images = to_generated(self.network, images)
        shape = tuple(images.shape[1:])
        noises = ImageNoise(self.seed, list(range(self.num_draws * self.num_levels)), shape, device).draw()
        losses = torch.zeros(len(images), self.num_levels, dtype=torch.float64)
        for level, timestep in enumerate(self.timesteps.tolist()):
            for noise in noises[level :: self.num_levels]:
                parts = images.split(self.batch_size)
                errors = [self._error(part.to(device), noise, timestep, label) for part in parts]
                losses[:, level] += torch.cat(errors).double().cpu() / self.num_draws
        return losses

    def _error(self, images: Tensor, noise: Tensor, timestep: int, label: int | None) -> Tensor:
        noises = noise.expand_as(images)
        timesteps = torch.full((len(images),), timestep, device=images.device)
        noisy = self.scheduler.add_noise(images, noises, timesteps)
        labels = None if self.condition is None or label is None else torch.full_like(timesteps, label)
        target = training_target(self.scheduler, images, noises, timesteps)
        return (predict_noise(self.network, noisy, timesteps, labels) - target).square().flatten(1).mean(1)


def stratified_timesteps(num_images: int, num_draws: int, num_train_timesteps: int) -> Tensor:
    """Spread the timesteps of a validation evenly over all steps, and those of each image too.

    Image i gets one timestep in each of `num_draws` equal parts of the range, at a place inside the part that is its
    own; together the `num_images * num_draws` timesteps are evenly spaced.

    Args:
        num_images: number of images, >= 1.
        num_draws: timesteps per image, >= 1.
        num_train_timesteps: T.

    Returns:
        Integers, shape (num_images, num_draws), 0 <= t < T.
    """
    place = (torch.arange(num_images, dtype=torch.float64) + 0.5) / num_images
    part = torch.arange(num_draws, dtype=torch.float64)
    return ((part + place[:, None]) / num_draws * num_train_timesteps).floor().long()
