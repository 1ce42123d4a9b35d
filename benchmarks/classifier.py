"""Images a second of classifier training: stock MONAI beside ours, in one run.

    python -m benchmarks.classifier                                      # small, on the CPU
    python -m benchmarks.classifier --device cuda --backbone resnet152 --size 96 --batch-size 32 --images 320

Stock is MONAI as its tutorials configure it: `LoadImaged` for each image of each epoch, `DataLoader`, fp32, eager.
All rows train the same network (torchvision stem, stride 2) with `SupervisedTrainer` on the same files; the first two
epochs warm up. Five folds together take turns as in `folds_together: 5` of a study; their rate is the sum.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader, Dataset, NibabelReader
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.transforms import Compose, EnsureTyped, LoadImaged, SqueezeDimd

from scripts.classifier.datasets import training_batches
from scripts.classifier.losses import ClassFocalLoss
from scripts.classifier.networks import FoldEnsemble
from scripts.patches.tensors import LabeledImages
from scripts.provenance.image_form import ImageForm
from scripts.running.turns import Turn, paused, take_turns
from scripts.training.cuda_graphs import GraphInferer
from scripts.training.placing import place_network

Loader = Callable[[], Iterable[Any]]
FORM = ImageForm(("t1n", "t1c", "t2w", "t2f"), {"LGG": 0, "HGG": 1}, (96, 96))


def main() -> None:
    """Write random patches, train on them in each way and print the rates."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        items = write_images(Path(folder), arguments)
        rates = {name: images_per_second(loader, arguments, **how) for name, loader, how in rows(items, arguments)}
    stock = next(iter(rates.values()))
    print(
        f"{arguments.backbone}, {arguments.size} x {arguments.size}, batch {arguments.batch_size}, {arguments.device}"
    )
    for name, rate in rates.items():
        print(f"{name:<52}{rate:>9.1f} images/s {rate / stock:>7.2f} x stock")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--size", type=int, default=32, help="pixels of each side")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=64, help="images per epoch")
    parser.add_argument("--epochs", type=int, default=4, help="timed epochs")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    return parser.parse_args()


def write_images(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Write random 2D patches of four modalities as the patches stage does."""
    random = np.random.RandomState(0)
    items = []
    for index in range(arguments.images):
        image = random.uniform(-1, 1, (arguments.size, arguments.size, 1, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{index}.nii.gz")
        items.append({"image": str(folder / f"{index}.nii.gz"), "label": index % 2})
    return items


def rows(items: list[dict[str, Any]], arguments: argparse.Namespace) -> list[tuple[str, Loader, dict[str, Any]]]:
    """Name, loader and settings of each way to train; the first is the yardstick."""
    load = Compose(
        [
            LoadImaged("image", reader=NibabelReader, ensure_channel_first=True),
            SqueezeDimd("image", dim=-1),
            EnsureTyped("image"),
        ]
    )

    def stock() -> Iterable[Any]:
        return DataLoader(Dataset(items, load), batch_size=arguments.batch_size, shuffle=True)

    def cached() -> Iterable[Any]:
        return DataLoader(CacheDataset(items, load, progress=False), batch_size=arguments.batch_size, shuffle=True)

    ours = our_loader(items, arguments)
    table: list[tuple[str, Loader, dict[str, Any]]] = [
        ("stock MONAI, fp32", stock, {}),
        ("stock MONAI with CacheDataset, fp32", cached, {}),
        ("ours, fp32 (default)", ours, {"decollate": False}),
    ]
    if arguments.device.startswith("cuda"):
        fast = {"decollate": False, "amp": True, "channels_last": True}
        table += [
            ("ours, bf16, channels last", ours, fast),
            ("ours, fp32, compiled", ours, {"decollate": False, "compile": True}),
            ("ours, bf16, channels last, compiled", ours, {**fast, "compile": True}),
            ("ours, fp32, CUDA graph", ours, {"decollate": False, "graph": True}),
            ("ours, bf16, channels last, CUDA graph", ours, {**fast, "graph": True}),
            ("ours, bf16, channels last, CUDA graph, five folds", ours, {**fast, "graph": True, "folds": 5}),
        ]
    return table


def our_loader(items: list[dict[str, Any]], arguments: argparse.Namespace) -> Loader:
    """Return what makes our batches, in memory on the device."""

    def ours() -> Iterable[Any]:
        return training_batches(LabeledImages(items, FORM, arguments.device), arguments.batch_size, len(items))

    return ours


def fold_rows(
    items: list[dict[str, Any]], arguments: argparse.Namespace, folds: int = 5
) -> list[tuple[str, Loader, dict[str, Any]]]:
    """Rows, as of `rows`, of one fold alone and of several together, with the options for them that the device has."""
    on_gpu = arguments.device.startswith("cuda")
    fast = {"amp": True, "channels_last": True, "graph": True} if on_gpu else {}
    name, how = "bf16, channels last, CUDA graph" if on_gpu else "fp32", {"decollate": False, **fast}
    ours = our_loader(items, arguments)
    return [(f"one fold, {name}", ours, how), (f"{folds} folds together, {name}", ours, {**how, "folds": folds})]


def images_per_second(loader: Loader, arguments: argparse.Namespace, folds: int = 1, **how: bool) -> float:
    """Train a network, or several in turns, and return the median rate of all over the epochs after the warm-up.

    Args:
        loader: makes the batches of one network.
        arguments: command line.
        folds: networks that train together.
        how: of `create_trainer`.
    """
    times: list[float] = []

    def clock(engine: Engine) -> None:
        synchronize(arguments.device)
        times.append(time.perf_counter())

    trainers = [create_trainer(loader(), arguments, **how) for _ in range(folds)]
    # The others do as many steps between two ends of its epochs.
    trainers[0].add_event_handler(Events.EPOCH_COMPLETED, clock)
    synchronize(arguments.device)
    if folds == 1:
        trainers[0].run()
    else:
        device = torch.device(arguments.device)
        take_turns([Turn(f"fold {fold}", paused(trainer), device) for fold, trainer in enumerate(trainers)])
    return float(folds * arguments.images / np.median(np.diff(times)[1:]))


def synchronize(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def create_trainer(
    loader: Iterable[Any],
    arguments: argparse.Namespace,
    decollate: bool = True,
    amp: bool = False,
    channels_last: bool = False,
    compile: bool = False,
    graph: bool = False,
) -> SupervisedTrainer:
    """Build a trainer as configs/train_classifier.yaml does, without validation and checkpoints."""
    torch.manual_seed(0)
    network = place_network(FoldEnsemble(arguments.backbone), arguments.device, channels_last)
    return SupervisedTrainer(
        device=arguments.device,
        max_epochs=arguments.epochs + 2,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-4),
        loss_function=ClassFocalLoss(),
        inferer=GraphInferer(amp) if graph else SimpleInferer(),
        optim_set_to_none=graph,
        decollate=decollate,
        amp=amp and not graph,
        amp_kwargs={"dtype": torch.bfloat16},
        compile=compile,
        compile_kwargs={"mode": "reduce-overhead"},
    )


if __name__ == "__main__":
    main()
