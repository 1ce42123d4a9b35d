"""How the report writes numbers, intervals and names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.running.setups import classifier_of, permutation_of, setup_of

SETUP_NAMES = {
    "real": "Real images only",
    "augmentation": "+ augmentation",
    "ddpm": "+ DDPM",
    "ddpm_mi": "+ DDPM with MI",
    "pca_gaussian": "+ PCA Gaussian (control)",
    "mixed": "+ mixed pairs (control)",
    "deformed": "+ deformed copies (control)",
    "noisy": "+ noisy copies (control)",
    "synthetic_only": "DDPM images only",
    "synthetic_shuffled": "DDPM images only, labels shuffled",
    "ratio_0_5": "+ DDPM with MI, 0.5 for each real image",
    "ratio_1": "+ DDPM with MI, 1 for each real image",
    "ratio_2": "+ DDPM with MI, 2 for each real image",
    "ratio_5": "+ DDPM with MI, 5 for each real image",
}
METHOD_NAMES = {
    "real": "Real",
    "ddpm": "DDPM",
    "ddpm_mi": "DDPM + MI",
    "pca_gaussian": "PCA Gaussian (control)",
    "mixed": "Mixed pairs (control)",
    "deformed": "Deformed copies (control)",
    "noisy": "Noisy copies (control)",
}
KIND_NAMES = {
    "reader_study": "tests of readers",
    "reader_results": "results of readers",
    "cohort": "cohorts",
    "generator": "generators",
    "synthetic": "synthetic sets",
    "control": "sets of control generators",
    "imported": "sets of other programs",
    "audit": "memorization audits",
    "measures": "image measures",
    "classifier": "classifiers",
    "evaluation": "evaluations",
    "explain": "explanations",
}
# What a generator of another program is declared to be trained on.
DECLARED_NAMES = {
    "all": "all subjects of the cohort",
    "train": "the training part of the fold",
    "inner": "the inner part of the fold",
    "validation": "the validation part of the fold",
    "others": "nobody of the cohort",
    "unknown": "unknown: leakage not excluded",
}
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
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(value: float | None, decimals: int = 3, significant: int | None = None) -> str:
    """Write a number for a table: without the zero before the point, and zero without a sign.

    Args:
        value: any number; None and what is not finite become a dash.
        decimals: digits behind the point.
        significant: digits from the first that is not zero, instead of `decimals`; a number below .0001 is then written
            as a power of ten.

    >>> format_number(0.85), format_number(-0.0), format_number(0.0, 0), format_number(None)
    ('.850', '.000', '0', '–')
    >>> format_number(0.012345, significant=3), format_number(-4567.8, significant=3)
    ('.0123', '−4570')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    text = f"{size:.{decimals}f}" if significant is None else _significant(size, significant)
    sign = "−" if value < 0 and any(digit in text for digit in "123456789") else ""
    return sign + (text.removeprefix("0") if text.startswith("0.") else text)


def _significant(size: float, digits: int) -> str:
    text = f"{size:.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    power = str(int(exponent)).translate(SUPERSCRIPTS)
    return f"{float(text):.0f}" if size >= 1 else f"{mantissa} × 10{power}"


def format_p(p: float | None) -> str:
    """Write a p value with three decimals; one that these would show as 0 is "< .001", None is a dash."""
    return "< .001" if p is not None and p < 0.001 else format_number(p)


def format_interval(estimate: Mapping[str, Any] | None, decimals: int = 2) -> str:
    """Write the limits of an estimate as ".61 to .84"; empty without limits."""
    if estimate is None or estimate["low"] is None:
        return ""
    return f"{format_number(estimate['low'], decimals)} to {format_number(estimate['high'], decimals)}"


def name_setup(setup: str) -> str:
    """Return the reader's name of a setup; one that has none keeps its own.

    >>> name_setup("real"), name_setup("mine~vgg16"), name_setup("control=2")
    ('Real images only', 'mine, vgg16', 'control (2)')
    """
    classifier, number = classifier_of(setup), permutation_of(setup)
    name = SETUP_NAMES.get(setup_of(setup), setup_of(setup))
    name = name if number is None else f"{name} ({number})"
    return name if classifier is None else f"{name}, {classifier}"


def name_reference(reference: str) -> str:
    """Return the reader's name of what setups are compared with, each with that of its own classifier.

    >>> name_reference("real"), name_reference("mine~vgg16")
    ('Real images only', 'mine, same classifier')
    """
    return name_setup(setup_of(reference)) + (", same classifier" if classifier_of(reference) else "")


def name_test(test: Mapping[str, str]) -> str:
    """Return "site_a → site_b" of a test on another cohort, "site_a" of one inside the cohort trained on."""
    direction, cohort = test["direction"], test["cohort"]
    return direction if direction == cohort else f"{direction} → {cohort}"


def name_panel(test: Mapping[str, str], setup: str) -> str:
    """Return the title of a figure that shows a setup on a test: of several classifiers, each has its own figure."""
    classifier = classifier_of(setup)
    return name_test(test) if classifier is None else f"{name_test(test)}, {classifier}"


def name_method(method: str) -> str:
    """Return the reader's name of a source of images; one that has none keeps its own."""
    return METHOD_NAMES.get(method, method)


def name_kind(kind: str) -> str:
    """Return the reader's name of the stages of a kind; one that has none keeps its own."""
    return KIND_NAMES.get(kind, kind)


def capitalize_first(text: str) -> str:
    """Begin a text with a capital and leave the rest ("weighted F1" has one already)."""
    return text[:1].upper() + text[1:]


def ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Return unique names, those of `first` in its order and the others behind them as they come.

    A setup in `first` stands for it with every classifier, too.

    >>> ordered(["b", "a~resnet", "a~vgg"], ["a", "b"])
    ['a~resnet', 'a~vgg', 'b']
    """
    unique = list(dict.fromkeys(names))
    known = [name for one in first for name in unique if one in (name, setup_of(name))]
    return list(dict.fromkeys([*known, *unique]))
