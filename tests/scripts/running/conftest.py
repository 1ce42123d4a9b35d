"""The plan of a study of two cohorts."""

from __future__ import annotations

import pytest

from scripts.running.plan import Plan


@pytest.fixture
def plan(tmp_path):
    return Plan(
        study_dir=str(tmp_path / "study"),
        cohorts={"a": {"config": "phantom", "phantom_site": "A"}, "b": {"config": "cohort", "source_path": "x"}},
        setups={"real": {}, "ddpm": {"method": "ddpm"}, "ddpm_mi": {"method": "ddpm_mi"}},
        methods={"ddpm": [], "ddpm_mi": ["options/mutual_information"]},
        classes=["LGG", "HGG"],
        num_folds=3,
    )
