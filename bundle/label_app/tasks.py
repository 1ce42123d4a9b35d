"""What MONAI Label lists as models and trainers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.tasks.train.bundle import BundleTrainTask

from bundle.grader import Grade, Grader
from bundle.label_app.drawer import SETTINGS, Drawer
from bundle.label_app.params import require_known
from bundle.label_app.viewer_mask import write_viewer_mask
from bundle.request_errors import RequestError
from scripts.explanations.checks import NO_EXPLANATION
from scripts.explanations.maps import METHODS

Result = tuple[str | None, dict[str, Any]]


class GradeTask(InferTask):
    """A patient to a grade: JSON, and the picture of where the network looked if it is asked for.

    Args:
        grader: network of the bundle.
    """

    params: tuple[str, ...] = ("click", "foreground", "channel_order", "mask_codes", "explanation")
    needs_image = True

    def __init__(self, grader: Grader, type: InferType = InferType.CLASSIFICATION) -> None:  # noqa: A002
        known = {"explanation": [NO_EXPLANATION, *METHODS], "channel_order": "", "mask_codes": ""}
        options = {name: choices for name, choices in known.items() if name in self.params}
        labels = {name: label + self.first_label for name, label in grader.classes.items()}
        super().__init__(type, labels, 3, grader.metadata["description"], options)
        self.grader = grader

    first_label = 0

    @property
    def understood(self) -> tuple[str, ...]:
        """Names of the options that are read."""
        return self.params

    def info(self) -> dict[str, Any]:
        """Add the version of the bundle."""
        return {**super().info(), "version": self.grader.metadata["version"]}

    def is_valid(self) -> bool:
        """Return whether there are weights."""
        return self.grader.weights_path.is_file()

    def get_path(self, validate: bool = True) -> str:
        """Return the file of the weights that are served."""
        return str(self.grader.weights_path)

    def select(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Keep of a request what a client may say."""
        return {key: request[key] for key in self.params if request.get(key) is not None}

    def __call__(self, request: Mapping[str, Any]) -> Result:
        """Answer a request: (file or None, JSON)."""
        method = _first(request.get("explanation")) or NO_EXPLANATION
        if method not in [NO_EXPLANATION, *METHODS]:
            raise RequestError(f"explanation must be one of {NO_EXPLANATION}, {', '.join(METHODS)}, got {method!r}")
        grade = self.grader.grade(request)
        if method == NO_EXPLANATION:
            return None, self._told(grade)
        with _new_file(".png") as file:
            self.grader.explain(grade, method, file)
        return str(file), self._told(grade)

    def _told(self, grade: Grade) -> dict[str, Any]:
        names = {label: name for name, label in self.grader.classes.items()}
        scores = enumerate(grade.answer["probabilities"].values())
        prediction = [{"idx": index, "label": names[index], "score": score} for index, score in scores]
        # Where the patch lies, for whoever draws it on the whole image: cell indices -> mm.
        crop = {**grade.answer["crop"], "affine": np.asarray(grade.patch.affine.cpu()).tolist()}
        return {**grade.answer, "crop": crop, "prediction": prediction, "label_names": self.labels, "centroids": {}}


class GradeViewerTask(GradeTask):
    """The same for 3D Slicer and OHIF, which show masks only: what the patch covers, with the value class index + 1."""

    params = ("click", "foreground", "channel_order", "mask_codes")
    first_label = 1

    def __init__(self, grader: Grader) -> None:
        super().__init__(grader, InferType.DEEPEDIT)

    @property
    def understood(self) -> tuple[str, ...]:
        """Names of the options that are read, those of the segments among them."""
        return (*self.params, "label", *self.labels)

    def select(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Keep of a request what a client may say; 3D Slicer's points stand under the names of the segments.

        Those of the segment that is being edited, whose name is in `label`, count before those of others.
        """
        selected = super().select(request)
        if selected.get("click") or selected.get("foreground"):
            return selected
        names = sorted(self.labels, key=lambda name: name != request.get("label"))
        points = next((request[name] for name in names if request.get(name)), None)
        return selected if points is None else {**selected, "foreground": points}

    def __call__(self, request: Mapping[str, Any]) -> Result:
        """Answer a request: (mask, JSON)."""
        grade = self.grader.grade(request)
        value = self.grader.classes[grade.answer["class"]] + self.first_label
        image_path, affine = self.grader.reference_path(request), np.asarray(grade.patch.affine.cpu())
        with _new_file(".nii.gz") as file:
            write_viewer_mask(file, image_path, grade.patch.shape[1:], affine, value)
        return str(file), self._told(grade)


class GenerateTask(InferTask):
    """Synthetic images of a class: one NIfTI file, or several in a zip file.

    Args:
        drawer: generators of the bundle.
    """

    params = understood = tuple(SETTINGS)
    needs_image = False

    def __init__(self, drawer: Drawer) -> None:
        super().__init__(InferType.OTHERS, [], 2, "Synthetic images, drawn by a diffusion model", drawer.options())
        self.drawer = drawer

    def select(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Keep of a request what a client may say.

        Raises:
            RequestError: if it says more: an image of another class than was meant would be drawn.
        """
        require_known(request, self.params)
        return {key: _first(request[key]) for key in self.params if request.get(key) is not None}

    def is_valid(self) -> bool:
        """Return whether there are generators."""
        return self.drawer.is_there

    def __call__(self, request: Mapping[str, Any]) -> Result:
        """Answer a request: (images, JSON)."""
        with tempfile.TemporaryDirectory() as folder:
            images, description = self.drawer.draw(request, Path(folder))
            with _new_file("".join(images.suffixes)) as file:
                file.write_bytes(images.read_bytes())
        return str(file), description


class GradeTrainer(BundleTrainTask):
    """Trains the weights of the bundle further on what was labeled, by its `train.json`; then these are served."""

    params = ("max_epochs", "val_split", "device")
    most_epochs = 10000

    def __init__(self, bundle_dir: Path, conf: Mapping[str, str]) -> None:
        # Strict: MONAI Label would go on with random weights where names differ.
        super().__init__(str(bundle_dir), conf, load_strict=True)

    def config(self) -> dict[str, Any]:
        """Return what can be asked for, with the values that are taken where nothing is."""
        return {"max_epochs": 50, "val_split": 0.2, "device": ["cpu", "cuda"]}

    @classmethod
    def check(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        """Keep of a request what a client may say.

        Raises:
            RequestError: if a value is out of range.
        """
        settings = {key: _first(request[key]) for key in cls.params if request.get(key) is not None}
        epochs, split = settings.get("max_epochs", 1), settings.get("val_split", 0)
        if not isinstance(epochs, int) or isinstance(epochs, bool) or not 1 <= epochs <= cls.most_epochs:
            raise RequestError(f"max_epochs must be from 1 to {cls.most_epochs}, got {epochs!r}")
        if not isinstance(split, (int, float)) or isinstance(split, bool) or not 0 <= split < 1:
            raise RequestError(f"val_split must be in [0, 1), got {split!r}")
        if settings.get("device", "cpu") not in ("cpu", "cuda"):
            raise RequestError(f"device must be cpu or cuda, got {settings['device']!r}")
        return settings

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        """Train; run by MONAI Label in a process of its own."""
        settings = {**self.check(request), "model": "grade", "pretrained": True, "multi_gpu": False}
        return super().__call__(settings, datastore)


def _first(value: Any) -> Any:
    # An option that is a list to choose from comes back whole if nothing was chosen.
    return value[0] if isinstance(value, list) and value else value


@contextmanager
def _new_file(ending: str) -> Iterator[Path]:
    """Make a file that is removed once it is sent, or if it cannot be filled."""
    with tempfile.NamedTemporaryFile(suffix=ending, delete=False) as file:
        path = Path(file.name)
    try:
        yield path
    except BaseException:
        path.unlink()
        raise
