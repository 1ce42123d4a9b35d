"""Outputs that are written whole or not at all, and the hashes that identify them."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import functools
import hashlib
import io
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]
MIN_FREE_BYTES = 1 << 20  # below this a failed write is taken for a full disk
# Why a file could not be written, and what helps; errors of other kinds have another reason than the disk.
UNWRITABLE = {
    errno.ENOSPC: "no space left to write {}; free some",
    errno.EDQUOT: "the quota is used up and does not let {} be written; free some of your files",
    errno.EFBIG: "{} must be smaller than the limit of files here (ulimit -f, or that of the file system); raise it",
    errno.EROFS: "{} lies on a disk that is read-only; choose another output_dir",
    errno.EACCES: "{} lies in a folder that this user may not write to; choose another output_dir",
    errno.EPERM: "{} lies in a folder that this user may not write to; choose another output_dir",
    errno.EIO: "the disk failed to write {}; check it",
    errno.ENAMETOOLONG: "{} must have a shorter name; choose a shorter output_dir",
}
# What stages write and other stages read; any other file is the user's own.
OF_STAGES = (
    *("cohort.json", "patches.json", "splits.json", "synthetic.json", "provenance.json", "metrics.json"),
    *("audit.json", "measures.json", "explanations.json", "predictions.csv", "inner_predictions.csv", "model.pt"),
    "reader_key.json",
)
RECORD = "stage.json"  # in the folder of a stage: what it was made from
JOURNAL = ".outputs"  # in the folder of a stage that is under way: what it wrote, a name per line
SETTLED_NS = 2 * 10**9  # older than this, a file of the same size and time of change has the same content
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
        OSError: if the disk, a quota, a limit or a permission stops the write, naming `path` and the way out;
            otherwise whatever the block raised.
    """
    final = Path(path)
    temporary = final.with_name(f".partial-{os.getpid()}-{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        _note_output(final)
        os.replace(temporary, final)
        _sync_folder(final.parent)
    except (OSError, RuntimeError) as error:
        explained = _named(error, final, temporary)
        if explained is None:
            raise
        raise explained from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _note_output(final: Path) -> None:
    """Add a file to the list of what the stage wrote in whose folder it lies, if one is under way there.

    Only so can what a stopped stage left be told from the files of somebody else. The name is listed before it exists:
    after a kill in between, the list names too much and never too little.
    """
    for folder in final.absolute().parents:
        if (folder / JOURNAL).is_file():
            with (folder / JOURNAL).open("a", encoding="utf-8") as stream:
                stream.write(f"{final.absolute().relative_to(folder).as_posix()}\n")
            return
        if (folder / RECORD).is_file():
            return  # a finished stage, which writes no more


def _named(error: OSError | RuntimeError, final: Path, temporary: Path) -> OSError | None:
    """Return an error that names the file that could not be written; None where another thing went wrong."""
    number = error.errno if isinstance(error, OSError) else None
    # torch.save says "unexpected pos 17408 vs 17304" where a write was cut short, whatever the reason.
    is_cut = isinstance(error, RuntimeError) and any(part in str(error) for part in ("unexpected pos", "PytorchStream"))
    folder = next((parent for parent in final.parents if parent.is_dir()), Path("/"))
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        number = errno.ENOSPC
    elif isinstance(error, OSError):
        about = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, (str, os.PathLike))]
        is_other = about and not {temporary, final, *final.parents}.intersection(about)
        if is_other or error.errno is None:
            return None  # of another file, or of its content
    elif not is_cut:
        return None
    if number in UNWRITABLE:
        return OSError(number, f"{UNWRITABLE[number].format(final)}, then run the same command again")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = f"{final} could not be written ({reason}); check the disk, its quota and its limit of the size of files"
    message = f"{text}, then run the same command again"
    return OSError(message) if number is None else OSError(number, message)


def _sync_folder(folder: Path) -> None:
    # Without it a power cut may lose the name, though not the content. Not every file system can.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def listed_twice(paths: Sequence[str]) -> str | None:
    """Return the first path that leads to a place that an earlier one leads to, by links too; None without one."""
    places = [os.path.realpath(path) for path in paths]
    return next((path for index, path in enumerate(paths) if places[index] in places[:index]), None)


def require_file(path: PathLike, hint: str | None = None) -> Path:
    """Return the path of a file that is there.

    Args:
        path: of the file.
        hint: what to do if it is not; None offers the nearest name, and the stage if one writes such a file.

    Raises:
        FileNotFoundError: saying why there is no such file.
    """
    if why := why_no_file(path):
        raise FileNotFoundError(f"{path} {why}; {way_out(path) if hint is None else hint}")
    return Path(path)


def way_out(path: PathLike) -> str:
    """Say what helps where a file is missing: the nearest name, and the stage if one writes such a file."""
    file = Path(path)
    if file.is_dir():
        inside = [str(file / name) for name in OF_STAGES if (file / name).is_file()]
        return f"name the file in it{f', such as {inside[0]}' if inside else ''}"
    near: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        near = get_close_matches(file.name, os.listdir(file.parent), n=1)
    nearest = f"check the path{f' (did you mean {near[0]}?)' if near and near[0] != file.name else ''}"
    return f"{nearest}, or run the stage that writes it first" if file.name in OF_STAGES else nearest


def read_text(path: PathLike) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; line ends stay as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in another encoding (cp1252, UTF-16 without a mark) or no text, naming file and line.
    """
    file = require_file(path)
    raw = file.read_bytes()
    encoding = _encoding_of(raw)
    try:
        text = raw.decode(encoding)
        position = text.find("\0")
        place = f"a null character in line {text.count(chr(10), 0, position) + 1}" if position >= 0 else ""
    except UnicodeDecodeError as error:
        place = _describe_byte(raw, error.start)
    if place:
        raise ValueError(f"{file} must be text in UTF-8, got {place}; save it as UTF-8 (in Excel as 'CSV UTF-8')")
    return text


def require_utf8(path: PathLike) -> None:
    """Refuse a config file in another encoding than UTF-8, which MONAI would stop at without naming the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in another encoding, naming file, line and, as far as it can be told, the encoding.
    """
    file = require_file(path)
    raw = file.read_bytes()
    encoding = _encoding_of(raw)
    fault = "" if encoding.startswith("utf-8") else encoding.upper()
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        fault = fault or _describe_byte(raw, error.start)
    if fault:
        raise ValueError(f"{file} must be text in UTF-8, got {fault}; save it as UTF-8")


def _encoding_of(raw: bytes) -> str:
    return next((encoding for mark, encoding in ENCODINGS.items() if raw.startswith(mark)), "utf-8")


def _describe_byte(raw: bytes, position: int) -> str:
    """Say where a byte is that is not UTF-8, and what it is in the encoding that Windows writes."""
    letter = raw[position : position + 1].decode("cp1252", errors="ignore")
    reading = f" ({letter!r} in cp1252)" if letter else ""
    return f"the byte 0x{raw[position]:02x} in line {raw.count(bytes([10]), 0, position) + 1}{reading}"


def read_json(path: PathLike) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the content is not JSON, which has neither NaN nor Infinity, naming the file.
    """
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must be JSON, got {error.msg!r} in line {error.lineno}; write it again") from error
    except RecursionError as error:
        raise ValueError(f"{path} must be JSON, got lists nested too deeply; write it again") from error
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, got a number that it cannot hold ({error}); write it again") from error


def _refuse_constant(name: str) -> None:
    # Python writes NaN and Infinity, which no other program reads and every comparison misses.
    raise ValueError(name)


def write_csv(path: PathLike, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write `rows` as CSV with a header, whole or not at all; floats keep nine significant digits."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()})


def read_csv(path: PathLike) -> list[dict[str, str]]:
    """Read a CSV with a header into one dictionary of strings per row."""
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} must be a table in CSV, got {error}; save it again as CSV") from error


def file_state(path: PathLike) -> tuple[int, int]:
    """Return size and time of change (ns) of a file: while they stay the same, it is taken to hold the same."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def sha256_text(text: str) -> str:
    """Hash a string (UTF-8) to 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: PathLike) -> str:
    """Hash the bytes of a file to 64 hexadecimal digits.

    A file that this process hashed before is not read again while its size and time of change are the same. One that
    was changed in the last two seconds is: a second change may have the same time.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    file = require_file(path)
    status = file.stat()
    if time.time_ns() - status.st_mtime_ns < SETTLED_NS:
        return _digest(file)
    return _digest_of_state(os.path.realpath(file), (status.st_size, status.st_mtime_ns, status.st_ino))


@functools.lru_cache(maxsize=1 << 16)
def _digest_of_state(path: str, state: tuple[int, int, int]) -> str:
    return _digest(Path(path))


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
