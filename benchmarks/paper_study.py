"""How long the paper's study takes, stage by stage, from measured rates.

python -m benchmarks.paper_study --rates benchmarks/rates_h200.json
python -m benchmarks.paper_study --measure rates.json

559 subjects, two directions, five folds, four setups, a generator for each class and method, 100 and 200 epochs, 1000
steps. Stock runs every stage as a process of its own; ours runs them in one. What is counted: cutting patches, training
steps, sampling, and start-up; validation, checkpoints, measures and report are not, so a sum is a floor.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks.schedulers import DDPMScheduler

from benchmarks import classifier, generator, patches
from scripts.patches.class_balance import synthetic_limits
from scripts.patches.stage import locate_subjects
from scripts.phantom.patients import make_cohort
from scripts.running.files import read_json, write_json
from scripts.splits.draw import make_splits

COHORTS = {"BraTS 2019": {"LGG": 76, "HGG": 259}, "TASMC": {"LGG": 37, "HGG": 187}}
NUM_FOLDS = 5
GENERATOR_EPOCHS = 100
CLASSIFIER_EPOCHS = 200
NUM_SETUPS = 4
METHODS = ("generator_images_per_second", "regularized_images_per_second")  # DDPM and DDPM + MI
STARTS_OF_A_FOLD = len(METHODS) * (2 + 2) + NUM_SETUPS  # generators and sets of both classes, classifiers
STARTS_OF_A_COHORT = 3 + NUM_SETUPS  # cohort, patches, splits, evaluations


@dataclass(frozen=True)
class Work:
    """What the study has to do.

    Args:
        subjects: whose patches are cut.
        generator_images: trained images of the generators of one method, over classes, folds, cohorts and epochs.
        sampled_images: over methods, classes, folds and cohorts.
        classifier_images: trained images over setups, folds, cohorts and epochs.
        starts: processes of stock, one per stage.
    """

    subjects: int
    generator_images: int
    sampled_images: int
    classifier_images: int
    starts: int

    def hours(self, rates: Mapping[str, float], starts: int) -> dict[str, float]:
        """Hours of each kind of work at some rates."""
        seconds = {
            "patches": self.subjects * rates["patch_seconds"],
            "generators": sum(self.generator_images / rates[method] for method in METHODS),
            "synthetic images": self.sampled_images / rates["sampled_images_per_second"],
            "classifiers": self.classifier_images / rates["classifier_images_per_second"],
            "start-up": starts * rates["start_seconds"],
        }
        return {name: value / 3600 for name, value in seconds.items()}


def paper_work(synthetic_ratio: float, synthetic_balance: bool) -> Work:
    """Count the work of the paper's protocol: 80 % train and validate in five folds, the validation fold selects.

    Args:
        synthetic_ratio: synthetic images a class, relative to its real training images.
        synthetic_balance: more for the smaller class, up to class balance.
    """
    trained = sampled = 0
    for name, sizes in COHORTS.items():
        for counts in _training_counts(name, sizes):
            trained += sum(counts.values())
            sampled += sum(most for _, most in synthetic_limits(counts, synthetic_ratio, synthetic_balance).values())
    return Work(
        subjects=sum(sum(sizes.values()) for sizes in COHORTS.values()),
        generator_images=trained * GENERATOR_EPOCHS,
        sampled_images=sampled * len(METHODS),
        classifier_images=trained * CLASSIFIER_EPOCHS * NUM_SETUPS,
        starts=len(COHORTS) * (NUM_FOLDS * STARTS_OF_A_FOLD + STARTS_OF_A_COHORT),
    )


def _training_counts(name: str, sizes: Mapping[str, int]) -> list[dict[str, int]]:
    """Training subjects of each class in each fold, as the bundle splits such a cohort."""
    grades = {f"{grade}{index}": grade for grade, size in sizes.items() for index in range(size)}
    subjects = [{"subject_id": subject, "grade": grade, "site": None} for subject, grade in grades.items()]
    splits = make_splits({"name": name, "subjects": subjects}, NUM_FOLDS, selection="validation")
    return [
        {grade: sum(grades[subject] == grade for subject in fold["train"]) for grade in sizes}
        for fold in splits["folds"]
    ]


def derivation(work: Work, rates: Mapping[str, Any]) -> str:
    """Write the amounts, the rates and the hours, stock's beside ours where both are known."""
    stock, ours = rates["stock"], rates.get("ours")
    amounts = {
        "patches": (f"{work.subjects} subjects", "patch_seconds", "s each"),
        "generators": (f"2 x {work.generator_images:,} images", "generator_images_per_second", "images/s"),
        "synthetic images": (f"{work.sampled_images:,} images", "sampled_images_per_second", "images/s, 1000 steps"),
        "classifiers": (f"{work.classifier_images:,} images", "classifier_images_per_second", "images/s"),
        "start-up": (f"{work.starts} processes, ours 1", "start_seconds", "s each"),
    }
    spent = work.hours(stock, work.starts)
    own = work.hours(ours, 1) if ours else {}
    rows = [["work", "amount", "stock's rate", "hours", "our rate", "hours"], ["---"] * 6]
    for name, (amount, rate, unit) in amounts.items():
        mine = [f"{ours[rate]:.3g}", f"{own[name]:.3g}"] if ours else ["", ""]
        rows.append([name, amount, f"{stock[rate]:.3g} {unit}", f"{spent[name]:.3g}", *mine])
    rows.append(["sum", "", "", f"{sum(spent.values()):.3g}", "", f"{sum(own.values()):.3g}" if own else ""])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def measure(
    device: torch.device, batch_size: int, threads: int, size: str = "full", backbone: str = "resnet152"
) -> dict[str, Any]:
    """Measure every rate here: 4 x 96 x 96, the bundle's own U-Net and ResNet-152.

    Args:
        device: of the networks.
        batch_size: images per step; the paper's is 32, which on a CPU takes minutes per step.
        threads: of torch.
        size: key of `benchmarks.generator.SIZES`; only "full" is the study's.
        backbone: of the classifier; only "resnet152" is the study's.
    """
    torch.set_num_threads(threads)
    sizes = {**generator.SIZES[size], "generator_batch_size": batch_size}
    config = generator.configured((), 1, device=str(device), generator_flash_attention=False, **sizes)
    shape = (len(config.get_parsed_content("modalities")), *config.get_parsed_content("patch_size"))
    last = DDPMScheduler(num_train_timesteps=generator.ALL_STEPS)
    last.timesteps = last.timesteps[-1:]

    def sampling(stock: bool) -> float:
        network, share = generator.new_network(config).to(device), 1 / generator.ALL_STEPS
        return generator.time_sampling(last, network, shape, batch_size, stock=stock, share=share)

    def training(*overlays: str) -> float:
        return generator.time_our_training(1, overlays, device, [], **sizes)

    loop = generator.time_loop(1, generator.new_network(config).to(device), shape, batch_size, device)
    cut, start = _patch_seconds(), _start_seconds()
    classified = _classifier_rates(device, batch_size, shape[1], backbone)
    fastest = max((name for name in classified if name.startswith("ours")), key=classified.__getitem__)
    stock = {
        "patch_seconds": cut["stock MONAI chain"],
        "generator_images_per_second": loop,
        "regularized_images_per_second": loop,  # MONAI has no trainer with the term: a floor
        "sampled_images_per_second": sampling(stock=True),
        "classifier_images_per_second": classified["stock MONAI, fp32"],
        "start_seconds": start,
    }
    ours = {
        "patch_seconds": cut["configs/patches.yaml"],
        "generator_images_per_second": training(),
        "regularized_images_per_second": training("options/mutual_information"),
        "sampled_images_per_second": sampling(stock=False),
        "classifier_images_per_second": classified[fastest],
        "start_seconds": start,
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {threads} threads"
    source = (
        f"python -m benchmarks.paper_study --measure, torch {torch.__version__}, batches of {batch_size}; our"
        f" generators as configured, our classifiers: {fastest.removeprefix('ours, ')}"
    )
    return {"device": name, "source": source, "stock": stock, "ours": ours}


def _patch_seconds() -> dict[str, float]:
    """Seconds to cut the patch of a simulated subject of 240 x 240 x 155 voxels."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_cohort(folder, "A", 1, (240, 240, 155), seed=0)
        cohort = read_json(path)
        subject = locate_subjects(cohort, path.parent)[0]
        return patches.compare(subject, patches.preprocessing(), cohort["modalities"], repeats=3)


def _classifier_rates(device: torch.device, batch_size: int, size: int, backbone: str) -> dict[str, float]:
    images = (10 if device.type == "cuda" else 2) * batch_size  # a GPU is waited for at the end of an epoch only
    arguments = argparse.Namespace(
        device=str(device), backbone=backbone, size=size, batch_size=batch_size, images=images, epochs=2
    )
    with tempfile.TemporaryDirectory() as folder:
        items = classifier.write_images(Path(folder), arguments)
        return {
            name: classifier.images_per_second(loader, arguments, **how)
            for name, loader, how in classifier.rows(items, arguments)
        }


def _start_seconds() -> float:
    """Seconds of a fresh process that imports what a stock stage needs."""
    begin = time.perf_counter()
    generator.startup_seconds(generator.STARTS["stock MONAI, imports"])
    return time.perf_counter() - begin


def main(arguments: Sequence[str] | None = None) -> None:
    """Read or measure the rates, and print what follows from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--rates", help="JSON with `stock` and perhaps `ours`, as --measure writes it")
    source.add_argument("--measure", metavar="JSON", help="measure the rates here, and write them to this file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=32, help="images; 4 on a CPU")
    parser.add_argument("--size", choices=sorted(generator.SIZES), default="full", help="smaller: to try the command")
    parser.add_argument("--backbone", default="resnet152", help="smaller: likewise")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--ratio", type=float, default=1.0, help="synthetic images a class, relative to its real ones")
    parser.add_argument("--no-balance", action="store_true", help="no more images for the smaller class")
    options = parser.parse_args(arguments)
    if options.measure:
        sizes = options.batch_size, options.threads, options.size, options.backbone
        write_json(Path(options.measure), measure(torch.device(options.device), *sizes))
    rates = read_json(Path(options.measure or options.rates))
    print(f"{rates['device']}: {rates['source']}")
    print(derivation(paper_work(options.ratio, not options.no_balance), rates))


if __name__ == "__main__":
    main()
