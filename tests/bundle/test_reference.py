"""The page of keys says what the files say, and every key is described in one of them."""

from __future__ import annotations

import pytest

from bundle.reference import config_keys, is_stale, page, readers, undescribed, write_page

FILES = {
    "common.yaml": """\
        # configs/common.yaml — what all stages share.
        seed: 0  # of all random numbers
        network_def: {_target_: torch.nn.Linear, in_features: '@width'}
        width: 3  # features | columns
        unread: null  # by anybody
        initialize: []
        finalize: []
        """,
    "train.yaml": """\
        # configs/train.yaml — trains it. Run after common.yaml.
        loss:  # by name
          kind: mse
        second: '@network_def'
        train: {loss: '@loss', seed: '@seed', network: '@second', optimizer: null}  # a trainer
        run:
        - '$@train'
        """,
    "draw.yaml": """\
        # configs/draw.yaml — draws. Run after
        # train.yaml, or alone.
        seed: 1
        run:
        - '$@seed'
        """,
    "options/momentum.yaml": """\
        # configs/options/momentum.yaml — with momentum. Run after train.yaml.
        momentum: 0.9  # dimensionless
        train#optimizer: {momentum: '@momentum'}  # another
        """,
    "options/more.yaml": """\
        # configs/options/more.yaml — with more momentum. Run after momentum.yaml.
        momentum: 0.99  # dimensionless
        """,
    "recipes/quick.yaml": "seed: 7\nwidth: 2\n",
    "runs/train_quick.yaml": "config_file: [configs/common.yaml]\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()), encoding="utf-8")
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    return tmp_path


def rows(root):
    """Cells of the page, by file and key."""
    found, file = {}, ""
    for line in page(root).splitlines():
        if line.startswith("## "):
            file = line.removeprefix("## ")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").replace("\\|", "/").split("|")]
            found[file, cells[0].strip("`")] = cells[1:]
    return found


def test_a_row_holds_default_meaning_recipes_and_readers(root):
    table = rows(root)
    assert table["common.yaml", "seed"] == ["`0`", "of all random numbers", "quick `7`", "every stage"]
    assert table["common.yaml", "width"] == ["`3`", "features / columns", "quick `2`", "train"]
    assert table["common.yaml", "unread"] == ["`null`", "by anybody", "", ""]
    assert table["train.yaml", "loss"] == ['`{"kind": "mse"}`', "by name", "", "train"]
    assert table["options/momentum.yaml", "momentum"] == ["`0.9`", "dimensionless", "", "train"]


def test_what_is_put_together_is_a_part_and_no_setting(root):
    assert ("common.yaml", "network_def") not in rows(root)
    assert "Parts: `network_def` (`torch.nn.Linear`)." in page(root)
    assert "Parts: `second` (`@network_def`)." in page(root)


def test_a_key_that_its_file_does_not_describe_is_described_as_in_common(root):
    assert rows(root)["draw.yaml", "seed"] == ["`1`", "of all random numbers", "quick `7`", "draw"]


def test_all_lines_at_the_head_of_a_file_say_what_it_is(root):
    assert "\nDraws. Run after train.yaml, or alone.\n" in page(root)


def test_files_of_commands_and_recipes_have_no_table(root):
    assert {file for file, _ in rows(root)} == {name for name in FILES if not name.startswith(("runs", "recipes"))}


def test_a_key_is_read_where_an_option_makes_it_count(root):
    read = {(key.file, key.name): readers(key, root) for key in config_keys(root)}
    assert read["options/more", "momentum"] == ["train"]
    assert read["common", "seed"] == ["draw", "train"]
    assert read["draw", "seed"] == ["draw"]


def test_a_key_without_a_comment_is_refused_by_name(root):
    path = root / "configs" / "draw.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "number: 4\n", encoding="utf-8")
    assert undescribed(root) == ["draw: number"]
    with pytest.raises(ValueError, match="got none for draw: number; add a comment"):
        page(root)


def test_an_option_that_does_not_say_what_it_follows_is_refused(root):
    path = root / "configs" / "options" / "momentum.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("Run after train.yaml.", ""), encoding="utf-8")
    with pytest.raises(ValueError, match=r"momentum.yaml must say .* after which file it runs"):
        page(root)


def test_a_page_is_stale_when_a_file_says_something_else(root):
    assert is_stale(root)
    write_page(root)
    assert not is_stale(root)
    (root / "configs" / "recipes" / "quick.yaml").write_text("seed: 8\n", encoding="utf-8")
    assert is_stale(root)


def test_every_setting_of_the_configs_is_described():
    assert undescribed() == []


def test_the_page_says_what_the_configs_say():
    assert not is_stale(), "run python -m bundle flatten"
