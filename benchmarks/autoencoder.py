"""How well an autoencoder gives simulated patches back after a process time of one thread.

    python -m benchmarks.autoencoder --size 48 --seconds 300
    python -m benchmarks.autoencoder --dims 3 --size 32 --num_channels 1 --batch 4 --seconds 300

Trained on 48 patients of site A as `configs/train_autoencoder.yaml` trains, judged on 64 others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.phantom_patches import phantom_patches
from scripts.generator.autoencoder import LatentAutoencoder
from scripts.running.process import flush_subnormals
from scripts.training.reconstruction_loss import ReconstructionLoss
from scripts.training.reconstruction_measures import reconstruction_report

# part -> (seed of its cohort, LGG, HGG), as in benchmarks/generator_recipes.py.
PARTS = {"train": (2000, 19, 29), "held_out": (2004, 26, 38)}
MAX_SHIFT = 4


def make_autoencoder(
    num_channels: int, spatial_dims: int, channels: tuple[int, ...], unshuffle: int, latent_channels: int
) -> LatentAutoencoder:
    """Make the autoencoder of configs/common.yaml at these sizes."""
    return LatentAutoencoder(
        spatial_dims=spatial_dims,
        in_channels=num_channels,
        latent_channels=latent_channels,
        channels=channels,
        unshuffle=unshuffle,
    )


def train_autoencoder(
    network: LatentAutoencoder,
    images: Tensor,
    seconds: float,
    seed: int = 0,
    rate: float = 0.003,
    batch: int = 8,
    kl_weight: float = 1e-6,
    ema: float = 0.99,
    look: Callable[[LatentAutoencoder, float, int], None] | None = None,
    num_looks: int = 5,
) -> tuple[LatentAutoencoder, int]:
    """Train for a process time, with the rate up over 3 % of it and down to 0, and set the scale of the latents.

    Args:
        network: untrained.
        images: (N, C, *spatial) in [-1, 1].
        seconds: process time.
        seed: of noise and order.
        rate: highest learning rate of AdamW.
        batch: images of a step.
        kl_weight: of the loss.
        ema: decay of the average of the weights, which is returned.
        look: called with the average, the seconds and the steps so far, `num_looks` times; its time does not count.
        num_looks: times.

    Returns:
        The average and the number of steps.
    """
    torch.manual_seed(seed)
    average = torch.optim.swa_utils.AveragedModel(network)
    module: LatentAutoencoder = average.module
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, fused=True)
    loss_function = ReconstructionLoss(kl_weight)
    network.train()
    start, steps, num_seen = time.process_time(), 0, 0
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, share / 0.03) * (1 - share)
        target = moved(images[torch.randint(len(images), (batch,))])
        loss = loss_function(network(target), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            decay = min(ema, (1 + steps) / (10 + steps))
            torch._foreach_lerp_(list(module.parameters()), list(network.parameters()), 1 - decay)
        steps += 1
        if look is not None and share * num_looks >= num_seen + 1:
            before, num_seen = time.process_time(), num_seen + 1
            look(module.eval(), before - start, steps)
            start += time.process_time() - before
    module.eval().fit_scale(images.split(16))
    return module, steps


def moved(images: Tensor) -> Tensor:
    """Mirror images along one axis at random and move them by up to `MAX_SHIFT` pixels, edges repeated."""
    dims = images.ndim - 2
    axes = torch.randint(dims, (len(images),)) + 1
    mirrored = [
        image.flip(axis) if mirror else image
        for image, axis, mirror in zip(images, axes.tolist(), (torch.rand(len(images)) < 0.5).tolist(), strict=True)
    ]
    padded = torch.nn.functional.pad(torch.stack(mirrored), [MAX_SHIFT] * 2 * dims, mode="replicate")
    starts = torch.randint(2 * MAX_SHIFT + 1, (len(images), dims)).tolist()
    parts = [
        image[(slice(None), *(slice(start, start + size) for start, size in zip(place, images.shape[2:], strict=True)))]
        for image, place in zip(padded, starts, strict=True)
    ]
    return torch.stack(parts)


def patients(part: str, size: int, dims: int) -> Tensor:
    """Simulate the patches of a part."""
    seed, *counts = PARTS[part]
    matrix = {2: {32: (80, 80, 16), 48: (120, 120, 24)}, 3: {32: (80, 80, 52)}}[dims][size]
    made = [
        phantom_patches(count, seed, size, matrix, "A", grade, dims)
        for count, grade in zip(counts, ("LGG", "HGG"), strict=True)
    ]
    return torch.cat(made)


def main() -> None:
    """Train and print one line a look, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, default=2, choices=(2, 3))
    parser.add_argument("--size", type=int, default=48, help="pixels of a side")
    parser.add_argument("--seconds", type=float, default=300.0, help="process time of the training")
    parser.add_argument("--num_channels", type=int, default=4, help="modalities, the first of t1n, t1c, t2w, t2f")
    parser.add_argument("--channels", type=int, nargs="+", default=[64])
    parser.add_argument("--unshuffle", type=int, default=4)
    parser.add_argument("--latent_channels", type=int, default=24)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    flush_subnormals()  # as every stage does
    parts = {part: patients(part, arguments.size, arguments.dims)[:, : arguments.num_channels] for part in PARTS}
    blocks = {part: images.split(16) for part, images in parts.items()}
    torch.manual_seed(0)
    network = make_autoencoder(
        arguments.num_channels,
        arguments.dims,
        tuple(arguments.channels),
        arguments.unshuffle,
        arguments.latent_channels,
    )

    def look(average: LatentAutoencoder, seconds: float, steps: int) -> None:
        report = reconstruction_report(average, blocks)
        print(
            f"{seconds:4.0f} s, {steps} steps: SSIM",
            {part: round(row["ssim"], 3) for part, row in report.items()},
            flush=True,
        )

    network, steps = train_autoencoder(
        network, parts["train"], arguments.seconds, rate=arguments.rate, batch=arguments.batch, look=look
    )
    latents = network.to_latents(parts["train"])
    print(f"{steps} steps, latents of {tuple(latents.shape[1:])}, scale {float(network.scale_factor):.3f}")
    print(json.dumps(reconstruction_report(network, blocks), indent=1))


if __name__ == "__main__":
    main()
