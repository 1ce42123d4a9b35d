"""Which recipe trains the generator best, at equal process time of one thread, on the same simulated patients.

    python -m benchmarks.generator_recipes --size 32 --seconds 45 --seeds 3
    python -m benchmarks.generator_recipes --dims 3 --seconds 180 --seeds 3

Every set of images is judged in the features of a classifier trained on *other* patients of both sites, against further
patients, beside real images (the floor) and beside control generators that take no training. Finished runs lie in
`--output_dir` and are not done again. In 3D the images are whole heads in t1n, 32 voxels of 6 mm a side. `--end_use`
adds what a classifier of grade gains that is trained on real and synthetic images.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import DiffusionInferer
from monai.networks.nets import resnet10
from monai.networks.schedulers import Scheduler
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.autoencoder import make_autoencoder, train_autoencoder
from benchmarks.phantom_patches import phantom_patches
from scripts.generator.autoencoder import LatentAutoencoder, to_images
from scripts.generator.conditional_unet import ClassConditionalUNet
from scripts.generator.controls import CONTROLS
from scripts.generator.gaussian_prior import GaussianPrior
from scripts.generator.noise import ImageNoise
from scripts.generator.parametrization import ParametrizedPrepareBatch, noise_scheduler
from scripts.generator.samplers import sample_images, sampling_scheduler
from scripts.image_quality.distances import polynomial_kernel, squared_discrepancy
from scripts.image_quality.manifold import manifold_measures, pairwise
from scripts.mutual_information.inferer import MIRegularizedDiffusionInferer
from scripts.mutual_information.loss import MIRegularizedNoiseLoss
from scripts.patches.background import snap_background
from scripts.running.files import read_json, write_json
from scripts.running.process import flush_subnormals
from scripts.running.progress import progress
from scripts.training.placing import computes_bf16
from scripts.training.random_affine import RandomAffine

GRADES = ("LGG", "HGG")
# Voxels of the simulated volumes at 32 and 48 pixels of a 96 mm field: cells are voxels. Few slices make small volumes.
MATRIX = {32: (80, 80, 16), 48: (120, 120, 24)}
# Those of configs/runs/study_volumes.yaml: whole heads, voxels averaged.
HEAD_MATRIX = (80, 80, 52)
HEADS: dict[str, Any] = {"modalities": ["t1n"], "cut": "whole", "crop_to_foreground": True, "patch_spacing_mm": 6.0}
# Channels of the U-Net's levels before images were folded (`generator_unshuffle`).
CHANNELS = {32: (16, 32, 32), 48: (16, 32, 64)}
# part -> (seed of its cohort, site, LGG, HGG); no two share a patient.
PARTS = {
    "training": (2000, "A", 19, 29),
    "judge_a": (2001, "A", 88, 132),
    "judge_b": (2002, "B", 24, 36),
    "reference": (2003, "A", 48, 72),
    "floor": (2004, "A", 26, 38),
    "test_a": (2005, "A", 80, 120),
    "test_b": (2006, "B", 48, 72),
}
# Mirrors alone.
FLIPS = RandomAffine(rotate_degrees=0.0, scale=0.0, translate=0.0)


@dataclass(frozen=True)
class Recipe:
    """How a generator is trained and drawn from; the defaults are what the arms share.

    Args:
        parametrization: of `scripts.generator.parametrization`.
        loss: of the network's output.
        channels: of the U-Net's levels; None for those of `CHANNELS`.
        unshuffle: pixels of each axis folded into channels.
        batch: images of a step.
        rate: highest learning rate.
        decay: whether the rate rises over 3 % of the time and falls to 0 at the end.
        ema: decay of the moving average of the weights.
        conditional: one network told the class, instead of one per class.
        guidance: scale of classifier-free guidance.
        sampler: of `scripts.generator.samplers`.
        steps: evaluations of the sampler, less guidance.
        changes: of the images of a step, at random; of the latents' images they are made once, mirrored ones alone.
        gaussian_rank: principal components of the closed-form part; 0 is the network alone.
        fade: noise-to-signal ratios between which the closed-form part fades in; None: in full everywhere.
        amp: bfloat16 in the network.
        mi_weight: share w of the mutual information in the loss (1 - w) D + w I; 0 trains without it.
        mi_timestep_weighting: of `scripts.mutual_information.loss`.
        autoencoder_share: share of the time in which an autoencoder is trained, in whose latents the generator works; 0
            works on pixels.
        latent_channels: of its latents.
        autoencoder_unshuffle: side of an image by that of its latent.
        autoencoder_channels: of the autoencoder's one resolution.
        attention: whether the coarsest level has self-attention.
        snap_tolerance: of `scripts.patches.background.snap_background`.
    """

    parametrization: str = "flow"
    loss: torch.nn.Module = torch.nn.MSELoss()
    channels: tuple[int, ...] | None = None
    unshuffle: int = 1
    batch: int = 8
    rate: float = 0.002
    decay: bool = True
    ema: float = 0.99
    conditional: bool = True
    guidance: float = 1.0
    sampler: str = "ddim"
    steps: int = 20
    gaussian_rank: int = 0
    fade: tuple[float, float] | None = None
    amp: bool = False
    changes: RandomAffine | None = FLIPS
    mi_weight: float = 0.0
    mi_timestep_weighting: str = "uniform"
    autoencoder_share: float = 0.0
    latent_channels: int = 24
    autoencoder_unshuffle: int = 4
    autoencoder_channels: int = 64
    attention: bool = True
    snap_tolerance: float = 0.1

    @property
    def scheduler(self) -> Scheduler:
        """Noise scheduler; only estimates of images are clipped, those of latents are not."""
        return noise_scheduler(self.parametrization, clip_sample=not self.autoencoder_share)


SMOOTH = torch.nn.SmoothL1Loss()
# That of configs/common.yaml and small.yaml.
DEFAULT = Recipe(
    "flow",
    SMOOTH,
    channels=(32, 64, 64),
    unshuffle=2,
    batch=16,
    rate=0.003,
    guidance=3.0,
    sampler="ddim",
    steps=10,
    gaussian_rank=16,
    fade=(1.0, 4.0),
    amp=computes_bf16("cpu"),
    changes=RandomAffine(),
)
RECIPES = {
    "before": Recipe("epsilon", SMOOTH, rate=0.004, decay=False, ema=0.98, conditional=False, changes=None),
    "default": DEFAULT,
    "quick": dataclasses.replace(DEFAULT, parametrization="sample"),  # of configs/recipes/quick.yaml
    "quick, mirrored alone": dataclasses.replace(DEFAULT, parametrization="sample", changes=FLIPS),
    "default, velocity": dataclasses.replace(DEFAULT, parametrization="v_prediction"),
    "default, no guidance": dataclasses.replace(DEFAULT, guidance=1.0),
    "default, guidance 4": dataclasses.replace(DEFAULT, guidance=4.0),
    "default, not unshuffled": dataclasses.replace(DEFAULT, channels=None, unshuffle=1),
    "default, batches of 8": dataclasses.replace(DEFAULT, batch=8, rate=0.002),
    "default, float32": dataclasses.replace(DEFAULT, amp=False),
    "default, DPM-Solver": dataclasses.replace(DEFAULT, sampler="dpm_solver"),
    "default, mirrored alone": dataclasses.replace(DEFAULT, changes=FLIPS),
    "default, unchanged": dataclasses.replace(DEFAULT, changes=None),
    "closed form in full": dataclasses.replace(DEFAULT, fade=None, guidance=1.5),
    "network alone": dataclasses.replace(DEFAULT, gaussian_rank=0, guidance=1.0),
    "network alone, guidance 3": dataclasses.replace(DEFAULT, gaussian_rank=0),
    "network alone, noise": Recipe("epsilon"),
    "latent": dataclasses.replace(DEFAULT, unshuffle=1, channels=(64, 128, 128), autoencoder_share=0.5),
    "latent, x_0": dataclasses.replace(
        DEFAULT, parametrization="sample", unshuffle=1, channels=(64, 128, 128), autoencoder_share=0.5
    ),
}

# That of configs/runs/study_volumes.yaml, told the class.
VOLUMES = dataclasses.replace(
    DEFAULT,
    parametrization="sample",
    channels=(16, 32),
    attention=False,
    batch=4,
    guidance=1.0,
    fade=None,
    snap_tolerance=0.2,
    changes=FLIPS,
)
RECIPES_3D = {
    "default": VOLUMES,
    "default, changed": dataclasses.replace(VOLUMES, changes=RandomAffine()),
    "default, closed form fades": dataclasses.replace(VOLUMES, fade=(1.0, 4.0)),
    "latent": dataclasses.replace(
        VOLUMES,
        unshuffle=1,
        autoencoder_share=0.5,
        latent_channels=4,
        autoencoder_unshuffle=2,
        autoencoder_channels=32,
    ),
}


def recipes(dims: int) -> dict[str, Recipe]:
    """The arms of images of so many dimensions."""
    return RECIPES if dims == 2 else RECIPES_3D


@dataclass(frozen=True)
class Patients:
    """Patches of one part and their grades.

    Args:
        images: (N, C, *spatial) in [-1, 1]: four modalities of a slice, or one of a volume.
        labels: 0 LGG, 1 HGG, shape (N,).
    """

    images: Tensor
    labels: Tensor

    def of(self, label: int) -> Tensor:
        """Images of one grade."""
        return self.images[self.labels == label]


def patients(part: str, size: int, dims: int = 2) -> Patients:
    """Simulate the patients of a part."""
    seed, site, *counts = PARTS[part]
    images = [
        phantom_patches(count, seed, size, MATRIX[size], site, grade)
        if dims == 2
        else phantom_patches(count, seed, size, HEAD_MATRIX, site, grade, spatial_dims=3, **HEADS)
        for count, grade in zip(counts, GRADES, strict=True)
    ]
    labels = torch.arange(2).repeat_interleave(torch.tensor(counts))
    return Patients(torch.cat(images), labels)


def cached(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file of tensors holds; make and write it where it is missing."""
    if not path.is_file():
        content = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".partial-{path.name}")
        torch.save(content, temporary)
        temporary.replace(path)
    return torch.load(path, weights_only=True)


# -- training and drawing ---------------------------------------------------------------------------------------------


def train(
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    seconds: float,
    seed: int,
    look: Callable[[torch.nn.Module], None] | None = None,
    num_looks: int = 12,
) -> tuple[torch.nn.Module, int]:
    """Train one network for a process time.

    Args:
        recipe: how.
        images: of the training patients, (N, C, *spatial) in [-1, 1], or their latents.
        labels: their grades, shape (N,).
        seconds: process time.
        seed: of weights, noise and order.
        look: called with the moving average `num_looks` times at equal distances, the last at the end; its time does
            not count.
        num_looks: times.

    Returns:
        The moving average and the number of steps.
    """
    torch.manual_seed(seed)
    network = make_network(recipe, images.shape[1:])
    if network.prior is not None:
        network.prior.fit(images, labels if recipe.conditional else None)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=warm_average(recipe.ema))
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, fused=True)
    prepare = ParametrizedPrepareBatch(recipe.scheduler, "label" if recipe.conditional else None)
    inferer, loss_function = inferer_and_loss(recipe, prepare.scheduler)
    start, steps, num_seen = time.process_time(), 0, 0
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * (min(1, share / 0.03) * (1 - share) if recipe.decay else 1)
        indices = torch.randint(len(images), (recipe.batch,))
        batch = images[indices] if recipe.changes is None else recipe.changes(images[indices])
        inputs, target, _, arguments = prepare({"image": batch, "label": labels[indices]})
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.amp):
            output = inferer(inputs, network, **arguments)
        loss = loss_function(output.float() if isinstance(output, Tensor) else output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        steps += 1
        if look is not None and share * num_looks >= num_seen + 1:
            before = time.process_time()
            look(average.module.eval())
            num_seen += 1
            start += time.process_time() - before
    if look is not None:
        look(average.module.eval())
    return average.module.eval(), steps


def inferer_and_loss(recipe: Recipe, scheduler: Scheduler) -> tuple[DiffusionInferer, torch.nn.Module]:
    """The training pass of a recipe and its loss, with or without mutual information."""
    if not recipe.mi_weight:
        return DiffusionInferer(scheduler), recipe.loss
    regularized = MIRegularizedNoiseLoss(
        denoise_weight=1 - recipe.mi_weight,
        mi_weight=recipe.mi_weight,
        mi_timestep_weighting=recipe.mi_timestep_weighting,
        mi_log_interval=10**9,
        denoising_loss=recipe.loss,
        parametrization=recipe.parametrization,
    )
    return MIRegularizedDiffusionInferer(scheduler), regularized


def make_network(recipe: Recipe, shape: torch.Size) -> ClassConditionalUNet:
    """MONAI's U-Net of a recipe for images of a shape."""
    num_classes, rank = 2 if recipe.conditional else None, recipe.gaussian_rank
    channels = recipe.channels or CHANNELS[shape[-1]]
    scheduler = recipe.scheduler
    return ClassConditionalUNet(
        num_classes=num_classes,
        unshuffle=recipe.unshuffle,
        prior=GaussianPrior(scheduler, rank, shape, num_classes, recipe.fade) if rank else None,
        spatial_dims=len(shape) - 1,
        in_channels=shape[0],
        out_channels=shape[0],
        channels=channels,
        attention_levels=[False] * (len(channels) - 1) + [recipe.attention],
        num_res_blocks=1,
        num_head_channels=channels[-1],
        norm_num_groups=8,
    )


def warm_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """Average with min(decay, (1 + n) / (10 + n)), as the bundle does (n updates before)."""

    @torch.no_grad()
    def update(averages: list[Tensor], parameters: list[Tensor], num_averaged: Tensor) -> None:
        count = int(num_averaged)
        torch._foreach_lerp_(averages, parameters, 1 - min(decay, (1 + count) / (10 + count)))

    return update


def draw(recipe: Recipe, network: torch.nn.Module, label: int, count: int, shape: Sequence[int], seed: int) -> Tensor:
    """Draw images of a class, background snapped; `shape` is that of what the network draws, images or latents."""
    scheduler = sampling_scheduler(recipe.scheduler, recipe.sampler, recipe.steps)
    labels = torch.full((count,), label) if recipe.conditional else None
    noise = ImageNoise(seed, range(label * count, (label + 1) * count), shape)
    drawn = sample_images(network, scheduler, noise, labels, recipe.guidance)
    return snap_background(to_images(network, drawn), recipe.snap_tolerance)


def train_generator(recipe: Recipe, training: Patients, seconds: float, seed: int) -> dict[str, Any]:
    """Train within the time for all classes together, an autoencoder's included.

    Returns:
        Tensors and numbers for `torch.save`: `states` of one network, or of one per class, `steps` of each, the `shape`
        of what they learned and, of latents, the state of the `autoencoder`.
    """
    autoencoder = None
    if recipe.autoencoder_share:
        autoencoder, training = into_latents(recipe, training, seconds * recipe.autoencoder_share, seed)
        seconds, recipe = seconds * (1 - recipe.autoencoder_share), dataclasses.replace(recipe, changes=None)
    if recipe.conditional:
        trained = [train(recipe, training.images, training.labels, seconds, seed)]
    else:
        trained = [train(recipe, training.of(label), training.labels, seconds / 2, seed) for label in (0, 1)]
    return {
        "states": [network.state_dict() for network, _ in trained],
        "steps": [steps for _, steps in trained],
        "shape": list(training.images.shape[1:]),
        "autoencoder": None if autoencoder is None else autoencoder.state_dict(),
    }


def draw_set(recipe: Recipe, trained: Mapping[str, Any], shape: Sequence[int], seed: int, count: int) -> dict[str, Any]:
    """Draw `count` images of each class, of `shape` (C, *spatial), with what `train_generator` returned."""
    networks = []
    for state in trained["states"]:
        network = make_network(recipe, torch.Size(trained["shape"])).eval()
        network.load_state_dict(state)
        if trained["autoencoder"] is not None:
            network.autoencoder = make_latent_autoencoder(recipe, shape).eval()
            network.autoencoder.load_state_dict(trained["autoencoder"])
        networks.append(network)
    start = time.process_time()
    drawn = [draw(recipe, networks[-1 if label else 0], label, count, trained["shape"], seed) for label in (0, 1)]
    labels = torch.arange(2).repeat_interleave(count)
    sampling = time.process_time() - start
    return {"images": torch.cat(drawn), "labels": labels, "steps": trained["steps"], "sampling": sampling}


def into_latents(recipe: Recipe, training: Patients, seconds: float, seed: int) -> tuple[LatentAutoencoder, Patients]:
    """Train an autoencoder and return it with the latents of the images and of their mirror images."""
    torch.manual_seed(seed)
    network = make_latent_autoencoder(recipe, training.images.shape[1:])
    batch = 8 if training.images.ndim == 4 else 2  # steps count more than volumes of each
    autoencoder, _ = train_autoencoder(network, training.images, seconds, seed, batch=batch)
    images = torch.cat([training.images, training.images.flip(2)]) if recipe.changes else training.images
    labels = training.labels.repeat(len(images) // len(training.labels))
    return autoencoder, Patients(autoencoder.to_latents(images), labels)


def make_latent_autoencoder(recipe: Recipe, shape: Sequence[int]) -> LatentAutoencoder:
    """Make the autoencoder of a recipe for images of `shape` (C, *spatial)."""
    return make_autoencoder(
        shape[0],
        len(shape) - 1,
        (recipe.autoencoder_channels,),
        recipe.autoencoder_unshuffle,
        recipe.latent_channels,
    )


# -- judging ----------------------------------------------------------------------------------------------------------


class Judge:
    """Features and grade of a classifier that never saw the patients of the experiment.

    Args:
        size: pixels of a side.
        folder: where its weights and the patients are kept.
        dims: of the images.
    """

    def __init__(self, size: int, folder: Path, dims: int = 2) -> None:
        name = f"{size}" if dims == 2 else f"{size}_{dims}d"
        parts = PARTS if dims == 2 else [part for part in PARTS if not part.startswith("test")]
        self.patients = {
            part: Patients(**cached(folder / f"{part}_{name}.pt", partial(simulated, part, size, dims)))
            for part in parts
        }
        self.network = resnet10(
            spatial_dims=dims,
            n_input_channels=self.patients["training"].images.shape[1],
            num_classes=4,
            conv1_t_stride=dims - 1,  # a step of the full resolution takes 5 s in 3D
        )
        self.network.load_state_dict(cached(folder / f"judge_{name}.pt", self._train))
        self.network.eval()
        self.reference = self.features(self.patients["reference"].images)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, shape (N, 512)."""
        head, self.network.fc = self.network.fc, torch.nn.Identity()
        features = torch.cat([self.network(part) for part in images.split(64)])
        self.network.fc = head
        return features

    @torch.no_grad()
    def grade(self, images: Tensor) -> np.ndarray:
        """Log-odds of HGG, either site, shape (N,)."""
        logits = torch.cat([self.network(part) for part in images.split(64)])
        return (logits[:, 2:].logsumexp(1) - logits[:, :2].logsumexp(1)).numpy()

    def measures(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Kernel distance, manifold measures, label AUC and the difference of the spectra, against the reference."""
        features = self.features(images)
        both = torch.cat([features, self.reference])
        # Real images first, as the manifold measures want them.
        manifold = manifold_measures(pairwise(torch.cat([self.reference, features])), len(self.reference))
        return {
            "kernel_distance": squared_discrepancy(polynomial_kernel(both), len(features)),
            **{name: float(value) for name, value in manifold.items()},
            "label_auc": float(roc_auc_score(labels, self.grade(images))),
            "spectrum": spectrum_difference(images, self.patients["reference"].images),
        }

    def _train(self) -> Mapping[str, Tensor]:
        parts = [self.patients[name] for name in ("judge_a", "judge_b")]
        images = torch.cat([part.images for part in parts])
        # Grade and site: four classes, LGG of A, LGG of B, HGG of A, HGG of B.
        labels = torch.cat([part.labels * 2 + site for site, part in enumerate(parts)])
        num_steps = 900 if images.ndim == 4 else 450
        return fit_classifier(self.network, images, labels, num_steps, seed=0).state_dict()


def simulated(part: str, size: int, dims: int) -> dict[str, Tensor]:
    """Tensors of the patients of a part."""
    return dataclasses.asdict(patients(part, size, dims))


def fit_classifier(
    network: torch.nn.Module, images: Tensor, labels: Tensor, num_steps: int, seed: int
) -> torch.nn.Module:
    """Train with flips, AdamW and a one-cycle rate, in batches of 16."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=num_steps)
    weight = len(labels) / labels.bincount().float() / len(labels.unique())
    network.train()
    for _ in range(num_steps):
        indices = torch.randint(len(images), (16,))
        loss = torch.nn.functional.cross_entropy(network(FLIPS(images[indices])), labels[indices], weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def spectrum_difference(first: Tensor, second: Tensor) -> float:
    """Root mean square difference of the logarithms of the mean radial power spectra, lower is better, >= 0."""
    spectra = [radial_spectrum(images).log() for images in (first, second)]
    return float((spectra[0] - spectra[1]).square().mean().sqrt())


def radial_spectrum(images: Tensor) -> Tensor:
    """Mean power by distance from frequency 0, in cells of one cycle an image, (C, size // 2 - 1); no constant part."""
    size, dims = images.shape[-1], images.ndim - 2
    power = torch.fft.fftn(images, dim=tuple(range(2, dims + 2))).abs().square().mean(0)
    axes = torch.meshgrid([torch.fft.fftfreq(size) * size] * dims, indexing="ij")
    radius = torch.stack(axes).square().sum(0).sqrt().round().long()
    rings = range(1, size // 2)
    return torch.stack([power[:, radius == ring].mean(1) for ring in rings], 1)


# -- end use ----------------------------------------------------------------------------------------------------------


def end_use(judge: Judge, synthetic: Patients | None, seed: int, num_steps: int) -> dict[str, float]:
    """AUC on unseen patients of both sites of a classifier trained on the training patients and a synthetic set."""
    training = judge.patients["training"]
    images, labels = training.images, training.labels
    if synthetic is not None:
        images, labels = torch.cat([images, synthetic.images]), torch.cat([labels, synthetic.labels])
    torch.manual_seed(seed)
    network = resnet10(spatial_dims=2, n_input_channels=4, num_classes=2, conv1_t_stride=1)
    fit_classifier(network, images, labels, num_steps, seed)
    with torch.no_grad():
        return {
            part: float(roc_auc_score(judge.patients[part].labels, network(judge.patients[part].images)[:, 1]))
            for part in ("test_a", "test_b")
        }


# -- the table --------------------------------------------------------------------------------------------------------


def runs(arguments: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Arms and seeds, seed by seed, so that a stopped experiment compares all arms on fewer seeds."""
    for seed in range(arguments.seeds):
        for name in arguments.recipes or [*CONTROLS, *recipes(arguments.dims)]:
            yield name, seed


def file_name(name: str) -> str:
    """Make a file's name of an arm's."""
    return re.sub(r"\W+", "_", name)


def trained_as(name: str, arms: Mapping[str, Recipe]) -> str:
    """The first of the arms that trains as this one does; arms that differ in drawing alone share their weights."""
    return next(other for other, recipe in arms.items() if _undrawn(recipe) == _undrawn(arms[name]))


def _undrawn(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, guidance=1.0, sampler="ddim", steps=1)


def run(name: str, seed: int, judge: Judge, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make and judge the set of one arm and seed."""
    training = judge.patients["training"]
    if name in CONTROLS:
        generator = torch.Generator().manual_seed(seed)
        drawn = [CONTROLS[name](training.of(label))(arguments.images, generator) for label in (0, 1)]
        labels = torch.arange(2).repeat_interleave(arguments.images)
        content: dict[str, Any] = {"images": snap_background(torch.cat(drawn)), "labels": labels, "steps": []}
    else:
        arms = recipes(arguments.dims)
        recipe, weights = arms[name], arguments.folder / f"{file_name(trained_as(name, arms))}_{seed}_weights.pt"
        trained = cached(weights, lambda: train_generator(recipe, training, arguments.seconds, seed))
        content = draw_set(recipe, trained, training.images.shape[1:], seed, arguments.images)
    images, labels = content.pop("images"), content.pop("labels")
    torch.save({"images": images, "labels": labels}, arguments.folder / f"{file_name(name)}_{seed}_set.pt")
    return {"recipe": name, "seed": seed, **content, **judge.measures(images, labels)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown table: mean of each measure and, of several seeds, its 95 % interval over seeds."""
    names = ["kernel_distance", "precision", "recall", "density", "coverage", "label_auc", "spectrum"]
    extra = [name for name in ("test_a", "test_b") if any(name in row for row in rows)]
    columns = ["recipe", "seeds", "steps", *names, *extra]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == recipe]
        steps = int(np.mean([sum(row.get("steps") or [0]) for row in own]))
        cells = [_in_words([row[name] for row in own if name in row]) for name in [*names, *extra]]
        lines.append(f"| {recipe} | {len(own)} | {steps or ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; of one value no interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def _in_words(values: Sequence[float]) -> str:
    """Write the mean and, of several seeds, its interval."""
    if not values:
        return ""
    mean, low, high = mean_and_interval(values)
    return f"{mean:.2f}" if len(values) < 2 else f"{mean:.2f} ({low:.2f} to {high:.2f})"


def floor(judge: Judge) -> dict[str, Any]:
    """The measures of real images of other patients: what a perfect generator reaches."""
    real = judge.patients["floor"]
    return {"recipe": "real, other patients", "seed": 0, "steps": [], **judge.measures(real.images, real.labels)}


def main() -> None:
    """Run what is not there yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, choices=sorted(MATRIX), help="pixels of a side, 32 in 3D")
    parser.add_argument("--dims", type=int, default=2, choices=(2, 3), help="3: whole heads")
    parser.add_argument("--seconds", type=float, default=45.0, help="process time of the training of both classes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=64, help="images drawn of each class")
    parser.add_argument("--recipes", nargs="*", help=f"of {', '.join([*CONTROLS, *RECIPES])}; all by default")
    parser.add_argument("--end_use", type=int, default=0, metavar="STEPS", help="train a classifier for so many steps")
    parser.add_argument("--output_dir", default="runs/generator_recipes")
    arguments = parser.parse_args()
    if arguments.dims == 3 and (arguments.size != 32 or arguments.end_use):
        parser.error("--dims 3 is for volumes of 32 voxels a side, whose gain in use isn't measured")
    torch.set_num_threads(1)
    flush_subnormals()  # as every stage does
    folder = Path(arguments.output_dir)
    dims = "" if arguments.dims == 2 else f"{arguments.dims}d_"
    arguments.folder = folder / f"{dims}{arguments.size}_{arguments.seconds:g}"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    judge = Judge(arguments.size, folder, arguments.dims)
    rows = [floor(judge)]
    every_run = list(runs(arguments))
    for name, seed in progress(every_run, len(every_run), "recipes"):
        path = arguments.folder / f"{file_name(name)}_{seed}.json"
        if not path.is_file():
            write_json(path, run(name, seed, judge, arguments))
        row = dict(read_json(path))
        if arguments.end_use:
            row |= _end_use_of(name, seed, judge, arguments)
        rows.append(row)
    if arguments.end_use:
        real = [_end_use_of("real", seed, judge, arguments) for seed in range(arguments.seeds)]
        rows[0] |= {name: float(np.mean([row[name] for row in real])) for name in real[0]}
    print(table(rows))


def _end_use_of(name: str, seed: int, judge: Judge, arguments: argparse.Namespace) -> dict[str, float]:
    path = arguments.folder / f"{file_name(name)}_{seed}_end_use_{arguments.end_use}.json"
    if not path.is_file():
        stored = arguments.folder / f"{file_name(name)}_{seed}_set.pt"
        load = partial(torch.load, stored, weights_only=True)
        synthetic = None if name == "real" else Patients(**load())
        write_json(path, end_use(judge, synthetic, seed, arguments.end_use))
    return dict(read_json(path))


if __name__ == "__main__":
    main()
