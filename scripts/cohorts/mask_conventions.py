"""What the codes of a cohort's masks mean: one convention, but for masks that declare or are named otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from scripts.cohorts.checks import Reading
from scripts.cohorts.subjects import Source
from scripts.volumes.mask_codes import MaskCodes, decide_mask_codes


def decide_conventions(
    source: Source, readings: Sequence[Reading], declared: str | Mapping[str, int] | None
) -> tuple[MaskCodes | None, str, list[MaskCodes | None]]:
    """Decide the convention of the masks, those that declare alike and are named alike together.

    Args:
        source: its subjects and what it says of their masks.
        readings: codes in the mask of each subject.
        declared: for the whole cohort, by name or as tissue -> code.

    Returns:
        (codes of the cohort, the reason, codes of each subject that has others).

    Raises:
        ValueError: if codes fit no convention, or two that differ.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (subject, reading) in enumerate(zip(source.subjects, readings, strict=True)):
        if reading.mask_codes is not None:
            groups[repr(subject.mask_codes), source.masks_of(subject)].append(number)
    own: list[MaskCodes | None] = [None] * len(source.subjects)
    if not groups:
        return None, "no masks", own
    decided = []
    for (_, kind), numbers in sorted(groups.items(), key=lambda group: len(group[1]), reverse=True):
        masks = {str(source.subjects[i].mask): readings[i].mask_codes or [] for i in numbers}
        said = source.subjects[numbers[0]].mask_codes or declared or source.mask_codes
        codes, reason = _decide(masks, kind, said, source.labels)
        if said is not None and said is source.mask_codes:
            reason = f"from the labels of dataset.json; {reason.split('; ')[-1]}"
        decided.append((codes, f"{reason} ({len(numbers)} masks)"))
        for number in numbers:
            own[number] = codes if codes != decided[0][0] else None
    return decided[0][0], "; ".join(reason for _, reason in decided), own


def _decide(
    masks: Mapping[str, list[int]], kind: str, declared: str | Mapping[str, int] | None, labels: str
) -> tuple[MaskCodes, str]:
    try:
        return decide_mask_codes(masks, kind, declared)
    except ValueError as error:
        if labels and declared is None:
            raise ValueError(f"{error}; the labels of dataset.json are not understood: {labels}") from error
        raise
