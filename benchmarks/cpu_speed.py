"""Ways to make the generator faster on a CPU, beside stock MONAI and diffusers in one run, and what each loses.

    python -m benchmarks.cpu_speed --size quick --rounds 7

Every arm trains or draws with a network of the same layers and number of weights. An arm's rate is in images per second
of process time of one thread: another program on the machine takes time, but not process time. The arms take turns,
round after round, so that a machine that slows down slows all of them; the ratio is the median over the rounds of an
arm's rate to stock's in the same round. What an arm loses: the loss of its averaged network, computed in float32, after
as many steps from the same seeds (training), and the root mean square difference of its images to those in float32,
relative to their spread (drawing).
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.generator import ALL_STEPS, SIZES, DiffusersUNet, RandomPatches, configured, new_network
from benchmarks.phantom_patches import phantom_patches
from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import ParametrizedPrepareBatch
from scripts.generator.samplers import sample_images, sampling_scheduler

NUM_PATIENTS = 32
BRIEF = [f"{who}{how}" for who in ("stock MONAI", "diffusers UNet2DModel", "ours") for how in ("", ", bf16")]
# Of the recipes; their schedules are left out.
RATES = {"tiny": 0.002, "quick": 0.002, "small": 0.002, "full": 0.0002}
Context = Callable[[], AbstractContextManager[Any]]


@dataclass
class Arm:
    """A way to train or to draw.

    Args:
        name: in words.
        work: does a round.
        images: that a round trains or draws.
        loss: what it loses, if that is known; called after the rounds.
    """

    name: str
    work: Callable[[], Any]
    images: int
    loss: Callable[[], float] | None = None


class Phantoms(RandomPatches):
    """Patches of simulated patients, again and again, in memory: the loss of a training on noise would say nothing."""

    def __init__(self, num_images: int, num_channels: int, patch_size: Sequence[int], device: str = "cpu") -> None:
        patients = simulated(patch_size[0])[:, :num_channels]
        self.images = patients[torch.arange(num_images) % len(patients)]


@functools.cache
def simulated(size: int) -> Tensor:
    """Patches of simulated patients, (N, 4, size, size)."""
    return phantom_patches(NUM_PATIENTS, seed=0, patch_size=size, matrix_size=(80, 80, 16))


def bf16() -> AbstractContextManager[Any]:
    """Convolutions and products in bf16, on a CPU."""
    return torch.autocast("cpu", torch.bfloat16)


# -- training ---------------------------------------------------------------------------------------------------------


def stock_training(
    network: nn.Module, sizes: Mapping[str, Any], steps: int, images: Tensor, context: Context = nullcontext
) -> Callable[[], None]:
    """Return a round of the loop in MONAI's tutorials: a loader of single images, AdamW, no average of the weights."""
    batch = sizes["generator_batch_size"]
    items = images[torch.arange(steps * batch) % len(images)]
    loader = DataLoader([{"image": item} for item in items], batch_size=batch, shuffle=True)  # type: ignore[arg-type]
    inferer = DiffusionInferer(DDPMScheduler(num_train_timesteps=ALL_STEPS))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)

    def work() -> None:
        network.train()
        for data in loader:
            clean = data["image"]
            optimizer.zero_grad(set_to_none=True)
            noise = torch.randn_like(clean)
            timesteps = torch.randint(0, ALL_STEPS, (len(clean),))
            with context():
                noise_pred = inferer(inputs=clean, diffusion_model=network, noise=noise, timesteps=timesteps)
                loss = functional.smooth_l1_loss(noise_pred, noise)
            loss.backward()
            optimizer.step()

    return work


class OurTraining:
    """The configured trainer with some keys changed, an epoch a round.

    Args:
        keys: of configs/common.yaml and train_generator.yaml.
        steps: of a round.
        context: in which every step of the trainer runs.
        change: changes the config before it is read.
    """

    def __init__(
        self,
        keys: Mapping[str, Any],
        steps: int,
        context: Context = nullcontext,
        change: Callable[[ConfigParser], None] = lambda parser: None,
    ) -> None:
        torch.manual_seed(0)
        images = steps * keys["generator_batch_size"]
        parser = configured((), images, device="cpu", generator_max_epochs=1, **keys)
        parser["train#dataset#_target_"] = "benchmarks.cpu_speed.Phantoms"
        change(parser)
        self.parser, self.context = parser, context
        self.trainer = parser.get_parsed_content("train#trainer")

    def __call__(self) -> None:
        """Train an epoch."""
        with self.context():
            self.trainer.run()

    @torch.no_grad()
    def loss(self) -> float:
        """Return the loss of the averaged network in float32, of all patients at the same times and noises."""
        network = self.parser.get_parsed_content("ema").ema_model.eval()
        network.bf16 = False
        torch.manual_seed(1)
        prepare = ParametrizedPrepareBatch(self.parser.get_parsed_content("scheduler"))
        images = simulated(self.parser.get_parsed_content("patch_size")[0]).repeat(8, 1, 1, 1)
        inputs, target, _, arguments = prepare({"image": images})
        noisy = prepare.scheduler.add_noise(inputs, arguments["noise"], arguments["timesteps"])
        return float(functional.smooth_l1_loss(network(noisy, arguments["timesteps"]), target))


def training_arms(config: ConfigParser, sizes: dict[str, Any], steps: int, compiled: bool) -> list[Arm]:
    """Ways to train; the first is stock's."""
    images = simulated(config.get_parsed_content("patch_size")[0])
    count = steps * sizes["generator_batch_size"]

    def ours(name: str, num_images: int = count, loss: bool = True, **how: Any) -> Arm:
        keys = {**sizes, **how.pop("keys", {})}
        training = OurTraining(keys, num_images // keys["generator_batch_size"], **how)
        return Arm(name, training, num_images, training.loss if loss else None)

    arms = [
        Arm("stock MONAI", stock_training(new_network(config), sizes, steps, images), count),
        Arm("stock MONAI, bf16", stock_training(new_network(config), sizes, steps, images, bf16), count),
        Arm("diffusers UNet2DModel", stock_training(DiffusersUNet(config), sizes, steps, images), count),
        Arm("diffusers UNet2DModel, bf16", stock_training(DiffusersUNet(config), sizes, steps, images, bf16), count),
        ours("ours"),
        ours("ours, optimizer and average parameter by parameter", change=parameter_by_parameter, loss=False),
        ours("ours, single images from a DataLoader", change=single_images),
        ours("ours, without oneDNN", context=lambda: torch.backends.mkldnn.flags(enabled=False)),
        ours("ours, channels last", keys={"generator_channels_last": True}),
        ours("ours, bf16", keys={"generator_amp": True}),
        ours("ours, bf16, channels last", keys={"generator_amp": True, "generator_channels_last": True}),
        ours("ours, batch of 32", max(1, count // 32) * 32, keys={"generator_batch_size": 32}),
        ours(
            "ours, bf16, batch of 32",
            max(1, count // 32) * 32,
            keys={"generator_amp": True, "generator_batch_size": 32},
        ),
    ]
    if compiled:
        compiling = {"generator_compile": True}
        arms += [
            ours("ours, compiled", keys=compiling),
            ours("ours, compiled, bf16", keys={**compiling, "generator_amp": True}),
        ]
    return arms


def parameter_by_parameter(parser: ConfigParser) -> None:
    """Let torch and ignite update each parameter by itself, as they come."""
    parser["optimizer#fused"] = False
    parser["train#handlers"] = ["@ema"]


def single_images(parser: ConfigParser) -> None:
    """Load image by image, as MONAI's tutorials do."""
    batch = parser["generator_batch_size"]
    parser["train#dataloader"] = {
        "_target_": "DataLoader",
        "dataset": "@train#dataset",
        "batch_size": batch,
        "shuffle": True,
    }


# -- drawing ----------------------------------------------------------------------------------------------------------


def drawing_arms(
    config: ConfigParser, sizes: dict[str, Any], images: int, steps: int, compiled: bool
) -> tuple[list[Arm], Callable[[], None]]:
    """Ways to draw with one trained network, the first of them stock's, and what trains that network."""
    shape = (len(config.get_parsed_content("modalities")), *config.get_parsed_content("patch_size"))
    training = OurTraining({**sizes, "generator_batch_size": 8}, 100)
    trained = training.parser.get_parsed_content("ema").ema_model
    scheduler = sampling_scheduler(training.parser.get_parsed_content("scheduler"), "dpm_solver", steps)
    few = DDIMScheduler(num_train_timesteps=ALL_STEPS)
    few.set_timesteps(steps)
    drawn: dict[str, Tensor] = {}

    def stock(network: nn.Module, context: Context = nullcontext) -> None:
        network.eval()
        with context():
            DiffusionInferer(few).sample(torch.randn(images, *shape), network, few, verbose=False)

    def ours(name: str, context: Context = nullcontext, place: Callable[[nn.Module], Any] = lambda kept: kept) -> Arm:
        network = place(trained)

        @torch.no_grad()
        def work() -> None:
            with context():
                drawn[name] = sample_images(network, scheduler, ImageNoise(0, range(images), shape)).float()

        def loss() -> float:
            exact = drawn["ours"]
            return float((drawn[name] - exact).square().mean().sqrt() / exact.std())

        return Arm(name, work, images, loss)

    def channels_last(network: nn.Module) -> nn.Module:
        copied = new_network(config)
        copied.load_state_dict(network.state_dict())
        return copied.to(memory_format=torch.channels_last)

    plain, theirs = new_network(config), DiffusersUNet(config)
    arms = [
        Arm("stock MONAI", functools.partial(stock, plain), images),
        Arm("stock MONAI, bf16", functools.partial(stock, plain, bf16), images),
        Arm("diffusers UNet2DModel", functools.partial(stock, theirs), images),
        Arm("diffusers UNet2DModel, bf16", functools.partial(stock, theirs, bf16), images),
        ours("ours"),
        ours("ours, bf16", bf16),
        ours("ours, without oneDNN", lambda: torch.backends.mkldnn.flags(enabled=False)),
    ]
    if compiled:
        arms += [ours("ours, compiled", place=torch.compile), ours("ours, compiled, bf16", bf16, torch.compile)]
    return arms, training


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(arms: Sequence[Arm], rounds: int) -> dict[str, list[float]]:
    """Run the arms in turns, after a round to warm up; images a second of process time of each in each round."""
    rates: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(rounds + 1):
        for arm in arms:
            start = time.process_time()
            arm.work()
            spent = time.process_time() - start
            if number:
                rates[arm.name].append(arm.images / spent)
            elif spent > 10:
                print(f"{arm.name}: {spent:.0f} s of process time for its first round", flush=True)
    return rates


def table(title: str, arms: Sequence[Arm], rates: Mapping[str, Sequence[float]]) -> str:
    """Write Markdown: median rate, the median ratio to the first arm with its range, and what is lost."""
    lines = [f"| {title} | images/s | ratio (lowest to highest) | loss or error |", "|---|---|---|---|"]
    stock = rates[arms[0].name]
    for arm in arms:
        ratios = sorted(own / base for own, base in zip(rates[arm.name], stock, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lost = "" if arm.loss is None else f"{arm.loss():.4f}"
        lines.append(f"| {arm.name} | {statistics.median(rates[arm.name]):.3g} | {spread} | {lost} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="quick")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=16, help="training steps of a round")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--images", type=int, default=32, help="images drawn in a round")
    parser.add_argument("--sampler-steps", type=int, default=20)
    parser.add_argument(
        "--brief", action="store_true", help="stock, diffusers and ours, each in float32 and bf16, alone"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile, too, which needs a C++ compiler")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rate = {"generator_learning_rate": RATES[options.size]}
    sizes = {**SIZES[options.size], **rate, "generator_batch_size": options.batch_size}
    config = configured((), 1, device="cpu", **sizes)
    print(f"size {options.size}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    arms = training_arms(config, sizes, options.steps, options.compile)
    arms = [arm for arm in arms if arm.name in BRIEF or not options.brief]
    print(table(f"training, batch {options.batch_size}", arms, measure(arms, options.rounds)), flush=True)
    arms, train = drawing_arms(config, sizes, options.images, options.sampler_steps, options.compile)
    arms = [arm for arm in arms if arm.name in BRIEF or not options.brief]
    train()
    print(table(f"drawing, {options.sampler_steps} steps", arms, measure(arms, options.rounds)))


if __name__ == "__main__":
    main()
