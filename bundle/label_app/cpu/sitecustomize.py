"""Lets torchvision be imported beside a CPU build of torch: its wheel looks for operators that only CUDA builds have.

Python imports a module of this name at its start where its folder is on PYTHONPATH. Nothing of the two operators is
used; they only have to be declared.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class DeclareOperators(MetaPathFinder):
    """Declare the operators when torchvision is about to be imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Find nothing, ever."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()


def _declare() -> None:
    import torch

    if torch.__version__.endswith("+cpu"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # a library that is collected takes its operators along


_kept: list[Any] = []
sys.meta_path.insert(0, DeclareOperators())
