"""Outputs that are written whole or not at all, and the hashes that identify them."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]
MIN_FREE_BYTES = 1 << 20  # below this a failed write is taken for a full disk
# Byte order marks, as Excel, Notepad and PowerShell write them; the longer ones first, as they begin like the shorter.
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


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


def why_no_file(path: PathLike) -> str:
    """Say in words why a path cannot be read as a file; empty if it can.

    >>> why_no_file("/dev/null")
    'is a device, a pipe or a socket'
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        is_link = os.path.islink(path)
        return f"is a link to {os.readlink(path)}, which does not exist" if is_link else "does not exist"
    except PermissionError:
        return "cannot be reached (permission denied)"
    except OSError as error:
        return "is a link that leads to itself" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
    except ValueError as error:
        return f"is no path ({error})"
    if stat.S_ISREG(mode):
        return ""
    return "is a folder" if stat.S_ISDIR(mode) else "is a device, a pipe or a socket"


def require_file(path: PathLike, way_out: str = "run the stage that writes it first") -> Path:
    """Return the path of a file that is there.

    Args:
        path: of the file.
        way_out: what to do if it is not.

    Raises:
        FileNotFoundError: saying why there is no such file.
    """
    if why := why_no_file(path):
        raise FileNotFoundError(f"{path} {why}; {way_out}")
    return Path(path)


def read_text(path: PathLike) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; line ends stay as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in another encoding (cp1252, UTF-16 without a mark) or no text, naming file and line.
    """
    file = require_file(path)
    raw = file.read_bytes()
    encoding = next((encoding for mark, encoding in ENCODINGS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
        position = text.find("\0")
        place = f"a null character in line {text.count(chr(10), 0, position) + 1}" if position >= 0 else ""
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        place = f"the byte 0x{raw[error.start]:02x} in line {line}"
    if place:
        raise ValueError(f"{file} must be text in UTF-8, got {place}; save it as UTF-8 (in Excel as 'CSV UTF-8')")
    return text


def read_json(path: PathLike) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the content is not JSON, naming the file and the line.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must be JSON, got {error.msg!r} in line {error.lineno}; write it again") from error
    except RecursionError as error:
        raise ValueError(f"{path} must be JSON, got lists nested too deeply; write it again") from error
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, got a number that is too long ({error}); write it again") from error


def write_csv(path: PathLike, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write `rows` as CSV with a header, whole or not at all; floats keep nine significant digits."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()})


def read_csv(path: PathLike) -> list[dict[str, str]]:
    """Read a CSV with a header into one dictionary of strings per row."""
    return list(csv.DictReader(io.StringIO(read_text(path), newline="")))


def sha256_text(text: str) -> str:
    """Hash a string (UTF-8) to 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: PathLike) -> str:
    """Hash the bytes of a file to 64 hexadecimal digits."""
    with require_file(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    # hashlib.file_digest is new in Python 3.11.
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
