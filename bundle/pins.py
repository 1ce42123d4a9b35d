"""Exact versions of the packages that the bundle needs, for the Python of the model zoo."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ZOO_PYTHON = "3.10"  # the zoo's checks install on it
OWN_FIELDS = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}  # of metadata.json


def pinned_versions(python: str = ZOO_PYTHON, root: Path = ROOT) -> dict[str, str]:
    """Read the versions of `constraints.txt` that hold for a Python, as they were resolved and run together.

    Args:
        python: "3.10" and the like.
        root: root of the repository.

    Returns:
        Canonical name -> version.
    """
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {
        canonicalize_name(item.name): str(item.specifier).removeprefix("==")
        for item in requirements
        if item.marker is None or item.marker.evaluate({"python_version": python})
    }


def runtime_packages(root: Path = ROOT) -> list[str]:
    """List what the runtime needs by name, from `dependencies` in `pyproject.toml`."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r"^dependencies = (\[.*?^\])", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise ValueError(f"{root / 'pyproject.toml'} must list dependencies, got none; restore the file from git")
    return sorted(canonicalize_name(Requirement(line).name) for line in ast.literal_eval(match[1]))


def metadata_versions(root: Path = ROOT) -> dict[str, object]:
    """Return `monai_version`, `pytorch_version`, `numpy_version` and `required_packages_version` of `metadata.json`."""
    pins = pinned_versions(root=root)
    others = [name for name in runtime_packages(root) if name not in OWN_FIELDS]
    return {
        **{field: pins[name] for name, field in OWN_FIELDS.items()},
        "required_packages_version": {name: pins[name] for name in others},
    }
