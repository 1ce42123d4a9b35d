"""What an autoencoder is trained on: how far its images are from the given ones, and how far its latents from noise."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.engines import PrepareBatch
from monai.losses import PatchAdversarialLoss, PerceptualLoss
from torch import Tensor, nn


class Reconstruction(NamedTuple):
    """What an autoencoder makes of images.

    Args:
        images: given back, shape (B, C, *spatial), not clipped.
        means: of the latents of each image, shape (B, L, *latent).
        deviations: their standard deviations, same shape, > 0.
    """

    images: Tensor
    means: Tensor
    deviations: Tensor


class ReconstructionPrepareBatch(PrepareBatch):
    """Give the trainer the images of a batch twice: as what goes in and as what should come out."""

    def __call__(
        self,
        batchdata: Mapping[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return (images, images) on `device`."""
        images = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        return images, images


def kl_divergence(means: Tensor, deviations: Tensor) -> Tensor:
    """Kullback-Leibler divergence of diagonal Gaussians from the standard normal, summed over the latents of an image.

    sum (m^2 + s^2 - log s^2 - 1) / 2. Source: Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix B.

    Args:
        means: m, shape (B, L, *latent).
        deviations: s, same shape, > 0.

    Returns:
        Nats, shape (B,), >= 0.
    """
    return (means.square() + deviations.square() - 2 * deviations.log() - 1).flatten(1).sum(1) / 2


class ReconstructionLoss(nn.Module):
    """L1 + w_kl KL + w_p perceptual + w_a adversarial, each a mean over the values of the images.

    The divergence of an image is divided by its number of values, as L1 is: the weight then means the same at every
    size of image and latent, and that of a loss summed over both.

    Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.1 and
    appendix G, KL-regularized.

    Args:
        kl_weight: w_kl, dimensionless, >= 0.
        perceptual: distance of two batches of single-channel images in [0, 1], such as `monai.losses.PerceptualLoss`;
            it sees each channel as an image of its own. None leaves the term out.
        perceptual_weight: w_p, likewise.
        adversary: tells images from reconstructions; None leaves the term out.
        adversarial_weight: w_a, likewise.

    Raises:
        ValueError: if a weight is negative.
    """

    def __init__(
        self,
        kl_weight: float = 1e-6,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 0.0,
        adversary: Adversary | None = None,
        adversarial_weight: float = 0.0,
    ) -> None:
        super().__init__()
        check_weights(kl_weight, perceptual_weight, adversarial_weight)
        self.kl_weight = kl_weight
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        # Neither its weights nor its optimizer are part of this loss: a checkpoint names them by themselves.
        self._adversary = [adversary] if adversary is not None and adversarial_weight > 0 else []
        self.adversarial_weight = adversarial_weight
        self.terms: dict[str, Tensor] = {}

    def forward(self, pred: Reconstruction, target: Tensor) -> Tensor:
        """Compute the loss of a training step and keep its terms, without gradient, in `terms` for the log.

        Args:
            pred: what the autoencoder returned.
            target: the images, shape (B, C, *spatial), in [-1, 1].

        Returns:
            Scalar.
        """
        images = pred.images.float()
        divergence = kl_divergence(pred.means.float(), pred.deviations.float()).mean() / target[0].numel()
        weighted = {"l1": (1.0, (images - target).abs().mean()), "kl": (self.kl_weight, divergence)}
        if self.perceptual is not None and self.perceptual_weight > 0:
            distance = self.perceptual(_single_channels(images), _single_channels(target))
            weighted["perceptual"] = (self.perceptual_weight, distance)
        for adversary in self._adversary:
            weighted["adversarial"] = (self.adversarial_weight, adversary.deception(images))
        self.terms = {name: value.detach() for name, (_, value) in weighted.items()}
        return torch.stack([weight * value for weight, value in weighted.values()]).sum()


class Adversary(nn.Module):
    """A network that learns to tell images from reconstructions, and the optimizer that it learns by.

    Source: Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", section 3.2.2, by
    MONAI's `PatchDiscriminator` and `PatchAdversarialLoss` (least squares).

    Args:
        discriminator: from images (B, C, *spatial) to maps, or to a list whose last item is one.
        learning_rate: of its AdamW.
        first_epoch: epoch from which it counts; before it the autoencoder learns without.
    """

    def __init__(self, discriminator: nn.Module, learning_rate: float = 5e-4, first_epoch: int = 1) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.first_epoch = first_epoch
        self.optimizer = torch.optim.AdamW(discriminator.parameters(), lr=learning_rate)
        self.loss = PatchAdversarialLoss(criterion="least_squares")
        self.counts = False

    def deception(self, images: Tensor) -> Tensor:
        """Return the adversarial loss of reconstructions, low where they pass for images; 0 before `first_epoch`."""
        if not self.counts:
            return images.new_zeros(())
        self.discriminator.requires_grad_(False)
        return self.loss(self._judge(images), target_is_real=True, for_discriminator=False)

    def learn(self, images: Tensor, reconstructions: Tensor) -> None:
        """Take one step to tell the two apart."""
        self.discriminator.requires_grad_(True)
        batches = ((reconstructions.detach().float(), False), (images, True))
        losses = [self.loss(self._judge(batch), is_real, for_discriminator=True) for batch, is_real in batches]
        self.optimizer.zero_grad()
        (torch.stack(losses).sum() / 2).backward()
        self.optimizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the optimizer, which a resumed training needs."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up where `get_extra_state` left."""
        self.optimizer.load_state_dict(state)

    def _judge(self, images: Tensor) -> Tensor:
        answer = self.discriminator(images)
        return answer[-1] if isinstance(answer, (list, tuple)) else answer


class AdversaryTraining:
    """Trainer handler: let an adversary learn from each batch, after the autoencoder has.

    Args:
        adversary: that of the loss of the training.
    """

    def __init__(self, adversary: Adversary) -> None:
        self.adversary = adversary

    def attach(self, engine: Engine) -> None:
        """Register with a trainer whose network returns a `Reconstruction`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._learn)

    def _start(self, engine: Engine) -> None:
        self.adversary.counts = engine.state.epoch >= self.adversary.first_epoch

    def _learn(self, engine: Engine) -> None:
        if self.adversary.counts:
            self.adversary.learn(engine.state.output["label"], engine.state.output["pred"].images)


def images_of(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return (reconstructions, images) of what an evaluator has put out, as ignite's metrics take them."""
    return output["pred"].images, output["label"]


def perceptual_loss(
    path: str | None, spatial_dims: int, weight: float, device: torch.device | str = "cpu"
) -> nn.Module | None:
    """Make MONAI's perceptual loss from a local file: a ResNet-50 of torchvision; volumes are seen slice by slice.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", by
    `monai.losses.PerceptualLoss`, of features of the last block.

    Args:
        path: state dict of torchvision's ResNet-50. Nothing is downloaded.
        spatial_dims: 2 or 3.
        weight: of the term in the loss; 0 makes none.
        device: where the network computes.

    Raises:
        ValueError: if there is a weight and no file.
        ImportError: if torchvision is not installed.
    """
    check_perceptual(path, weight)
    if weight == 0:
        return None
    if importlib.util.find_spec("torchvision") is None:
        raise ImportError(
            f"autoencoder_perceptual_weight {weight:g} needs torchvision, which is not installed; pip install"
            " '.[vision]', or set it to 0"
        )
    return PerceptualLoss(spatial_dims, network_type="resnet50", pretrained_path=path).to(device)


def check_perceptual(path: str | None, weight: float) -> None:
    """Refuse a perceptual term without a file of weights.

    Raises:
        ValueError: naming the config keys.
    """
    if weight > 0 and path is None:
        raise ValueError(
            f"autoencoder_perceptual_path must be the weights of a ResNet-50 (torchvision) where"
            f" autoencoder_perceptual_weight is above 0, got None at {weight!r}; nothing is downloaded"
        )


def check_weights(kl_weight: float, perceptual_weight: float, adversarial_weight: float) -> None:
    """Refuse a negative weight of a term.

    Raises:
        ValueError: naming the config key.
    """
    weights = {"kl": kl_weight, "perceptual": perceptual_weight, "adversarial": adversarial_weight}
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"autoencoder_{name}_weight must be >= 0, got {value!r}; 0 switches the term off")


def check_adversary(learning_rate: float, first_epoch: int, channels: int, layers: int) -> None:
    """Refuse numbers by which no adversary can learn.

    Raises:
        ValueError: naming the config key.
    """
    if not learning_rate > 0:
        raise ValueError(f"autoencoder_adversarial_learning_rate must be > 0, got {learning_rate!r}")
    for name, value in (("first_epoch", first_epoch), ("channels", channels), ("layers", layers)):
        if value < 1:
            raise ValueError(f"autoencoder_adversarial_{name} must be >= 1, got {value!r}")


def _single_channels(images: Tensor) -> Tensor:
    """Make each channel an image of its own, (B * C, 1, *spatial), in [0, 1]."""
    return (images.flatten(0, 1).unsqueeze(1) + 1) / 2
