"""How the report writes numbers, intervals and names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SETUP_NAMES = {
    "real": "Real images only",
    "augmentation": "+ augmentation",
    "ddpm": "+ DDPM",
    "ddpm_mi": "+ DDPM with MI",
    "synthetic_only": "DDPM images only",
    "synthetic_shuffled": "DDPM images only, labels shuffled (control)",
    "ratio_0_5": "+ DDPM with MI, 0.5 for each real image",
    "ratio_1": "+ DDPM with MI, 1 for each real image",
    "ratio_2": "+ DDPM with MI, 2 for each real image",
    "ratio_5": "+ DDPM with MI, 5 for each real image",
}
METHOD_NAMES = {"real": "Real", "ddpm": "DDPM", "ddpm_mi": "DDPM + MI"}

MEASURE_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
}
ROLE_NAMES = {
    "external": "other cohort (ensemble)",
    "locked_test": "locked test (ensemble)",
    "out_of_fold": "out of fold",
    "validation_selected_on": "validation (selected on)",
}


def format_number(value: float | None, digits: int = 3) -> str:
    """Write a number with fixed digits, and without the leading zero where it lies in [0, 1); None is a dash."""
    if value is None:
        return "–"
    rounded = round(value, digits)
    sign, text = "−" if rounded < 0 else "", f"{abs(rounded):.{digits}f}"
    return sign + text.removeprefix("0")


def format_interval(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Write the limits of an estimate as ".61 to .84"; empty without limits."""
    if estimate is None or estimate["low"] is None:
        return ""
    return f"{format_number(estimate['low'], digits)} to {format_number(estimate['high'], digits)}"


def name_setup(setup: str) -> str:
    """Return the reader's name of a setup; one that has none keeps its own."""
    return SETUP_NAMES.get(setup, setup)


def name_method(method: str) -> str:
    """Return the reader's name of a source of images; one that has none keeps its own."""
    return METHOD_NAMES.get(method, method)


def capitalize_first(text: str) -> str:
    """Begin a text with a capital and leave the rest ("weighted F1" has one already)."""
    return text[:1].upper() + text[1:]


def ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Return unique names, those of `first` in its order and the others behind them as they come."""
    unique = list(dict.fromkeys(names))
    return [name for name in first if name in unique] + [name for name in unique if name not in first]
