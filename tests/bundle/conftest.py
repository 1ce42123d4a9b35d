from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.pack import pack
from bundle.package import packaged_scripts
from bundle.trained import Trained
from tests.trained_study import write_trained_study

URL = "https://example.org/weights/"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Part of a study that a package is made of, with random weights."""
    return write_trained_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def packed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of tiny networks; not to be changed."""
    return pack(Trained.find(str(study), "ddpm"), str(tmp_path_factory.mktemp("dist")), url_base=URL)


@pytest.fixture
def elsewhere(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package as others use it: from another working directory, with its own scripts and none of ours."""
    monkeypatch.chdir(tmp_path)
    with packaged_scripts(packed):
        yield packed
