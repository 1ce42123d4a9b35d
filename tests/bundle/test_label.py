"""The MONAI Label app without MONAI Label, which lives in an environment of its own: see tests/label."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import zipfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle import label as command_line
from bundle.exports import Probabilities, write_onnx
from bundle.grader import Grader
from bundle.label import WORK, label_python, server_command
from bundle.label_app.__main__ import SESSIONS, UPLOADS, prepare
from bundle.label_app.__main__ import main as serve_app
from bundle.label_app.drawer import Drawer
from bundle.label_app.labels import check_label, segment_names
from bundle.label_app.limits import check_file_name, check_name, check_volume_size, resolve_inside
from bundle.label_app.params import ignored, read_params, require_known
from bundle.label_app.studies import find_studies, link_studies, resolve_patient
from bundle.label_app.viewer_mask import mark_patch
from bundle.label_app.wording import Folders, as_fields
from bundle.request_errors import NotFoundError, NotReadyError, RequestError, TooLargeError
from scripts.inference.onnx_model import OnnxClassifier
from scripts.provenance.record import read_provenance
from scripts.running.files import read_json, sha256_file, write_json
from tests.helpers import ROOT
from tests.tiny_subjects import MODALITIES, make_images, make_mask, reoriented, write_subject, write_volume

CLASSES = {"LGG": 0, "HGG": 1}
VOXELS = np.zeros((3, 4, 5), np.uint8)
AFFINE = np.diag([1.0, 1, 1, 1])


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("patient"))


@pytest.fixture
def copied(packed, tmp_path):
    """A package that may be changed."""
    return shutil.copytree(packed, tmp_path / "bundle")


def request_of(patient, **more):
    return {"subject_id": "patient", "images": patient["images"], "click": [20, 15, 10], **more}


# The command


def test_the_server_is_started_on_the_packages_own_code_with_a_folder_for_labels(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "label_python", lambda: "python")
    command, environment = server_command(str(tmp_path), str(packed), 8123)
    assert command[:3] == ["python", "-m", "bundle.label_app"]
    assert dict(zip(command[3::2], command[4::2], strict=True)) == {
        "--studies": str(tmp_path),
        "--bundle": str(packed),
        "--work": str(tmp_path / WORK),
        "--port": "8123",
        "--max-upload-mb": "1024",
    }
    assert environment["PYTHONPATH"].split(":")[:2] == [str(packed), str(command_line.ROOT)]
    assert (tmp_path / WORK).is_dir()


def test_what_is_missing_is_named_with_the_way_out_before_anything_is_made(packed, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give the folder"):
        server_command(str(tmp_path / "nowhere"), str(packed))
    with pytest.raises(FileNotFoundError, match=r"inference.json does not exist; .*python -m bundle pack"):
        server_command(str(tmp_path), str(tmp_path))
    with pytest.raises(ValueError, match="--port must be from 1 to 65535"):
        server_command(str(tmp_path), str(packed), port=0)
    assert list(tmp_path.iterdir()) == []


def test_a_package_without_the_code_that_the_app_needs_is_refused_by_name(packed, tmp_path, monkeypatch, capsys):
    words = f"x --studies {tmp_path} --bundle {packed} --work {tmp_path / WORK} --port 1 --max-upload-mb 1"
    monkeypatch.setattr("sys.argv", words.split())
    monkeypatch.delitem(sys.modules, "bundle.label_app.studies")
    monkeypatch.delattr("bundle.label_app.studies")
    monkeypatch.delattr("scripts.inference.patient_files.find_patients")
    assert serve_app() == 2
    assert capsys.readouterr().err.startswith(f"ImportError: {packed} was made by an earlier version (cannot import")
    # What is missing otherwise is no fault of the package.
    monkeypatch.setitem(sys.modules, "bundle.label_app.studies", None)
    with pytest.raises(ModuleNotFoundError, match=r"bundle\.label_app\.studies"):
        serve_app()


def test_an_environment_without_monai_label_names_the_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    monkeypatch.setattr(command_line.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="MONAI Label is not installed; `make label-env`"):
        label_python()


# Names, paths and sizes


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", ".hidden", "", "a\0b", "a..b", "a\nb", "x" * 201, "~root/a:b"])
def test_a_name_that_could_lead_anywhere_is_refused(name):
    with pytest.raises(RequestError, match="must be a plain name"):
        check_name("image", name)


def test_of_the_path_that_a_client_sends_the_name_is_kept():
    assert check_file_name("/scans/of the client/a.v2.nii.gz") == "a.v2.nii.gz"
    assert check_file_name("C:\\Users\\x\\A.NII") == "A.NII"
    for name in ("a.nrrd", "a.nii/..", None, "sitecustomize.py"):
        with pytest.raises(RequestError):
            check_file_name(name)


def test_a_path_is_taken_inside_the_studies_only_whatever_it_is_called(tmp_path):
    studies, outside = tmp_path / "studies", tmp_path / "studies_of_others"
    for folder in (studies, outside):
        folder.mkdir()
        (folder / "a.nii").write_bytes(b"")
    (studies / "out.nii").symlink_to(outside / "a.nii")
    assert resolve_inside(str(studies / "a.nii"), [studies]) == studies / "a.nii"
    for path in (outside / "a.nii", studies / "out.nii", studies / ".." / "studies_of_others" / "a.nii", "", "\0"):
        with pytest.raises(NotFoundError) as error:
            resolve_inside(str(path), [studies])
        assert error.value.status == 404
    with pytest.raises(NotFoundError, match="image must be one of the studies"):
        resolve_inside(str(studies / "b.nii"), [studies])


def test_a_file_that_unfolds_to_too_much_is_refused_and_a_broken_one_left_to_its_reader(tmp_path):
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(bytes(5 << 20)))
    assert bomb.stat().st_size < 10_000
    check_volume_size(bomb, most_bytes=5 << 20)
    with pytest.raises(TooLargeError, match="at most 4 MiB"):
        check_volume_size(bomb, most_bytes=4 << 20)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(bomb.read_bytes()[:3000])
    check_volume_size(broken, most_bytes=5 << 20)


# What a client says and is told


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "[" * 100_000, "9" * 5_000, '{"seed": ' + "9" * 19 + "}", '{"guidance": 1e999}'),
        *('{"click": [NaN, 1, 1]}', '{"guidance": -Infinity}', '{"class": "\\ud800"}'),
    ],
    ids=["cut", "list", "deep", "digits", "large", "infinite", "no number", "minus infinity", "half a character"],
)
def test_options_that_are_no_strict_json_object_are_refused(text):
    with pytest.raises(RequestError, match=r"^params must be a JSON object, got"):
        read_params(text)


def test_options_are_read_and_unknown_ones_named():
    options = read_params('{"class": "LGG", "seed": -7, "guidance": 1.5, "click": [1, 2, 3]}')
    assert options == {"class": "LGG", "seed": -7, "guidance": 1.5, "click": [1, 2, 3]}
    assert read_params("") == {}
    assert ignored(options, ["click"]) == ["class", "guidance", "seed"]
    require_known(options, [*options, "number"])
    with pytest.raises(RequestError, match="params must be of class, seed, got classs"):
        require_known({"classs": "HGG", "seed": 1}, ["seed", "class"])


def test_a_message_names_the_fields_of_a_request(packed, patient):
    grader = Grader(packed, device="cpu")
    for more in ({"click": None}, {"images": None, "image": "nowhere.nii.gz"}):
        with pytest.raises(RequestError) as error:
            grader.grade(request_of(patient, **more))
        assert "--" in str(error.value)
        assert "--" not in as_fields(str(error.value))
        assert "params" in as_fields(str(error.value))


def test_answers_name_files_without_the_servers_folders(tmp_path):
    uploads, studies = tmp_path / "s" / "monai_label" / "uploads", tmp_path / "s"
    folders = Folders([studies, tmp_path / 'a "b"'], [uploads])
    text = json.dumps({"a": f"{uploads}/tmpx_1/image/c.nii.gz is not {studies}/p1/t1.nii", "b": f"{tmp_path}/sister"})
    assert json.loads(folders.hide(text)) == {"a": "c.nii.gz is not p1/t1.nii", "b": f"{tmp_path}/sister"}
    quoted = json.dumps(
        [f'{tmp_path}/a "b"/models/model.pt', f"{uploads}/tmpy/a_t1.nii and {uploads}/tmpy/files/b.nii"]
    )
    assert json.loads(folders.hide(quoted)) == ["models/model.pt", "a_t1.nii and b.nii"]


# Studies


def write_studies(root):
    whole = np.stack([VOXELS] * 4, axis=-1)
    write_volume(root / "whole.nii.gz", whole)
    for name in ("t1", "t1ce", "t2", "flair"):
        write_volume(root / "p1" / f"p1_{name}.nii.gz", VOXELS)
        write_volume(root / "p2" / f"{name}.nii", VOXELS)
        if name != "t2":
            write_volume(root / "p3" / f"p3_{name}.nii", VOXELS)
    write_volume(root / "p1" / "p1_seg.nii.gz", VOXELS)
    write_volume(root / "monai_label" / "of_a_client.nii.gz", whole)
    return {"whole": "whole.nii.gz", "p1": "p1/p1_t1ce.nii.gz", "p2": "p2/t1ce.nii"}


def test_patients_are_found_by_their_files_and_incomplete_ones_and_masks_are_none(tmp_path):
    expected = write_studies(tmp_path)
    found = find_studies(tmp_path, MODALITIES, skip=tmp_path / "monai_label")
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == expected


def test_a_study_that_leads_out_of_the_folder_is_not_served(tmp_path):
    write_studies(tmp_path / "elsewhere")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "link.nii.gz").symlink_to(tmp_path / "elsewhere" / "whole.nii.gz")
    (tmp_path / "studies" / "p1").symlink_to(tmp_path / "elsewhere" / "p1")
    assert find_studies(tmp_path / "studies", MODALITIES) == {}


@pytest.mark.parametrize("name", ["t1", "t1ce", "flair"])
def test_a_patient_any_of_whose_files_leads_out_of_the_folder_is_not_served(tmp_path, name):
    write_studies(tmp_path / "studies")
    find = partial(find_studies, tmp_path / "studies", MODALITIES, skip=tmp_path / "studies" / "monai_label")
    kept = find()["p1"]
    assert resolve_patient(str(kept), [tmp_path / "studies"], MODALITIES) == kept
    file = kept.with_name(f"p1_{name}.nii.gz")
    (tmp_path / "elsewhere.nii.gz").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.nii.gz")
    assert list(find()) == ["whole", "p2"]
    for path in (kept, kept.parent):
        with pytest.raises(NotFoundError, match="image must be one of the studies"):
            resolve_patient(str(path), [tmp_path / "studies"], MODALITIES)


def test_two_patients_of_one_name_are_refused(tmp_path):
    write_studies(tmp_path)
    shutil.copytree(tmp_path / "p1", tmp_path / "p1_again")
    with pytest.raises(ValueError, match="must not both be 'p1'"):
        find_studies(tmp_path, MODALITIES, skip=tmp_path / "monai_label")


def test_a_folder_without_studies_is_refused_by_what_was_looked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "p1").mkdir()
    for name in ("1.dcm", "2.dcm", "p1/notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(
        FileNotFoundError, match=r"PATIENT_t1n\.nii\.gz.*4D NIfTI.*\(2 \.dcm, 1 \.txt\); `python -m bundle dicom"
    ):
        prepare(tmp_path, ROOT, tmp_path / WORK)
    words = f"x --studies {tmp_path} --bundle {ROOT} --work {tmp_path / WORK} --port 1 --max-upload-mb 1"
    monkeypatch.setattr("sys.argv", words.split())
    assert serve_app() == 2
    assert capsys.readouterr().err.startswith(f"FileNotFoundError: {tmp_path} must hold studies")
    assert not (tmp_path / WORK / "studies").exists()


def test_links_follow_the_studies_and_labels_stay(tmp_path):
    write_studies(tmp_path)
    view = tmp_path / "monai_label" / "studies"
    link_studies(find_studies(tmp_path, MODALITIES, skip=tmp_path / "monai_label"), view)
    (view / "labels").mkdir()
    shutil.rmtree(tmp_path / "p2")
    link_studies(find_studies(tmp_path, MODALITIES, skip=tmp_path / "monai_label"), view)
    assert sorted(path.name for path in view.iterdir()) == ["labels", "p1.nii.gz", "whole.nii.gz"]


# The mask of a viewer


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
def test_the_viewers_mask_marks_the_same_anatomy_however_the_image_is_stored(codes):
    patch_affine = np.array([[2.0, 0, 0, -9], [0, 2, 0, 3], [0, 0, 1, 5], [0, 0, 0, 1]])
    affine = np.array([[1.0, 0, 0, -17], [0, 1, 0, -11], [0, 0, 1, -6], [0, 0, 0, 1]])
    expected = mark_patch((40, 33, 22), affine, (6, 5), patch_affine, 2)
    # Cells of 2 mm from -10 to 2 mm and from 2 to 12 mm, on the slice at 5 mm.
    assert (np.argwhere(expected).min(0).tolist(), np.argwhere(expected).max(0).tolist()) == ([7, 13, 11], [18, 22, 11])
    assert np.count_nonzero(expected == 2) == np.count_nonzero(expected) == 12 * 10
    stored, stored_affine = reoriented(np.zeros((40, 33, 22)), affine, codes)
    found = mark_patch(stored.shape, stored_affine, (6, 5), patch_affine, 2)
    marked = {tuple(point) for point in nib.affines.apply_affine(stored_affine, np.argwhere(found)).round(6).tolist()}
    same = {tuple(point) for point in nib.affines.apply_affine(affine, np.argwhere(expected)).round(6).tolist()}
    # A voxel's center on the border of two cells belongs to the upper one, along whichever axis it is stored.
    assert marked == same


def test_what_lies_outside_the_image_is_not_marked():
    shifted = AFFINE.copy()
    shifted[:3, 3] = [-2, 0, 2]
    mask = mark_patch((4, 4, 4), AFFINE, (4, 4), shifted, 1)
    assert np.argwhere(mask).max(0).tolist() == [1, 3, 2]
    assert mask.sum() == 2 * 4
    shifted[:3, 3] = 100
    assert not mark_patch((4, 4, 4), AFFINE, (4, 4), shifted, 1).any()


# Labels


def test_the_names_of_segments_are_taken_in_their_order():
    assert segment_names([{"name": "HGG", "idx": 3}, {"name": "x"}]) == ["HGG", "x"]
    assert segment_names(None) is segment_names([]) is None
    with pytest.raises(RequestError, match="label_info must be a list"):
        segment_names("HGG")


@pytest.mark.parametrize(
    ("value", "segments", "kept"),
    [(2, None, 2), (1, None, 1), (1, ["HGG"], 2), (2, ["HGG", "LGG"], 1), (3, ["a", "b", "HGG"], 2)],
)
def test_a_label_gets_the_value_of_its_class(tmp_path, value, segments, kept):
    mask = np.where(make_mask() > 0, np.float32(value), 0)
    image = write_volume(tmp_path / "image.nii.gz", np.stack(list(make_images().values()), axis=-1))
    path = Path(write_volume(tmp_path / "mask.nii.gz", mask))
    check_label(path, image, CLASSES, segments)
    written = nib.load(path)
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(written.dataobj), np.where(mask > 0, kept, 0))
    assert np.allclose(written.affine, nib.load(image).affine)


@pytest.mark.parametrize(
    ("mask", "segments", "reason"),
    [
        (make_mask() * 0, None, r"got the values \[\]"),
        (make_mask(), None, r"1 \(LGG\) or 2 \(HGG\), got the values \[1, 2, 4\]"),
        ((make_mask() > 0) * 0.5, None, r"got the values \[0\.5\]"),
        ((make_mask() > 0) * 1, ["edema"], r"a segment called LGG or HGG, got the values \[1\]"),
        ((make_mask() > 0)[1:] * 1, None, "voxel grid of the image"),
        ((make_mask() > 0)[::-1] * np.nan, None, r"^mask\.nii\.gz must hold finite values"),
    ],
    ids=["empty", "several", "fraction", "other segment", "other grid", "not a number"],
)
def test_a_label_of_no_class_or_of_another_grid_is_refused(tmp_path, mask, segments, reason):
    image = write_volume(tmp_path / "image.nii.gz", make_images()["t1c"])
    path = Path(write_volume(tmp_path / "mask.nii.gz", mask.astype(np.float32)))
    with pytest.raises(RequestError, match=reason):
        check_label(path, image, CLASSES, segments)


def test_a_label_moved_by_a_voxel_is_refused(tmp_path):
    image = write_volume(tmp_path / "image.nii.gz", make_images()["t1c"])
    moved = AFFINE.copy()
    path = Path(write_volume(tmp_path / "mask.nii.gz", np.uint8(make_mask() > 0), moved))
    with pytest.raises(RequestError, match="voxel grid of the image"):
        check_label(path, image, CLASSES)


# Grading


def test_the_grader_answers_with_center_source_and_weights(packed, patient):
    grader = Grader(packed, device="cpu")
    grade = grader.grade(request_of(patient))
    assert (grade.answer["crop"]["center_voxel"], grade.answer["crop"]["source"]) == ([20, 15, 10], "click")
    assert grade.answer["weights"]["sha256"] == read_provenance(packed / "models" / "model.pt")["weights_sha256"]
    expected = torch.tensor(grade.answer["logits"]).softmax(0).tolist()
    assert list(grade.answer["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
    assert grader.reference_path(request_of(patient)) == patient["images"]["t1c"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"click": [900, 0, 0]}, "must lie inside"),
        ({"click": [0, 0, 0]}, "must lie in the brain"),
        ({"click": None}, "mask or click must say"),
        ({"images": {"t1n": "nowhere.nii"}}, "got none for"),
        ({"images": None, "image": "nowhere.nii.gz"}, "channel_order must be declared"),
    ],
    ids=["outside", "air", "no click", "a file", "no order"],
)
def test_what_cannot_be_graded_is_refused_with_the_reason(packed, patient, more, reason):
    with pytest.raises(RequestError, match=reason) as error:
        Grader(packed, device="cpu").grade(request_of(patient, **more))
    assert error.value.status == 422


def test_probabilities_that_are_not_finite_are_no_grade(packed, patient):
    grader = Grader(packed, device="cpu")
    network = grader.load().network
    network.register_forward_hook(lambda _network, _inputs, logits: logits * float("nan"))
    with pytest.raises(RequestError, match=r"model\.pt must give finite probabilities, got \[nan, nan\]"):
        grader.grade(request_of(patient))


def test_no_key_of_a_request_reaches_the_bundles_config(packed, patient):
    grader = Grader(packed, device="cpu")
    plain = grader.grade(request_of(patient)).answer
    assert grader.grade(request_of(patient, weights_path="nowhere", patch_size=[1, 1])).answer == plain


def test_new_weights_are_served_and_weights_without_their_record_are_not(copied, patient, monkeypatch):
    monkeypatch.setattr("bundle.grader.WAIT_S", 0)
    grader = Grader(copied, device="cpu")
    before = grader.grade(request_of(patient)).answer
    path = copied / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({key: value * 2 if "fc" in key else value for key, value in weights.items()}, path)
    with pytest.raises(NotReadyError, match="must be about model.pt"):
        grader.grade(request_of(patient))
    record = read_json(path.with_name("provenance.json"))
    write_json(path.with_name("provenance.json"), {**record, "weights_sha256": sha256_file(path)})
    after = grader.grade(request_of(patient)).answer
    assert after["weights"]["sha256"] != before["weights"]["sha256"]
    assert after["logits"] != before["logits"]
    path.unlink()
    with pytest.raises(NotReadyError, match="does not exist"):
        grader.grade(request_of(patient))


def test_an_onnx_file_of_the_weights_answers_and_one_of_other_weights_does_not(copied, patient):
    path = copied / "models" / "model.pt"
    before = Grader(copied, device="cpu").grade(request_of(patient))
    network = Probabilities(before.loaded.network).eval()
    with torch.no_grad():
        write_onnx(network, {"image": torch.rand(2, 4, 16, 24)}, path)
    grader = Grader(copied, device="cpu")
    by_onnx = grader.grade(request_of(patient))
    assert isinstance(by_onnx.loaded.network, OnnxClassifier)
    assert by_onnx.answer["logits"] == pytest.approx(before.answer["logits"], abs=1e-4)
    weights = torch.load(path, weights_only=True)
    torch.save({key: value * 2 if "fc" in key else value for key, value in weights.items()}, path)
    record = read_json(path.with_name("provenance.json"))
    write_json(path.with_name("provenance.json"), {**record, "weights_sha256": sha256_file(path)})
    after = grader.grade(request_of(patient))
    assert not isinstance(after.loaded.network, OnnxClassifier)
    assert after.answer["logits"] != pytest.approx(before.answer["logits"], abs=1e-4)


# Drawing


def test_equal_requests_draw_equal_bytes_and_the_number_changes_no_image(packed, tmp_path):
    def draw(name, **request):
        (tmp_path / name).mkdir()
        return Drawer(packed).draw({"class": "LGG", "seed": 3, "num_inference_steps": 2, **request}, tmp_path / name)

    first, told = draw("a")
    assert first.read_bytes() == draw("b")[0].read_bytes() != draw("c", seed=4)[0].read_bytes()
    assert (told["class"], told["seed"], told["synthetic"], told["num_inference_steps"]) == ("LGG", 3, True, 2)
    both, _ = draw("d", number=2)
    with zipfile.ZipFile(both) as archive:
        assert archive.read("LGG_0000.nii.gz") == first.read_bytes()
        assert json.loads(archive.read("synthetic.json"))["provenance"]["seed"] == 3


@pytest.mark.parametrize(
    ("request_settings", "reason"),
    [
        ({"class": "$1"}, "class must be one of LGG, HGG"),
        ({"number": 0}, "number must be from 1 to 64"),
        ({"number": True}, "must be a whole number"),
        ({"seed": 2**40}, "must be a whole number from 0 to"),
        ({"seed": 1.5}, "must be a whole number"),
        ({"sampler": "$__import__('os')"}, "sampler must be a name"),
        ({"sampler": "euler"}, "sampler must be one of"),
        ({"guidance": float("nan")}, "guidance must be a number"),
        ({"guidance": 10**400}, "guidance must be a number"),
        ({"class": ["LGG"]}, "class must be one of LGG, HGG"),
        ({"guidance": 2}, "guidance_scale"),
        ({"num_inference_steps": 5000}, "num_inference_steps"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(packed, tmp_path, request_settings, reason):
    with pytest.raises(RequestError, match=reason):
        Drawer(packed).draw({"class": "LGG", **request_settings}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_viewer_is_told_to_ask_for_can_be_asked_for(packed, tmp_path):
    options = Drawer(packed).options()
    assert options["class"] == ["LGG", "HGG"]
    assert all(isinstance(options[name], int) for name in ("seed", "number", "num_inference_steps"))
    asked = {**options, "class": "LGG", "num_inference_steps": 2}
    image, told = Drawer(packed).draw(asked, tmp_path)
    assert (image.name, told["seed"]) == ("LGG_0000.nii.gz", options["seed"])


def test_a_bundle_without_generators_draws_nothing(tmp_path):
    assert not Drawer(tmp_path).is_there


def test_a_server_empties_its_own_folders_and_no_other_in_the_folder_it_works_in(tmp_path, monkeypatch):
    studies = tmp_path / "studies"
    work = studies / WORK
    write_studies(studies)
    for name in ("uploads", "sessions", UPLOADS, SESSIONS):
        (work / name).mkdir(parents=True)
        (work / name / "image.nii.gz").touch()
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    view = prepare(studies, ROOT, work)
    assert sorted(path.name for path in view.iterdir()) == ["p1.nii.gz", "p2.nii", "whole.nii.gz"]
    assert sorted(path.parent.name for path in work.rglob("image.nii.gz")) == ["sessions", "uploads"]
