"""What this repository does on a GPU, within 12 minutes: its tests, rates beside stock MONAI and diffusers, one fold.

    python -m benchmarks.gpu_check runs/gpu_check

Every part runs in a process of its own and has a limit of seconds. A row is written as soon as it is measured, so a
check that is killed keeps what it has, and the same command measures what is missing. The folder gets
`gpu_check.json` and `gpu_check.md`. Sizes are options, so that the same code can be tried on a CPU.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from monai.bundle import ConfigParser

from benchmarks import classifier, generator
from benchmarks.bundle_stages import run_once
from benchmarks.generator import Measurement, Row
from scripts.running.files import RECORD, read_json, write_json, write_text
from scripts.running.process import versions

ROOT = Path(__file__).parents[1]
SAMPLER = ("dpm_solver", 20)
NUM_FOLDS = 2  # of the cohort of stages, of which one is trained
BASES = ("stock", "one fold")  # beginnings of the rows that others are compared with
LEAST_SECONDS = 5.0  # a part is not begun with less


@dataclass(frozen=True)
class Sizes:
    """What is measured where; as they come, the sizes of the paper.

    Args:
        device: of torch.
        size: pixels a side.
        network: of `benchmarks.generator.SIZES`.
        backbone: of the classifier.
        batch: images of a training step; twice as many are drawn at once.
        steps: training steps that are timed, and steps of the sampler with all.
        subjects: simulated patients of the cohort of stages.
        matrix: voxels of their volumes along the first two axes.
        threads: of torch.
        tests: folder or file whose tests for a GPU are run.
    """

    device: str = "cuda"
    size: int = 96
    network: str = "full"
    backbone: str = "resnet152"
    batch: int = 32
    steps: int = 20
    subjects: int = 20
    matrix: int = 240
    threads: int = 2
    tests: str = "tests"

    def of_generator(self) -> dict[str, Any]:
        """Keys of configs/common.yaml that give images and generator these sizes."""
        return {**generator.SIZES[self.network], "patch_size": [self.size] * 2}

    def of_classifier(self, epochs: int) -> argparse.Namespace:
        """Return what `benchmarks.classifier` reads from its command line."""
        sizes = {"device": self.device, "backbone": self.backbone, "size": self.size, "batch_size": self.batch}
        return argparse.Namespace(**sizes, images=self.batch * max(2, self.steps // 2), epochs=epochs)


# -- the parts --------------------------------------------------------------------------------------------------------


def tests(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
    """Count the outcomes of the tests that are marked `gpu`."""

    @functools.cache
    def outcomes() -> dict[str, float]:
        report = folder / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        subprocess.run([*command, f"--junitxml={report}", sizes.tests], cwd=ROOT, check=False)
        suite = next(ElementTree.parse(report).iter("testsuite"))
        total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        return {"failed": failed, "passed": total - failed - skipped, "skipped": skipped}

    for outcome in ("failed", "passed", "skipped"):
        yield Measurement("tests for a GPU", outcome, lambda outcome=outcome: outcomes()[outcome])  # type: ignore[misc]


def generator_training(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
    """Rates of training the generator."""
    config, keys, shape = _generator(sizes)
    return generator.training_measurements(config, keys, shape, sizes.steps, torch.device(sizes.device))


def generator_sampling(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
    """Rates of drawing images."""
    (config, keys, shape), device = _generator(sizes), torch.device(sizes.device)
    networks = generator.sampling_networks(config, keys, device)
    return generator.sampling_measurements(config, networks, shape, sizes.steps, SAMPLER, 2 * sizes.batch, device)


def classifier_alone(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
    """Rates of training one classifier; what compiles comes last, since it takes a minute each."""
    arguments = sizes.of_classifier(epochs=2)
    rows = classifier.rows(_images(folder, arguments), arguments)
    for name, loader, how in sorted(rows, key=lambda row: "compile" in row[2]):
        if "folds" not in how:
            yield _classifier_rate("train a classifier, images/s", name, loader, arguments, how)


def five_folds(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
    """Rates of training one classifier, and five together in one process."""
    arguments = sizes.of_classifier(epochs=2)
    for name, loader, how in classifier.fold_rows(_images(folder, arguments), arguments):
        yield _classifier_rate("train classifiers, images/s of all", name, loader, arguments, how)


def one_fold(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
    """Seconds of each stage for one fold of simulated patients, with trainings cut short."""
    stages = _Stages(sizes, folder / "stages")
    for name, title, settings in stages.plan():
        yield Measurement("stages of one fold, s", title, functools.partial(stages.seconds, name, settings))


class _Stages:
    """One fold, stage by stage, as `configs/study.yaml` would make it.

    Args:
        sizes: of the check.
        folder: of the outputs.
    """

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self.sizes, self.folder = sizes, folder
        # As many steps as the rates are measured with, five times.
        self.epoch_images = sizes.batch * sizes.steps
        self.common = {
            **sizes.of_generator(),
            "device": sizes.device,
            "num_threads": sizes.threads,
            "num_folds": NUM_FOLDS,
            "patch_spacing_mm": 96 / sizes.size,
            "classifier_backbone": sizes.backbone,
        }

    def plan(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Folder, title and settings of each stage."""
        matrix = [self.sizes.matrix] * 2 + [self.sizes.matrix * 155 // 240]
        cohort = {"phantom_num_subjects": self.sizes.subjects, "phantom_matrix_size": matrix}
        yield "phantom", f"phantom, {self.sizes.subjects} subjects", {**cohort, "phantom_lgg_fraction": 0.5}
        yield "patches", f"patches, {self.sizes.subjects} subjects", {"cohort_path": self.file("phantom", "cohort")}
        yield "splits", "splits", {"cohort_path": self.file("phantom", "cohort")}
        data = {"patches_path": self.file("patches"), "splits_path": self.file("splits")}
        images = 5 * self.epoch_images
        training = {"generator_max_epochs": 5, "generator_epoch_images": self.epoch_images, **data}
        training["generator_batch_size"] = self.sizes.batch
        yield "train_generator", f"train_generator, {images} images", training
        yield "mutual_information", f"train_generator with MI, {images} images", {**training, "method": "ddpm_mi"}
        drawn: dict[str, Any] = {
            "generator_path": str(self.folder / "train_generator" / "model.pt"),
            "generator_class": "HGG",
        }
        drawn |= {"num_images": 2 * self.sizes.batch, "generate_batch_size": 2 * self.sizes.batch}
        yield "generate", f"generate, {2 * self.sizes.batch} images", {**drawn, **data, "fold": 0}
        synthetic = {"synthetic_path": self.file("generate", "synthetic"), "splits_path": data["splits_path"]}
        yield "audit", "audit", {**synthetic, "patches_path": data["patches_path"]}
        yield "measure_images", "measure_images", {**synthetic, "real_path": data["patches_path"]}
        classified = {"classifier_max_epochs": 5, "classifier_epoch_images": self.epoch_images, **data}
        classified["classifier_batch_size"] = self.sizes.batch
        yield "train_classifier", f"train_classifier, {images} images", classified
        if self.sizes.device.startswith("cuda"):
            yield "cuda_graph", f"train_classifier as a CUDA graph, {images} images", classified
        members = {"member_paths": [str(self.folder / "train_classifier" / "model.pt")]}
        yield "evaluate", "evaluate", {**data, **members}
        explained: dict[str, Any] = {"lime_num_samples": 30 * self.sizes.batch, "explain_num_randomized": 1}
        explained |= {"weights_path": str(self.folder / "evaluate" / "model.pt"), "num_members": 1}
        explained |= {"predictions_path": str(self.folder / "evaluate" / "predictions.csv")}
        yield "explain", "explain", {**explained, "explain_patches_paths": [data["patches_path"]]}

    def file(self, stage: str, name: str | None = None) -> str:
        """Path of what a stage writes."""
        return str(self.folder / stage / f"{name or stage}.json")

    def seconds(self, name: str, settings: dict[str, Any]) -> float:
        """Run a stage from its start, unless it is finished, and return the seconds of its record."""
        folder = self.folder / name
        if not (folder / RECORD).is_file() or not read_json(folder / RECORD)["finished"]:
            shutil.rmtree(folder, ignore_errors=True)  # a part of a stage would give a part of its seconds
        overlays = {"mutual_information": "train_generator", "cuda_graph": "train_classifier"}
        files = ["common", overlays.get(name, name), *([f"options/{name}"] if name in overlays else [])]
        settings = {**self.common, **settings, "output_dir": folder}
        run_once([str(ROOT / "configs" / f"{file}.yaml") for file in files], settings)
        return float(read_json(folder / RECORD)["seconds"])


def _generator(sizes: Sizes) -> tuple[ConfigParser, dict[str, Any], tuple[int, ...]]:
    """Config of the plain network, its overrides, and the shape of an image."""
    keys = {**sizes.of_generator(), "generator_batch_size": sizes.batch}
    config = generator.configured((), 1, device=sizes.device, generator_flash_attention=False, **keys)
    return config, keys, (len(config.get_parsed_content("modalities")), sizes.size, sizes.size)


def _images(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    return classifier.write_images(folder / "images", arguments)


def _classifier_rate(
    group: str, name: str, loader: classifier.Loader, arguments: argparse.Namespace, how: dict[str, Any]
) -> Measurement:
    return Measurement(group, name, functools.partial(classifier.images_per_second, loader, arguments, **how))


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Args:
        measurements: what it measures.
        seconds: its limit.
    """

    measurements: Callable[[Sizes, Path], Iterator[Measurement]]
    seconds: float


# In the order of the check; together within 12 minutes, start-up and compilation included.
PARTS = {
    "tests": Part(tests, 70),
    "generator": Part(generator_training, 180),
    "sampler": Part(generator_sampling, 110),
    "classifier": Part(classifier_alone, 100),
    "folds": Part(five_folds, 60),
    "stages": Part(one_fold, 190),
}


# -- doing them -------------------------------------------------------------------------------------------------------


def run_part(name: str, sizes: Sizes, folder: Path) -> None:
    """Measure in this process what is missing of a part, a row after the other.

    A row that fails is named, and the next one is tried.
    """
    torch.set_num_threads(sizes.threads)
    part = read_part(folder, name)
    part["failures"] = {}
    begun, before = time.monotonic(), part["seconds"]

    def keep(status: str) -> None:
        part.update(status=status, seconds=round(before + time.monotonic() - begun, 1))
        write_json(folder / "parts" / f"{name}.json", part)
        write_summary(sizes, folder)

    keep("stopped")  # what it is if nothing more is heard of it
    measured = {(row["group"], row["name"]) for row in part["rows"]}
    try:
        for measurement in PARTS[name].measurements(sizes, folder):
            if (measurement.group, measurement.name) not in measured:
                _measure(name, measurement, torch.device(sizes.device), part)
                keep("stopped")
    except Exception as error:
        part["failures"]["before its rows"] = _in_a_line(error)
    keep("failed" if part["failures"] else "finished")


def _measure(name: str, measurement: Measurement, device: torch.device, part: dict[str, Any]) -> None:
    try:
        row = generator.measured(measurement, device)
    except Exception as error:
        part["failures"][measurement.name] = _in_a_line(error)
        print(f"{name:12}{measurement.name}: {_in_a_line(error)}", flush=True)
    else:
        part["rows"].append(row._asdict())
        print(f"{name:12}{row.group:40}{row.name:50}{row.value:10.3g}", flush=True)


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def read_part(folder: Path, name: str) -> dict[str, Any]:
    """Return what is known of a part."""
    path = folder / "parts" / f"{name}.json"
    return read_json(path) if path.is_file() else {"status": "not begun", "seconds": 0, "rows": [], "failures": {}}


def run_apart(arguments: Sequence[str], name: str, seconds: float) -> None:
    """Run a part in a process of its own, and end that, with all that it started, after so many seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu_check", *arguments, "--part", name]
    # Its input ends when this process does, however that ends.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_with_parent() -> None:
    """End this process group, which holds a part alone, when its input ends."""

    def wait() -> None:
        # Unbuffered: a thread that waits inside a buffer would hold its lock when Python ends.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def check(
    sizes: Sizes, folder: Path, names: Sequence[str], seconds_in_all: float, run: Callable[[str, float], None]
) -> bool:
    """Run the parts that are not finished; return whether all are.

    Args:
        sizes: of everything.
        folder: of the results.
        names: of the parts.
        seconds_in_all: after which nothing more is begun or goes on.
        run: runs a part, given its name and its limit of seconds.

    Raises:
        ValueError: if the folder holds a check of other sizes.
    """
    _refuse_another_check(sizes, folder)
    begun = time.monotonic()
    for name in names:
        left = seconds_in_all - (time.monotonic() - begun)
        status = read_part(folder, name)["status"]
        if status == "finished" or left < LEAST_SECONDS:
            print(f"{name:12}{'finished before' if status == 'finished' else 'not begun: no time left'}", flush=True)
            continue
        seconds = min(PARTS[name].seconds, left)
        print(f"{name:12}at most {seconds:.0f} s", flush=True)
        run(name, seconds)
        part = read_part(folder, name)
        print(f"{name:12}{part['status']}, {len(part['rows'])} rows, {part['seconds']:.0f} s", flush=True)
        write_summary(sizes, folder)
    failed = any(row["value"] for row in read_part(folder, "tests")["rows"] if row["name"] == "failed")
    return not failed and all(read_part(folder, name)["status"] == "finished" for name in names)


def _refuse_another_check(sizes: Sizes, folder: Path) -> None:
    path = folder / "gpu_check.json"
    before = read_json(path)["sizes"] if path.is_file() else asdict(sizes)
    others = {name: before.get(name) for name, value in asdict(sizes).items() if before.get(name) != value}
    if others:
        raise ValueError(
            f"output_dir must be empty or hold a check of the same sizes, got {folder} with {others};"
            " choose another folder, or give those sizes"
        )


# -- what comes out ---------------------------------------------------------------------------------------------------


def write_summary(sizes: Sizes, folder: Path) -> None:
    """Write `gpu_check.json` and `gpu_check.md` from what is known of all parts."""
    content = {
        "device": device_name(sizes.device),
        "versions": versions(),
        "sizes": asdict(sizes),
        "parts": {name: read_part(folder, name) for name in PARTS},
    }
    write_json(folder / "gpu_check.json", content)
    write_text(folder / "gpu_check.md", markdown(content))


def device_name(device: str) -> str:
    """Name a device, with the release of CUDA where it is a GPU."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{device}, {platform.machine()}"


def markdown(content: dict[str, Any]) -> str:
    """Lay out the results: the parts, and a table of each group of rows with ratios to stock's."""
    sizes, packages = content["sizes"], content["versions"]
    lines = [
        f"# GPU check: {content['device']}",
        "",
        f"torch {packages['torch']}, MONAI {packages['monai']}, diffusers {packages.get('diffusers', 'missing')};"
        f" {sizes['size']} x {sizes['size']}, network {sizes['network']}, {sizes['backbone']}, batch {sizes['batch']}.",
        "",
        "| part | status | s | what failed |",
        "|---|---|---|---|",
    ]
    for name, part in content["parts"].items():
        failures = "; ".join(f"{row}: {why}" for row, why in part["failures"].items()).replace("|", "\\|")
        lines.append(f"| {name} | {part['status']} | {part['seconds']:.0f} | {failures} |")
    rows = [Row(**row) for part in content["parts"].values() for row in part["rows"]]
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        base = next((row for row in own if row.name.startswith(BASES)), None)
        lines += ["", f"| {group} | | ratio | MiB |", "|---|---|---|---|"]
        for row in own:
            ratio = f"{row.value / base.value:.2f}" if base and "images/s" in group else ""
            memory = "" if row.memory is None else f"{row.memory:.0f}"
            lines.append(f"| {row.name} | {row.value:.3g} | {ratio} | {memory} |")
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--seconds-in-all", type=float, default=700.0, help="limit of all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # as this program calls itself
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run what is missing, and return 0 if everything is there and no test failed."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(arguments)
    folder = options.output_dir.absolute()
    sizes = Sizes(**{name: getattr(options, name) for name in asdict(Sizes())})
    if options.part:
        _end_with_parent()
        run_part(options.part, sizes, folder)
        return 0
    if sizes.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device must be one that torch sees, got {sizes.device!r}; on a CPU give --device cpu")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run = functools.partial(run_apart, arguments)
    is_complete = check(sizes, folder, options.parts, options.seconds_in_all, run)
    print(f"\n{(folder / 'gpu_check.md').read_text(encoding='utf-8')}")
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
