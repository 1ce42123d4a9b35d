"""The numbers of a study do not depend on how many workers there are."""

from __future__ import annotations

import pytest

from scripts.configs import Invocation
from scripts.errors import root_cause
from scripts.stages import run_invocation
from tests.helpers import TINY, config_files


@pytest.mark.slow
def test_two_workers_and_one_process_predict_the_same_bytes(tmp_path):
    predictions = []
    for num_workers in (1, 2):
        folder = tmp_path / str(num_workers)
        overrides = {"study_dir": str(folder), "num_workers": num_workers}
        # One cohort's data and two setups are enough for parallel stages that need each other.
        overrides["setups"] = {"real": None, "ddpm": "ddpm"}
        run_invocation(Invocation((*config_files("study"), TINY), overrides))
        predictions.append((folder / "report" / "predictions.csv").read_bytes())
    assert predictions[0] == predictions[1]


@pytest.mark.slow
def test_the_error_of_a_stage_reaches_the_user(tmp_path):
    overrides = {"study_dir": str(tmp_path), "num_workers": 2, "phantom_matrix_size": [1, 2, 3]}
    with pytest.raises(RuntimeError) as error:
        run_invocation(Invocation((*config_files("study"), TINY), overrides))
    assert "matrix_size must be three sizes" in str(root_cause(error.value))
