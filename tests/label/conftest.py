from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.pack import NAME, pack
from bundle.trained import Trained
from scripts.classifier.networks import FoldEnsemble
from scripts.running.configs import Invocation
from scripts.running.files import read_json, write_json
from scripts.running.stages import run_invocation
from tests.helpers import ROOT
from tests.label.server import Server, free_port, plain_environment, serving
from tests.tiny_subjects import AFFINE, MODALITIES, make_images, make_mask, reoriented, write_volume
from tests.trained_study import write_trained_study

CPU_ONLY = ROOT / "bundle" / "label_app" / "cpu"
STORED_ORDER = ["t2f", "t1n", "t1c", "t2w"]
NAMES = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}


@dataclass(frozen=True)
class World:
    """Two packages of the same tiny weights, and folders of patients.

    `studies` holds case001 as a 4D file with its channel order beside it, and the folder case002 with four files, the
    one of t1c stored in another orientation. `uploads` is what a client has on its own machine. `secret` is a patient
    outside.
    """

    bundle: Path
    stock_bundle: Path
    stock_app: Path
    studies: Path
    stock_studies: Path
    uploads: Path
    secret: Path
    root: Path

    def answer(self, bundle: Path, name: str, **request: Any) -> dict[str, Any]:
        """Grade with `monai.bundle run` of the package's inference.json, in this process."""
        folder = self.root / "runs" / name
        settings = {"bundle_root": str(bundle), "device": "cpu", "num_threads": 1, "output_dir": str(folder)}
        run_invocation(Invocation((str(bundle / "configs" / "inference.json"),), {**settings, **request}))
        return read_json(folder / "answer.json")

    def logits(self, bundle: Path, name: str) -> list[float]:
        """Logits of the weights on disk for the patch of an answer."""
        config = read_json(bundle / "configs" / "inference.json")
        network = FoldEnsemble(config["classifier_backbone"], config["num_members"], stem_stride=1).eval()
        network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
        patch = np.asarray(nib.load(self.root / "runs" / name / "patch.nii.gz").dataobj, np.float32)
        with torch.no_grad():
            return network(torch.as_tensor(patch[:, :, 0]).permute(2, 0, 1)[None])[0].tolist()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("label")
    study = write_trained_study(root / "study")
    packed = pack(Trained.find(str(study), "ddpm"), str(root / "dist"), url_base="https://example.org/weights/")
    app = root / "app"
    shutil.copytree(Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle", app)
    stock_bundle = app / "model" / NAME
    shutil.copytree(packed, stock_bundle)
    images = make_images()
    for studies in (root / "studies", root / "stock_studies"):
        _write_4d(studies, images)
    _write_four(root / "studies" / "case002", images, "case002")
    _write_four(root / "uploads", images, "somebody")
    _write_4d(root / "uploads" / "whole", images)
    _write_four(root / "secret", make_images(seed=9), "secret")
    _write_4d(root / "secret", make_images(seed=9))
    (root / "log").mkdir()
    return World(
        packed,
        stock_bundle,
        app,
        *(root / name for name in ("studies", "stock_studies", "uploads", "secret")),
        root,
    )


@pytest.fixture(scope="session")
def ours(world: World) -> Iterator[Server]:
    with serving_ours(world.studies, world.bundle, world.root / "log") as server:
        yield server


@contextmanager
def serving_ours(studies: Path, bundle: Path, log: Path, *words: str) -> Iterator[Server]:
    """Serve a bundle over studies; `words` are further ones of the command line."""
    port = free_port()
    flags = {"--studies": studies, "--bundle": bundle, "--port": port, "--max-upload-mb": 8}
    command = [sys.executable, "-m", "bundle", "label", *(str(word) for flag in flags.items() for word in flag), *words]
    with serving(command, {**plain_environment(), "PYTHONPATH": str(ROOT)}, log, port) as server:
        yield server


@pytest.fixture(scope="session")
def stock(world: World) -> Iterator[Server]:
    port = free_port()
    flags = {"--app": world.stock_app, "--studies": world.stock_studies, "--host": "127.0.0.1", "--port": port}
    words = [str(word) for flag in flags.items() for word in flag]
    words += ["--conf", "models", NAME, "--conf", "zoo_source", "ngc", "--conf", "sam2", "false"]
    environment = {
        **plain_environment(),
        "PYTHONPATH": str(CPU_ONLY),
        "MONAI_LABEL_SESSION_PATH": str(world.root / "s"),
    }
    command = [sys.executable, "-m", "monailabel.main", "start_server", *words]
    with serving(command, environment, world.root, port) as server:
        yield server


def _write_4d(folder: Path, images: dict[str, np.ndarray]) -> None:
    write_volume(folder / "case001.nii.gz", np.stack([images[name] for name in STORED_ORDER], axis=-1))
    write_json(folder / "dataset.json", {"modality": {str(k): NAMES[name] for k, name in enumerate(STORED_ORDER)}})


def _write_four(folder: Path, images: dict[str, np.ndarray], patient: str) -> None:
    for name in MODALITIES:
        codes = "LPS" if name == "t1c" else "RAS"
        write_volume(folder / f"{patient}_{NAMES[name]}.nii.gz", *reoriented(images[name], AFFINE, codes))
    write_volume(folder / f"{patient}_seg.nii.gz", make_mask())
