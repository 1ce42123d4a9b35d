"""The benchmark of classifiers leaves out on a CPU what needs a GPU, and counts the images of all folds."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from benchmarks.classifier import images_per_second, rows, write_images

SMALL = Namespace(device="cpu", backbone="resnet10", size=16, batch_size=2, images=4, epochs=1)


def test_rows_of_a_gpu_are_left_out_on_a_cpu(tmp_path: Path) -> None:
    items = write_images(tmp_path, SMALL)
    names = [name for name, *_ in rows(items, SMALL)]
    on_gpu = [name for name, *_ in rows(items, Namespace(**{**vars(SMALL), "device": "cuda"}))]
    assert not any("graph" in name or "bf16" in name for name in names)
    assert [name for name in on_gpu if "graph" in name][-1] == "ours, bf16, channels last, CUDA graph, five folds"


def test_the_rate_of_folds_together_is_that_of_all_of_them(tmp_path: Path, monkeypatch) -> None:
    items = write_images(tmp_path, SMALL)
    _, loader, how = rows(items, SMALL)[-1]
    ticks = iter(range(100))
    monkeypatch.setattr("benchmarks.classifier.time.perf_counter", lambda: next(ticks))
    # A second an epoch: four images of one network, eight of two.
    assert [images_per_second(loader, SMALL, folds, **how) for folds in (1, 2)] == [4.0, 8.0]
