"""The job of NVFlare's simulator to its end, and its adopted weights asked; run by `make test-federated`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundle import grade
from bundle.__main__ import main
from bundle.pack import pack
from bundle.trained import Trained
from scripts.running.files import read_json, sha256_file
from tests.helpers import ROOT
from tests.patches import write_patches_of_site
from tests.tiny_subjects import write_subject
from tests.trained_study import write_trained_study

pytest.importorskip("monai_nvflare", reason="needs NVFlare, the extra federated")


def write_job(folder: Path, package: Path, sites: list[Path]) -> Path:
    """Copy the job with the paths in their places."""
    job = folder / "job"
    shutil.copytree(ROOT / "bundle" / "federation", job)
    places = {"BUNDLE": package, **{f"SITE_{number}": site for number, site in enumerate(sites, start=1)}}
    for path in job.rglob("config_fed_*.json"):
        text = path.read_text(encoding="utf-8")
        for name, place in places.items():
            text = text.replace(name, str(place))
        path.write_text(text, encoding="utf-8")
    return job


def test_two_sites_train_to_the_end_and_their_adopted_weights_answer_a_patient(tmp_path):
    study = write_trained_study(tmp_path / "study")
    package = pack(Trained.find(str(study), "ddpm"), str(tmp_path / "dist"), allow_placeholder=True)
    sites = [tmp_path / name for name in ("site_1", "site_2")]
    for seed, site in enumerate(sites):
        for name in ("patches", "splits"):
            write_patches_of_site(site / name, package, (16, 24), seed=seed)
    job, work = write_job(tmp_path, package, sites), tmp_path / "work"
    tool = Path(sys.executable).with_name("nvflare")
    subprocess.run(
        [str(tool), "simulator", str(job), "-w", str(work), "-c", "site-1,site-2", "-t", "2"],
        env={**os.environ, "PYTHONPATH": str(package), "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"},
        check=True,
        timeout=280,
    )
    weights = work / "server" / "simulate_job" / "app_server" / "FL_global_model.pt"
    records = [str(site / "federated" / "provenance.json") for site in sites]
    assert main(["adopt", "--weights", str(weights), "--records", *records, "--out", str(tmp_path / "adopted")]) == 0
    joined = read_json(tmp_path / "adopted" / "provenance.json")
    assert set(joined["subjects"]) == {name for path in records for name in read_json(path)["subjects"]}

    for path in (tmp_path / "adopted").iterdir():
        shutil.copy(path, package / "models")
    write_subject(tmp_path / "P01")
    (answer,) = grade([str(tmp_path / "P01")], str(tmp_path / "answers"), str(package), mask_codes="brats_2017")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert answer["weights"]["sha256"] == sha256_file(tmp_path / "adopted" / "model.pt")
