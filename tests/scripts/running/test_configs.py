"""Command lines and config files mean here what they mean to MONAI."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.running.configs import Invocation, parser_of, reachable, references
from scripts.running.overrides import load_file


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(
        "lr: 0.1\nepochs: 2\nunread: 5\ntrainer: {rate: '@lr', max_epochs: '@epochs'}\nrun: ['$@trainer']\n"
    )
    return str(path)


def command_line(*arguments):
    return ["site-packages/monai/bundle/__main__.py", "run", *arguments]


def test_flags_with_and_without_equals_sign_are_the_same(config_file):
    spaced = Invocation.from_command_line(command_line("--config_file", f"['{config_file}']", "--lr", "1e-4"))
    joined = Invocation.from_command_line(command_line(f"--config_file=['{config_file}']", "--lr=1e-4"))
    assert spaced == joined == Invocation((config_file,), {"lr": 1e-4})


def test_a_negative_number_is_a_value(config_file):
    assert Invocation.from_command_line(command_line("--config_file", config_file, "--lr", "-3")).overrides == {
        "lr": -3
    }


def test_the_command_of_an_invocation_reads_back_as_itself(config_file):
    import shlex

    invocation = Invocation((config_file,), {"lr": 0.5, "trainer#max_epochs": 3, "names": ["a b", "c"]})
    words = shlex.split(invocation.command())[3:]
    assert Invocation.from_command_line(["monai/bundle/__main__.py", *words]) == invocation


def test_the_args_file_gives_defaults_that_the_command_line_wins_over(config_file, tmp_path):
    (tmp_path / "args.yaml").write_text(f"config_file: ['{config_file}']\nlr: 7\nepochs: 9\n")
    arguments = command_line("--args_file", str(tmp_path / "args.yaml"), "--lr", "1")
    invocation = Invocation.from_command_line(arguments)
    assert invocation.config_files == (config_file,)
    assert invocation.overrides == {"lr": 1, "epochs": 9}


def test_none_is_refused_because_monai_ignores_it(config_file):
    with pytest.raises(ValueError, match=r"write --lr '\$None'"):
        Invocation.from_command_line(command_line("--config_file", config_file, "--lr", "None"))


def test_another_program_has_no_invocation():
    assert Invocation.from_command_line(["pytest", "run"]) is None


def test_later_files_and_then_overrides_win(config_file, tmp_path):
    (tmp_path / "overlay.yaml").write_text("epochs: 3\ntrainer#rate: 4\n")
    merged = Invocation((config_file, str(tmp_path / "overlay.yaml")), {"epochs": 5}).merged()
    assert (merged["epochs"], merged["trainer"]["rate"], merged["lr"]) == (5, 4, 0.1)


def test_only_what_the_roots_refer_to_is_reachable(config_file):
    found = reachable(Invocation((config_file,)).merged(), ("run",))
    assert set(found) == {"run", "trainer", "lr", "epochs"}


def test_references_are_found_in_nested_lists_and_expressions():
    assert references({"a": ["@lr", {"b": "$@root + '/x' + @name#sub"}], "c": 3, "d": "%net"}) == {
        "lr",
        "root",
        "name",
        "net",
    }


def test_files_that_stay_the_same_are_parsed_once(config_file, monkeypatch):
    load, loaded = ConfigParser.load_config_files, []
    monkeypatch.setattr(ConfigParser, "load_config_files", lambda files: loaded.append(files) or load(files))
    invocation = Invocation((config_file,), {"epochs": 3})
    invocation.merged()["trainer"]["rate"] = "changed by a reader"
    assert invocation.merged()["trainer"]["rate"] == "@lr"
    assert Invocation((config_file,)).merged()["epochs"] == 2
    assert len(loaded) == 1
    Path(config_file).write_text("epochs: 10\n")
    assert Invocation((config_file,)).merged()["epochs"] == 10


def test_a_parser_of_ours_finds_the_components_of_monai():
    parser = parser_of({"network": {"_target_": "AffineTransform", "spatial_size": 3}})
    assert type(parser.get_parsed_content("network")).__module__.startswith("monai.networks")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("cp1252", r"overlay\.yaml must be text in UTF-8, got the byte 0xfc in line 2 \('ü' in cp1252\); save it as"),
        ("utf-16", r"overlay\.yaml must be text in UTF-8, got UTF-16; save it as UTF-8"),
    ],
)
def test_a_config_in_another_encoding_is_refused_by_file_and_encoding(config_file, tmp_path, encoding, message):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_bytes("lr: 0.2\nname: Tübingen\n".encode(encoding))
    with pytest.raises(ValueError, match=message):
        Invocation((config_file, str(overlay))).merged()
    with pytest.raises(ValueError, match=message):
        load_file(str(overlay))
    with pytest.raises(ValueError, match=message):
        Invocation.from_command_line(command_line("--args_file", str(overlay)))


def test_a_byte_order_mark_of_utf8_does_not_count(config_file, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_bytes("lr: 0.2\nname: Tübingen\n".encode("utf-8-sig"))
    assert Invocation((config_file, str(overlay))).merged()["name"] == "Tübingen"
    assert load_file(str(overlay)) == {"lr": 0.2, "name": "Tübingen"}
