"""`large_files.yml`: where the weights of a package can be had, and the hashes that they must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from scripts.running.files import sha256_file, write_text

FILE_NAME = "large_files.yml"
MAX_BYTES = 25 * 1000**2  # of a file in the zoo's repository
PLACEHOLDER = "https://example.invalid"  # a host that can never exist (RFC 2606)
WEIGHTS = (".pt", ".ts", ".onnx")


def write_large_files(root: Path, url_base: str) -> Path:
    """List every file of weights of a package, with its hash and its address below `url_base`.

    Args:
        root: root of the package.
        url_base: address of the folder that holds the files under the same relative paths.

    Returns:
        Path of the file written.
    """
    paths = sorted(path for path in root.rglob("*") if path.is_file() and (path.suffix in WEIGHTS or _large(path)))
    names = [path.relative_to(root).as_posix() for path in paths]
    entries = [
        {
            "path": name,
            "url": f"{url_base.rstrip('/')}/{name}",
            "hash_val": sha256_file(root / name),
            "hash_type": "sha256",
        }
        for name in names
    ]
    write_text(root / FILE_NAME, yaml.safe_dump({"large_files": entries}, sort_keys=False, width=200))
    return root / FILE_NAME


def read_large_files(root: Path) -> list[dict[str, Any]]:
    """Return the entries of a package's `large_files.yml`; none if it has no such file."""
    path = root / FILE_NAME
    if not path.is_file():
        return []
    return list((yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("large_files", []))


def url_base_of(root: Path) -> str:
    """Return the address below which a package's files lie, or the placeholder if it lists none."""
    entries = read_large_files(root)
    return entries[0]["url"].removesuffix("/" + entries[0]["path"]) if entries else PLACEHOLDER


def check_url_base(url_base: str | None, allow_placeholder: bool) -> str:
    """Return the address to write.

    Raises:
        ValueError: if there is none and no placeholder is allowed, or it is no address.
    """
    if url_base is None and allow_placeholder:
        return PLACEHOLDER
    if url_base is None or not url_base.startswith(("https://", "http://", "file://")):
        raise ValueError(
            f"url_base must be the http or file address of the folder that will hold the weights, got {url_base!r};"
            " give --url-base, or --allow-placeholder for a package that is not published"
        )
    return url_base


def _large(path: Path) -> bool:
    return path.stat().st_size > MAX_BYTES
