"""What the settings of an audit can be, told before any work and without any file."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.nearest_images import require_small_shift
from scripts.memorization.verdict import Thresholds

HELD_OUT_PARTS = ("validation", "test", "inner")


def check_audit(
    thresholds: Thresholds,
    max_shift: int,
    patch_size: Sequence[int],
    num_cells: int,
    num_permutations: int,
    block_size: int,
    num_pairs: int,
    held_out_part: str | None = None,
) -> None:
    """Refuse settings by which no set can be judged.

    Args:
        thresholds: see `MemorizationAudit`, as the four numbers below.
        max_shift: likewise.
        patch_size: cells of each axis.
        num_cells: likewise.
        num_permutations: likewise.
        block_size: likewise.
        num_pairs: `audit_num_pairs`.
        held_out_part: part of the real images of the baselines; None is the one that no generator of a fold has seen.

    Raises:
        ValueError: naming the config key and the way out.
    """
    require_small_shift(max_shift, patch_size)
    MemorizationAudit(thresholds, max_shift, None, num_cells, num_permutations, block_size=block_size)
    if num_pairs < 1:
        raise ValueError(f"audit_num_pairs must be >= 1, got {num_pairs!r}")
    if held_out_part not in (None, *HELD_OUT_PARTS):
        raise ValueError(
            f"held_out_part must be one of {', '.join(HELD_OUT_PARTS)}, or null, got {held_out_part!r}: what a"
            " generator was trained on is no baseline"
        )
