"""A study that compares images of two other programs with our own ends in one report."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.running.configs import Invocation
from scripts.running.files import read_csv, read_json
from scripts.running.stages import run_invocation
from tests.helpers import TINY, config_files

pytestmark = pytest.mark.slow  # fifty stages of a second each

CHEAP = {
    "generator_max_epochs": 1,
    "generator_condition": "label",
    "classifier_max_epochs": 1,
    "num_inference_steps": 2,
    "measure_encoder": False,
    "audit_num_permutations": 99,
    "audit_max_shift": 0,
    "audit_num_pairs": 1,
    "measure_num_pairs": 2,
    "measure_num_splits": 2,
    "measure_num_permutations": 99,
    "report_reference": "ddpm",
    "explained_setups": [],
    "controls": [],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of a finished study: one cohort, our diffusion model, a GAN and images of unknown origin."""
    folder = tmp_path_factory.mktemp("imported")
    images = np.random.default_rng(0).random((20, 4, 16, 16))
    images[:, :, :4] = 0
    for name in ("gan_LGG", "gan_HGG", "web_LGG", "web_HGG"):
        np.save(folder / f"{name}.npy", np.round(255 * images).astype(np.uint8) if "web" in name else images)
    of_arrays = {"image_axes": "NCHW"}
    imported = {
        "gan": {
            **of_arrays,
            "images_path": f"{folder}/gan_{{class}}.npy",
            "trained_on": "others",
            "value_range": [0, 1],
        },
        "web": {**of_arrays, "images_path": f"{folder}/web_{{class}}.npy"},
    }
    cohorts = {"site_a": {"config": "phantom", "phantom_site": "A"}}
    plan = {"cohorts": cohorts, "setups": {"ddpm": {"method": "ddpm"}}, "imported": imported}
    run_invocation(Invocation((*config_files("study"), TINY), {**CHEAP, **plan, "study_dir": str(folder / "study")}))
    return folder / "study"


def test_every_method_is_trained_on_tested_audited_and_measured(study):
    assert {row["setup"] for row in read_csv(study / "report" / "metrics.csv")} == {"ddpm", "gan", "web"}
    for method in ("ddpm", "gan", "web"):
        assert read_json(study / "site_a" / "fold1" / f"audit_HGG_{method}" / "audit.json")["method"] == method
        assert (study / "site_a" / "fold1" / f"measures_HGG_{method}" / "measures.json").is_file()
    compared = {row["setup"] for row in read_csv(study / "report" / "comparisons.csv")}
    assert compared == {"gan", "web"}


def test_the_audit_looks_at_the_weights_of_our_own_generator_and_of_no_other(study):
    own, other = (
        read_json(study / "site_a" / "fold1" / f"audit_HGG_{name}" / "audit.json") for name in ("ddpm", "gan")
    )
    assert 0 <= own["classes"]["HGG"]["membership"]["auc"]["value"] <= 1
    assert "membership" not in other["classes"]["HGG"]
    page = (study / "report" / "report.html").read_text(encoding="utf-8")
    assert "AUC of membership" in page
    assert "training subjects are told from held-out ones with an AUC of" in page


def test_what_is_declared_and_unknown_reaches_the_report(study):
    page = (study / "report" / "report.html").read_text(encoding="utf-8")
    assert "gan (nobody of the cohort)" in page
    assert "declared: unknown: leakage not excluded" in page
    assert "Leakage is not excluded for “web”" in page
    assert "Leakage is not excluded for “web”" in " ".join(
        (study / "report" / "summary.txt").read_text(encoding="utf-8").split()
    )
    ensemble = read_json(study / "site_a" / "evaluation_web" / "provenance.json")
    assert ensemble["leakage_not_excluded"] == ["web"]
    assert read_json(study / "site_a" / "evaluation_gan" / "provenance.json")["leakage_not_excluded"] == []
