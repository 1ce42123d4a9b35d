"""The study of fake files and its report, written once."""

from __future__ import annotations

import pytest

from tests.fake_study import write_fake_study
from tests.helpers import run_stage


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Folder of the study and names of its stages; tests copy what they change."""
    folder = tmp_path_factory.mktemp("study")
    return folder, write_fake_study(folder)


@pytest.fixture(scope="session")
def write_report():
    """Function that writes the report of a study and returns its folder."""

    def write(study, name="report", **overrides):
        folder, stages = study
        places = {"study_dir": str(folder), "stage_names": stages, "output_dir": str(folder / name)}
        run_stage("report", **{**places, "num_bootstrap_draws": 100, "report_pictures": name == "report", **overrides})
        return folder / name

    return write


@pytest.fixture(scope="session")
def report(study, write_report):
    """Folder of the report of the whole study."""
    return write_report(study)
