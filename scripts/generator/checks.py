"""What a generator's settings can be, told before any work and without any file."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import torch

from scripts.generator.autoencoder import LatentAutoencoder, generated_shape
from scripts.generator.conditional_unet import ClassConditionalUNet
from scripts.generator.gaussian_prior import require_fade
from scripts.training.memory import TrainingMemory, available_memory, refuse_too_large, training_memory
from scripts.training.placing import computes_bf16, has_wrong_bf16_gradient
from scripts.training.sizes import sizes_only

# Bytes for each cell and channel of the widest level, below which a training fits without a closer look.
SURELY_LESS = 2**12
SELECTIONS = ("inner", "validation", "train")  # parts of a fold that validate a generator


def check_network(
    patch_size: Sequence[int],
    spatial_dims: int,
    in_channels: int,
    channels: Sequence[int],
    attention_levels: Sequence[bool],
    num_res_blocks: int,
    num_head_channels: int,
    norm_num_groups: int,
    unshuffle: int = 1,
    dropout_prob: float = 0.1,
    gaussian_rank: int = 0,
    gaussian_fade: Sequence[float] | None = None,
) -> None:
    """Refuse a network that cannot be built, or that cannot take the patches.

    Args:
        patch_size: cells of each axis.
        spatial_dims: 2 or 3.
        in_channels: modalities.
        channels: of the U-Net at each resolution.
        attention_levels: whether a resolution has self-attention.
        num_res_blocks: at each resolution.
        num_head_channels: channels of an attention head.
        norm_num_groups: of group normalization.
        unshuffle: pixels of each axis folded into the channels.
        dropout_prob: share of labels dropped, in [0, 1).
        gaussian_rank: principal components of the closed-form part; 0 for none.
        gaussian_fade: noise-to-signal ratios between which it fades in; None for everywhere.

    Raises:
        ValueError: naming the config keys and the way out.
    """
    check_patch_size(patch_size, spatial_dims)
    if gaussian_rank < 0:
        raise ValueError(f"generator_gaussian_rank must be >= 0, got {gaussian_rank!r}; 0 is the network alone")
    require_fade(gaussian_fade)
    _check_levels(channels, attention_levels, num_head_channels, norm_num_groups)
    arguments = {
        "channels": channels,
        "attention_levels": attention_levels,
        "num_res_blocks": num_res_blocks,
        "num_head_channels": num_head_channels,
        "norm_num_groups": norm_num_groups,
    }
    image = {"patch_size": patch_size, "spatial_dims": spatial_dims, "in_channels": in_channels}
    _try_network(json.dumps({"image": image, "arguments": arguments, "unshuffle": unshuffle, "dropout": dropout_prob}))


@cache
def _try_network(settings: str) -> None:
    """Build the network of settings in JSON and take a patch through it, once for those that all stages share."""
    image, arguments, unshuffle, dropout_prob = json.loads(settings).values()
    in_channels = image["in_channels"]
    shape = {"spatial_dims": image["spatial_dims"], "in_channels": in_channels, "out_channels": in_channels}
    with sizes_only():
        try:
            network = ClassConditionalUNet(None, dropout_prob, unshuffle, False, None, **shape, **arguments)
        except (RuntimeError, TypeError, ValueError) as error:
            if "generator_" in str(error):
                raise
            keys = ", ".join(f"generator_{name} {value}" for name, value in arguments.items())
            raise ValueError(f"{keys} must make a network, got {error}") from error
        network(torch.zeros(1, in_channels, *image["patch_size"]), torch.zeros(1, dtype=torch.long))


def check_patch_size(patch_size: Sequence[int], spatial_dims: int) -> None:
    """Refuse a size that is not one positive whole number for each axis.

    Raises:
        ValueError: naming both keys.
    """
    if spatial_dims not in (2, 3) or len(patch_size) != spatial_dims or any(size < 1 for size in patch_size):
        raise ValueError(
            f"patch_size must be {spatial_dims} numbers above 0 with spatial_dims {spatial_dims} (2 or 3),"
            f" got {list(patch_size)}"
        )


def check_space(
    space: str,
    patch_size: Sequence[int],
    spatial_dims: int,
    shape: Sequence[int],
    num_levels: int,
    unshuffle: int,
    augment: bool = False,
) -> None:
    """Refuse latents that cannot be changed at random, or whose sides the network cannot halve as often as it must.

    Args:
        space: `generator_space`.
        patch_size: cells of each axis of the images.
        spatial_dims: 2 or 3.
        shape: (C, *spatial) of the latents, from `scripts.generator.autoencoder.generated_shape`.
        num_levels: of `generator_channels`.
        unshuffle: `generator_unshuffle`.
        augment: `generator_augment`.

    Raises:
        ValueError: naming the config keys and the way out.
    """
    check_patch_size(patch_size, spatial_dims)
    if space == "latent" and augment:
        raise ValueError(
            "generator_augment must be false with generator_space latent, got true: a latent that is turned is not that"
            " of the turned image; train the autoencoder with autoencoder_flip and autoencoder_max_shift instead"
        )
    divisor = unshuffle * 2 ** (num_levels - 1)
    if space == "latent" and any(size % divisor for size in shape[1:]):
        raise ValueError(
            f"latents must be divisible by {divisor}, got {list(shape[1:])} of patch_size {list(patch_size)}: that is"
            f" generator_unshuffle {unshuffle} x 2^(levels - 1), for the {num_levels} levels of generator_channels;"
            " set generator_unshuffle 1, or choose other patches or fewer levels"
        )


def check_pixel_space(space: str) -> None:
    """Refuse mutual information of latents: its histograms have bins on [-1, 1], the range of images, and no latent's.

    Raises:
        ValueError: with the way out.
    """
    if space != "pixel":
        raise ValueError(
            f"generator_space must be pixel with options/mutual_information, got {space!r}: its term is the mutual"
            " information of intensities in [-1, 1], which latents are not; leave that method out of a study (methods:"
            " {ddpm: []}), or train on pixels"
        )


def _check_levels(
    channels: Sequence[int], attention_levels: Sequence[bool], num_head_channels: int, norm_num_groups: int
) -> None:
    if len(attention_levels) != len(channels):
        raise ValueError(
            f"generator_attention_levels must be {len(channels)} switches, one for each of generator_channels"
            f" {list(channels)}, got {list(attention_levels)}"
        )
    odd = [number for number in channels if number % norm_num_groups]
    if odd:
        raise ValueError(
            f"generator_channels must be multiples of generator_norm_num_groups {norm_num_groups}, got {odd[0]};"
            " change one of them"
        )
    attending = [number for number, attends in zip(channels, attention_levels, strict=True) if attends]
    odd = [number for number in attending if number % num_head_channels]
    if odd:
        raise ValueError(
            "generator_channels with self-attention must be multiples of generator_num_head_channels"
            f" {num_head_channels}, got {odd[0]}; change one of them"
        )


def check_memory(
    shape: Sequence[int],
    channels: Sequence[int],
    attention_levels: Sequence[bool],
    num_res_blocks: int,
    num_head_channels: int,
    norm_num_groups: int,
    unshuffle: int,
    flash_attention: bool,
    batch_size: int,
    checkpointing: bool,
    bf16: bool,
    device: torch.device | str,
    num_bytes_of_images: int = 0,
    available: int | None = None,
) -> None:
    """Refuse a training that would not fit into memory, by the sizes of its tensors; see `scripts.training.memory`.

    Args:
        shape: (C, *spatial) of what the network learns.
        channels: `generator_channels`.
        attention_levels: `generator_attention_levels`.
        num_res_blocks: `generator_num_res_blocks`.
        num_head_channels: `generator_num_head_channels`.
        norm_num_groups: `generator_norm_num_groups`.
        unshuffle: `generator_unshuffle`.
        flash_attention: `generator_flash_attention`, by which no matrix of attention is kept.
        batch_size: images at once.
        checkpointing: `generator_checkpointing`.
        bf16: `generator_amp`.
        device: where it trains.
        num_bytes_of_images: of all images that lie there, see `scripts.patches.tensors.bytes_of_images`.
        available: bytes that may be filled; None asks the device, and checks nothing where that does not tell.

    Raises:
        ValueError: with what would fit.
    """
    limit = available_memory(device) if available is None else available
    surely_less = math.prod(shape[1:]) * batch_size * max(channels) * SURELY_LESS
    if limit is None or surely_less + num_bytes_of_images < limit:
        return
    network_def: dict[str, Any] = {
        "spatial_dims": len(shape) - 1,
        "in_channels": shape[0],
        "out_channels": shape[0],
        "channels": channels,
        "attention_levels": attention_levels,
        "num_res_blocks": num_res_blocks,
        "num_head_channels": num_head_channels,
        "norm_num_groups": norm_num_groups,
        "use_flash_attention": flash_attention,
    }
    with sizes_only():
        network = ClassConditionalUNet(None, 0.0, unshuffle, **network_def)

        def memory_of(sides: Sequence[int], batch: int) -> TrainingMemory:
            return training_memory(network, network.blocks, [batch, shape[0], *sides], checkpointing, bf16)

        ways = "generator_space latent"
        if not checkpointing:
            ways = f"generator_checkpointing true, or {ways}"
        divisor = unshuffle * 2 ** (len(channels) - 1)
        refuse_too_large(memory_of, list(shape[1:]), batch_size, divisor, limit, ways, num_bytes_of_images)


def chooses_bf16(device: torch.device | str, shape: Sequence[int], num_levels: int, unshuffle: int) -> bool:
    """Say whether a generator trains in bf16 unless told: where the device has instructions for it that are right.

    Args:
        device: where it trains.
        shape: (C, *spatial) of what the network learns.
        num_levels: of `generator_channels`.
        unshuffle: `generator_unshuffle`.
    """
    return computes_bf16(device) and not _level_wrong_in_bf16(device, shape, num_levels, unshuffle)


def check_bf16(bf16: bool, device: torch.device | str, shape: Sequence[int], num_levels: int, unshuffle: int) -> None:
    """Refuse bf16 where `scripts.training.placing.has_wrong_bf16_gradient` at a level; arguments as above.

    Raises:
        ValueError: with the way out.
    """
    level = _level_wrong_in_bf16(device, shape, num_levels, unshuffle)
    if bf16 and level:
        raise ValueError(
            f"generator_amp must be false on a CPU for volumes of {list(shape[1:])} with {num_levels} levels of"
            f" generator_channels: level {level} has two voxels along the first axis, for which a CPU computes wrong"
            " gradients in bf16; leave generator_amp out, or choose other patches or fewer levels"
        )


def _level_wrong_in_bf16(
    device: torch.device | str, shape: Sequence[int], num_levels: int, unshuffle: int
) -> int | None:
    for level in range(num_levels):
        if has_wrong_bf16_gradient(device, [side // (unshuffle * 2**level) for side in shape[1:]]):
            return level + 1
    return None


def check_classes(classes: Collection[str], condition: str | None, class_name: str | None) -> None:
    """Refuse a class that there is not, and a condition that no network takes.

    Args:
        classes: names of the classes.
        condition: `generator_condition`.
        class_name: `generator_class`; None is every class.

    Raises:
        ValueError: naming the config key and the way out.
    """
    if condition not in (None, "label"):
        raise ValueError(
            f"generator_condition must be label or null, got {condition!r}; label tells one network which class to draw"
        )
    if condition is not None and not classes:
        raise ValueError(
            f"generator_condition must be null where classes is {{}}, got {condition!r}: it cannot be told a class"
        )
    if class_name is not None and class_name not in classes:
        raise ValueError(f"generator_class must be one of {', '.join(classes)}, or null for all, got {class_name!r}")


def check_training(
    max_epochs: int,
    val_interval: int,
    batch_size: int,
    learning_rate: float,
    ema_decay: float,
    num_draws: int,
    epoch_images: int | None = None,
    checkpoint_interval: int = 1,
    selection: str = "inner",
    accumulation: int = 1,
) -> None:
    """Refuse a training that could not end with weights.

    Args:
        max_epochs: `generator_max_epochs`.
        val_interval: `generator_val_interval`, epochs between two validations, of which one must be.
        batch_size: `generator_batch_size`.
        learning_rate: `generator_learning_rate`.
        ema_decay: `generator_ema_decay`.
        num_draws: `generator_num_validation_draws`.
        epoch_images: `generator_epoch_images`; None is as many as there are.
        checkpoint_interval: `generator_checkpoint_interval`.
        selection: `generator_selection`.
        accumulation: `generator_accumulation`.

    Raises:
        ValueError: naming the config key and the way out.
    """
    at_least_one = {
        "generator_max_epochs": max_epochs,
        "generator_val_interval": val_interval,
        "generator_batch_size": batch_size,
        "generator_num_validation_draws": num_draws,
        "generator_epoch_images": epoch_images,
        "generator_checkpoint_interval": checkpoint_interval,
        "generator_accumulation": accumulation,
    }
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be >= 1, got {value!r}")
    if batch_size % accumulation:
        raise ValueError(
            f"generator_batch_size must be divisible by generator_accumulation {accumulation}, got {batch_size!r};"
            " change one of them"
        )
    if val_interval > max_epochs:
        raise ValueError(
            f"generator_val_interval must be at most generator_max_epochs {max_epochs}, got {val_interval}: without a"
            " validation no weights are kept"
        )
    if not learning_rate > 0:
        raise ValueError(f"generator_learning_rate must be > 0, got {learning_rate!r}")
    if not 0 < ema_decay < 1:
        raise ValueError(f"generator_ema_decay must be in (0, 1), got {ema_decay!r}; .999 remembers about 1000 steps")
    if selection not in SELECTIONS:
        raise ValueError(
            f"generator_selection must be one of {', '.join(SELECTIONS)}, got {selection!r}; inner is what no"
            " classifier refuses"
        )


def check_drawing(
    num_images: int | None,
    batch_size: int,
    max_draws_per_image: float,
    snap_tolerance: float | None,
    ratio: float = 1.0,
) -> None:
    """Refuse numbers by which no set can be drawn.

    Args:
        num_images: images to draw; None is by `ratio`.
        batch_size: `generate_batch_size`.
        max_draws_per_image: draws for each image wanted.
        snap_tolerance: in units of [-1, 1]; None for images without a background.
        ratio: `generated_ratio`, synthetic images for each real one, > 0 where `num_images` is None.

    Raises:
        ValueError: naming the config key.
    """
    numbers = {"num_images": num_images, "generate_batch_size": batch_size, "max_draws_per_image": max_draws_per_image}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be >= 1, got {value!r}")
    if snap_tolerance is not None and not 0 <= snap_tolerance < 1:
        raise ValueError(f"snap_tolerance must be in [0, 1), got {snap_tolerance!r}; .1 is the default")
    if num_images is None and not ratio > 0:
        raise ValueError(
            f"generated_ratio must be > 0, got {ratio!r}; it is synthetic_ratio where it is not set: pass"
            " --synthetic_ratio 1, or leave out the setups with synthetic images"
        )


def check_autoencoder(
    patch_size: Sequence[int],
    spatial_dims: int,
    in_channels: int,
    latent_channels: int,
    channels: Sequence[int],
    num_res_blocks: int,
    norm_num_groups: int,
    attention: bool,
    unshuffle: int,
) -> None:
    """Refuse an autoencoder that cannot be built, or that cannot take the patches.

    Args:
        patch_size: cells of each axis.
        spatial_dims: 2 or 3.
        in_channels: modalities.
        latent_channels: `autoencoder_latent_channels`.
        channels: `autoencoder_channels`.
        num_res_blocks: `autoencoder_num_res_blocks`.
        norm_num_groups: `autoencoder_norm_num_groups`.
        attention: `autoencoder_attention`.
        unshuffle: `autoencoder_unshuffle`.

    Raises:
        ValueError: naming the config keys and the way out.
    """
    check_patch_size(patch_size, spatial_dims)
    for name, value in (("latent_channels", latent_channels), ("unshuffle", unshuffle), ("channels", len(channels))):
        if value < 1:
            raise ValueError(f"autoencoder_{name} must be at least 1, got {value!r}")
    odd = [number for number in channels if number % norm_num_groups]
    if odd:
        raise ValueError(
            f"autoencoder_channels must be multiples of autoencoder_norm_num_groups {norm_num_groups}, got {odd[0]};"
            " change one of them"
        )
    generated_shape("latent", in_channels, patch_size, latent_channels, len(channels), unshuffle)
    arguments: dict[str, Any] = {
        "latent_channels": latent_channels,
        "channels": list(channels),
        "num_res_blocks": num_res_blocks,
        "norm_num_groups": norm_num_groups,
        "attention": attention,
        "unshuffle": unshuffle,
    }
    with sizes_only():
        try:
            network = LatentAutoencoder(spatial_dims=spatial_dims, in_channels=in_channels, **arguments)
        except (RuntimeError, TypeError, ValueError) as error:
            keys = ", ".join(f"autoencoder_{name} {value}" for name, value in arguments.items())
            raise ValueError(f"{keys} must make an autoencoder, got {error}") from error
        network.eval()(torch.zeros(1, in_channels, *patch_size))


def check_autoencoder_memory(
    patch_size: Sequence[int],
    in_channels: int,
    latent_channels: int,
    channels: Sequence[int],
    num_res_blocks: int,
    norm_num_groups: int,
    attention: bool,
    unshuffle: int,
    batch_size: int,
    checkpointing: bool,
    device: torch.device | str,
    num_bytes_of_images: int = 0,
    available: int | None = None,
) -> None:
    """Refuse the training of an autoencoder that would not fit into memory, as `check_memory` one of a generator.

    Args, beyond those of `check_autoencoder`:
        batch_size: `autoencoder_batch_size`.
        checkpointing: `autoencoder_checkpointing`.
        device: where it trains.
        num_bytes_of_images: as for `check_memory`, and likewise the next.
        available: bytes that may be filled.

    Raises:
        ValueError: with what would fit.
    """
    limit = available_memory(device) if available is None else available
    surely_less = math.prod(patch_size) * batch_size * max(channels) * SURELY_LESS
    if limit is None or surely_less + num_bytes_of_images < limit:
        return
    with sizes_only():
        network = LatentAutoencoder(
            spatial_dims=len(patch_size),
            in_channels=in_channels,
            latent_channels=latent_channels,
            channels=channels,
            num_res_blocks=num_res_blocks,
            norm_num_groups=norm_num_groups,
            attention=attention,
            unshuffle=unshuffle,
        )

        def memory_of(sides: Sequence[int], batch: int) -> TrainingMemory:
            shape = [batch, in_channels, *sides]
            return training_memory(network, network.blocks, shape, checkpointing, False, with_timesteps=False)

        ways = "autoencoder_unshuffle 2 or 4" if checkpointing else "autoencoder_checkpointing true"
        divisor = unshuffle * 2 ** (len(channels) - 1)
        refuse_too_large(memory_of, patch_size, batch_size, divisor, limit, ways, num_bytes_of_images)


def check_autoencoder_training(
    max_epochs: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    ema_decay: float,
    epoch_images: int | None,
    checkpoint_interval: int,
    selection: str,
    max_shift: int = 0,
) -> None:
    """Refuse numbers by which no autoencoder can train.

    Args:
        max_epochs: `autoencoder_max_epochs`.
        patience: `autoencoder_patience`.
        batch_size: `autoencoder_batch_size`.
        learning_rate: `autoencoder_learning_rate`.
        ema_decay: `autoencoder_ema_decay`.
        epoch_images: `autoencoder_epoch_images`; None is as many as there are.
        checkpoint_interval: `autoencoder_checkpoint_interval`.
        selection: `autoencoder_selection`.
        max_shift: `autoencoder_max_shift`, pixels.

    Raises:
        ValueError: naming the config key.
    """
    if max_shift < 0:
        raise ValueError(f"autoencoder_max_shift must be >= 0 pixels, got {max_shift!r}; 0 moves none")
    at_least_one = {
        "max_epochs": max_epochs,
        "patience": patience,
        "batch_size": batch_size,
        "epoch_images": epoch_images,
        "checkpoint_interval": checkpoint_interval,
    }
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ValueError(f"autoencoder_{name} must be >= 1, got {value!r}")
    if not learning_rate > 0:
        raise ValueError(f"autoencoder_learning_rate must be > 0, got {learning_rate!r}")
    if not 0 < ema_decay < 1:
        raise ValueError(f"autoencoder_ema_decay must be in (0, 1), got {ema_decay!r}; .999 remembers about 1000 steps")
    if selection not in SELECTIONS:
        raise ValueError(f"autoencoder_selection must be one of {', '.join(SELECTIONS)}, got {selection!r}")
