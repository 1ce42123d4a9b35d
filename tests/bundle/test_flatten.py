from __future__ import annotations

import json
import runpy
import shutil
import sys

import pytest
from monai.bundle import ConfigParser

from bundle.__main__ import main
from bundle.flatten import FLAT, LOOKED_UP, METADATA, flatten, flatten_overlay, merge_flat, stale, write_flat
from bundle.pins import metadata_versions, runtime_packages
from scripts.running.configs import Invocation
from scripts.running.overrides import check_overrides
from tests.helpers import ROOT


def test_committed_flat_configs_are_those_of_the_yaml():
    assert stale() == [], "run python -m bundle flatten"


@pytest.mark.parametrize("name", sorted(FLAT))
def test_a_flat_config_stands_alone(name):
    config = json.loads((ROOT / "configs" / name).read_text(encoding="utf-8"))
    parser = ConfigParser(config)
    parser.parse()
    assert {"bundle_root", "device", "dataset_dir", "network_def", "output_dir"} <= set(config)
    assert {"tracking_uri", "experiment_name", "save_execute_config"} <= set(config)  # else --tracking has MONAI's own


@pytest.mark.parametrize("name", sorted(FLAT))
def test_a_flat_config_holds_nothing_that_is_never_read(name):
    config = flatten(name)
    text = json.dumps(config)
    unread = [key for key in config if f"@{key}" not in text and f"%{key}" not in text and key not in LOOKED_UP]
    assert unread == []


@pytest.mark.parametrize(
    "stems",
    [("train_classifier", "options/multi_gpu_classifier"), ("train_generator", "options/multi_gpu")],
    ids=lambda stems: stems[0],
)
def test_an_overlay_makes_of_the_flat_config_that_of_all_files_and_names_parts_alone(stems, tmp_path):
    flat = merge_flat(("common", stems[0]))
    overlay = flatten_overlay(("common", *stems))
    paths = [tmp_path / "train.json", tmp_path / "multi_gpu_train.json"]
    for path, content in zip(paths, (flat, overlay), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    invocation = Invocation(tuple(map(str, paths)))
    check_overrides(invocation)
    whole = merge_flat(("common", *stems))
    merged = {key: value for key, value in invocation.merged().items() if key in whole}
    assert merged == json.loads(json.dumps({**whole, "finalize": overlay["finalize"]}))
    assert overlay["finalize"][-1] == "$@processes.end(@stage)"


def test_a_changed_yaml_makes_the_flat_config_stale_until_it_is_written_again(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    assert stale(tmp_path) == []
    inference = tmp_path / "configs" / "inference.yaml"
    changed = inference.read_text(encoding="utf-8").replace("explanation: gradcam", "explanation: occlusion")
    inference.write_text(changed, encoding="utf-8")
    assert stale(tmp_path) == ["inference.json"]
    write_flat(tmp_path)
    assert stale(tmp_path) == []


def test_the_metadata_of_the_root_lists_every_package_that_the_runtime_needs(tmp_path):
    metadata = json.loads((ROOT / "configs" / METADATA).read_text(encoding="utf-8"))
    assert {**metadata, **metadata_versions()} == metadata
    assert set(runtime_packages()) <= {"monai", "torch", "numpy", *metadata["required_packages_version"]}
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    del metadata["required_packages_version"]["captum"]
    (tmp_path / "configs" / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    assert stale(tmp_path) == [METADATA]
    write_flat(tmp_path)
    assert (tmp_path / "configs" / METADATA).read_bytes() == (ROOT / "configs" / METADATA).read_bytes()


def test_check_writes_nothing_and_says_what_it_found(capsys):
    before = {name: (ROOT / "configs" / name).read_bytes() for name in FLAT}
    assert main(["flatten", "--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert before == {name: (ROOT / "configs" / name).read_bytes() for name in FLAT}


def test_the_command_runs_from_the_bundle_root(monkeypatch, capsys):
    # As `python -m bundle` does it, in a process that has loaded MONAI.
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["bundle", "flatten", "--check"])
    monkeypatch.delitem(sys.modules, "bundle.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bundle", run_name="__main__", alter_sys=True)
    assert ended.value.code == 0, capsys.readouterr().err
