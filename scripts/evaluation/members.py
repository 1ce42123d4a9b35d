"""The classifiers of the folds, with what stands behind their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.provenance.record import read_provenance, seen_by_any, write_provenance
from scripts.provenance.state_dicts import load_state, save_tensors


@dataclass(frozen=True)
class Member:
    """The classifier of one fold: its weights and what stands behind them."""

    path: str
    state_dict: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Any]

    @classmethod
    def load(cls, path: str) -> Member:
        """Read `model.pt` and the `provenance.json` beside it."""
        provenance = read_provenance(path)
        return cls(path, load_state(path, "write it with configs/train_classifier.yaml"), provenance)

    @property
    def fold(self) -> int:
        """Number of the fold."""
        return int(self.provenance["fold"])


def refuse_other_members(members: Sequence[Member], setup: str, cohort: str, patches_path: str) -> None:
    """Refuse classifiers that are not of one setup and cohort and each of another fold.

    Raises:
        ValueError: naming the member.
    """
    folds = [member.fold for member in members]
    if not folds or len(set(folds)) != len(folds):
        raise ValueError(f"member_paths must be of one classifier per fold, got folds {folds}; give each fold once")
    for member in members:
        own, cohorts = member.provenance.get("setup"), member.provenance["cohorts"]
        if own != setup or cohort not in cohorts:
            raise ValueError(
                f"{member.path} must be of setup {setup!r} and cohort {cohort!r},"
                f" got {own!r} and {cohorts}; give the classifiers that were trained on {patches_path}"
            )


def write_ensemble(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    members: Sequence[Member],
    setup: str,
    images: Mapping[str, Any],
) -> None:
    """Write the weights of an ensemble, and `provenance.json` with all that its members have seen.

    Args:
        path: `model.pt`.
        weights: of a `FoldEnsemble`.
        members: classifiers that it is made of.
        setup: their setup.
        images: what `image_facts` says of the patches.
    """
    save_tensors(path, {name: value.cpu() for name, value in weights.items()})
    records = [member.provenance for member in members]
    write_provenance(
        path,
        **seen_by_any(records),
        fold=None,
        setup=setup,
        images=images,
        members=[record["weights_sha256"] for record in records],
    )
