"""Which series is which modality: chosen by rules where exactly one fits, and asked for everywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.dicom.contents import MODALITIES, REFERENCE, contrast_of, is_localizer, modality_of
from bundle.dicom.headers import Series, Study, describe_passed_over

HOW_TO_NAME = '--series "t1c=7" takes a series by its number, or by its SeriesInstanceUID'
Chosen = dict[str, Series]


def parse_series(words: Sequence[str] | str | Mapping[str, Any] | None) -> dict[str, str]:
    """Read which series the user names.

    >>> parse_series(["t1c=7", "t2w=3,t2f=4"])
    {'t1c': '7', 't2w': '3', 't2f': '4'}

    Args:
        words: `MODALITY=NUMBER` or `MODALITY=UID`, several with commas; or a mapping of these.

    Raises:
        ValueError: if one is written otherwise, or a modality is named twice.
    """
    if isinstance(words, Mapping):
        pairs = [(str(name), str(value)) for name, value in words.items()]
    else:
        parts = [part for word in ([words] if isinstance(words, str) else words or []) for part in word.split(",")]
        pairs = [(name.strip(), value.strip()) for name, _, value in (part.partition("=") for part in parts)]
    for name, value in pairs:
        if name not in MODALITIES or not value or [other for other, _ in pairs].count(name) > 1:
            text = ", ".join(f"{other}={number}" for other, number in pairs)
            raise ValueError(f"series must name {', '.join(MODALITIES)} at most once each, got {text}; {HOW_TO_NAME}")
    return dict(pairs)


def choose(study: Study, named: Mapping[str, str], modalities: Sequence[str] = MODALITIES) -> Chosen:
    """Choose the series of each modality.

    Args:
        study: headers of an examination.
        named: modality -> number or UID of the series that the user wants.
        modalities: that are needed; t1c, whose grid the others get, and the named ones are chosen in any case.

    Raises:
        ValueError: with the table of the series, if for a modality none or several fit, a name fits none or several,
            one series is named twice, or the series taken for the one without contrast began after the one with it.
    """
    wanted = [modality for modality in MODALITIES if modality in {*modalities, *named, REFERENCE}]
    chosen = {modality: _named(study, modality, word) for modality, word in named.items()}
    problems = [
        f"{series.name} is named for {' and '.join(sorted(names))}"
        for series in chosen.values()
        if len(names := [modality for modality, other in chosen.items() if other is series]) > 1
    ]
    taken = [series.uid for series in chosen.values()]
    for modality in (modality for modality in wanted if modality not in chosen):
        fitting = [item for item in study.series if item.uid not in taken and modality_of(item)[0] == modality]
        if len(fitting) == 1:
            chosen[modality] = fitting[0]
        else:
            problems.append(_missing(study, modality) if not fitting else _several(modality, fitting))
    if not problems and "t1n" in chosen and "t1n" not in named:
        problems += _order_problem(chosen)
    if problems:
        raise ValueError(
            f"{study.folder} must hold one series for each of {', '.join(wanted)}, got: {'; '.join(problems)};"
            f" {HOW_TO_NAME}{describe_passed_over(study)}\n{describe(study)}"
        )
    return {modality: chosen[modality] for modality in wanted}


def describe(study: Study, chosen: Mapping[str, Series] | None = None) -> str:
    """Write the table of the series, with what each is taken for.

    Args:
        study: headers of an examination.
        chosen: modality -> series; without, what the rules make of each.
    """
    names = {series.uid: modality for modality, series in (chosen or {}).items()}
    header = ("number", "description", "images", "mm", "TE", "TR", "TI", "agent", "taken for")
    rows: list[tuple[str, ...]] = [header]
    for series in study.series:
        modality, reason = modality_of(series)
        taken = names.get(series.uid, f"({reason or modality})" if chosen else modality or f"({reason})")
        rows.append((*_facts(series), taken))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _facts(series: Series) -> tuple[str, ...]:
    spacing = series.value("PixelSpacing")
    times = [series.number_of(f"{name}Time") for name in ("Echo", "Repetition", "Inversion")]
    sides = "x".join(f"{float(side):.3g}" for side in spacing) if spacing is not None else "-"
    contrast = {True: "yes", False: "-", None: "?"}[contrast_of(series)]
    numbers = [f"{time:.5g}" if time is not None else "-" for time in times]
    number = "-" if series.number is None else str(series.number)
    return (number, series.description or "-", str(len(series.headers)), sides, *numbers, contrast)


def _named(study: Study, modality: str, word: str) -> Series:
    fitting = [series for series in study.series if word in (str(series.number), series.uid)]
    if len(fitting) == 1:
        return fitting[0]
    way_out = "give its SeriesInstanceUID" if fitting else "take a number of the table"
    uids = f" ({', '.join(series.uid for series in fitting)})" if fitting else ""
    raise ValueError(
        f"series must name one series of {study.folder} for {modality}, got {word}, which {len(fitting)} have{uids};"
        f" {way_out}\n{describe(study)}"
    )


def _missing(study: Study, modality: str) -> str:
    if all(is_localizer(series) for series in study.series):
        return f"none for {modality} (there are only localizers)"
    if modality == "t1c":
        return "none for t1c (no T1 series whose header or description tells of a contrast agent)"
    return f"none for {modality}"


def _several(modality: str, fitting: Sequence[Series]) -> str:
    return f"{len(fitting)} for {modality} ({' and '.join(series.name for series in fitting)})"


def _order_problem(chosen: Chosen) -> list[str]:
    # An agent that nobody noted shows in the clock: nothing is without contrast after the contrast was given.
    before, after = chosen["t1n"], chosen["t1c"]
    if before.began and after.began and before.began > after.began:
        return [
            f"{before.name}, taken for t1n, began after {after.name} with contrast: name it if it is without contrast"
        ]
    return []
