"""The app: the models and trainers of one bundle over one folder of studies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

from bundle.grader import Grader
from bundle.label_app.drawer import Drawer
from bundle.label_app.slices import Viewer
from bundle.label_app.tasks import GenerateTask, GradeTask, GradeTrainer, GradeViewerTask
from bundle.request_errors import NotFoundError


class GradeApp(MONAILabelApp):
    """Tasks `grade`, `grade_viewer` and, where the bundle has generators, `generate`; trainer `grade`.

    Args:
        app_dir: folder of `main.py`; nothing is written there.
        studies: folder of links, from `bundle.label_app.studies.link_studies`.
        conf: `bundle`, the root of the bundle.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.bundle_dir = Path(conf["bundle"]).resolve()
        self.grader = Grader(self.bundle_dir)
        self.viewer = Viewer(self.grader.modalities)
        metadata = self.grader.metadata
        super().__init__(
            app_dir, studies, conf, metadata["name"], metadata["description"], metadata["version"], labels=None
        )

    def init_infers(self) -> dict[str, Any]:
        """Return the tasks."""
        tasks: dict[str, Any] = {"grade": GradeTask(self.grader), "grade_viewer": GradeViewerTask(self.grader)}
        drawer = Drawer(self.bundle_dir)
        return {**tasks, "generate": GenerateTask(drawer)} if drawer.is_there else tasks

    def init_trainers(self) -> dict[str, Any]:
        """Return the trainer."""
        return {"grade": GradeTrainer(self.bundle_dir, self.conf)}

    def init_strategies(self) -> dict[str, Any]:
        """Return how the next case to label is chosen."""
        return {"first": First(), "random": Random()}

    @property
    def infers(self) -> Mapping[str, Any]:
        """Tasks by their names."""
        return self._infers

    @property
    def trainers(self) -> Mapping[str, Any]:
        """Trainers by their names."""
        return self._trainers

    def study(self, image: str) -> str:
        """Return the path of a study by its id.

        Raises:
            NotFoundError: if there is none of this id.
        """
        path = self.datastore().get_image_uri(image)
        if not path:
            raise NotFoundError(
                f"image must be one of the studies, got {image!r}; GET /datastore/?output=all lists them"
            )
        return str(path)

    def task(self, model: str) -> Any:
        """Return a task by its name.

        Raises:
            NotFoundError: if there is none of this name.
        """
        if model not in self._infers:
            raise NotFoundError(f"model must be one of {', '.join(self._infers)}, got {model!r}")
        return self._infers[model]

    def trainer(self, model: str) -> GradeTrainer:
        """Return a trainer by its name.

        Raises:
            NotFoundError: if there is none of this name.
        """
        if model not in self._trainers:
            raise NotFoundError(f"model must be one of {', '.join(self._trainers)}, got {model!r}")
        return self._trainers[model]
