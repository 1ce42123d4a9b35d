"""Training and sampling speed of the generator: stock MONAI, ours and diffusers' network of the same size, in one run.

python -m benchmarks.generator --size quick --steps 10 --threads 1

Stock is the loop of MONAI's tutorials: float32, a loader of single images, `DiffusionInferer`. Ours is what the configs
say, on a GPU with each faster option added in turn. Every ratio is to the stock row of its group.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from scripts.generator.noise import ImageNoise
from scripts.generator.samplers import sample_images, sampling_scheduler
from scripts.training.placing import place_network

ALL_STEPS = 1000
REPEATS = 3
CONFIGS = Path(__file__).parents[1] / "configs"
# Keys of configs/common.yaml that say how large images and generator are.
SIZE_KEYS = (
    *("patch_size", "generator_channels", "generator_num_res_blocks"),
    *("generator_num_head_channels", "generator_norm_num_groups"),
)


def size_of(recipe: str) -> dict[str, Any]:
    """Return the sizes of a recipe, as overrides."""
    content = ConfigParser.load_config_file(CONFIGS / "recipes" / f"{recipe}.yaml")
    return {key: content[key] for key in SIZE_KEYS}


# Overrides of configs/common.yaml; full is what that file says.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(zip(SIZE_KEYS, ([16, 16], [8, 16, 16], 1, 16, 8), strict=True)),
    "quick": size_of("quick"),
    "small": size_of("small"),
    "full": {},
}
# Tried on a GPU, one beside the other: name -> keys of configs/train_generator.yaml.
TRAINING_OPTIONS: dict[str, dict[str, Any]] = {
    "channels last": {"generator_channels_last": True},
    "compiled": {"generator_compile": True},
    "compiled, CUDA graphs": {
        "generator_compile": True,
        "train#trainer#compile_kwargs": {"mode": "reduce-overhead"},
    },
}
# Start-up of a fresh process, up to a network that is ready; {sizes} are those of the run.
STARTS = {
    "stock MONAI, imports": "import monai, monai.engines, monai.inferers, monai.networks.nets",
    "ours, to a network": "from benchmarks.generator import *; new_network(configured((), 1, **{sizes}))",
    "diffusers, imports": "from diffusers import UNet2DModel",
}


class Row(NamedTuple):
    """A measurement: what of, by whom, how much, and the most memory that it took in MiB (None: unknown)."""

    group: str
    name: str
    value: float
    memory: float | None = None


class Measurement(NamedTuple):
    """A row that is not measured yet: `work` returns its value."""

    group: str
    name: str
    work: Callable[[], float]


class DiffusersUNet(nn.Module):
    """`UNet2DModel` of diffusers with the widths, depths and attention of MONAI's, called as MONAI's is.

    Args:
        config: generator_* keys of configs/common.yaml, read.
    """

    def __init__(self, config: ConfigParser) -> None:
        super().__init__()
        unet: Any = importlib.import_module("diffusers").UNet2DModel
        modalities, channels, attention, blocks, head_channels, groups = (
            config.get_parsed_content(key)
            for key in (
                "modalities",
                "generator_channels",
                "generator_attention_levels",
                "generator_num_res_blocks",
                "generator_num_head_channels",
                "generator_norm_num_groups",
            )
        )
        self.unshuffle: int = config.get_parsed_content("generator_unshuffle")
        folded = len(modalities) * self.unshuffle**2
        self.network = unet(
            in_channels=folded,
            out_channels=folded,
            block_out_channels=tuple(channels),
            down_block_types=tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in attention),
            up_block_types=tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
            layers_per_block=blocks,
            attention_head_dim=head_channels,
            norm_num_groups=groups,
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: None = None) -> Tensor:
        """Predict the noise."""
        predicted = self.network(functional.pixel_unshuffle(x, self.unshuffle), timesteps).sample
        return functional.pixel_shuffle(predicted, self.unshuffle)


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
    durations = []
    for _ in range(REPEATS):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        durations.append(time.perf_counter() - start)
    return min(durations)


def configured(overlays: Sequence[str], num_images: int, **overrides: Any) -> ConfigParser:
    """Read the training config with random images in memory and no handler but the moving average."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("common", "train_generator", *overlays)])
    patches = {"num_images": num_images, "num_channels": "$len(@modalities)", "patch_size": "@patch_size"}
    parser["train#dataset"] = {"_target_": "benchmarks.generator.RandomPatches", **patches, "device": "@device"}
    parser["train#handlers"] = [{"_target_": "scripts.training.averaging.WarmEMA", "ema": "@ema"}]
    # The stock loop beside it knows no classes and no closed-form part; an epoch is the images in memory.
    alone = {"generator_condition": None, "generator_gaussian_rank": 0, "generator_epoch_images": None}
    parser.update({**alone, **overrides})
    return parser


def time_our_training(
    steps: int, overlays: Sequence[str], device: torch.device, rates: list[float], **overrides: Any
) -> float:
    """Images a second of the configured trainer, best epoch; `rates` takes all, of which the first one compiles."""
    batch_size = overrides["generator_batch_size"]
    parser = configured(overlays, steps * batch_size, device=str(device), generator_max_epochs=1 + REPEATS, **overrides)
    trainer = parser.get_parsed_content("train#trainer")
    moments: list[float] = []

    def stamp(engine: Engine) -> None:
        _wait(device)
        moments.append(time.perf_counter())

    trainer.add_event_handler(Events.STARTED, stamp)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, stamp)
    trainer.run()
    rates += [steps * batch_size / (end - start) for start, end in pairwise(moments)]
    return max(rates[1:])


def time_loop(
    steps: int, network: nn.Module, shape: Sequence[int], batch_size: int, device: torch.device, amp: bool = False
) -> float:
    """Images a second of the loop in MONAI's tutorials; in bf16 if asked, which is not theirs."""
    images = RandomPatches(batch_size * steps, shape[0], shape[1:])
    loader = DataLoader(images, batch_size=batch_size, shuffle=True)
    inferer = DiffusionInferer(DDPMScheduler(num_train_timesteps=ALL_STEPS))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)

    def epoch() -> None:
        network.train()
        for batch in loader:
            clean = batch["image"].to(device)
            optimizer.zero_grad(set_to_none=True)
            noise = torch.randn_like(clean)
            timesteps = torch.randint(0, ALL_STEPS, (len(clean),), device=device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
                noise_pred = inferer(inputs=clean, diffusion_model=network, noise=noise, timesteps=timesteps)
                loss = functional.smooth_l1_loss(noise_pred, noise)
            loss.backward()
            optimizer.step()

    return batch_size * steps / seconds_of(epoch, device)


def time_sampling(
    scheduler: Any,
    network: nn.Module,
    shape: Sequence[int],
    batch: int,
    stock: bool,
    amp: bool = False,
    share: float = 1.0,
    guidance_scale: float = 1.0,
) -> float:
    """Images a second by MONAI's inferer or by ours, where the scheduler's steps are that share of those needed.

    With guidance the network is one that is told the class.
    """
    device = next(network.parameters()).device
    labels = None if guidance_scale == 1 else torch.zeros(batch, dtype=torch.long)
    network.eval()

    def ours() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            sample_images(network, scheduler, ImageNoise(0, range(batch), shape, device), labels, guidance_scale)

    def monai() -> None:
        noise = torch.randn(batch, *shape, device=device)
        DiffusionInferer(scheduler).sample(noise, network, scheduler, verbose=False)

    return share * batch / seconds_of(monai if stock else ours, device)


def training_measurements(
    config: ConfigParser, sizes: dict[str, Any], shape: Sequence[int], steps: int, device: torch.device
) -> Iterator[Measurement]:
    """Training: stock, ours without and with MI, and diffusers' network; on a GPU then with each faster option."""
    group, on_gpu, batch = "train, images/s", device.type == "cuda", sizes["generator_batch_size"]
    loop = partial(time_loop, steps, shape=shape, batch_size=batch, device=device)

    def ours(title: str, overlays: Sequence[str] = (), **keys: Any) -> Iterator[Measurement]:
        rates: list[float] = []
        train = partial(time_our_training, steps, overlays, device, rates, **sizes, **keys)
        yield Measurement(group, title, train)
        if "generator_compile" in keys and rates:  # none where the row was measured before
            yield Measurement("first epoch, s", title, lambda: steps * batch / rates[0])

    yield Measurement(group, "stock MONAI", partial(loop, network=new_network(config).to(device)))
    yield from ours("ours without MI")
    yield from ours("ours with MI", ["options/mutual_information"])
    name = "diffusers UNet2DModel" + (", bf16" if on_gpu else "")
    yield Measurement(group, name, partial(loop, network=DiffusersUNet(config).to(device), amp=on_gpu))
    yield from ours("ours behind unshuffle 2 (another network)", generator_unshuffle=2)
    if on_gpu:
        for option, keys in TRAINING_OPTIONS.items():
            yield from ours(f"ours without MI, {option}", **keys)
        compiled: Any = torch.compile(DiffusersUNet(config).to(device))
        yield Measurement(group, f"{name}, compiled", partial(loop, network=compiled, amp=True))
        for option, keys in TRAINING_OPTIONS.items():
            yield from ours(f"ours with MI, {option}", ["options/mutual_information"], **keys)


def sampling_measurements(
    config: ConfigParser,
    networks: dict[str, tuple[nn.Module, bool]],
    shape: Sequence[int],
    timed: int,
    fast: tuple[str, int],
    batch: int,
    device: torch.device,
) -> Iterator[Measurement]:
    """Sampling with all steps, of which `timed` are run, and with a fast sampler, for each (network, in bf16)."""
    stock = new_network(config).to(device)
    last, few = (scheduler(num_train_timesteps=ALL_STEPS) for scheduler in (DDPMScheduler, DDIMScheduler))
    last.timesteps = last.timesteps[-timed:]
    few.set_timesteps(fast[1])
    ours = sampling_scheduler(DDPMScheduler(num_train_timesteps=ALL_STEPS), *fast)
    groups = (
        (f"sample, {ALL_STEPS} steps, images/s", "stock MONAI", last, last, timed / ALL_STEPS),
        (f"sample, {fast[0]} {fast[1]} steps, images/s", "stock MONAI, DDIM", few, ours, 1.0),
    )
    for group, name, stock_scheduler, scheduler, share in groups:
        work = partial(time_sampling, shape=shape, batch=batch, share=share)
        yield Measurement(group, name, partial(work, stock_scheduler, stock, stock=True))
        for title, (network, amp) in networks.items():
            yield Measurement(group, title, partial(work, scheduler, network, stock=False, amp=amp))
    # As configs/generate.yaml draws: a network told the class, which sees every image twice.
    config["generator_condition"] = "label"
    conditional = new_network(config).to(device)
    config["generator_condition"] = None
    guided = partial(time_sampling, ours, conditional, shape, batch, stock=False, guidance_scale=3.0)
    yield Measurement(groups[1][0], "ours with guidance 3 (two evaluations a step)", guided)


def sampling_networks(
    config: ConfigParser, sizes: dict[str, Any], device: torch.device
) -> dict[str, tuple[nn.Module, bool]]:
    """Name -> (network, whether in bf16): ours and diffusers', and on a GPU ours with each option."""
    plain = {
        "ours": (new_network(config).to(device), False),
        "diffusers UNet2DModel, our sampler": (DiffusersUNet(config).to(device), False),
    }
    if device.type != "cuda":
        return plain
    parser = configured((), 1, device=str(device), **sizes)  # with flash attention, as it comes on a GPU
    flash, last = (place_network(new_network(parser), device, channels_last) for channels_last in (False, True))
    graphs: Any = torch.compile(flash, mode="reduce-overhead")
    options = {"flash": flash, "flash, channels last": last, "flash, CUDA graphs": graphs}
    return {**plain, **{f"ours, bf16, {name}": (network, True) for name, network in options.items()}}


def startup_measurements(sizes: dict[str, Any]) -> Iterator[Measurement]:
    """A fresh process up to the point where training could begin."""
    for name, code in STARTS.items():
        yield Measurement("start-up, s", name, partial(startup_seconds, code.replace("{sizes}", repr(sizes))))


def startup_seconds(code: str) -> float:
    """Seconds that a fresh Python takes to run `code`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONFIGS.parent, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def new_network(config: ConfigParser) -> nn.Module:
    """Build the configured network anew; a parser otherwise returns the one it built before."""
    return config.get_parsed_content("generator_def", lazy=False)


def measured(measurement: Measurement, device: torch.device) -> Row:
    """Measure, and note the most memory in use meanwhile: the device's on a GPU, else this process's, resident."""
    group, name, work = measurement
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return Row(group, name, work(), torch.cuda.max_memory_allocated(device) / 2**20)
    # Linux forgets the highest resident size on request; elsewhere the peak since the start would mislead.
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return Row(group, name, work())
    return Row(group, name, work(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def table(rows: Sequence[Row]) -> str:
    """Lay out the rows by group, each with its ratio to the first, stock, row of its group."""
    lines = []
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        lines.append(f"{group:48}{'':>10}{'ratio':>8}{'MiB':>9}")
        for row in own:
            memory = "" if row.memory is None else f"{row.memory:.0f}"
            lines.append(f"  {row.name:46}{row.value:10.3g}{row.value / own[0].value:8.2f}{memory:>9}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="quick")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=20, help="training steps timed")
    parser.add_argument("--timed-steps", type=int, default=20, help=f"of the {ALL_STEPS} sampling steps, how many run")
    parser.add_argument("--sampler", default="dpm_solver", help="the fast sampler")
    parser.add_argument("--sampler-steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--sampling-batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="let cuDNN try its algorithms first")
    parser.add_argument("--no-startup", action="store_true", help="start no processes")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = options.cudnn_benchmark
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    sizes = {**SIZES[options.size], "generator_batch_size": options.batch_size}
    config = configured((), 1, device=str(device), generator_flash_attention=False, **sizes)
    shape = (len(config.get_parsed_content("modalities")), *config.get_parsed_content("patch_size"))
    millions = [sum(p.numel() for p in n.parameters()) / 1e6 for n in (new_network(config), DiffusersUNet(config))]
    print(
        f"size {options.size} on {name}, torch {torch.__version__}, batches of {options.batch_size} and"
        f" {options.sampling_batch}; {millions[0]:.3g} M parameters, diffusers {millions[1]:.3g} M"
    )
    fast = (options.sampler, options.sampler_steps)
    networks = sampling_networks(config, sizes, device)
    measurements = chain(
        training_measurements(config, sizes, shape, options.steps, device),
        sampling_measurements(config, networks, shape, options.timed_steps, fast, options.sampling_batch, device),
    )
    rows = [measured(measurement, device) for measurement in measurements]
    starts = [] if options.no_startup else startup_measurements(sizes)
    rows += [Row(start.group, start.name, start.work()) for start in starts]
    print(table(rows))
    print(
        f"{ALL_STEPS} steps: {options.timed_steps} were timed;"
        f" images/s are theirs x {options.timed_steps} / {ALL_STEPS}."
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
