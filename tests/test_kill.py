"""A study killed with SIGKILL at any moment ends as the uninterrupted one, byte for byte."""

from __future__ import annotations

import pytest

from benchmarks import kill
from tests.helpers import TINY, config_files


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_predictions_of_a_study_killed_ten_times_equal_the_uninterrupted_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(kill, "PRELOAD", ["tests.conftest", *kill.PRELOAD])  # for its quick reader of YAML
    # One cohort and two setups have every kind of stage but a control's, which tests/scripts/generator/ stops.
    cohorts = {"site_a": {"config": "phantom", "phantom_site": "A"}}
    overrides = {"num_threads": 1, "cohorts": cohorts, "setups": {"real": {}, "ddpm_mi": {"method": "ddpm_mi"}}}
    overrides |= {"controls": [], "generator_condition": "label", "generator_max_epochs": 2}
    result = kill.kill_and_resume([*config_files("study"), TINY], overrides, tmp_path, num_kills=10)
    assert len(result["kills"]) == 10
    assert not any("had ended" in moment for moment in result["kills"])
    assert result["equal"]
