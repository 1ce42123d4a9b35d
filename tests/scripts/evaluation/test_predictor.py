from __future__ import annotations

import numpy as np

from scripts.evaluation.predictor import average_by_subject


def test_patches_of_one_subject_are_averaged() -> None:
    items = [{"subject_id": name} for name in ("b", "a", "b")]
    means = average_by_subject(items, np.array([[0.2, 0.8], [0.5, 0.5], [0.6, 0.4]]))
    assert [item["subject_id"] for item, _ in means] == ["b", "a"]
    assert np.allclose([mean for _, mean in means], [[0.4, 0.6], [0.5, 0.5]])
