"""Example pictures are the packages' own data, and go through the doors of a user's."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from skimage import data
from sklearn.datasets import load_digits

from bundle.__main__ import main
from bundle.example_pictures import DIGIT_NAMES, write_example
from scripts.cohorts.scan import scan_cohort
from scripts.running.files import read_json


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    return {name: write_example(name, folder / name) for name in ("digits", "histology")}


def test_digits_are_those_of_scikit_learn(folders):
    digits = load_digits()
    paths = sorted(folders["digits"].rglob("*.png"), key=lambda path: path.name)
    assert [path.parent.name for path in paths] == [DIGIT_NAMES[label] for label in digits.target]
    shown = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert np.array_equal(np.rint(shown / (255 / 16)), digits.images)


def test_tiles_put_together_are_the_picture_of_tissue(folders):
    tiles = {path.stem: np.asarray(Image.open(path)) for path in folders["histology"].parent.rglob("*.png")}
    rows = [np.concatenate([tiles[f"r{row:02d}_c{column:02d}"] for column in range(16)], axis=1) for row in range(16)]
    assert np.array_equal(np.concatenate(rows), data.immunohistochemistry())


def test_positive_tiles_are_browner_and_blocks_hold_four(folders):
    rows = list(csv.DictReader(folders["histology"].open(encoding="utf-8")))
    blocks = [row["site"] for row in rows]
    assert len(set(blocks)) == 64
    assert {blocks.count(block) for block in blocks} == {4}
    blue = {"positive": [], "negative": []}
    for row in rows:
        blue[row["grade"]].append(np.asarray(Image.open(folders["histology"].parent / row["image"]))[..., 2].mean())
    assert 0.4 < len(blue["positive"]) / len(rows) < 0.6
    assert np.mean(blue["positive"]) < np.mean(blue["negative"]) - 30  # brown lacks blue


@pytest.mark.parametrize(
    ("name", "modalities", "classes"),
    [("digits", ["grey"], DIGIT_NAMES), ("histology", ["red", "green", "blue"], ("negative", "positive"))],
)
def test_the_doors_of_users_take_them(folders, tmp_path, name, modalities, classes):
    path = scan_cohort(
        folders[name],
        tmp_path,
        modalities=modalities,
        classes=classes,
        require_masks=False,
        check_voxels=name != "digits",
    )
    subjects = read_json(path)["subjects"]
    assert len(subjects) == {"digits": 1797, "histology": 256}[name]
    assert {subject["grade"] for subject in subjects} == set(classes)


def test_pictures_that_are_there_are_kept_and_strangers_refused(folders, capsys):
    folder = folders["histology"].parent
    before = (folder / "tiles" / "r00_c00.png").stat().st_mtime_ns
    (folder / "tiles" / "r00_c01.png").unlink()
    assert main(["example", "histology", str(folder)]) == 0
    assert capsys.readouterr().out.strip().endswith("tiles.csv")
    assert (folder / "tiles" / "r00_c00.png").stat().st_mtime_ns == before
    assert (folder / "tiles" / "r00_c01.png").is_file()
    assert main(["example", "digits", str(folder)]) == 2
    assert "must be empty or hold the example digits alone" in capsys.readouterr().err
