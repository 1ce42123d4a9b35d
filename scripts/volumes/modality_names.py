"""What people call modalities, other images and masks; understood here, when data come in, and nowhere else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

ALIASES = {
    "t1n": ("t1n", "t1", "t1w", "t1native", "t1pre"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1cew", "t1wce", "t1post", "t1contrast", "t1km", "t1+c"),
    "t2w": ("t2w", "t2"),
    "t2f": ("t2f", "flair", "t2flair", "t2wflair", "fla"),
}
OTHER_IMAGES = (
    "pd",
    "pdw",
    "t2star",
    "mra",
    "dti",
    "dwi",
    "adc",
    "swi",
    "asl",
    "bold",
)  # of an examination of the brain
MASKS = ("mask", "masks", "brainmask", "seg", "aseg", "fseg", "segmentation", "label", "labels", "labelmap", "roi")
SEPARATORS = re.compile(r"[\s\u2010-\u2015_.,:/()\[\]-]")  # \u2010 to \u2015 are hyphens and dashes


def parse_modality(name: str, modalities: Sequence[str]) -> str | None:
    """Find the modality that a word stands for, whatever its case, hyphens, underscores, blanks and brackets.

    Any other sign counts: T2* is another contrast than T2.

    Args:
        name: the word, such as `T1Gd` or `t2_flair`.
        modalities: the project's own names; one of them that has no alias is understood as it is.

    Returns:
        The name as in `modalities` or `ALIASES`; None if the word is not understood.
    """
    word = _plain(name)
    own = {_plain(modality): modality for modality in modalities}
    known = {alias: modality for modality, aliases in ALIASES.items() for alias in aliases}
    return own.get(word) or known.get(word)


def other_modalities(path: str, modality: str) -> list[str]:
    """List the words of a path that stand for another modality or kind of image than one, in their order.

    Neighboring words of a name count as one where they are a modality together.

    >>> other_modalities("IXI002-Guys-0828-PD", "t1n"), other_modalities("P1_T2_FLAIR", "t2f")
    (['PD'], [])

    Args:
        path: of an image, without its ending.
        modality: the one that the image is taken for.
    """
    wanted = parse_modality(modality, ()) or _plain(modality)
    others = []
    for words in map(_words, path.split("/")):
        while words:
            lengths = (length for length in (3, 2, 1) if parse_modality("_".join(words[:length]), ()))
            length = next(lengths, 1)
            word = "_".join(words[:length])
            kind = parse_modality(word, ()) or (word.lower() if word.lower() in OTHER_IMAGES else wanted)
            others += [word] if kind.removesuffix("w") != wanted.removesuffix("w") else []  # PDw is PD
            words = words[length:]
    return others


def mask_words(path: str) -> list[str]:
    """List the words of a path that say that it is no image but a mask.

    >>> mask_words("disc1/P1_t88_masked_gfc"), mask_words("P1_brain_mask")
    ([], ['mask'])
    """
    return [word for word in _words(path) if word.lower() in MASKS]


def describe_aliases(modalities: Sequence[str]) -> str:
    """List the words that are understood, for an error message."""
    return "; ".join(f"{modality}: {', '.join(ALIASES.get(modality, (modality,)))}" for modality in modalities)


def channel_names(path: str | Path, description: object) -> list[str]:
    """List the names of the channels that a `dataset.json` of the Medical Decathlon gives.

    Args:
        path: of the file, for the message.
        description: its content; that of another program gives none.

    Raises:
        ValueError: if `modality` is not as the Decathlon writes it.
    """
    names = description.get("modality", {}) if isinstance(description, Mapping) else {}
    require_numbered(path, "modality", names)
    return [names[number] for number in sorted(names, key=int)]


def require_numbered(path: str | Path, key: str, names: object) -> None:
    """Refuse a part of `dataset.json` that is no mapping from number to name.

    Raises:
        ValueError: naming file and key.
    """
    if not isinstance(names, Mapping) or not all(
        str(number).isdecimal() and isinstance(name, str) for number, name in names.items()
    ):
        raise ValueError(f"{path}: {key} must be a mapping from number to name, got {names!r}; correct it")


def _plain(name: str) -> str:
    return SEPARATORS.sub("", unicodedata.normalize("NFKC", name)).lower()


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^\w+]|_", name) if word]
