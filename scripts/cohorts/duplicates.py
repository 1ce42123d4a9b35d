"""Pictures that are there twice: exact copies, and copies that were saved again or resized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from scripts.cohorts.checks import Reading
from scripts.cohorts.subjects import Subject
from scripts.running.errors import some_names

WAYS = ("refuse", "keep_first", "group")
LEAST_CORRELATION = 0.99  # of two thumbnails, from which on they are of one picture
NEARLY_ONE = 1 - 1e-6  # 1 is kept for equal pixels
COARSE_CELLS = 16  # of each axis of the thumbnails that are compared first, all with all
COARSE_CORRELATION = 0.98  # of those; a copy that was saved again or resized is far above it
BLOCK, PAIRS = 512, 4096  # pictures compared with all others at once, and pairs in full


@dataclass(frozen=True)
class Copies:
    """Pictures that are one.

    Args:
        numbers: of the pictures, in the order of the cohort.
        correlation: lowest of the pairs that link them; 1 for exact copies.
    """

    numbers: list[int]
    correlation: float


def check_duplicates(way: str) -> None:
    """Refuse a way to treat copies that there is not.

    Raises:
        ValueError: with those that there are.
    """
    if way not in WAYS:
        raise ValueError(f"duplicates must be one of {', '.join(WAYS)}, got {way!r}")


def find_copies(readings: Sequence[Reading]) -> list[Copies]:
    """Find the pictures of a cohort that are one, by equal pixels or by thumbnails that correlate.

    A thumbnail is a perceptual hash that keeps its numbers: hashes of 64 bits lose copies where cells are nearly equal,
    as they are in the dark of a scan. Coarse thumbnails are compared all with all, by matrix products, and those that
    are alike in full.

    Args:
        readings: of each picture: its hashes and, unless it is small, its thumbnail.

    Returns:
        Groups of at least two, by the first picture of each.
    """
    first_of: dict[str, int] = {}
    links = []
    for number, reading in enumerate(readings):
        for digest in reading.hashes.values() if reading.is_picture else ():
            links.append((first_of.setdefault(digest, number), number, 1.0))
    known = [number for number, reading in enumerate(readings) if reading.thumbnail is not None]
    thumbnails = [reading.thumbnail for reading in readings if reading.thumbnail is not None]
    links += [(known[one], known[other], value) for one, other, value in _near(thumbnails)]
    return list(_groups([link for link in links if link[0] != link[1]], len(readings)))


def settle_copies(subjects: list[Subject], readings: list[Reading], way: str) -> tuple[list[str], list[dict[str, str]]]:
    """Refuse copies, leave out all but the first of each, or make each group one patient.

    Copies in two classes are refused in any case: nobody but the user knows which class is right.

    Args:
        subjects: those left out are taken out; the patients of those grouped become one, with all of their images.
        readings: of the subjects, in their order; likewise.
        way: one of `WAYS`.

    Returns:
        A sentence for each group that is refused, and the subjects left out, each with the reason.
    """
    problems: list[str] = []
    left_out: list[dict[str, str]] = []
    drop: set[int] = set()
    same_person: list[list[int]] = []
    for copies in find_copies(readings):
        group = [subjects[number] for number in copies.numbers]
        if way == "refuse" or len({subject.grade for subject in group}) > 1:
            problems.append(_refusal(group, copies.correlation))
        elif way == "group":
            same_person.append(copies.numbers)
        else:
            drop |= set(copies.numbers[1:])
            reason = f"a copy of {group[0].subject_id} (duplicates: keep_first)"
            left_out += [{"subject_id": subject.subject_id, "reason": reason} for subject in group[1:]]
    if same_person:
        _join_patients(subjects, same_person)
    kept = [number for number in range(len(readings)) if number not in drop]
    subjects[:] = [subjects[number] for number in kept]
    readings[:] = [readings[number] for number in kept]
    return problems, left_out


def _join_patients(subjects: Sequence[Subject], groups: Sequence[Sequence[int]]) -> None:
    """Give patients who share a picture one `patient_id`, the first of them in the list; `groups` of its numbers."""
    first_of: dict[str, int] = {}
    links = [(first_of.setdefault(subject.patient_id, number), number, 1.0) for number, subject in enumerate(subjects)]
    links += [(numbers[0], number, 1.0) for numbers in groups for number in numbers]
    for joined in _groups([link for link in links if link[0] != link[1]], len(subjects)):
        name = subjects[joined.numbers[0]].patient_id
        for number in joined.numbers:
            subjects[number].patient_id = name


def _refusal(group: Sequence[Subject], correlation: float) -> str:
    files = some_names(str(path) for subject in group for path in subject.image_paths().values())
    classes = sorted({str(subject.grade) for subject in group})
    got = (
        "the same pixels" if correlation == 1 else f"one picture saved anew or resized (correlation {correlation:.4f})"
    )
    if len(classes) > 1:
        return (
            f"{files} must be in one class, got {got} as {' and '.join(classes)}; remove the wrong ones, or leave them"
            " out (leave_out)"
        )
    return (
        f"{files} must be different images, got {got}; remove the copies, or pass --duplicates keep_first to leave them"
        " out, or group to keep them in one part of every split"
    )


def _near(thumbnails: Sequence[np.ndarray]) -> Iterator[tuple[int, int, float]]:
    """(one, other, correlation) of the thumbnails that are of one picture."""
    if not thumbnails:
        return
    fine = np.stack(thumbnails).astype(np.float32)
    side = fine.shape[1] // COARSE_CELLS
    coarse = fine.reshape(len(fine), COARSE_CELLS, side, COARSE_CELLS, side).mean(axis=(2, 4))
    fine, coarse = _standardized(fine), _standardized(coarse)
    for start in range(0, len(fine), BLOCK):
        alike = coarse[start : start + BLOCK] @ coarse[start:].T >= COARSE_CORRELATION
        rows, columns = np.nonzero(np.triu(alike, 1))
        for part in range(0, len(rows), PAIRS):
            ones, others = rows[part : part + PAIRS] + start, columns[part : part + PAIRS] + start
            values = np.einsum("ij,ij->i", fine[ones], fine[others])
            for near in np.flatnonzero(values >= LEAST_CORRELATION).tolist():
                yield int(ones[near]), int(others[near]), min(float(values[near]), NEARLY_ONE)


def _standardized(thumbnails: np.ndarray) -> np.ndarray:
    """Zero mean and unit length, (N, pixels); zeros without contrast."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(lengths > 1e-3, lengths, np.inf)


def _groups(links: Sequence[tuple[int, int, float]], count: int) -> Iterator[Copies]:
    if not links:
        return
    ones, others, values = (np.array(column) for column in zip(*links, strict=True))
    labels = connected_components(coo_array((np.ones(len(ones)), (ones, others)), shape=(count, count)), False)[1]
    members: dict[int, list[int]] = {}
    for number in sorted({*ones.tolist(), *others.tolist()}):
        members.setdefault(int(labels[number]), []).append(number)
    for label, numbers in members.items():
        yield Copies(numbers, float(values[labels[ones] == label].min()))
