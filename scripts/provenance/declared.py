"""What somebody declares that a generator of their own has seen: which of the subjects here, as nothing recorded it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scripts.running.errors import some_names
from scripts.running.files import read_text
from scripts.splits.lists import FOLD_PARTS, read_list
from scripts.splits.parts import load_part

UNKNOWN, OTHERS, ALL = "unknown", "others", "all"
WORDS = (ALL, *FOLD_PARTS, OTHERS, UNKNOWN)
RULE = (
    f"{ALL} (every subject of patches_path), {', '.join(FOLD_PARTS)} (that part of the fold), {OTHERS} (nobody of"
    f" patches_path), {UNKNOWN}, or a list of subject ids, or a text file with one on each line"
)


def check_declaration(trained_on: Any, splits_path: str | None, fold: int | None) -> None:
    """Refuse a declaration that cannot be read, before any work.

    Args:
        trained_on: what the generator was trained on; see `RULE`.
        splits_path: `splits.json`, needed for a part of a fold.
        fold: likewise.

    Raises:
        ValueError: naming the key and the way out.
    """
    if isinstance(trained_on, (list, tuple)):
        if not trained_on or not all(isinstance(name, str) for name in trained_on):
            raise ValueError(f"trained_on must be {RULE}, got {trained_on!r}; {OTHERS} is nobody of this cohort")
    elif not isinstance(trained_on, str):
        raise ValueError(f"trained_on must be {RULE}, got {trained_on!r}; write {UNKNOWN} where nobody can tell")
    elif trained_on in FOLD_PARTS and (splits_path is None or fold is None):
        raise ValueError(f"splits_path and fold must be given where trained_on is {trained_on!r}, a part of a fold")
    elif trained_on not in WORDS and not list_path(trained_on):
        near = get_close_matches(trained_on, WORDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "correct the path of the list"
        raise ValueError(f"trained_on must be {RULE}, got {trained_on!r}, which is no file; {hint}")


def list_path(trained_on: Any) -> str | None:
    """Return the path of the text file that a declaration is; None if it is a word or a list."""
    is_file = isinstance(trained_on, str) and trained_on not in WORDS and Path(trained_on).is_file()
    return trained_on if is_file else None


def declared_subjects(trained_on: Any, patches_path: str, splits_path: str | None, fold: int | None) -> list[str]:
    """List the ids of the subjects that a declaration names; none of `others` and `unknown`.

    Args:
        trained_on: see `RULE`.
        patches_path: `patches.json` of the cohort.
        splits_path: `splits.json`, for a part of a fold.
        fold: likewise.

    Raises:
        ValueError: as `check_declaration`, or if a subject is not in the cohort.
    """
    check_declaration(trained_on, splits_path, fold)
    known = [row["subject_id"] for row in read_list(patches_path, "patches")["training"]]
    if trained_on in (UNKNOWN, OTHERS):
        return []
    if trained_on == ALL:
        return sorted(set(known))
    if trained_on in FOLD_PARTS:
        return sorted({row["subject_id"] for row in load_part(patches_path, splits_path, fold, trained_on)})
    path = list_path(trained_on)
    lines = [line.strip() for line in read_text(path).splitlines()] if path else trained_on
    named = sorted({line for line in lines if line})
    strangers = sorted(set(named) - set(known))
    if strangers or not named:
        raise ValueError(
            f"trained_on must name subjects of {patches_path}, got {some_names(strangers) or 'no line'}"
            f"{f' in {path}' if path else ''}; correct the ids, or leave out those of other cohorts"
        )
    return named


def describe_declaration(trained_on: Any, num_subjects: int) -> str:
    """Say in a word or two what was declared, for records and reports; a list by the number of its subjects."""
    return trained_on if trained_on in WORDS else f"a list of {num_subjects} subjects"


def is_declared(provenance: Mapping[str, Any]) -> bool:
    """Tell whether somebody said what a generator saw, and no training recorded it."""
    return "trained_on" in provenance


def names_nobody(provenance: Mapping[str, Any]) -> bool:
    """Tell whether a provenance is declared to name no subject: of a generator of other data, or of unknown ones."""
    return provenance.get("trained_on") in (OTHERS, UNKNOWN)


def holds_out_nobody(provenance: Mapping[str, Any]) -> bool:
    """Tell whether a declaration leaves no subject of whom it is said that others, but not they, were trained on."""
    return provenance.get("trained_on") in (ALL, OTHERS, UNKNOWN)


def unknown_methods(provenances: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the methods of sets of which nobody can tell what their generators saw: leakage is not excluded."""
    return sorted({record["method"] for record in provenances if record.get("trained_on") == UNKNOWN})
