"""The check for a GPU, at the smallest sizes on a CPU: to its end, continued, killed and refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.generator import Measurement
from benchmarks.gpu_check import PARTS, Part, Sizes, check, markdown, run_part
from scripts.running.files import read_json

ROOT = Path(__file__).parents[2]
TINY = Sizes(
    device="cpu",
    size=16,
    network="tiny",
    backbone="resnet10",
    batch=2,
    steps=2,
    subjects=14,
    matrix=40,
    threads=1,
)
MARKED = """
import pytest

@pytest.mark.gpu
def test_that_passes():
    pass

@pytest.mark.gpu
@pytest.mark.skipif(True, reason="as without a GPU")
def test_that_is_skipped():
    assert False

def test_that_is_for_any_machine():
    assert False
"""
STAGES = ["phantom", "patches", "splits", "train_generator", "generate", "audit", "measure_images", "train_classifier"]


def values(*steps: float | BaseException) -> Part:
    """Return a part whose rows are these values, or fail with these errors."""

    def work(step: float | BaseException) -> float:
        if isinstance(step, BaseException):
            raise step
        return step

    def measurements(sizes: Sizes, folder: Path) -> Iterator[Measurement]:
        for number, step in enumerate(steps):
            yield Measurement("made up, images/s", f"row {number}", lambda step=step: work(step))  # type: ignore[misc]

    return Part(measurements, 60)


def here(folder: Path, sizes: Sizes = TINY):
    return lambda name, seconds: run_part(name, sizes, folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_part_runs_to_its_end_at_tiny_sizes(tmp_path):
    # The project's own tests run beside this one.
    (tmp_path / "test_marked.py").write_text(MARKED)
    sizes = replace(TINY, tests=str(tmp_path / "test_marked.py"))
    assert check(sizes, tmp_path, list(PARTS), 600, here(tmp_path, sizes))
    content = read_json(tmp_path / "gpu_check.json")
    assert {name: part["failures"] for name, part in content["parts"].items()} == {name: {} for name in PARTS}
    assert {part["status"] for part in content["parts"].values()} == {"finished"}
    rows = {name: [row["name"] for row in part["rows"]] for name, part in content["parts"].items()}
    for part in ("generator", "sampler"):
        assert {name.split()[0].strip(",") for name in rows[part]} == {"stock", "ours", "diffusers"}
    assert any("guidance 3" in name for name in rows["sampler"])
    assert rows["classifier"][0].startswith("stock MONAI")
    assert [name.split(",")[0] for name in rows["folds"]] == ["one fold", "5 folds together"]
    assert [name.split(",")[0].split(" with")[0] for name in rows["stages"]] == [
        *STAGES[:4],
        *STAGES[3:],
        "evaluate",
        "explain",
    ]
    outcomes = {row["name"]: row["value"] for row in content["parts"]["tests"]["rows"]}
    assert outcomes == {"failed": 0, "passed": 1, "skipped": 1}
    assert (tmp_path / "gpu_check.md").read_text().count("| stock MONAI | ") == 2


def test_a_stopped_check_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "folds", values(1.0, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        check(TINY, tmp_path, ["folds"], 60, here(tmp_path))
    kept = read_json(tmp_path / "gpu_check.json")["parts"]["folds"]
    assert (kept["status"], [row["value"] for row in kept["rows"]]) == ("stopped", [1.0])
    monkeypatch.setitem(PARTS, "folds", values(ValueError("measured twice"), 2.0))
    assert check(TINY, tmp_path, ["folds"], 60, here(tmp_path))
    now = read_json(tmp_path / "gpu_check.json")["parts"]["folds"]
    assert (now["status"], [row["value"] for row in now["rows"]]) == ("finished", [1.0, 2.0])
    monkeypatch.setitem(PARTS, "folds", values(ValueError("a finished part")))
    assert check(TINY, tmp_path, ["folds"], 60, here(tmp_path))


def test_a_row_that_fails_is_named_and_the_next_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PARTS, "folds", values(RuntimeError("no memory\nleft"), 2.0))
    assert not check(TINY, tmp_path, ["folds"], 60, here(tmp_path))
    part = read_json(tmp_path / "gpu_check.json")["parts"]["folds"]
    assert part["status"] == "failed"
    assert part["failures"] == {"row 0": "RuntimeError: no memory left"}
    assert [row["value"] for row in part["rows"]] == [2.0]
    assert "row 0: RuntimeError: no memory left" in capsys.readouterr().out
    assert "| folds | failed |" in (tmp_path / "gpu_check.md").read_text()


def test_nothing_is_begun_when_the_time_is_over(tmp_path):
    begun = []
    assert not check(TINY, tmp_path, ["generator", "sampler"], 0, lambda name, seconds: begun.append(name))
    assert begun == []


def test_a_part_never_gets_more_than_what_is_left(tmp_path):
    limits = []
    check(TINY, tmp_path, ["generator"], 40, lambda name, seconds: limits.append(seconds))
    assert 30 < limits[0] <= 40 < PARTS["generator"].seconds


def test_the_limits_together_are_those_of_twelve_minutes():
    assert sum(part.seconds for part in PARTS.values()) <= 12 * 60


def test_a_folder_of_other_sizes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "folds", values(1.0))
    check(TINY, tmp_path, ["folds"], 60, here(tmp_path))
    with pytest.raises(ValueError, match=r"output_dir must be empty or hold .* \{'size': 16\}; choose another folder"):
        check(Sizes(**{**vars(TINY), "size": 32}), tmp_path, ["folds"], 60, here(tmp_path))


def test_ratios_are_to_the_row_of_stock_and_missing_without_it():
    rows = [
        {"group": "a, images/s", "name": "ours", "value": 3.0, "memory": None},
        {"group": "a, images/s", "name": "stock MONAI", "value": 2.0, "memory": 7.6},
        {"group": "b, images/s", "name": "ours", "value": 3.0, "memory": None},
    ]
    part = {"status": "stopped", "seconds": 1, "rows": rows, "failures": {}}
    sizes = vars(TINY)
    page = markdown({"device": "x", "versions": {"torch": "2", "monai": "1"}, "sizes": sizes, "parts": {"p": part}})
    assert "| ours | 3 | 1.50 |  |\n| stock MONAI | 2 | 1.00 | 8 |" in page
    assert page.endswith("| ours | 3 |  |  |\n")


def wait_until(is_so, seconds):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children_of(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc, which Linux has")
def test_the_script_is_killed_with_all_that_it_started_and_keeps_its_rows(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "DEVICE": "cpu", "SIZE": "16", "NETWORK": "tiny"}
    environment |= {"BATCH": "2", "STEPS": "2", "THREADS": "1"}
    command = ["bash", "benchmarks/gpu_check.sh", str(tmp_path), "--parts", "generator"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    path = tmp_path / "parts" / "generator.json"
    try:
        wait_until(lambda: path.is_file() and read_json(path)["rows"], seconds=100)
        (part,) = (int(number) for number in children_of(process.pid))
        assert is_alive(part)
    finally:
        process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not is_alive(part), seconds=10)  # the part ends with the script
    assert read_json(path)["rows"][0]["name"] == "stock MONAI"
    assert "| stock MONAI |" in (tmp_path / "gpu_check.md").read_text()
