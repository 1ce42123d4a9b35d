"""What the codes of a tumor mask mean, decided for a whole cohort from all its masks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scripts.running.errors import some_names
from scripts.volumes.regions import REGIONS, TISSUES, region_codes

MaskCodes = dict[str, int]

CONVENTIONS: dict[str, MaskCodes] = {
    "brats_2017": {"necrotic": 1, "edema": 2, "enhancing": 4},  # 2017 to 2022; necrotic or not enhancing
    "brats_2023": {"necrotic": 1, "edema": 2, "enhancing": 3},
    "brats_2024_post_treatment": {"necrotic": 1, "edema": 2, "enhancing": 3, "cavity": 4},
    "decathlon": {"edema": 1, "necrotic": 2, "enhancing": 3},
    "brats_2013": {"necrotic": 1, "edema": 2, "non_enhancing": 3, "enhancing": 4},  # 2013 to 2015
    # Children, Kazerooni et al. 2024 (arXiv:2404.15009); the cystic component, part of the core, stands as necrotic.
    "brats_2024_pediatric": {"enhancing": 1, "non_enhancing": 2, "necrotic": 3, "edema": 4},
}
# A hyphenated name does not say more than "2023 or later", and people rename older cases: hence three candidates.
# Two conventions that only a declaration can mean (3 and 4 in one mask) are no candidates for a table.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "brats_2018": ("brats_2017",),
    "brats_2023": ("brats_2023", "brats_2024_post_treatment", "brats_2017"),
    "brats_pediatric": ("brats_2023", "brats_2024_pediatric"),
    "decathlon": ("decathlon",),
    "table": ("brats_2017", "brats_2023", "decathlon"),
    "class_folders": (),
    "flat": (),
    "bids": (),
    "unknown": (),
}
PEDIATRIC = re.compile(r"BraTS-PEDs?-\d", re.IGNORECASE)  # task in a name, which says more than the layout


def parse_mask_codes(declared: str | Mapping[str, Any], key: str = "mask_codes") -> MaskCodes:
    """Read a declared convention.

    Args:
        declared: name of one of `CONVENTIONS`, or a mapping from tissue to code.
        key: of the config, for messages.

    Returns:
        Tissue -> code, each code a positive integer of its own.

    Raises:
        TypeError: if it is neither.
        ValueError: if there is no such convention or tissue, or two tissues share a code.
    """
    if isinstance(declared, str):
        by_name = {_plain(name): codes for name, codes in CONVENTIONS.items()}
        if _plain(declared) not in by_name:
            raise ValueError(f"{key} must be {describe_conventions()}, got {declared!r}; or a mapping tissue: code")
        return dict(by_name[_plain(declared)])
    if not isinstance(declared, Mapping):
        raise TypeError(
            f"{key} must be the name of a convention or a mapping tissue: code, got {declared!r}; write it as"
            f" {{necrotic: 1, edema: 2, enhancing: 4}}, or name one of {', '.join(CONVENTIONS)}"
        )
    codes = list(declared.values())
    if any(isinstance(code, bool) or not isinstance(code, int) or code < 1 for code in codes):
        raise ValueError(f"{key} must be integers of at least 1 (0 is background), got {declared!r}")
    if not declared or set(declared) - set(TISSUES) or len(set(codes)) < len(codes):
        raise ValueError(f"{key} must give each of some of {', '.join(TISSUES)} a code of its own, got {declared!r}")
    return {str(tissue): int(code) for tissue, code in declared.items()}


def source_of_masks(layout: str, name: str) -> str:
    """Say where a mask is from, as far as its name tells more than the layout of its cohort.

    Args:
        layout: one of `CANDIDATES`.
        name: of the subject or of the file.

    Returns:
        One of `CANDIDATES`.
    """
    return "brats_pediatric" if PEDIATRIC.search(name) else layout


def describe_conventions() -> str:
    """List the conventions, for an error message."""
    return "; ".join(
        f"{name} ({', '.join(f'{code} {tissue}' for tissue, code in codes.items())})"
        for name, codes in CONVENTIONS.items()
    )


def decide_mask_codes(
    codes_of_masks: Mapping[str, Collection[int]], layout: str, declared: str | Mapping[str, Any] | None = None
) -> tuple[MaskCodes, str]:
    """Choose the convention of a cohort from the codes in all its masks.

    Args:
        codes_of_masks: path of each mask -> the codes it holds, background left out.
        layout: one of `CANDIDATES`.
        declared: a convention by name or a mapping, which overrules the layout.

    Returns:
        (tissue -> code, the reason in words).

    Raises:
        ValueError: if a mask holds a code that no candidate knows, or the candidates that fit give different regions.
    """
    present = sorted({code for codes in codes_of_masks.values() for code in codes})
    if declared is not None:
        convention = parse_mask_codes(declared)
        _refuse_unknown(codes_of_masks, [convention], "declared mask_codes")
        name = declared if isinstance(declared, str) else "a mapping"
        return convention, f"declared as {name}; the masks hold the codes {_listed(present)}"
    names = CANDIDATES[layout]
    if not names:
        raise ValueError(
            f"mask_codes must be declared where nothing says what the codes {_listed(present)} mean: one of"
            f" {describe_conventions()}, or a mapping tissue: code"
        )
    fitting = [name for name in names if set(present) <= set(CONVENTIONS[name].values())]
    if not fitting:
        _refuse_unknown(codes_of_masks, [CONVENTIONS[name] for name in names], f"conventions of layout {layout}")
    regions = [_present_regions(CONVENTIONS[name], present) for name in fitting]
    if any(one != regions[0] for one in regions):
        raise ValueError(
            f"mask_codes must be declared where conventions give different regions: the masks hold {_listed(present)},"
            f" which {' and '.join(fitting)} read differently; set mask_codes to one of {describe_conventions()}"
        )
    same = f" (so would {', '.join(fitting[1:])}, with the same regions)" if fitting[1:] else ""
    return dict(CONVENTIONS[fitting[0]]), f"layout {layout}: the codes {_listed(present)} fit {fitting[0]}{same}"


def _present_regions(mask_codes: MaskCodes, present: Sequence[int]) -> dict[str, set[int]]:
    return {region: set(region_codes(mask_codes, region)) & set(present) for region in REGIONS}


def _refuse_unknown(codes_of_masks: Mapping[str, Collection[int]], candidates: Sequence[MaskCodes], whose: str) -> None:
    """Raise if no candidate knows the codes of all masks, and name masks that the best candidate does not explain."""
    odd = [{path: set(codes) - set(known.values()) for path, codes in codes_of_masks.items()} for known in candidates]
    fewest = min(odd, key=lambda one: sum(map(bool, one.values())))
    if not any(fewest.values()):
        return
    masks = some_names((f"{path} ({_listed(sorted(codes))})" for path, codes in fewest.items() if codes), limit=3)
    raise ValueError(
        f"mask codes must fit the {whose}, got others in {masks}; declare mask_codes, for the cohort or in a column"
        f" of its table: one of {describe_conventions()}, or a mapping tissue: code"
    )


def _listed(codes: Sequence[int]) -> str:
    return ", ".join(map(str, codes)) or "none"


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).lower()
