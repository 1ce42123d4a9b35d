"""What the audit names and what it misses: generators that copy in many ways, beside honest ones and noise.

python -m benchmarks.audit_attacks --output runs/audit_attacks --draws 10
python -m benchmarks.audit_attacks --attacks honest --honest-draws 100
python -m benchmarks.audit_attacks --attacks exact flip --images few --size 60 20
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import altered_copies as copies
from benchmarks.phantom_patches import phantom_patches
from benchmarks.planted_copies import real_images, untrained_noise
from scripts.generator.controls import CONTROLS
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.search import Found
from scripts.memorization.verdict import COLLAPSED, KNOWS_HELD_OUT, MEMORIZES, NO_SIGN, UNUSABLE

FIRST_SEED = 7000  # of the patients: of no test and no other bench
PATIENTS_PER_SEED = 200
SIZES = ((15, 8), (30, 10), (60, 20), (100, 20), (60, 60))  # training and held-out patients
NUM_IMAGES = 60
NUM_COPIES = 5  # of them, where a few are copies


@dataclass(frozen=True)
class Draw:
    """Patients of one draw: images (N, C, H, W) of training, held-out and fresh ones, as many as are generated."""

    training: Tensor
    held_out: Tensor
    fresh: Tensor

    @property
    def sources(self) -> Tensor:
        """A training image for each generated one, every patient as often as the others."""
        return self.training[torch.arange(len(self.fresh)) % len(self.training)]


Generator = Callable[[Draw, torch.Generator], Tensor]


@dataclass(frozen=True)
class Attack:
    """A generator, the verdict that it deserves, and whether a few of its images among fresh ones are tried, too."""

    generate: Generator
    verdict: str = MEMORIZES
    few: bool = True


class Row(NamedTuple):
    """A row of the table: an attack, on all images or on a few of them."""

    attack: str
    is_few: bool

    @property
    def title(self) -> str:
        """For a reader."""
        return f"{NUM_COPIES} of {NUM_IMAGES}: {self.attack}" if self.is_few else self.attack


def altered(*changes: copies.Alteration) -> Attack:
    """Make an attack that copies training images and changes them in one way after the other."""

    def generate(draw: Draw, generator: torch.Generator) -> Tensor:
        images = draw.sources
        for change in changes:
            images = change(images, generator)
        return images

    return Attack(generate)


def by(change: Callable[..., Tensor], **settings: float) -> copies.Alteration:
    """Set the strength of an alteration."""
    return lambda images, generator: change(images, generator, **settings)


def grafted(where: Callable[[Tensor], Tensor], *changes: copies.Alteration) -> Attack:
    """Make an attack that puts part of altered training images into fresh ones; `where` marks it in (N, C, H, W)."""

    def generate(draw: Draw, generator: torch.Generator) -> Tensor:
        return torch.where(where(draw.fresh), altered(*changes).generate(draw, generator), draw.fresh)

    return Attack(generate)


def channel(number: int) -> Callable[[Tensor], Tensor]:
    """Mark one channel."""
    return lambda images: (torch.arange(images.shape[1]) == number).view(1, -1, 1, 1).expand_as(images)


def lesion(images: Tensor) -> Tensor:
    """Mark the middle of the patch, where the lesion lies."""
    return copies.centers(tuple(images.shape[2:])).expand_as(images)


def blended(draw: Draw, share: float) -> Tensor:
    """Mix each training image with the next one."""
    return share * draw.sources + (1 - share) * draw.sources.roll(1, 0)


def average(draw: Draw, generator: torch.Generator, std: float = 0.0) -> Tensor:
    """Average the training images, and add noise."""
    mean = draw.training.mean(0).expand(len(draw.fresh), *draw.training.shape[1:])
    return (mean + std * torch.randn(mean.shape, generator=generator)).clamp(-1, 1)


def smooth_noise(draw: Draw, generator: torch.Generator, pixels: float) -> Tensor:
    """Draw noise with blobs of some pixels, of the contrast of images."""
    smooth = copies.blurred(torch.randn(draw.fresh.shape, generator=generator), generator, pixels)
    return (smooth / smooth.std() * 0.5).clamp(-1, 1)


def gaussian(draw: Draw, generator: torch.Generator) -> Tensor:
    """Draw from the Gaussian of the training images, which copies nobody."""
    return CONTROLS["pca_gaussian"](draw.training)(len(draw.fresh), generator)


def unusable(generate: Generator) -> Attack:
    """Make images that are those of nobody."""
    return Attack(generate, UNUSABLE, few=False)


FLIP, TURN, SHIFT = copies.flipped, copies.turned, by(copies.shifted, pixels=6)
ROTATE, ZOOM, ELASTIC = by(copies.rotated, degrees=15.0), copies.zoomed, copies.bent
CONTRAST = copies.rescaled
HONEST = "honest"
ATTACKS: dict[str, Attack] = {
    HONEST: Attack(lambda draw, generator: draw.fresh, NO_SIGN, few=False),
    "fitted Gaussian": Attack(gaussian, NO_SIGN, few=False),
    "exact": altered(),
    "contrast": altered(CONTRAST),
    "gamma .6": altered(by(copies.darkened, gamma=0.6)),
    "gamma .3": altered(by(copies.darkened, gamma=0.3)),
    "inverted": altered(copies.inverted),
    "blurred 1.5 px": altered(copies.blurred),
    "noise 10 dB": altered(by(copies.noisy, decibel=10.0)),
    "flip": altered(FLIP),
    "turn": altered(TURN),
    "transposed": altered(copies.transposed),
    "shift 18 mm": altered(SHIFT),
    "rotation 7": altered(copies.rotated),
    "rotation 15": altered(ROTATE),
    "zoom 1.2": altered(ZOOM),
    "elastic 4 mm": altered(ELASTIC),
    "elastic 8 mm": altered(by(ELASTIC, pixels=8 / 3)),
    "one modality": grafted(channel(1)),
    "three modalities": grafted(lambda images: ~channel(3)(images)),
    "lesion": grafted(lesion),
    "modalities permuted": altered(copies.permuted),
    "mix 70/30": Attack(lambda draw, generator: blended(draw, 0.7)),
    "mix 50/50": Attack(lambda draw, generator: blended(draw, 0.5)),
    "collage of quarters": Attack(lambda draw, generator: copies.collage(draw.sources, 2)),
    "collage 4 x 4": Attack(lambda draw, generator: copies.collage(draw.sources, 4)),
    "collage 8 x 8": Attack(lambda draw, generator: copies.collage(draw.sources, 8)),
    "rotation 15 + zoom": altered(ROTATE, ZOOM),
    "turn + elastic 4 mm": altered(TURN, ELASTIC),
    "shift + rotation 15": altered(SHIFT, ROTATE),
    "inverted + zoom": altered(copies.inverted, ZOOM),
    "gamma .3 + elastic 4 mm": altered(by(copies.darkened, gamma=0.3), ELASTIC),
    "noise 10 dB + rotation 15": altered(ROTATE, by(copies.noisy, decibel=10.0)),
    "one modality + flip": grafted(channel(1), FLIP),
    "one modality + rotation 15": grafted(channel(1), ROTATE),
    "lesion + turn": grafted(lesion, TURN),
    "lesion + contrast": grafted(lesion, CONTRAST),
    "permuted + flip": altered(copies.permuted, FLIP),
    "one training image": Attack(lambda draw, generator: draw.training[:1].repeat(len(draw.fresh), 1, 1, 1), few=False),
    "one fresh image": Attack(
        lambda draw, generator: draw.fresh[:1].repeat(len(draw.fresh), 1, 1, 1), COLLAPSED, few=False
    ),
    "held-out images": Attack(
        lambda draw, generator: draw.held_out[torch.arange(len(draw.fresh)) % len(draw.held_out)], KNOWS_HELD_OUT
    ),
    "held-out, rotation 7": Attack(
        lambda draw, generator: copies.rotated(
            draw.held_out[torch.arange(len(draw.fresh)) % len(draw.held_out)], generator
        ),
        KNOWS_HELD_OUT,
    ),
    "grain": unusable(lambda draw, generator: untrained_noise(draw.fresh.shape, generator.initial_seed())),
    "smooth noise 1 px": unusable(lambda draw, generator: smooth_noise(draw, generator, 1.0)),
    "smooth noise 2 px": unusable(lambda draw, generator: smooth_noise(draw, generator, 2.0)),
    "smooth noise 4 px": unusable(lambda draw, generator: smooth_noise(draw, generator, 4.0)),
    "mean image": unusable(average),
    "mean image + noise .1": unusable(lambda draw, generator: average(draw, generator, 0.1)),
    "mean image + noise .3": unusable(lambda draw, generator: average(draw, generator, 0.3)),
    "blank": unusable(lambda draw, generator: torch.full_like(draw.fresh, -1.0)),
}


def patients(folder: Path, number: int) -> Tensor:
    """Simulate patients, once: blocks of a seed each are kept in a folder."""
    blocks = []
    for seed in range(FIRST_SEED, FIRST_SEED - (-number // PATIENTS_PER_SEED)):
        path = folder / f"patients_{seed}.pt"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(phantom_patches(PATIENTS_PER_SEED, seed), path)
        blocks.append(torch.load(path, weights_only=True))
    return torch.cat(blocks)[:number]


def draw_patients(pool: Tensor, num_training: int, num_held_out: int, seed: int, num_images: int = NUM_IMAGES) -> Draw:
    """Draw patients from a pool, none twice."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    parts = [num_training, num_held_out, num_images]
    return Draw(*pool[order[: sum(parts)]].split(parts))


def attack_draw(draw: Draw, rows: Iterable[Row], seed: int, audit: MemorizationAudit) -> Iterator[tuple[Row, str]]:
    """Audit generators against the patients of one draw.

    Args:
        draw: patients.
        rows: of the table.
        seed: of the alterations.
        audit: the audit.

    Yields:
        Each row and its verdict.
    """
    real = audit.prepare(real_images(draw.training, "training"), real_images(draw.held_out, "held out"))
    fresh: Found | None = None
    for row in rows:
        images = ATTACKS[row.attack].generate(draw, torch.Generator().manual_seed(seed))
        if row.is_few:
            fresh = fresh or real.search(draw.fresh)
            images = torch.cat([images[:NUM_COPIES], draw.fresh[NUM_COPIES:]])
            others = fresh.take(range(NUM_COPIES, len(images)))
            found = Found.join([real.search(images[:NUM_COPIES]), others])
        else:
            found = real.search(images)
        yield row, audit.judge(images, real, found)["verdict"]


def time_audit(pool: Tensor, num_synthetic: int, num_real: int, size: int) -> float:
    """Return the seconds of an audit of enlarged patients, with twice as many training as held-out ones."""
    images = functional.interpolate(pool[: num_synthetic + num_real], (size, size), mode="nearest")
    num_training = num_real * 2 // 3
    synthetic, training, held_out = images.split([num_synthetic, num_training, num_real - num_training])
    begin = time.monotonic()
    MemorizationAudit()(synthetic, real_images(training, "training"), real_images(held_out, "held out"))
    return time.monotonic() - begin


def rows_of(names: Sequence[str], which: str) -> list[Row]:
    """List rows of the table: those on "all" images, on a "few", or "both"; a few only where the attack is tried so."""
    everything = [Row(name, is_few) for is_few in (False, True) for name in names]
    wanted = [row for row in everything if which == "both" or row.is_few == (which == "few")]
    return [row for row in wanted if ATTACKS[row.attack].few or not row.is_few]


def table(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Write, for every row and size, how many draws got the verdict that they deserve, and what others got.

    Args:
        verdicts: `size`, `attack`, `is_few` and `verdict` of each audit.
    """
    lines = [
        "| generator | deserves | " + " | ".join(f"{t}/{h}" for t, h in SIZES) + " | other verdicts |",
        "|---" * (len(SIZES) + 3) + "|",
    ]
    for row in rows_of(list(ATTACKS), "both"):
        deserved = ATTACKS[row.attack].verdict
        own = [one for one in verdicts if (one["attack"], one["is_few"]) == row]
        cells = []
        for size in SIZES:
            of_size = [one["verdict"] for one in own if one["size"] == list(size)]
            cells.append(f"{of_size.count(deserved)} of {len(of_size)}" if of_size else "–")
        others = Counter(one["verdict"] for one in own if one["verdict"] != deserved)
        if own:
            said = ", ".join(f"{number} x {verdict}" for verdict, number in others.items())
            lines.append(f"| {row.title} | {deserved} | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack the audit, go on where it was stopped, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_attacks", description=__doc__)
    parser.add_argument(
        "--output", default="runs/audit_attacks", help="folder of patients and verdicts, which are kept"
    )
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="all if left out")
    parser.add_argument("--images", choices=("all", "few", "both"), default="both", help="that are attacked")
    parser.add_argument("--draws", type=int, default=10, help="of patients for every size")
    parser.add_argument("--honest-draws", type=int, default=100, help="of honest generators for every size")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        action="append",
        metavar=("TRAINING", "HELD_OUT"),
        help="one of the sizes, may be repeated; all if left out",
    )
    parser.add_argument("--patients", type=int, default=1600, help="simulated; draws of them overlap")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no audit is begun")
    parser.add_argument(
        "--time", type=int, nargs=3, metavar=("SYNTHETIC", "REAL", "SIZE"), help="of one audit, and stop"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder, begin = Path(options.output), time.monotonic()
    pool, path = patients(folder, options.patients), folder / "verdicts.jsonl"
    if options.time:
        synthetic, real, size = options.time
        seconds = time_audit(pool, synthetic, real, size)
        print(f"{synthetic} synthetic against {real} real images of {size} x {size}: {seconds:.1f} s on one core")
        return
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {(tuple(one["size"]), one["draw"], one["attack"], one["is_few"]) for one in kept}
    audit = MemorizationAudit(num_permutations=1)
    sizes = [size for size in SIZES if options.size is None or list(size) in options.size]
    num_draws = {name: options.honest_draws if name == HONEST else options.draws for name in options.attacks}
    for number, size in ((n, s) for n in range(max(num_draws.values())) for s in sizes):
        rows = [row for row in rows_of(options.attacks, options.images) if number < num_draws[row.attack]]
        left = [row for row in rows if (size, number, *row) not in done]
        if not left or time.monotonic() - begin > options.seconds:
            continue
        seed, before = 1000 * number + size[0] + 7 * size[1], time.monotonic()
        for row, verdict in attack_draw(draw_patients(pool, *size, seed), left, seed, audit):
            now = time.monotonic()
            one = {"size": list(size), "draw": number, **row._asdict(), "verdict": verdict}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**one, "seconds": round(now - before, 2)}) + "\n")
            kept.append(one)
            before = now
            if now - begin > options.seconds:
                break
        print(f"{size[0]}/{size[1]}, draw {number}: {time.monotonic() - begin:.0f} s", flush=True)
    print(table(kept))


if __name__ == "__main__":
    main()
