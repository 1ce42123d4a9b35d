"""A stage knows what it was made from, and is made again exactly when that changes."""

from __future__ import annotations

import pytest
import torch

from scripts.running.configs import Invocation
from scripts.running.files import read_json, sha256_file
from scripts.running.stages import AlreadyFinished, Stage, device_type, input_hash, invoked


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "stage.yaml"
    path.write_text("lr: 0.1\nunread: 1\ndata_path: here\nstage: {rate: '@lr', where: '@data_path'}\nrun: ['@stage']\n")
    (tmp_path / "input.json").write_text("{}")
    return path


def make(config, overrides=(), run=True, **arguments):
    """Run a stage that writes one file."""
    folder = config.parent / "out"
    with invoked(Invocation((str(config),), dict(overrides))):
        stage = Stage(str(folder), inputs=[str(config.parent / "input.json")], **arguments)
        stage.begin()
        (folder / "result.txt").write_text("result")
        (folder / "checkpoints").mkdir(exist_ok=True)
        if run:
            stage.end()
    return folder


def test_a_finished_stage_is_not_run_again_and_says_so(config, caplog):
    folder = make(config)
    outputs = read_json(folder / "stage.json")["outputs"]
    assert outputs == {"result.txt": {"bytes": 6, "sha256": sha256_file(folder / "result.txt")}}
    with pytest.raises(AlreadyFinished) as stop:
        make(config)
    assert stop.value.code == 0
    assert "nothing to do" in caplog.text


def test_the_end_drops_checkpoints_and_an_unfinished_stage_keeps_them(config):
    assert (make(config, run=False) / "checkpoints").exists()
    assert not (make(config) / "checkpoints").exists()


@pytest.mark.parametrize(
    ("change", "names"),
    [({"overrides": {"lr": 2}}, "lr"), ({"seed": 1}, "seed"), ({"num_threads": 1}, "num_threads")],
    ids=["setting", "seed", "threads"],
)
def test_other_settings_are_refused_by_name_and_nothing_is_lost(config, change, names):
    folder = make(config)
    with pytest.raises(ValueError, match=f"differs in {names}; choose another output_dir"):
        make(config, **change)
    assert (folder / "result.txt").exists()


def test_a_changed_input_is_refused_by_name(config):
    make(config)
    (config.parent / "input.json").write_text("[]")
    with pytest.raises(ValueError, match="differs in inputs"):
        make(config)


def test_a_changed_image_behind_an_unchanged_list_is_a_changed_input(config):
    folder = make(config)
    before = input_hash(str(folder / "config.yaml"))
    (folder / "result.txt").write_text("other!")
    with invoked(Invocation((str(config),))):
        Stage(str(folder)).end()
    assert input_hash(str(folder / "config.yaml")) != before


def test_overwrite_empties_a_folder_of_other_settings(config):
    folder = make(config)
    (folder / "old.txt").write_text("old")
    make(config, overrides={"lr": 2}, overwrite=True)
    assert not (folder / "old.txt").exists()


@pytest.mark.parametrize("overrides", [{"unread": 2}, {"data_path": "elsewhere"}], ids=["unread", "place"])
def test_keys_that_nothing_reads_and_places_do_not_count(config, overrides):
    make(config)
    with pytest.raises(AlreadyFinished):
        make(config, overrides=overrides)


def test_a_lost_output_makes_the_stage_unfinished(config):
    folder = make(config)
    (folder / "result.txt").unlink()
    make(config)
    assert (folder / "result.txt").exists()


def test_a_folder_of_somebody_else_is_refused_and_left_alone(config):
    (config.parent / "out").mkdir()
    (config.parent / "out" / "patients.csv").write_text("subject_id")
    with pytest.raises(ValueError, match=r"must be new or hold a run, got a folder with patients\.csv"):
        make(config, overwrite=True)
    assert [path.name for path in (config.parent / "out").iterdir() if path.name != ".lock"] == ["patients.csv"]


def test_a_kill_while_a_folder_is_emptied_does_not_mix_old_and_new(config, monkeypatch):
    folder = make(config)
    (folder / "zzz.txt").write_text("old")

    def killed(path, missing_ok=False):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            make(config, overrides={"lr": 2}, overwrite=True)
    assert (folder / "stage.json").exists()
    make(config, overrides={"lr": 2}, overwrite=True)
    assert not (folder / "zzz.txt").exists()


def test_a_listing_in_the_own_folder_does_not_count_the_outputs(config):
    for attempt in range(2):
        with invoked(Invocation((str(config),))):
            (config.parent / "out").mkdir(exist_ok=True)
            (config.parent / "out" / ".listing").write_text("files")
            stage = Stage(str(config.parent / "out"), inputs=[str(config.parent / "out" / ".listing")])
            if attempt:
                assert stage.is_finished()
            else:
                stage.begin()
                (config.parent / "out" / "cohort.json").write_text("{}")
                stage.end()


@pytest.mark.parametrize(("device", "kind"), [("cuda:1", "cuda"), ("cpu", "cpu"), (None, None)])
def test_the_kind_of_device_counts_and_its_number_does_not(device, kind):
    assert device_type(device) == kind


def test_a_second_process_is_kept_out(config):
    import fcntl

    folder = config.parent / "out"
    folder.mkdir()
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="in use by another process"):
            make(config)


def test_begin_seeds_torch(config):
    make(config, run=False, seed=5)
    first = torch.rand(1)
    make(config, run=False, seed=5)
    assert torch.equal(first, torch.rand(1))


def test_a_block_that_ends_gives_up_its_own_locks_and_no_others(config):
    first, second = (Stage(str(config.parent / name)) for name in ("first", "second"))
    with invoked(Invocation((str(config),))):
        first.begin()
        with invoked(Invocation((str(config),))):
            second.begin()
        assert not is_locked(config.parent / "second")
        assert is_locked(config.parent / "first")
    assert not is_locked(config.parent / "first")


def is_locked(folder):
    import fcntl

    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
