from __future__ import annotations

from pathlib import Path

import pytest

from tests.dicom_studies import write_study


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four axial series; not to be changed."""
    folder = tmp_path_factory.mktemp("dicom") / "P1"
    write_study(folder)
    return folder
