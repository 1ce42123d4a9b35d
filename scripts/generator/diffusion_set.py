"""The set of a trained diffusion model: its weights loaded, its images drawn from noise, also by an evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn

from scripts.generator.autoencoder import to_images
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
        shape: (C, *spatial) of what the network draws, from `scripts.generator.autoencoder.generated_shape`; None is
            that of the images.
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
        shape: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(provenance, generator_path, class_name=class_name, form=form, **settings)
        self.network = network
        self.scheduler = scheduler
        self.amp = amp
        self.guidance_scale = float(guidance_scale)
        self.shape = shape
        # Older records do not hold the share; the network is built with the one of its training.
        label_dropout = self.provenance.get("label_dropout", getattr(network, "dropout_prob", None))
        check_guidance(self.guidance_scale, self.provenance["condition"], class_name, label_dropout)

    def draw_raw(self, numbers: Sequence[int]) -> Tensor:
        """Draw images k from noise of their own, on the device of the network, decoded where it draws latents."""
        device = next(self.network.parameters()).device
        noise = ImageNoise(self.seed, numbers, self.shape or (self.form.num_channels, *self.form.patch_size), device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.amp):
            labels = self._labels(len(numbers))
            drawn = sample_images(self.network, self.scheduler, noise, labels, self.guidance_scale)
        return to_images(self.network, drawn)

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


def image_numbers(num_images: int) -> list[dict[str, Tensor]]:
    """Number the images of a set: items {"image": place, shape (1,)}, from 0."""
    return [{"image": torch.tensor([place])} for place in range(num_images)]


class SamplingInferer(Inferer):
    """Draws the images that `SyntheticSet.run` writes: where it is given n, the n-th that is no rejected copy.

    It is for programs that run a bundle by its `dataset` and `evaluator`.

    Args:
        generation: the set, whose own network draws.
    """

    def __init__(self, generation: SyntheticSet) -> None:
        super().__init__()
        self.generation = generation
        self._accepted: list[int] = []
        self._num_drawn = 0

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Draw a batch.

        Args:
            inputs: places of the images in the set, shape (B, 1), whole numbers from 0.
            network: not asked; that of the set is.
            args: not used.
            kwargs: not used.

        Returns:
            Images, shape (B, C, *spatial), in [-1, 1] with background -1, on the device of the numbers.

        Raises:
            ValueError: if a copy filter rejects so many that the set would be refused.
        """
        places = inputs.flatten().long().tolist()
        if self.generation.copy_filter is None:
            return self.generation.draw(places).to(inputs.device)
        drawn = self._draw_accepted(max(places) + 1)
        missing = [place for place in places if place not in drawn]
        if missing:
            again = self.generation.draw([self._accepted[place] for place in missing])
            drawn.update(zip(missing, again, strict=True))
        return torch.stack([drawn[place] for place in places]).to(inputs.device)

    def _draw_accepted(self, count: int) -> dict[int, Tensor]:
        """Draw on until `count` images are accepted; return those that were accepted now, by their places."""
        images: dict[int, Tensor] = {}
        while len(self._accepted) < count:
            numbers = range(self._num_drawn, self._num_drawn + count - len(self._accepted))
            self.generation.refuse_too_many_draws(numbers.stop, len(self._accepted))
            batch = self.generation.draw(numbers)
            for k, image, is_copy in zip(numbers, batch, self.generation.are_copies(batch), strict=True):
                if not is_copy:
                    images[len(self._accepted)] = image
                    self._accepted.append(k)
            self._num_drawn = numbers.stop
        return images
