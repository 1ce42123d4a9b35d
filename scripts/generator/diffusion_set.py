"""The set of a trained diffusion model: its weights loaded, its images drawn from noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn

from scripts.generator.gaussian_prior import with_fade
from scripts.generator.guidance import check_guidance
from scripts.generator.noise import ImageNoise
from scripts.generator.samplers import sample_images, scheduler_name
from scripts.generator.synthetic_set import SyntheticSet
from scripts.provenance.image_form import ImageForm
from scripts.provenance.state_dicts import load_state, refuse_other_state


def load_generator(network: nn.Module, generator_path: str, compile_network: bool = False) -> nn.Module:
    """Load the weights of a trained generator into a network, all of them or none.

    Args:
        network: network of the same architecture.
        generator_path: bare state dict.
        compile_network: compile it with CUDA graphs, which takes about a minute and pays for long sampling on a GPU.

    Returns:
        The network, in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the weights are of another architecture or not finite.
    """
    state = with_fade(load_state(generator_path, "write it with configs/train_generator.yaml"))
    refuse_other_state(
        network.state_dict(),
        state,
        f"{generator_path} must hold weights of the configured generator",
        "set generator_channels and the other generator_* keys, modalities, patch_size and spatial_dims as in its"
        " training (config.yaml beside it)",
    )
    network.load_state_dict(state)
    network.eval()
    return torch.compile(network, mode="reduce-overhead") if compile_network else network


class DiffusionSet(SyntheticSet):
    """A set of images of one diffusion model.

    Args:
        network: trained generator.
        scheduler: from `scripts.generator.samplers.sampling_scheduler`.
        provenance: record of the generator, from `scripts.generator.record.checked_provenance`.
        generator_path: weights that the record is about, for messages.
        class_name: class to generate: that of the generator, or one of a generator conditioned on the class; None for
            a generator of all classes.
        form: of the images.
        amp: sample under bf16 autocast.
        guidance_scale: as in `scripts.generator.guidance.predict_noise`; 1 is none.
        settings: further arguments of `SyntheticSet`.

    Raises:
        ValueError: as `SyntheticSet`, or if the generator cannot be guided.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        scheduler: Scheduler,
        provenance: Mapping[str, Any],
        generator_path: str,
        class_name: str | None,
        form: ImageForm,
        amp: bool = False,
        guidance_scale: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(provenance, generator_path, class_name=class_name, form=form, **settings)
        self.network = network
        self.scheduler = scheduler
        self.amp = amp
        self.guidance_scale = float(guidance_scale)
        # Older records do not hold the share; the network is built with the one of its training.
        label_dropout = self.provenance.get("label_dropout", getattr(network, "dropout_prob", None))
        check_guidance(self.guidance_scale, self.provenance["condition"], class_name, label_dropout)

    def draw_raw(self, numbers: Sequence[int]) -> Tensor:
        """Draw images k from noise of their own, on the device of the network."""
        device = next(self.network.parameters()).device
        noise = ImageNoise(self.seed, numbers, (self.form.num_channels, *self.form.patch_size), device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.amp):
            labels = self._labels(len(numbers))
            return sample_images(self.network, self.scheduler, noise, labels, self.guidance_scale)

    def how_drawn(self) -> dict[str, Any]:
        """Name the sampler and its settings."""
        return {
            "scheduler": scheduler_name(self.scheduler),
            "num_inference_steps": len(self.scheduler.timesteps),
            "guidance_scale": self.guidance_scale,
        }

    def _labels(self, count: int) -> Tensor | None:
        if self.provenance["condition"] is None or self.class_name is None:
            return None
        return torch.full((count,), self.form.classes[self.class_name])
