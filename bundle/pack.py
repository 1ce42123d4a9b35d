"""The package: a folder in the format of the MONAI model zoo, made from this repository and the weights of a study."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.large_files import check_url_base, write_large_files
from bundle.metadata import packed_metadata
from bundle.model_card import model_card
from bundle.packed_configs import packed_configs
from bundle.pins import ROOT
from bundle.trained import Trained
from bundle.whole_folders import whole_folder
from scripts.provenance.record import FILE_NAME, read_provenance
from scripts.provenance.served_weights import KEPT
from scripts.provenance.task import GLIOMA, require_package_name
from scripts.running.files import read_json, write_json, write_text
from scripts.running.identity import code_identity, target_modules

logger = logging.getLogger(__name__)

NAME = GLIOMA.package  # where a study has no words of its own
TESTS = ROOT / "bundle" / "zoo_tests"
# Of a package: what lies at its root, and the page that a hub shows.
PARTS = ("LICENSE", "large_files.yml", "configs", "docs", "models", "scripts", "tests", "eval")
CARD = "README.md"
SIMULATED_DATA = (
    "The weights were trained on simulated patients only, made by the phantom of this bundle (configs/phantom.yaml).\n"
    "No patient's data stand behind them. They are under the license of the code, Apache License 2.0.\n"
)


def pack(
    trained: Trained,
    output_dir: str,
    url_base: str | None = None,
    allow_placeholder: bool = False,
    data_license: str | None = None,
    name: str | None = None,
) -> Path:
    """Write the package, whole or not at all.

    Args:
        trained: weights to pack.
        output_dir: folder that gets the package's folder; an earlier package of that name there is replaced.
        url_base: address of the folder from which the weights will be had, for `large_files.yml`.
        allow_placeholder: write an address that cannot exist where `url_base` is None.
        data_license: text file with the terms of the data; needed unless the patients are simulated.
        name: of the package; None takes that of the study's words, `task_package`.

    Returns:
        Root of the package.

    Raises:
        FileNotFoundError: if a part is missing.
        ValueError: if the folder holds something else, the name is none, or the address or the terms of the data are
            missing.
    """
    name = trained.task.package if name is None else name
    require_package_name(name, "name")
    address = check_url_base(url_base, allow_placeholder)
    terms = _data_terms(trained.provenance, data_license)
    unknown = trained.provenance.get("leakage_not_excluded", ())
    if unknown:
        logger.warning(
            "leakage is not excluded: nobody can tell what the generators of %s have seen; the model card says so."
            " Pack a setup without their images, or declare trained_on and train again",
            ", ".join(unknown),
        )
    final = Path(output_dir) / name
    refuse_foreign_folder(final)
    with whole_folder(final) as partial:
        _fill(partial, trained, terms, name)
        write_large_files(partial, address)
    return final


def refuse_foreign_folder(folder: Path, name: str | None = None) -> None:
    """Refuse to replace a folder that is no package of ours, or holds weights that are nowhere else.

    Args:
        folder: to be replaced.
        name: of the package; None is the name of the folder.

    Raises:
        ValueError: naming the folder.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    metadata, name = folder / "configs" / "metadata.json", name or folder.name
    others = {path.name for path in folder.iterdir()} - {*PARTS, CARD} if folder.is_dir() else set()
    if others or not metadata.is_file() or read_json(metadata).get("name") != name:
        what = f"one with {min(others)}" if others else "another folder"
        raise ValueError(f"{folder} must be new or a package of {name}, got {what}; choose another folder")
    if (folder / "models" / KEPT).exists():
        raise ValueError(
            f"{folder} holds weights that were trained on labels (models/{KEPT}), which would be lost; move it away, or"
            " choose another folder"
        )


def _fill(root: Path, trained: Trained, terms: str, name: str) -> None:
    configs = packed_configs(trained)
    metadata = packed_metadata(trained, configs, name)
    for file, content in {**configs, "metadata.json": metadata}.items():
        write_json(root / "configs" / file, content)
    shutil.copy(ROOT / "configs" / "logging.conf", root / "configs" / "logging.conf")
    _copy_weights(trained, root / "models")
    _copy_rooms(configs, root / "scripts")
    _write_tests(root / "tests", name)
    write_text(root / "docs" / "README.md", model_card(trained, configs, metadata))
    write_text(root / "docs" / "data_license.txt", terms)
    shutil.copy(ROOT / "LICENSE", root / "LICENSE")


def _write_tests(folder: Path, name: str) -> None:
    """Write the tests of a package under the names that the zoo looks for."""
    for source, ending in (("test_workflows", ""), ("test_two_processes", "_dist")):
        text = (TESTS / f"{source}.py").read_text(encoding="utf-8")
        write_text(folder / f"test_{name}{ending}.py", text.replace(f'"{NAME}"', f'"{name}"'))


def _copy_rooms(configs: Mapping[str, Mapping[str, Any]], scripts: Path) -> None:
    """Copy the rooms of `scripts` that the configs reach, each whole: no phantom, no report."""
    scripts.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "__init__.py", scripts / "__init__.py")
    for room in sorted(_rooms_of(set().union(*map(target_modules, configs.values())))):
        source = ROOT / "scripts" / room
        shutil.copytree(source, scripts / room, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def _rooms_of(modules: set[str]) -> set[str]:
    """Name the rooms of some modules, and those that any module of these rooms imports."""
    rooms = {name.split(".")[1] for name in code_identity(modules)}
    paths = [path for room in rooms for path in (ROOT / "scripts" / room).glob("*.py") if path.stem != "__init__"]
    members = {f"scripts.{path.parent.name}.{path.stem}" for path in paths}
    return rooms if members == modules else _rooms_of(members)


def _copy_weights(trained: Trained, models: Path) -> None:
    folders = {models: trained.evaluation_dir}
    folders.update({models / "generator" / name: folder for name, folder in trained.generators.items()})
    for target, source in folders.items():
        read_provenance(source / "model.pt")  # raises where the record is of other weights
        target.mkdir(parents=True, exist_ok=True)
        for name in ("model.pt", FILE_NAME):
            shutil.copyfile(source / name, target / name)
    if trained.distance_path is not None:
        shutil.copy(trained.distance_path, models)


def _data_terms(provenance: Mapping[str, Any], data_license: str | None) -> str:
    if data_license is not None:
        return Path(data_license).read_text(encoding="utf-8")
    if not provenance["simulated"]:
        raise ValueError(
            f"data_license must be a text with the terms of {', '.join(provenance['cohorts'])}, got none, and the"
            " weights were trained on patients; give --data-license FILE"
        )
    return SIMULATED_DATA
