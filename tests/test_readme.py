"""What the README says can be typed."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

import bundle.__main__
from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.overrides import check_overrides
from scripts.running.stages import invoked
from tests.helpers import ROOT, run_stage
from tests.patches import write_tiny_patches

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A file that the reader is told to write: a block of YAML that begins with its name.
WRITTEN = re.compile(r"(?ms)^```yaml\n# (\w+\.yaml)\n(.*?)^```")
TOLD = {match for page in PAGES for match in WRITTEN.findall(page.read_text(encoding="utf-8"))}


def commands(page: Path) -> list[str]:
    """Commands of a page: lines of code blocks, with the indented continuation of a list joined."""
    lines = re.findall(r"^(?:    |\$ )?((?:python|make) .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [line.split("   #")[0].strip() for line in lines]


ALL = [(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), ALL, ids=[f"{page}:{number}" for number, (page, _) in enumerate(ALL)])
def test_a_command_names_only_what_exists(page, command, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    words = [with_files_of_the_reader(word, tmp_path) for word in shlex.split(command)]
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
    elif words[2] == "monai.bundle":
        invocation = Invocation.from_command_line(["monai/bundle/__main__.py", *words[3:]])
        assert invocation is not None
        if any(Path(path).name == "study.yaml" for path in invocation.config_files):
            monkeypatch.setattr(sys, "excepthook", sys.excepthook)
            begin_study(invocation, tmp_path)
        else:
            check_overrides(invocation)
    elif words[2] == "bundle":
        assert bundle.__main__.command_line().parse_args(words[3:])
    else:
        assert words[:2] == ["python", "-m"]
        assert (ROOT / (words[2].replace(".", "/") + ".py")).is_file() or (ROOT / words[2] / "__main__.py").is_file()


def begin_study(invocation: Invocation, folder: Path) -> None:
    """Check a study and all its stages as its command does before any work, in a folder of its own."""
    own = Invocation(invocation.config_files, {**invocation.overrides, "study_dir": str(folder / "study")})
    with invoked(own):
        ConfigParser(own.merged()).get_parsed_content("study").begin()


def with_files_of_the_reader(word: str, folder: Path) -> str:
    """Write the files that the pages tell the reader to write, and name them where a word of a command does."""
    for name, text in TOLD:
        (folder / name).write_text(text, encoding="utf-8")
        word = re.sub(rf"(?<![\w/]){re.escape(name)}", (folder / name).as_posix(), word)
    return word


def test_every_page_tells_the_reader_to_write_the_same_files():
    names = [name for name, _ in TOLD]
    assert sorted(names) == [
        *("brain_tumors.yaml", "centers.yaml", "covid.yaml", "ixi.yaml", "leukemia.yaml", "my_study.yaml", "oasis.yaml")
    ]
    assert "# my_study.yaml" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_its_command_first():
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8")[:2000]
    assert "make demo" in first_screen


def test_images_of_another_generator_are_audited_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = write_tiny_patches(tmp_path / "runs/patches", subjects_per_class=12)
    splits_path = tmp_path / "runs/splits/splits.json"
    splits_path.parent.mkdir()
    shutil.copy(paths["splits_path"], splits_path)
    theirs = tmp_path / "runs/theirs"
    theirs.mkdir()
    trained_on = [name for name in read_json(splits_path)["folds"][0]["train"] if name.startswith("HGG")]
    for number, name in enumerate(trained_on):
        shutil.copy(tmp_path / f"runs/patches/{name}.nii.gz", theirs / f"HGG_{number:04d}.nii.gz")

    images = {"images_path": str(theirs), "generator_class": "HGG", "method": "theirs", "value_range": [-1, 1]}
    saw = {"trained_on": "train", "fold": 0, "patch_size": [8, 12]}
    lists = {"patches_path": paths["patches_path"], "splits_path": str(splits_path)}
    run_stage("import_synthetic", output_dir="runs/imported", **lists, **images, **saw)
    settings = {"synthetic_path": "runs/imported/synthetic.json", "splits_path": str(splits_path), "audit_max_shift": 1}
    run_stage("audit", output_dir="runs/audit", device="cpu", patches_path=paths["patches_path"], **settings)
    (result,) = read_json("runs/audit/audit.json")["classes"].values()
    assert any(image["copy"] for image in result["images"])
