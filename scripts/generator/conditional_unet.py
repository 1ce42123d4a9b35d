"""One diffusion network for several classes: the label travels where MONAI's inferer passes its condition."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from einops import rearrange
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUnetDownsample,
    DiffusionUNetResnetBlock,
    WrappedUpsample,
)
from torch import Tensor, nn

from scripts.generator.gaussian_prior import GaussianPrior
from scripts.training.memory import checkpoint_blocks

BLOCKS = (DiffusionUNetResnetBlock, DiffusionUnetDownsample, WrappedUpsample)


class ClassConditionalUNet(DiffusionModelUNet):
    """`DiffusionModelUNet` whose `context` is a class label, so that stock inferer and trainer condition it.

    The stock network takes labels as `class_labels`, which `DiffusionInferer` never passes. Here `context` holds the
    labels, in [0, num_classes); a negative one means "no class", as `DiffusionInferer.sample(cfg=...)` fills in for
    classifier-free guidance. In training a label is dropped with `dropout_prob`, so that "no class" is learned too.

    Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", algorithm 1.

    Args:
        num_classes: number of classes; None makes the stock, unconditional network (same names of weights).
        dropout_prob: probability that a label is dropped in training, in [0, 1).
        unshuffle: pixels of each axis that are folded into the channels before the first layer and unfolded after the
            last (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
            Convolutional Neural Network", eq. 4): the network works on images smaller by this factor; 1 folds none.
        bf16: compute in bf16 under autocast, and return the type of the images. MONAI's trainer does so on a GPU only;
            a CPU with instructions for it is faster, too.
        prior: closed-form guess that the network's output is added to; None adds nothing.
        autoencoder: `scripts.generator.autoencoder.LatentAutoencoder` in whose latents the network works; it is no part
            of `forward` and is not trained here, but belongs to the weights, which draw nothing without it. None works
            on pixels.
        checkpointing: as in `scripts.training.memory.checkpoint_blocks`.
        kwargs: as for `DiffusionModelUNet`, of the images as they are, or of the latents.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        dropout_prob: float = 0.1,
        unshuffle: int = 1,
        bf16: bool = False,
        prior: GaussianPrior | None = None,
        autoencoder: nn.Module | None = None,
        checkpointing: bool = False,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> None:
        if not 0 <= dropout_prob < 1:
            raise ValueError(f"dropout_prob must be in [0, 1), got {dropout_prob!r}")
        if unshuffle < 1:
            raise ValueError(f"generator_unshuffle must be >= 1, got {unshuffle!r}; 1 is none")
        folded = unshuffle**spatial_dims
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels * folded,
            out_channels=out_channels * folded,
            num_class_embeds=None if num_classes is None else num_classes + 1,
            **kwargs,
        )
        self.num_classes = num_classes
        self.dropout_prob = dropout_prob
        self.unshuffle = unshuffle
        self.bf16 = bf16
        self.prior = prior
        self.autoencoder = autoencoder if autoencoder is None else autoencoder.requires_grad_(False)
        self.num_levels = len(self.down_blocks)
        if checkpointing:
            checkpoint_blocks(self.blocks)

    @property
    def blocks(self) -> list[nn.Module]:
        """The residual blocks, and what halves and doubles the sides between them."""
        return [
            block for level in (*self.down_blocks, self.middle_block, *self.up_blocks) for block in _outermost(level)
        ]

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Predict what the noise scheduler's parametrization wants.

        Args:
            x: noisy images, shape (B, C, *spatial).
            timesteps: integers, shape (B,) or (1,).
            context: labels, shape (B,); negative or None is "no class".
            kwargs: as for `DiffusionModelUNet`.

        Returns:
            Shape of `x`.

        Raises:
            ValueError: if labels are given to an unconditional network, one is not a class, or a size cannot be halved
                as often as there are levels after the first.
        """
        self._refuse_indivisible(x.shape[2:])
        if self.num_classes is None and context is not None:
            raise ValueError("context must be None for a generator without classes; set generator_condition: label")
        labels = self._labels(x, context)
        told = {} if self.num_classes is None else {"class_labels": labels}
        # Autocast that is not enabled would end one around this call.
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            predicted = super().forward(fold_pixels(x, self.unshuffle), timesteps, **told, **kwargs)
        predicted = unfold_pixels(predicted.to(x.dtype) if self.bf16 else predicted, self.unshuffle)
        return predicted if self.prior is None else self.prior(x, timesteps, labels) + predicted

    def _refuse_indivisible(self, spatial_shape: Sequence[int]) -> None:
        divisor = self.unshuffle * 2 ** (self.num_levels - 1)
        if any(size % divisor for size in spatial_shape):
            raise ValueError(
                f"patch_size must be divisible by {divisor}, got {list(spatial_shape)}: that is generator_unshuffle"
                f" {self.unshuffle} x 2^(levels - 1), for the {self.num_levels} levels of generator_channels; choose"
                " other patches or fewer levels"
            )

    def _labels(self, x: Tensor, context: Tensor | None) -> Tensor:
        no_class = int(self.num_classes or 0)
        if context is None:
            return torch.full((x.shape[0],), no_class, device=x.device)
        labels = context.to(x.device).long().reshape(-1)
        if (labels >= no_class).any():
            raise ValueError(f"context must hold labels below {no_class}, got {labels.tolist()}")
        labels = torch.where(labels < 0, no_class, labels)
        if self.training and self.dropout_prob > 0:
            dropped = torch.rand(labels.shape, device=labels.device) < self.dropout_prob
            labels = torch.where(dropped, no_class, labels)
        return labels


def fold_pixels(images: Tensor, factor: int) -> Tensor:
    """Fold blocks of pixels into channels, (B, C, *spatial) -> (B, C factor^d, *spatial / factor).

    Source: Shi et al. 2016, eq. 4, the inverse; PyTorch's `pixel_unshuffle`, in 2D and 3D.

    >>> fold_pixels(torch.zeros(1, 4, 6, 8, 10), 2).shape
    torch.Size([1, 32, 3, 4, 5])
    """
    image, folded, factors = _patterns(images.ndim - 2, factor)
    return images if factor == 1 else rearrange(images, f"{image} -> {folded}", **factors)


def unfold_pixels(images: Tensor, factor: int) -> Tensor:
    """Put channels back into blocks of pixels, the inverse of `fold_pixels`."""
    image, folded, factors = _patterns(images.ndim - 2, factor)
    return images if factor == 1 else rearrange(images, f"{folded} -> {image}", **factors)


def _patterns(num_axes: int, factor: int) -> tuple[str, str, dict[str, int]]:
    """Return einops' patterns of an image and of its folded form, and the sizes of what is folded."""
    axes, factors = ("xyz"[:num_axes], "abc"[:num_axes])
    image = " ".join(f"({axis} {name})" for axis, name in zip(axes, factors, strict=True))
    folded = f"batch (channel {' '.join(factors)}) {' '.join(axes)}"
    return f"batch channel {image}", folded, dict.fromkeys(factors, factor)


def _outermost(module: nn.Module) -> list[nn.Module]:
    """Parts of a level that are one of `BLOCKS` and in no other of them."""
    if isinstance(module, BLOCKS):
        return [module]
    return [block for child in module.children() for block in _outermost(child)]
