"""Kill a study at random moments and check that it ends as the uninterrupted one.

python -m benchmarks.kill --kills 100
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.running.configs import Invocation

logger = logging.getLogger(__name__)

# Loaded once: a child forked from a process that imported them starts in a fraction of a second.
PRELOAD = [
    "monai.bundle",
    "captum.attr",
    "monai.networks.nets",
    "skimage.segmentation",
    "sklearn.metrics",
    "torchmetrics",
    "torch._dynamo",
    "scripts.running.study",
    "scripts.report.page",
    "benchmarks.kill",
    "benchmarks.hashed_code",
]


def run_study(invocation: Invocation, kill_at_write: int | None, num_writes: Any) -> None:
    """Run a study; with `kill_at_write`, send SIGKILL to this process around that write of a file.

    Args:
        invocation: config files and overrides of the study.
        kill_at_write: number of the write; odd ones die before the finished file gets its name, even ones after.
        num_writes: shared integer, counts the writes.
    """
    from scripts.running.stages import run_invocation

    _count_writes(kill_at_write, num_writes)
    run_invocation(invocation)


def _count_writes(kill_at_write: int | None, num_writes: Any) -> None:
    rename, fatal_write = os.replace, kill_at_write or 0

    def counted(source: Any, target: Any) -> None:
        num_writes.value += 1
        if num_writes.value == fatal_write and fatal_write % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if num_writes.value == fatal_write:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted  # type: ignore[assignment]


def kill_and_resume(
    config_files: Sequence[str],
    overrides: Mapping[str, Any],
    folder: Path,
    num_kills: int,
    seed: int = 0,
    tell: Callable[[str], None] = logger.info,
) -> dict[str, Any]:
    """Run a study whole, and again with `num_kills` kills, each followed by the same command.

    The kills are spread over the study: each run is killed after a drawn share of the writes that are left, so that
    kills fall on the data, the trainings, the checkpoints and the report alike. One in four is killed by the clock.

    Args:
        config_files: files of the study.
        overrides: overrides, without `study_dir`.
        folder: gets `whole` and `killed`, the two studies.
        num_kills: number of SIGKILLs.
        seed: of the moments.
        tell: gets a line per run as it ends.

    Returns:
        `{"equal": whether predictions.csv agree byte for byte, "kills": [what was killed, one line each]}`.

    Raises:
        RuntimeError: if a run ends by itself with an error.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    num_writes = context.Value("i", 0, lock=False)

    def run(name: str, kill_at_write: int | None = None, timeout: float | None = None) -> int:
        invocation = Invocation(tuple(config_files), {**overrides, "study_dir": str(folder / name)})
        num_writes.value = 0
        process = context.Process(target=run_study, args=(invocation, kill_at_write, num_writes))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(
                f"the study must end or be killed, got exit code {process.exitcode}; see {folder / name}"
            )
        return int(process.exitcode or 0)

    started = time.monotonic()
    run("whole")
    writes = left = num_writes.value
    seconds = time.monotonic() - started
    tell(f"whole: {writes} writes in {seconds:.0f} s")
    draw = random.Random(seed)
    kills = []
    for number in range(num_kills):
        share = 2 * left / (num_kills - number + 1)  # the mean of the draws leaves as many for each later run
        if number % 4 == 3:
            after = draw.uniform(0.2, max(0.4, seconds * share / writes))
            killed = run("killed", timeout=after) != 0
            moment = f"after {after:.2f} s"
        else:
            write = draw.randint(1, max(2, round(share)))
            write += (write + number) % 2  # before and after the name in turns
            killed = run("killed", kill_at_write=write) != 0
            moment = f"{'before' if write % 2 else 'after'} the name of write {write}"
        kills.append(f"{moment}{'' if killed else ' (had ended)'}")
        tell(f"kill {number + 1}: {kills[-1]}, {num_writes.value} writes in {time.monotonic() - started:.0f} s so far")
        left -= num_writes.value
        if not killed:
            break
    run("killed")
    predictions = [(folder / name / "report" / "predictions.csv").read_bytes() for name in ("whole", "killed")]
    return {"equal": predictions[0] == predictions[1], "kills": kills}


def main() -> None:
    """Print one line per kill and whether the predictions are equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    files = [
        *(str(root / "configs" / f"{name}.yaml") for name in ("common", "study")),
        str(root / "tests" / "tiny.yaml"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        result = kill_and_resume(files, {}, Path(folder), arguments.kills, arguments.seed, print)
    print(f"{len(result['kills'])} kills, predictions.csv {'equal' if result['equal'] else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
