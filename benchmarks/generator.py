"""Training and sampling speed of the generator: stock MONAI beside ours, without and with MI, in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scripts.noise import ImageNoise
from scripts.samplers import sample_images, sampling_scheduler

REPEATS = 3
CONFIGS = Path(__file__).parents[1] / "configs"
# Overrides of configs/common.yaml; full is what that file says.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "patch_size": [16, 16],
        "generator_channels": [8, 16, 16],
        "generator_num_res_blocks": 1,
        "generator_num_head_channels": 16,
        "generator_norm_num_groups": 8,
    },
    "quick": {
        "patch_size": [32, 32],
        "generator_channels": [16, 32, 32],
        "generator_num_res_blocks": 1,
        "generator_num_head_channels": 32,
        "generator_norm_num_groups": 8,
    },
    "full": {},
}


class RandomPatches(Dataset):
    """Random images in [-1, 1], for timing; an index may be a list.

    Args:
        num_images: how many.
        num_channels: C.
        patch_size: spatial shape.
        device: where they lie.
    """

    def __init__(
        self, num_images: int, num_channels: int, patch_size: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = (torch.rand(num_images, num_channels, *patch_size, generator=generator) * 2 - 1).to(device)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | Sequence[int]) -> dict[str, Tensor]:
        return {"image": self.images[index]}


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Run `work` to warm up, then REPEATS times; return the fewest seconds, since other processes only add to them."""
    work()
    found = []
    for _ in range(REPEATS):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - start)
    return min(found)


def configured(overlays: Sequence[str], num_images: int, **overrides: Any) -> ConfigParser:
    """Read the training config with random images in memory and no handler but the moving average."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("common", "train_generator", *overlays)])
    patches = {"num_images": num_images, "num_channels": "$len(@modalities)", "patch_size": "@patch_size"}
    parser["train#dataset"] = {"_target_": "benchmarks.generator.RandomPatches", **patches, "device": "@device"}
    parser["train#handlers"] = ["@ema"]
    parser.update(overrides)
    return parser


def time_our_training(steps: int, overlays: Sequence[str], device: torch.device, **overrides: Any) -> float:
    """Images a second of the configured trainer, best epoch after one of warm-up."""
    batch_size = overrides["generator_batch_size"]
    parser = configured(overlays, steps * batch_size, device=str(device), generator_max_epochs=1 + REPEATS, **overrides)
    trainer = parser.get_parsed_content("train#trainer")
    moments: list[float] = []

    def stamp(engine: Engine) -> None:
        _wait(device)
        moments.append(time.perf_counter())

    trainer.add_event_handler(Events.EPOCH_COMPLETED, stamp)
    trainer.run()
    return steps * batch_size / min(end - start for start, end in pairwise(moments))


def time_stock_training(
    steps: int, network: DiffusionModelUNet, patch_size: Sequence[int], batch_size: int, device: torch.device
) -> float:
    """Images a second of the loop in MONAI's tutorials: float32, loader of single images, DiffusionInferer."""
    images = RandomPatches(batch_size * steps, network.in_channels, patch_size)
    loader = DataLoader(images, batch_size=batch_size, shuffle=True)
    inferer = DiffusionInferer(DDPMScheduler(num_train_timesteps=1000))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)

    def epoch() -> None:
        network.train()
        for batch in loader:
            clean = batch["image"].to(device)
            optimizer.zero_grad(set_to_none=True)
            noise = torch.randn_like(clean)
            timesteps = torch.randint(0, 1000, (len(clean),), device=device)
            noise_pred = inferer(inputs=clean, diffusion_model=network, noise=noise, timesteps=timesteps)
            torch.nn.functional.smooth_l1_loss(noise_pred, noise).backward()
            optimizer.step()

    return batch_size * steps / seconds_of(epoch, device)


def time_sampling(
    sampler: str, steps: int, network: torch.nn.Module, shape: Sequence[int], batch: int, stock: bool, amp: bool = False
) -> float:
    """Images a second for `steps` network calls an image; a DDPM is timed on its last `steps` steps of 1000."""
    device = next(network.parameters()).device
    scheduler: Any = DDPMScheduler(num_train_timesteps=1000)
    if sampler == "ddim":
        scheduler = DDIMScheduler(num_train_timesteps=1000) if stock else sampling_scheduler(scheduler, "ddim", steps)
        scheduler.set_timesteps(steps)
    else:
        scheduler.timesteps = scheduler.timesteps[-steps:]

    def ours() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            sample_images(network, scheduler, ImageNoise(0, range(batch), shape, device))

    def monai() -> None:
        noise = torch.randn(batch, *shape, device=device)
        DiffusionInferer(scheduler).sample(noise, network.eval(), scheduler, verbose=False)

    return batch / seconds_of(monai if stock else ours, device)


def run(size: str, device: torch.device, steps: int, batch_size: int, sampling_batch: int) -> list[tuple[str, float]]:
    """Time everything; return (what, images a second)."""
    sizes = {**SIZES[size], "generator_batch_size": batch_size}
    parser = configured((), 1, device=str(device), generator_flash_attention=False, **sizes)
    patch_size = parser.get_parsed_content("patch_size")
    shape = (len(parser.get_parsed_content("modalities")), *patch_size)
    stock = parser.get_parsed_content("generator_def").to(device)
    rows = [("train: stock MONAI", time_stock_training(steps, stock, patch_size, batch_size, device))]
    for name, overlays in (("without MI", ()), ("with MI", ("mutual_information",))):
        rows.append((f"train: ours {name}", time_our_training(steps, overlays, device, **sizes)))
        if device.type == "cuda":
            compiled = time_our_training(steps, overlays, device, generator_compile=True, **sizes)
            rows.append((f"train: ours {name}, compiled", compiled))
    for sampler in ("ddpm", "ddim"):
        for label, is_stock in (("stock MONAI", True), ("ours", False)):
            rate = time_sampling(sampler, steps, stock, shape, sampling_batch, is_stock)
            # A DDPM image takes 1000 steps, of which `steps` were timed.
            scaled = rate * steps / 1000 if sampler == "ddpm" else rate
            rows.append((f"sample {sampler} {1000 if sampler == 'ddpm' else steps} steps: {label}", scaled))
    if device.type == "cuda":
        rate = time_sampling("ddim", steps, stock, shape, sampling_batch, False, amp=True)
        rows.append((f"sample ddim {steps} steps: ours, bf16", rate))
    return rows


def table(rows: Sequence[tuple[str, float]]) -> str:
    """Lay out rates, each with its ratio to the stock row above it."""
    lines, stock = [f"{'':48}{'images/s':>10}{'ratio':>8}"], 1.0
    for name, rate in rows:
        stock = rate if "stock" in name else stock
        lines.append(f"{name:48}{rate:10.3g}{rate / stock:8.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, time and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="quick")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=20, help="training steps and sampling steps timed")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--sampling-batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"size {given.size} on {name}, torch {torch.__version__}, batch {given.batch_size}")
    print(table(run(given.size, device, given.steps, given.batch_size, given.sampling_batch)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
