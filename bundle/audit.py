"""The audit of folders as one command, whose exit status says the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.memorization.verdict import COLLAPSED, NO_SIGN, TOO_FEW, UNUSABLE
from scripts.running.configs import Invocation
from scripts.running.errors import root_cause
from scripts.running.files import read_json
from scripts.running.process import consoles_silenced, logged_to
from scripts.running.stages import AlreadyFinished, run_invocation

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("common", "audit", "audit_folders")
STATUS = {
    NO_SIGN: 0,
    UNUSABLE: 2,
    COLLAPSED: 2,
    TOO_FEW: 2,
}  # of any other verdict, all of which say that images are known, 1


def audit_folders(overrides: Mapping[str, Any]) -> int:
    """Audit folders as `configs/audit_folders.yaml` does, print the verdict and where the page is.

    Args:
        overrides: ids and values, as on the command line of `monai.bundle run`.

    Returns:
        0 for no sign of memorization, 1 where the images know training or held-out images, 2 where it cannot be told or
        the images are unusable.

    Raises:
        ValueError: as `scripts.memorization.folders.audit_folders`, not wrapped by MONAI.
        FileNotFoundError: likewise.
    """
    invocation = Invocation(tuple(str(ROOT / "configs" / f"{name}.yaml") for name in CONFIGS), dict(overrides))
    folder = Path(overrides["output_dir"])
    try:
        with consoles_silenced(), logged_to(folder / "log.txt", invocation.command()):
            run_invocation(invocation)
    except AlreadyFinished:
        pass
    except RuntimeError as error:
        raise root_cause(error) from error
    (result,) = read_json(folder / "audit.json")["classes"].values()
    print("\n".join([f"{result['verdict'].capitalize()}.", *result["evidence"], f"Page: {folder / 'audit.html'}"]))
    return STATUS.get(result["verdict"], 1)
