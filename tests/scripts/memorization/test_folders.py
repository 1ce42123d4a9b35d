"""The audit of folders, on images that no code of ours made: handwritten digits and stained tissue."""

from __future__ import annotations

import re

import numpy as np
import pytest
from skimage import data
from skimage.io import imsave
from sklearn.datasets import load_digits

from bundle.__main__ import main
from scripts.memorization.folders import folder_names
from scripts.memorization.verdict import MEMORIZES, NO_SIGN, TOO_FEW
from scripts.running.files import read_json
from scripts.running.stages import Stage

DIGITS = load_digits()
THREES = DIGITS.images[DIGITS.target == 3]  # 183 of 8 x 8, 0 to 16; of one writer after the other, so taken by turns
TRAINING, HELD_OUT, FRESH = THREES[0:160:4], THREES[1:121:4], THREES[2:122:4]


def tiles(count, size=16):
    """Tiles of one picture of stained tissue, (count, size, size, 3) of 8 bits."""
    picture = data.immunohistochemistry()
    per_row = picture.shape[1] // size
    corners = [(size * (index // per_row), size * (index % per_row)) for index in range(count)]
    return np.stack([picture[y : y + size, x : x + size] for y, x in corners])


def write_pictures(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        imsave(folder / f"{index:03d}.png", image, check_contrast=False)
    return str(folder)


def write_array(path, images):
    np.save(path, images)
    return str(path)


def audit(tmp_path, *arguments):
    """Run the command; return its exit status, `audit.json` and the page."""
    output = tmp_path / "audit"
    status = main(["audit", *arguments, "--output_dir", str(output)])
    page = output / "audit.html"
    return status, *((read_json(output / "audit.json"), page.read_text(encoding="utf-8")) if page.is_file() else ())


@pytest.fixture
def digits(tmp_path):
    return [
        write_array(tmp_path / f"{name}.npy", images)
        for name, images in (("training", TRAINING), ("held_out", HELD_OUT), ("fresh", FRESH))
    ]


def test_digits_that_nobody_trained_on_show_no_sign(tmp_path, digits, capsys):
    training, held_out, fresh = digits
    status, content, page = audit(tmp_path, fresh, training, "--held_out", held_out, "--image_axes", "NHW")
    assert (status, content["classes"]["all"]["verdict"]) == (0, NO_SIGN)
    assert "No sign of memorization." in capsys.readouterr().out
    assert content["folders"]["training"]["num_subjects"] == 40
    assert content["max_shift"] == 1  # a sixth of 8 pixels
    assert "Each image counts as a subject of its own" in page
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page)
    assert addresses
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)


def test_planted_copies_of_digits_are_found_and_named(tmp_path, digits):
    training, held_out, _ = digits
    images = FRESH.copy()
    images[:4] = TRAINING[7:11, :, ::-1]  # mirrored
    copied = write_array(tmp_path / "copied.npy", images)
    status, content, page = audit(
        tmp_path, copied, training, "--held_out", held_out, "--image_axes", "NHW", "--max_shift", "1"
    )
    rows = content["classes"]["all"]["images"]
    assert (status, content["classes"]["all"]["verdict"]) == (1, MEMORIZES)
    assert [row["aligned"]["training"]["image"] for row in rows[:4]] == [f"training.npy[{n}]" for n in (7, 8, 9, 10)]
    assert all(row["copy"] for row in rows[:4])
    assert '<b class="grave">Memorizes.</b>' in page


def test_copies_of_tissue_are_found_without_held_out_images_and_what_is_lost_is_said(tmp_path):
    training = write_pictures(tmp_path / "training", tiles(20))
    images = tiles(50)[20:]
    images[3] = tiles(20)[5][::-1]
    synthetic = write_pictures(tmp_path / "synthetic", images)
    status, content, page = audit(tmp_path, synthetic, training, "--max_shift", "1")
    row = content["classes"]["all"]["images"][3]
    assert (row["copy"], row["aligned"]["training"]["image"]) == (True, "005.png")
    assert status == 1
    assert "No held-out images were given." in page
    assert content["folders"]["synthetic"]["shape"] == [3, 16, 16]


def test_no_sign_cannot_be_said_without_held_out_images_or_of_few(tmp_path, digits):
    training, _, fresh = digits
    status, content, _ = audit(tmp_path, fresh, training, "--image_axes", "NHW", "--max_shift", "0")
    assert (status, content["classes"]["all"]["verdict"]) == (2, TOO_FEW)
    assert "0 held-out subjects, of which the audit needs 5" in content["classes"]["all"]["evidence"][-1]
    one = write_array(tmp_path / "one.npy", THREES[150])
    other = write_array(tmp_path / "other.npy", THREES[151])
    status, content, _ = audit(tmp_path, one, other, "--overwrite")
    assert status == 2
    assert any(
        "1 synthetic images, of which the audit needs 29" in said for said in content["classes"]["all"]["evidence"]
    )


def test_the_names_and_the_folders_of_the_same_files_are_what_an_audit_depends_on(tmp_path):
    for folder, names in (("synthetic", "ab"), ("training", "cd"), ("held_out", "e")):
        (tmp_path / folder).mkdir()
        for name in names:
            np.save(tmp_path / folder / f"{name}.npy", np.zeros((4, 4)))
    paths = [str(tmp_path / name) for name in ("synthetic", "training", "held_out")]
    assert folder_names(*paths) == [["a.npy", "b.npy"], ["c.npy", "d.npy"], ["e.npy"]]
    assert folder_names(*paths[:2], None)[2] is None
    assert Stage("x", facts=[["a"]]).choices() != Stage("x", facts=[["b"]]).choices() != Stage("x").choices()


def test_patients_are_told_by_a_pattern(tmp_path):
    folder = tmp_path / "training"
    folder.mkdir()
    for index, image in enumerate(tiles(20)):
        imsave(folder / f"P{index // 2}_slice{index % 2}.png", image, check_contrast=False)
    synthetic = write_pictures(tmp_path / "synthetic", tiles(24)[20:])
    _, content, _ = audit(tmp_path, synthetic, str(folder), "--patient_pattern", r"^(P\d+)_", "--max_shift", "0")
    assert content["folders"]["training"]["num_subjects"] == 10
    assert content["folders"]["training"]["subjects_by"] == "patient_pattern"
    assert not any("Each image counts" in sentence for sentence in content["limits"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"synthetic": THREES[:30] / 16},
            (),
            "synthetic.npy must use value_range .*, got 0 to 1, which lies in one half",
        ),
        ({"synthetic": THREES[:30, :6]}, (), r"synthetic.npy must have images of 1 channels and the size \(8, 8\)"),
        (
            {"held_out": THREES[50:70]},
            (),
            r"held_out.npy must hold other images than .* held_out.npy\[0\] .training.np",
        ),
        ({"training": THREES[:9] * (np.arange(9) != 4)[:, None, None]}, (), r"one intensity in training.npy\[4\]"),
        ({}, ("--value_range", "0", "4"), r"must lie in value_range \[0, 4\]"),
        ({}, ("--patient_pattern", "("), "patient_pattern must be a regular expression"),
        ({}, ("--patient_pattern", "(Q+)"), "must find the patient in the name of every image, got none in"),
        ({}, ("--max_shift", "3"), "audit_max_shift must be 0 to a quarter .* pass --audit_max_shift 2"),
        ({}, ("--image_axes", "NHX"), "image_axes must be letters"),
    ],
)
def test_folders_that_cannot_be_compared_end_with_their_reason_and_status_3(tmp_path, capsys, change, options, message):
    images = {"synthetic": THREES[120:150], "training": THREES[:60], "held_out": THREES[60:90], **change}
    paths = [write_array(tmp_path / f"{name}.npy", array) for name, array in images.items()]
    axes = () if "--image_axes" in options else ("--image_axes", "NHW")
    (status,) = audit(tmp_path, *paths[:2], "--held_out", paths[2], *axes, *options)
    assert status == 3
    assert re.search(message, capsys.readouterr().err)


def test_one_folder_twice_is_refused_and_a_wrong_command_is_no_verdict(tmp_path, digits, capsys):
    training, *_ = digits
    assert audit(tmp_path, training, training, "--image_axes", "NHW") == (3,)
    assert "training_path must be another folder than synthetic_path" in capsys.readouterr().err
    for arguments in (["audit", "a", "b", "--heldout", "c"], ["audit"], ["audit", "a", "b", "--value_range", "0"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 3
