"""A dataset under the name by which other programs look for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset


class NamedDataset(Dataset):
    """Hands on a dataset given as `data`, the id that the model zoo and MONAI Label look up in `train#dataset`.

    MONAI's own `Dataset` answers a list of indices with a `Subset`; ours answer it with a batch.

    Args:
        data: the dataset itself.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int | Sequence[int]) -> Any:
        return self.data[index]


def given(item: Any) -> Any:
    """Return what is given: a reference written as a component, where others expect one."""
    return item
