"""Test of the bundle in the manner of the model zoo: its workflows have their properties and do their work."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path

import nibabel
import numpy as np
from monai.bundle import ConfigWorkflow
from PIL import Image

NAME = "brats_mri_grade_classification"
# In the zoo the bundle lies in models/NAME of the working directory; in a package, above this file.
ROOT = next(path for path in (Path("models", NAME).resolve(), Path(__file__).resolve().parents[1]) if path.is_dir())
METADATA = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
IMAGE = METADATA["network_data_format"]["inputs"]["image"]


def write_request(folder: Path) -> dict[str, object]:
    """Write a made-up patient, or a picture where the bundle is of pictures, and return what asks about it."""
    if METADATA["data_type"] == "pillow":
        return {"image": str(write_picture(folder / "picture.png"))}
    return {"images": write_patient(folder), "click": [32, 30, 31]}


def write_picture(path: Path) -> Path:
    """Write a picture of noise, twice as large as the network's, in its proportions."""
    width, height = (2 * size for size in IMAGE["spatial_shape"])
    colors = (3,) if IMAGE["num_channels"] == 3 else ()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, *colors), dtype=np.uint8)).save(path)
    return path


def write_patient(folder: Path) -> dict[str, str]:
    """Write a volume of noise inside a ball, 64 mm wide, for each modality and return their paths."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(64) - 31.5] * 3, indexing="ij"))
    brain = np.linalg.norm(grid, axis=0) < 30
    paths = {name: str(folder / f"{name}.nii.gz") for name in IMAGE["channel_def"].values()}
    for path in paths.values():
        volume = np.where(brain, random.integers(1, 1000, brain.shape), 0).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    return paths


class TestBundle(unittest.TestCase):
    """The bundle as other programs run it."""

    def setUp(self) -> None:
        """Make an empty folder, and `scripts` importable."""
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        sys.path.insert(0, str(ROOT))
        self.addCleanup(sys.path.remove, str(ROOT))

    def workflow(self, config: str, kind: str, **override: object) -> ConfigWorkflow:
        """Make a workflow of a config of the bundle."""
        return ConfigWorkflow(
            config_file=str(ROOT / "configs" / config),
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(ROOT),
            **override,
        )

    def test_inference_answers(self) -> None:
        """A click in the volumes of a patient, or a picture alone, gives a probability for each class."""
        output = Path(self.folder.name, "eval")
        request = write_request(Path(self.folder.name))
        workflow = self.workflow("inference.json", "inference", output_dir=str(output), device="cpu", **request)
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        workflow.finalize()
        answer = json.loads((output / "answer.json").read_text(encoding="utf-8"))
        assert abs(sum(answer["probabilities"].values()) - 1) < 1e-5

    def test_generators_draw(self) -> None:
        """Two images come out, in [-1, 1]."""
        output = str(Path(self.folder.name, "synthetic"))
        request = {"num_images": 2, "generate_batch_size": 2, "sampler": "ddim", "num_inference_steps": 2}
        workflow = self.workflow("generate.json", "inference", output_dir=output, device="cpu", **request)
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        images = [nibabel.Nifti1Image.from_filename(path).get_fdata() for path in Path(output).glob("*.nii.gz")]
        assert len(images) == 2
        assert np.abs(images).max() <= 1
        workflow.finalize()


if __name__ == "__main__":
    unittest.main()
