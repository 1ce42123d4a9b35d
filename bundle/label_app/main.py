"""Where MONAI Label looks for the app, here and in the process that trains."""

from bundle.label_app.app import GradeApp

__all__ = ["GradeApp"]
