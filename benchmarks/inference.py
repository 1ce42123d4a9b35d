"""Time one patient from four files on disk to a grade: stock transforms and eager networks, against ours.

python -m benchmarks.inference --threads 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import (
    BorderPadd,
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    SpatialCropd,
)
from scipy.ndimage import zoom
from torch import nn

from benchmarks.patches import PATCH_SIZE, ROOT, ScaleBraind
from bundle.exports import Probabilities, write_onnx
from scripts.classifier.networks import FoldEnsemble, create_backbone
from scripts.inference.onnx_model import OnnxClassifier, open_session
from scripts.provenance.record import write_provenance

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
CONFIGS = [str(ROOT / "configs" / f"{name}.yaml") for name in ("common", "patches", "inference")]


def write_patient(folder: Path, shape: Sequence[int] = (240, 240, 155)) -> dict[str, str]:
    """Write four volumes of BraTS size: smooth texture inside an ellipsoid, int16, gzipped, 1 mm.

    Returns:
        Modality -> path.
    """
    random = np.random.default_rng(0)
    grid = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    brain = sum(axis**2 for axis in grid) < 0.55
    paths = {name: str(folder / f"{name}.nii.gz") for name in MODALITIES}
    for path in paths.values():
        coarse = random.random([max(size // 8, 2) for size in shape])
        texture = zoom(coarse, [size / own for size, own in zip(shape, coarse.shape, strict=True)], order=1)
        noisy = 200 + 800 * texture + random.normal(0, 15, shape)
        nibabel.save(nibabel.Nifti1Image(np.where(brain, noisy, 0).astype(np.int16), np.eye(4)), path)
    return paths


def make_weights(folder: Path, backbone: str, num_members: int) -> tuple[Path, Path]:
    """Write random weights of an ensemble as `model.pt` with a record, and the same as `model.onnx`."""
    torch.manual_seed(0)
    network = FoldEnsemble(backbone, num_members).eval()
    torch.save(network.state_dict(), folder / "model.pt")
    images = ConfigParser(ConfigParser.load_config_files(CONFIGS)).get_parsed_content("image_facts")
    record = {"cohorts": ["none"], "subjects": [], "simulated": True, "fold": None, "images": images}
    write_provenance(folder / "model.pt", **record)
    image = torch.rand(2, len(MODALITIES), PATCH_SIZE, PATCH_SIZE)
    with torch.no_grad():
        path, _ = write_onnx(Probabilities(network).eval(), {"image": image}, folder / "model.pt")
    return folder / "model.pt", path


class Stock:
    """The patch by MONAI's transforms, the networks one by one in eager mode, as a server of bundles runs them."""

    def __init__(self, weights_path: Path, backbone: str, num_members: int) -> None:
        state = torch.load(weights_path, map_location="cpu", weights_only=True)
        self.networks = nn.ModuleList(create_backbone(backbone) for _ in range(num_members)).eval()
        self.networks.load_state_dict(
            {key.removeprefix("members."): state[key] for key in state if key.startswith("members.")}
        )
        keys = list(MODALITIES)
        steps = [LoadImaged(keys), EnsureChannelFirstd(keys), Orientationd(keys, axcodes="RAS", labels=None)]
        self.read = Compose([*steps, ScaleBraind(keys)])

    def patch(self, images: Mapping[str, str], click: Sequence[int]) -> np.ndarray:
        """Make the patch around a click (voxel indices, RAS files)."""
        keys = list(MODALITIES)
        volumes = self.read(dict(images))
        slices = {key: volumes[key][..., click[2]] for key in keys}
        center = [index + PATCH_SIZE // 2 for index in click[:2]]
        pad = BorderPadd(keys, PATCH_SIZE // 2, mode="constant", value=-1)
        crop = SpatialCropd(keys, center, [PATCH_SIZE] * 2)
        return np.asarray(Compose([pad, crop, ConcatItemsd(keys, "image", dim=0)])(slices)["image"])

    @torch.no_grad()
    def __call__(self, images: Mapping[str, str], click: Sequence[int]) -> np.ndarray:
        """Grade a patient: mean probabilities."""
        image = torch.as_tensor(self.patch(images, click))[None]
        return torch.stack([network(image).softmax(1) for network in self.networks]).mean(dim=0).numpy()


class Ours:
    """The preprocessing of configs/inference.yaml and the exported ensemble."""

    def __init__(self, onnx_path: Path) -> None:
        session = open_session(onnx_path)
        if session is None:
            raise ImportError("onnxruntime must be installed; pip install -c constraints.txt '.[export]'")
        self.network = OnnxClassifier(session)
        self.read = ConfigParser(ConfigParser.load_config_files(CONFIGS)).get_parsed_content("preprocessing")

    def patch(self, images: Mapping[str, str], click: Sequence[int]) -> np.ndarray:
        """Make the patch around a click."""
        patch: Mapping[str, MetaTensor] = self.read({"subject_id": "p", "images": dict(images), "click": list(click)})
        return np.asarray(patch["image"])

    def __call__(self, images: Mapping[str, str], click: Sequence[int]) -> np.ndarray:
        """Grade a patient: mean probabilities."""
        return self.network(torch.as_tensor(self.patch(images, click))[None]).softmax(1).numpy()


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def measure(make: Callable[[], Any], images: Mapping[str, str], click: Sequence[int], repeats: int) -> dict[str, Any]:
    """Time one way: building it, its first answer, and the median of further answers."""
    building, grade = timed(make)
    first, _ = timed(lambda: grade(images, click))
    warm = [timed(lambda: grade(images, click)) for _ in range(repeats)]
    seconds = {"building": building, "first answer": first, "cold": building + first}
    return {**seconds, "warm": statistics.median(item[0] for item in warm), "grade": warm[-1][1], "by": grade}


def shell_seconds(
    folder: Path, images: Mapping[str, str], click: Sequence[int], arguments: argparse.Namespace
) -> float:
    """Time `python -m monai.bundle run` of the same patient: start of Python, imports and the explanation included."""
    overrides = {
        "weights_path": folder / "model.pt",
        "images": dict(images),
        "click": list(click),
        "output_dir": folder / "answer",
        "classifier_backbone": arguments.backbone,
        "num_members": arguments.members,
        "num_threads": arguments.threads,
    }
    flags = [text for key, value in overrides.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    seconds, _ = timed(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True))
    return seconds


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Time both ways, and check that they give the same patch within 1e-5 and the same grade within 1e-4."""
    images = arguments.images or write_patient(folder)
    t1c: Any = nibabel.load(images["t1c"])
    click = arguments.click or [index // 2 for index in t1c.shape]
    weights, onnx = make_weights(folder, arguments.backbone, arguments.members)
    stock = measure(lambda: Stock(weights, arguments.backbone, arguments.members), images, click, arguments.repeats)
    ours = measure(lambda: Ours(onnx), images, click, arguments.repeats)
    np.testing.assert_allclose(ours["by"].patch(images, click), stock["by"].patch(images, click), atol=1e-5)
    np.testing.assert_allclose(ours["grade"], stock["grade"], atol=1e-4)
    if arguments.shell:
        ours["shell"] = shell_seconds(folder, images, click, arguments)
    return {"stock": stock, "ours": ours}


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description="Time one patient from four files to a grade.")
    parser.add_argument("--images", nargs=4, help="files of t1n, t1c, t2w, t2f, 1 mm, RAS; by default made up")
    parser.add_argument("--click", nargs=3, type=int, help="voxel indices of the tumor; by default the middle")
    parser.add_argument("--backbone", default="resnet152", help="of each network")
    parser.add_argument("--members", type=int, default=5, help="networks")
    parser.add_argument("--repeats", type=int, default=5, help="warm answers of which the median counts")
    parser.add_argument("--threads", type=int, default=1, help="of torch and ONNX Runtime")
    parser.add_argument("--shell", action="store_true", help="time `python -m monai.bundle run` too")
    arguments = parser.parse_args()
    if arguments.images:
        arguments.images = dict(zip(MODALITIES, arguments.images, strict=True))
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        timings = compare(Path(folder), arguments)
    stock, ours = timings.values()
    print(f"{arguments.members} x {arguments.backbone}, {arguments.threads} thread(s), imports not counted")
    for phase in ("building", "first answer", "cold", "warm"):
        ratio = stock[phase] / ours[phase]
        print(f"{phase:13s} stock {stock[phase]:7.2f} s   ours {ours[phase]:7.2f} s   {ratio:5.2f} x")
    if "shell" in ours:
        print(f"{'from a shell':13s}                   ours {ours['shell']:7.2f} s   imports and explanation included")


if __name__ == "__main__":
    main()
