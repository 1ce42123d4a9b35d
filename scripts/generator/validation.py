"""The validation of a generator: its images with noise and timesteps that are the same every time."""

from __future__ import annotations

import torch
from monai.engines import DiffusionPrepareBatch
from monai.networks.schedulers import Scheduler
from torch import Tensor
from torch.utils.data import Dataset

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
