"""A stage knows what it was made from, and is made again exactly when that changes."""

from __future__ import annotations

import os

import pytest
import torch
from monai.bundle import run_workflow

from scripts.running import stages
from scripts.running.configs import Invocation
from scripts.running.errors import root_cause
from scripts.running.files import read_json, sha256_file, write_json, write_text
from scripts.running.stages import AlreadyFinished, Stage, input_hash, invoked
from tests.helpers import is_locked


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "stage.yaml"
    path.write_text("lr: 0.1\nunread: 1\ndata_path: here\nstage: {rate: '@lr', where: '@data_path'}\nrun: ['@stage']\n")
    (tmp_path / "input.json").write_text("{}")
    return path


def make(config, overrides=(), run=True, result="result", **arguments):
    """Run a stage that writes one file."""
    folder = config.parent / "out"
    with invoked(Invocation((str(config),), dict(overrides))):
        stage = Stage(str(folder), inputs=[str(config.parent / "input.json")], **arguments)
        stage.begin()
        write_text(folder / "result.txt", result)
        (folder / "checkpoints").mkdir(exist_ok=True)
        if run:
            stage.end()
    return folder


def test_a_finished_stage_is_not_run_again_and_says_so(config, caplog):
    folder = make(config)
    outputs = read_json(folder / "stage.json")["outputs"]
    status = (folder / "result.txt").stat()
    facts = {"bytes": 6, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(folder / "result.txt")}
    assert outputs == {"result.txt": facts}
    with pytest.raises(AlreadyFinished) as stop:
        make(config)
    assert stop.value.code == 0
    assert "nothing to do" in caplog.text


LIBRARY = """
output_dir: null
case: null
imports: [$from pathlib import Path]
stage: {_target_: scripts.running.stages.Stage, output_dir: '@output_dir'}
work: '$Path(@output_dir, @case).touch'
prepare: '$Path(@output_dir, "prepared").mkdir'
initialize: [$@stage.begin(), $@prepare()]
run: [$@work()]
finalize: [$@stage.end()]
"""


def test_a_loop_over_patients_in_python_goes_on_behind_a_finished_one(tmp_path):
    """What `run_workflow` of another program must do: return, and tell runs of other settings apart."""
    config = tmp_path / "stage.yaml"
    config.write_text(LIBRARY)

    def grade(case, folder):
        run_workflow(config_file=str(config), logging_file=False, output_dir=str(tmp_path / folder), case=case)
        return sorted(path.name for path in (tmp_path / folder).iterdir() if not path.name.startswith("."))

    left = ["config.yaml", "prepared", "stage.json"]  # a second mkdir would fail
    assert grade("a", "a") == ["a", *left]
    (tmp_path / "a" / "stage.json").chmod(0o400)
    before = (tmp_path / "a" / "stage.json").stat()
    assert [grade(case, case) for case in ("a", "b")] == [[case, *left] for case in ("a", "b")]
    assert (tmp_path / "a" / "stage.json").stat() == before
    with pytest.raises(RuntimeError) as other:
        grade("c", "a")
    assert "got one that differs in case; choose another output_dir" in str(root_cause(other.value))


def test_the_end_of_what_never_began_is_nothing(tmp_path):
    Stage(str(tmp_path / "out")).end()
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(ValueError, match=r"differs in inputs .*input\.json; choose another"):
        make(config)


def test_a_changed_image_behind_an_unchanged_list_is_a_changed_input(config):
    folder = make(config)
    before = input_hash(str(folder / "config.yaml"))
    edit(folder / "result.txt", "other!")
    assert input_hash(str(folder / "config.yaml")) != before


def edit(path, text):
    """Change a file by hand, a second after it was written."""
    then = path.stat().st_mtime_ns + 10**9
    path.write_text(text)
    os.utime(path, ns=(then, then))


def test_the_images_of_a_list_made_by_hand_are_watched(tmp_path):
    write_json(tmp_path / "list.json", {"training": [{"image": "a.nii.gz"}, {"image": "b.nii.gz"}]})
    write_text(tmp_path / "a.nii.gz", "one")
    hashes = [input_hash(str(tmp_path / "list.json"))]
    for content in ("two", "one"):
        write_text(tmp_path / "a.nii.gz", content)
        hashes.append(input_hash(str(tmp_path / "list.json")))
    write_text(tmp_path / "b.nii.gz", "there now")
    hashes.append(input_hash(str(tmp_path / "list.json")))
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("content", [[], {"training": 3}, {"training": [None, {"image": 3}]}, {"subjects": []}])
def test_a_json_file_of_another_kind_lists_no_image(tmp_path, content):
    write_json(tmp_path / "list.json", content)
    assert len(input_hash(str(tmp_path / "list.json"))) == 64


def test_overwrite_deletes_the_outputs_of_other_settings(config):
    folder = make(config)
    with invoked(Invocation((str(config),))):
        write_json(folder / "stage.json", {**read_json(folder / "stage.json"), "finished": False})
    make(config, overrides={"lr": 2}, overwrite=True, result="new")
    assert (folder / "result.txt").read_text() == "new"
    assert read_json(folder / "stage.json")["identity"]["settings"]["lr"] == 2


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "stopped"])
def test_overwrite_never_deletes_a_file_of_somebody_else(config, finished):
    folder = make(config, run=finished)
    (folder / "notes").mkdir()
    (folder / "notes" / "checked_by_hand.json").write_text("{}")
    with pytest.raises(ValueError, match="must hold nothing but its run .*, got also notes/checked_by_hand"):
        make(config, overrides={"lr": 2}, overwrite=True)
    assert (folder / "notes" / "checked_by_hand.json").exists()
    assert (folder / "result.txt").exists()
    (folder / "notes" / "checked_by_hand.json").unlink()
    make(config, overrides={"lr": 2}, overwrite=True)


def test_a_file_that_appears_during_a_run_is_no_output(config):
    with invoked(Invocation((str(config),))):
        stage = Stage(str(config.parent / "out"))
        stage.begin()
        write_text(config.parent / "out" / "below" / "result.txt", "result")
        (config.parent / "out" / "notes.txt").write_text("by hand")
        stage.end()
    assert set(read_json(config.parent / "out" / "stage.json")["outputs"]) == {"below/result.txt"}


def test_a_changed_output_is_refused_by_name_and_made_anew_if_asked(config):
    """Of the same size: one digit of a table edited, or one bit of weights flipped."""
    folder = make(config)
    edit(folder / "result.txt", "resulT")
    with pytest.raises(ValueError, match=r"got changed outputs result\.txt; put the files back, or pass --ov"):
        make(config)
    make(config, overwrite=True)
    assert (folder / "result.txt").read_text() == "result"
    with pytest.raises(AlreadyFinished):
        make(config)


def test_a_study_that_was_copied_is_finished_though_all_times_changed(config):
    folder = make(config)
    edit(folder / "result.txt", "result")
    with pytest.raises(AlreadyFinished):
        make(config)


def test_a_finished_stage_is_only_read(config, caplog):
    """It may lie on a read-only disk."""
    folder = make(config)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    with pytest.raises(AlreadyFinished):
        make(config)
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]} == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"finished": true}', '{"finished": 1, "identity": {}}'])
def test_a_cut_record_says_which_folder_to_delete(config, content):
    folder = make(config)
    (folder / "stage.json").write_text(content)
    with pytest.raises(ValueError, match=rf"stage\.json must be the record of a run, .*; delete the folder {folder} "):
        make(config)


@pytest.fixture
def other_code(monkeypatch):
    """Let one module do something else from now on."""

    def change(digest="changed"):
        identity = stages.code_identity
        monkeypatch.setattr(
            stages, "code_identity", lambda modules: {**identity(modules), "scripts.training.x": digest}
        )

    return change


def test_a_run_of_other_code_is_refused_by_module_with_both_ways_out(config, other_code):
    folder = make(config)
    other_code()
    with pytest.raises(ValueError, match=r"code of training\.x; pass --overwrite True .* or --keep_old_code True"):
        make(config)
    make(config, overwrite=True, result="by new code")
    assert (folder / "result.txt").read_text() == "by new code"
    assert read_json(folder / "stage.json")["identity"]["code"]["scripts.training.x"] == "changed"


def test_old_code_that_is_kept_is_written_down_and_not_asked_for_again(config, other_code):
    folder = make(config)
    other_code()
    with pytest.raises(AlreadyFinished):
        make(config, keep_old_code=True)
    record = read_json(folder / "stage.json")
    assert record["kept_old_code"] == [{"scripts.training.x": "changed"}]
    assert "scripts.training.x" not in record["identity"]["code"]
    with pytest.raises(AlreadyFinished):
        make(config)
    other_code("changed again")
    with pytest.raises(ValueError, match="code of training"):
        make(config)


def test_a_stopped_training_is_continued_by_other_code_if_asked(config, other_code):
    folder = make(config, run=False)
    (folder / "checkpoints" / "epoch_1.pt").touch()
    other_code()
    with pytest.raises(ValueError, match="or --keep_old_code True to keep it"):
        make(config, run=False)
    make(config, run=False, keep_old_code=True)
    assert (folder / "checkpoints" / "epoch_1.pt").exists()
    assert read_json(folder / "stage.json")["kept_old_code"] == [{"scripts.training.x": "changed"}]


def test_nothing_is_asked_where_other_code_has_left_no_work(config, other_code):
    folder = make(config, run=False)
    other_code()
    make(config)
    assert read_json(folder / "stage.json")["identity"]["code"]["scripts.training.x"] == "changed"


def test_a_missing_input_is_named_with_its_key(config):
    overrides = {"data_path": str(config.parent / "imput.json")}
    with invoked(Invocation((str(config),), overrides)):
        stage = Stage(str(config.parent / "out"), inputs=[overrides["data_path"]])
        with pytest.raises(FileNotFoundError, match=r"does not exist; correct --data_path: .*did you mean input\.json"):
            stage.begin()


@pytest.mark.parametrize("output_dir", [None, 2020, ""])
def test_an_output_dir_that_is_no_path_is_named(output_dir):
    with pytest.raises(ValueError, match="output_dir must be the path of a folder, got .*; pass --output_dir PATH"):
        Stage(output_dir)


def test_a_misspelt_key_is_refused_before_any_item_is_built(config):
    with invoked(Invocation((str(config),), {"lrr": 2})), pytest.raises(ValueError, match="did you mean lr"):
        stages.check_command_line()


def test_settings_that_differ_are_named_once():
    before, after = ({"settings": {"seed": seed, "lr": 1}, "seed": seed, "num_threads": 1} for seed in (0, 1))
    assert stages.differing_settings(before, after) == ["seed"]


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

    def killed(path, missing_ok=False):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            make(config, overrides={"lr": 2}, overwrite=True)
    assert (folder / "stage.json").exists()
    make(config, overrides={"lr": 2}, overwrite=True, result="new")
    assert (folder / "result.txt").read_text() == "new"


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
                write_text(config.parent / "out" / "cohort.json", "{}")
                stage.end()


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


def test_kind_and_place_of_a_stage_are_written_down_and_change_nothing(config):
    place = {"cohort": "site_a", "fold": 1, "setup": "x_y"}
    record = read_json(make(config, kind="classifier", belongs_to=place) / "stage.json")
    assert (record["kind"], record["belongs_to"]) == ("classifier", place)
    with pytest.raises(AlreadyFinished):
        make(config, belongs_to={"cohort": "renamed"})


def test_a_kept_run_of_before_there_were_kinds_says_its_kind_from_then_on(config, other_code):
    folder = make(config)
    record = read_json(folder / "stage.json")
    write_json(folder / "stage.json", {name: record[name] for name in record if name not in ("kind", "belongs_to")})
    other_code()
    with pytest.raises(AlreadyFinished):
        make(config, keep_old_code=True, kind="classifier", belongs_to={"cohort": "site_a"})
    record = read_json(folder / "stage.json")
    assert (record["kind"], record["belongs_to"]) == ("classifier", {"cohort": "site_a"})
