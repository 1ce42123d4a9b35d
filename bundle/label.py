"""Starts the MONAI Label app in the environment that MONAI Label needs."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = "monai_label"
HOW_TO_INSTALL = "`make label-env` installs it in an environment of its own"


def serve(
    studies: str,
    bundle: str | None = None,
    port: int = 8000,
    work: str | None = None,
    max_upload_mb: int = 1024,
) -> None:
    """Become the server: this process is replaced by it.

    Args:
        studies: folder of the studies.
        bundle: root of the bundle to serve; None serves this repository, with the weights in its `models/`.
        port: port on 127.0.0.1.
        work: folder for labels and uploads; None makes one in the studies.
        max_upload_mb: size of one request, MiB.

    Raises:
        FileNotFoundError: if MONAI Label, the studies, the bundle or its weights are missing.
        ValueError: if the port or the size is out of range.
    """
    command, environment = server_command(studies, bundle, port, work, max_upload_mb)
    os.chdir(command[command.index("--work") + 1])
    os.execve(command[0], command, environment)


def server_command(
    studies: str,
    bundle: str | None = None,
    port: int = 8000,
    work: str | None = None,
    max_upload_mb: int = 1024,
) -> tuple[list[str], dict[str, str]]:
    """Check what was asked for and return the command that serves it, with its environment.

    The arguments and errors are those of `serve`; the folder for labels is made.
    """
    if not 1 <= port <= 65535 or max_upload_mb < 1:
        raise ValueError(f"--port must be from 1 to 65535 and --max-upload-mb at least 1, got {port}, {max_upload_mb}")
    root, served = Path(studies).resolve(), Path(bundle or ROOT).resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist; give the folder of the patients' files as --studies")
    for name in ("configs/inference.json", "models/model.pt", "models/provenance.json"):
        if not (served / name).is_file():
            raise FileNotFoundError(
                f"{served / name} does not exist; give the folder of a package as --bundle (`python -m bundle pack`"
                " writes one), or copy model.pt and provenance.json of an evaluation to models/"
            )
    folder = Path(work).resolve() if work else root / WORK
    folder.mkdir(parents=True, exist_ok=True)
    python = label_python()
    flags = {"--studies": root, "--bundle": served, "--work": folder, "--port": port, "--max-upload-mb": max_upload_mb}
    command = [python, "-m", "bundle.label_app", *(str(word) for flag in flags.items() for word in flag)]
    # The code of the bundle that is served comes first: its `scripts`, if it is another than this one.
    paths = [served, ROOT, ROOT / "bundle" / "label_app" / "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_WAIT_POLICY": "PASSIVE"}
    return command, environment


def label_python() -> str:
    """Return the Python that has MONAI Label: this one, or that of `.venv-label`.

    Raises:
        FileNotFoundError: if neither has it.
    """
    if importlib.util.find_spec("monailabel") is not None:
        return sys.executable
    python = ROOT / ".venv-label" / "bin" / "python"
    if not python.is_file():
        raise FileNotFoundError(f"{python} does not exist: MONAI Label is not installed; {HOW_TO_INSTALL}")
    return str(python)
