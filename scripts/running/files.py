"""Outputs that are written whole or not at all, and the hashes that identify them."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]
MIN_FREE_BYTES = 1 << 20  # below this a failed write is taken for a full disk


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary name in the same folder and rename it to `path` when the block succeeds.

    A reader sees the old file or the new one, never half of one: after a crash or on a full disk `path` is untouched.

    Args:
        path: file to write; missing parent folders are made.

    Yields:
        Temporary path with the same suffixes (".nii.gz", ".pt"), so that writers that look at them work.

    Raises:
        OSError: if the disk is full, naming `path`; otherwise whatever the write raised.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".partial-{os.getpid()}-{final.name}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, final)
    except (OSError, RuntimeError) as error:
        # torch.save says "unexpected pos" where the disk is full.
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(final.parent).free < MIN_FREE_BYTES:
            message = f"no space left to write {final}; free some, then run the same command again"
            raise OSError(errno.ENOSPC, message) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: PathLike, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all; not-a-number is refused because JSON has none."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: PathLike) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the content is not JSON, naming the file and the line.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; run the stage that writes it first")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} must be JSON, got {error.msg!r} in line {error.lineno}; write it again") from error


def write_csv(path: PathLike, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write `rows` as CSV with a header, whole or not at all; floats keep nine significant digits."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()})


def read_csv(path: PathLike) -> list[dict[str, str]]:
    """Read a CSV with a header into one dictionary of strings a row."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; run the stage that writes it first")
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def sha256_text(text: str) -> str:
    """Hash a string (UTF-8) to 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: PathLike) -> str:
    """Hash the bytes of a file to 64 hexadecimal digits."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; run the stage that writes it first")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    # hashlib.file_digest is new in Python 3.11.
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
