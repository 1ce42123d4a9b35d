from __future__ import annotations

import pytest

from scripts.patches.class_balance import class_counts, synthetic_limits
from scripts.running.files import read_json, write_json
from scripts.splits.parts import load_splits
from tests.patches import write_tiny_patches


def test_patches_are_counted_by_class_and_those_without_a_grade_apart(tmp_path):
    paths = write_tiny_patches(tmp_path)
    training = load_splits(paths["splits_path"])["folds"][0]["train"]
    named = {name: sum(subject.startswith(name) for subject in training) for name in ("LGG", "HGG")}
    assert class_counts(**paths, fold=0) == named
    listing = read_json(paths["patches_path"])
    for row in listing["training"]:
        row["label"] = None if row["subject_id"] == training[0] else row["label"]
    write_json(paths["patches_path"], listing)
    counts = class_counts(**paths, fold=0)
    assert counts[""] == 1
    assert sum(counts.values()) == len(training)


def test_the_smaller_class_may_take_more_up_to_balance():
    assert synthetic_limits({"LGG": 4, "HGG": 10}, ratio=1.0, balance=True) == {"LGG": (4, 16), "HGG": (10, 10)}
    assert synthetic_limits({"LGG": 4, "HGG": 10}, ratio=0.5, balance=False) == {"LGG": (2, 2), "HGG": (5, 5)}


def test_synthetic_images_alone_are_as_many_of_each_class():
    assert synthetic_limits({"LGG": 4, "HGG": 10}, 2.0, True, with_real=False) == {"LGG": (8, 20), "HGG": (20, 20)}
    assert synthetic_limits({"LGG": 4, "HGG": 10}, 2.0, False, with_real=False) == {"LGG": (8, 8), "HGG": (20, 20)}


def test_a_ratio_below_zero_is_refused():
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        synthetic_limits({"LGG": 4}, -1)
