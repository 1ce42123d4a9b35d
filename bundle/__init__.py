"""What makes this folder a MONAI bundle that other programs use."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Give `from bundle import grade` its function; MONAI, which it needs, takes seconds to import."""
    if name == "grade":
        from bundle.grading import grade

        return grade
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
