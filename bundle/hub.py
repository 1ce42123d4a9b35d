"""Packages on the Hugging Face Hub, or in a folder that stands for it: `python -m bundle push` and `pull`."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from monai.bundle import push_to_hf_hub

from bundle.pack import CARD, PARTS, refuse_foreign_folder
from bundle.package import Package
from bundle.rules_files import large_files
from bundle.whole_folders import replace_folder, whole_folder
from scripts.provenance.record import read_provenance
from scripts.provenance.served_weights import KEPT
from scripts.provenance.task import require_package_name

# As the hub names them: an owner and a name, each of letters, digits, - _ and . within.
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
# Formats that run code when they are read.
UNSAFE = (".pkl", ".pickle", ".joblib", ".npy", ".npz", ".dill", ".exe", ".so", ".dll")


def push(
    package: str | Path,
    repository: str,
    dry_run: bool = False,
    private: bool = True,
    tag: str | None = None,
) -> dict[str, int]:
    """Put a package on the hub by MONAI's `push_to_hf_hub`, where `monai.bundle.download` looks for it.

    What a training on labels kept (`models/kept`) stays here.

    Args:
        package: root of the package.
        repository: OWNER/NAME on the hub, or a folder, such as ./mirror/NAME, that gets the same files.
        dry_run: only say which files would go there.
        private: whether a repository that this makes is seen by its owner alone.
        tag: of this version on the hub; None is the package's version.

    Returns:
        Path in the repository -> bytes.

    Raises:
        FileNotFoundError: if a part of the package is missing.
        ValueError: if the weights are not those of their record or not those that were packed, a file is of a format
            that runs code when it is read, or the repository is neither a name nor a folder, holds something else, or
            has this version already.
    """
    root, is_remote = Path(package), is_on_hub(repository)
    _require_package(root)
    with _staged(root) as folder:
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in Package(folder).files}
        if dry_run:
            return files
        if is_remote:
            _upload(folder, repository, private, tag or str(Package(root).metadata["version"]))
        else:
            _mirror(folder, root.resolve(), Path(repository).expanduser().resolve())
    return files


def pull(repository: str, output_dir: str | Path, revision: str | None = None) -> Path:
    """Get a package from the hub, whole or not at all, and check that its weights are those of its record.

    A package is code: its configs and scripts run when it is used. Pull from people whom you trust, by a revision.

    Args:
        repository: OWNER/NAME on the hub, or a folder that holds such files.
        output_dir: folder that gets the package, in a folder of the name in its metadata; an earlier one is replaced.
        revision: branch, tag or commit.

    Returns:
        Root of the package.

    Raises:
        FileNotFoundError: if there is no such folder, or a part is missing.
        ValueError: as `push`, or if the folder to replace holds something else.
    """
    is_remote = is_on_hub(repository)
    source = Path(repository).expanduser()
    if not is_remote and not source.is_dir():
        raise FileNotFoundError(f"{repository} does not exist; give OWNER/NAME of the hub, or a folder with a package")
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output_dir) as temporary:
        folder = Path(temporary) / "package"
        if is_remote:
            _download(repository, folder, revision)
        else:
            shutil.copytree(source, folder, symlinks=True)
        _require_package(folder)
        name = str(Package(folder).metadata.get("name"))
        require_package_name(name, "name in configs/metadata.json")
        final = Path(output_dir) / name
        refuse_foreign_folder(final)
        replace_folder(folder, final)
    return final


def is_on_hub(repository: str) -> bool:
    """Tell OWNER/NAME of the hub from a folder, which begins with ./ or /, whatever lies in the working directory.

    Raises:
        ValueError: if it is neither.
    """
    if repository.startswith((".", "~")) or Path(repository).is_absolute():
        return False
    if REPOSITORY.fullmatch(repository) and ".." not in repository:
        return True
    raise ValueError(f"repository must be OWNER/NAME of the hub, or a folder that begins with ./, got {repository!r}")


def _require_package(root: Path) -> None:
    """Refuse a folder that is no whole package, or whose files are not what they say."""
    if links := [path for path in root.rglob("*") if path.is_symlink()]:
        raise ValueError(f"{links[0]} must be a file of the package, got a link; pack again")
    for name in ("configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md"):
        if not (root / name).is_file():
            raise FileNotFoundError(f"{root / name} does not exist; a package of `python -m bundle pack` holds it")
    package = Package(root, allow_placeholder=True)
    if unsafe := [path for path in package.files if path.suffix.lower() in UNSAFE]:
        raise ValueError(f"{unsafe[0]} must not be in a package: to read {unsafe[0].suffix} can run code; take it out")
    for path in package.weights:
        read_provenance(path)
    # Weights that were trained on labels since are not those whose figures the card tells.
    for fault in large_files(package):
        raise ValueError(f"{root / fault}")


@contextmanager
def _staged(root: Path) -> Iterator[Path]:
    """Copy the parts of a package to a folder of their own, with the card at its root."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, package = Path(temporary) / "package", Package(root)
        for path in package.files:
            inside = path.relative_to(root)
            if inside.parts[0] in PARTS and inside.parts[:2] != ("models", KEPT):
                target = folder / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        shutil.copyfile(root / "docs" / "README.md", folder / CARD)
        yield folder


def _mirror(folder: Path, source: Path, final: Path) -> None:
    """Copy the files of a repository to a folder that is new, or holds a repository of the same package."""
    if final == source or source in final.parents or final in source.parents:
        raise ValueError(f"{final} must lie beside the package {source}, got one that is, holds or lies in it")
    refuse_foreign_folder(final, Package(folder).metadata["name"])
    with whole_folder(final) as partial:
        shutil.copytree(folder, partial)


def _upload(folder: Path, repository: str, private: bool, tag: str) -> None:
    _refuse_other_repository(repository, tag)
    # MONAI's own puts its header in front of the card. Files of an earlier package go: old weights beside a new record
    # would be refused.
    push_to_hf_hub(
        repository,
        folder.name,
        str(folder.parent),
        private=private,
        version=tag,
        delete_patterns="*",
        commit_message=f"Push {tag}",
    )


def _refuse_other_repository(repository: str, tag: str) -> None:
    """Refuse to empty a repository of something else, and to push a version that is there: its tag would not move."""
    api = huggingface_hub.HfApi()
    if not api.repo_exists(repository):
        return
    others = {name.split("/")[0] for name in api.list_repo_files(repository)} - {*PARTS, CARD, ".gitattributes"}
    if others:
        raise ValueError(f"{repository} must be new or hold a package, got {min(others)} in it; choose another")
    if tag in {there.name for there in api.list_repo_refs(repository).tags}:
        raise ValueError(f"{repository} has the version {tag} already; give the new one a --tag of its own")


def _download(repository: str, folder: Path, revision: str | None) -> None:
    huggingface_hub.snapshot_download(repository, revision=revision, local_dir=folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's own notes
    for name in (".gitattributes", ".gitignore"):
        (folder / name).unlink(missing_ok=True)


def describe(files: Mapping[str, int], repository: str, dry_run: bool) -> str:
    """Write what `push` did, or would do, as text."""
    total = sum(files.values()) / 1e6
    lines = [f"{size / 1e6:9.2f} MB  {name}" for name, size in sorted(files.items()) if not name.startswith("scripts/")]
    code = [size for name, size in files.items() if name.startswith("scripts/")]
    lines.append(f"{sum(code) / 1e6:9.2f} MB  scripts/ ({len(code)} files)")
    verb = "would go" if dry_run else "are"
    return "\n".join([*lines, f"{len(files)} files, {total:.1f} MB, {verb} in {repository}"])
