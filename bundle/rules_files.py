"""Rules about the files of a package. Each yields one message per violation, with the way out."""

from __future__ import annotations

import getpass
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator

from bundle.large_files import MAX_BYTES, PLACEHOLDER, read_large_files
from bundle.model_card import SECTIONS
from bundle.package import DATA_STAGES, WORKFLOWS, Package
from bundle.pins import ROOT
from scripts.provenance.task import PACKAGE_NAME
from scripts.running.files import sha256_file

REQUIRED = (
    "LICENSE",
    "large_files.yml",
    "models/model.pt",
    "models/provenance.json",
    "configs/metadata.json",
    *(f"configs/{name}" for name in WORKFLOWS),
    *(f"configs/{stage}.json" for stage in DATA_STAGES),
    "scripts/__init__.py",
    "docs/README.md",
    "docs/data_license.txt",
    "tests/test_NAME.py",
    "tests/test_NAME_dist.py",
)
# A file or folder of some machine: below a top-level folder that is one's own, or on a drive.
PERSONAL = re.compile(
    r"(?<![\w.:/-])/(?:home|Users|root|tmp|mnt|media|scratch|work|workspace|data|srv|private|var|opt|content)/[\w.-]+"
    r"|\b[A-Za-z]:[\\/]+(?:Users|home|data)\b[\\/\w.-]*"
)
ABSOLUTE = re.compile(r'"/[\w.-]+(?:/[\w.-]+)+"')
NOT_A_NAME = {"root", "user", "runner", "ubuntu", "admin", "jovyan", "nobody"}
STYLE = {
    "ruff": (["check"], ["format", "--check"]),
    "black": (["--check", "--line-length", "120", "--exclude", "^$"],),  # it passes over a folder named dist otherwise
    "flake8": (["--max-line-length", "120", "--extend-ignore", "E203,W503"],),
    "isort": (["--check-only", "--profile", "black", "--line-length", "120"],),
}


def files(package: Package) -> Iterator[str]:
    """Every file that a bundle of the zoo has is there."""
    named = package.metadata["name"] if package.config_path("metadata.json").is_file() else package.root.name
    for name in (name.replace("NAME", named) for name in REQUIRED):
        if not (package.root / name).is_file():
            yield f"{name} must be there, got no such file; pack again with `python -m bundle pack`"


def folder_name(package: Package) -> Iterator[str]:
    """The folder has the name of the bundle, from which MONAI Label takes the kind of task."""
    folder, name = package.root.resolve().name, str(package.metadata.get("name"))
    if folder != name or not PACKAGE_NAME.fullmatch(name):
        yield (
            f"folder and metadata must have one name of small letters, digits and _, got {folder!r} and {name!r};"
            " rename them"
        )


def models_folder(package: Package) -> Iterator[str]:
    """Only the ensemble lies in `models` itself: MONAI Label offers every file there as a model."""
    for path in sorted((package.root / "models").glob("*")):
        if path.suffix in (".pt", ".pth", ".ts") and path.name != "model.pt":
            yield f"models must hold model.pt alone, got {path.name} beside it; put other weights in a subfolder"


def personal_paths(package: Package) -> Iterator[str]:
    """No text names a folder of somebody's machine, or its user."""
    user = getpass.getuser()
    names = re.compile(rf"\b{re.escape(user)}\b") if len(user) > 3 and user not in NOT_A_NAME else None
    for path in package.texts:
        text = path.read_text(encoding="utf-8", errors="replace")
        matches = [PERSONAL.search(text), ABSOLUTE.search(text) if path.suffix == ".json" else None]
        matches.append(names.search(text) if names and path.name != "LICENSE" else None)
        hit = next((match for match in matches if match), None)
        if hit:
            line = text.count("\n", 0, hit.start()) + 1
            place = f"{path.relative_to(package.root)}, line {line}"
            yield f"{place} must not name a folder or user of a machine, got {hit[0]!r}; make it relative"


def sizes(package: Package) -> Iterator[str]:
    """No file is larger than the zoo's repository takes, unless large_files.yml says where it lies."""
    listed = {entry["path"] for entry in read_large_files(package.root)}
    for path in package.files:
        name, size = path.relative_to(package.root).as_posix(), path.stat().st_size
        if size > MAX_BYTES and name not in listed:
            yield f"{name} must be at most {MAX_BYTES:,} bytes or be in large_files.yml, got {size:,}; list or drop it"


def large_files(package: Package) -> Iterator[str]:
    """Files of large_files.yml that are there have their hash, and every one has an address."""
    for entry in read_large_files(package.root):
        path, address = package.root / entry["path"], str(entry.get("url", ""))
        if not re.match(r"(https?|file)://", address):
            yield f"{entry['path']} must have an address, got {address!r}; pack with --url-base"
        if address.startswith(PLACEHOLDER) and not package.allow_placeholder:
            yield f"{entry['path']} must have an address, got a placeholder; give --url-base or --allow-placeholder"
        if path.is_file() and sha256_file(path) != entry.get("hash_val"):
            yield f"{entry['path']} must have the hash in large_files.yml, got another; pack or export again"
        if not path.resolve().is_relative_to(package.root.resolve()):
            yield f"{entry['path']} must lie in the package, got a path outside; make it relative"


def card(package: Package) -> Iterator[str]:
    """The model card has the sections of the zoo, and nothing is left to fill in."""
    text = (package.root / "docs" / "README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    for section in SECTIONS:
        if section not in lines:
            yield f"docs/README.md must have the section {section!r}, got none; pack again"
    left = re.search(r"\{\{|\{%|\bTODO\b|\bTBD\b", text)
    if left:
        yield f"docs/README.md must be filled in, got {left[0]!r}; pack again"


def code_style(package: Package) -> Iterator[str]:
    """The code passes every style checker that is installed: ruff, as in this repository, and the zoo's."""
    tools = installed_checkers()
    if not tools:
        yield "ruff must be installed to check the code, got none of ruff, black, flake8, isort; pip install ruff"
    for tool in tools:
        for arguments in STYLE[tool]:
            settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"] if tool == "ruff" else []
            command = [sys.executable, "-m", tool, *arguments, *settings, "scripts", "tests"]
            done = subprocess.run(command, cwd=package.root, capture_output=True, text=True, check=False)
            if done.returncode:
                said = next(iter((done.stdout or done.stderr).strip().splitlines()), "an error")
                yield f"scripts and tests must pass {tool} {arguments[0]}, got: {said}; run it there"


def installed_checkers() -> list[str]:
    """List the style checkers of `STYLE` that are installed."""
    return [tool for tool in STYLE if importlib.util.find_spec(tool) is not None]
