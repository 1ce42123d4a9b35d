"""Slices for the page of the Label server, and its files; the page itself is used in tests/label."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bundle.label_app.slices import KEPT, Viewer, to_greys
from bundle.request_errors import NotFoundError, RequestError
from scripts.running.files import write_json
from tests.tiny_subjects import AFFINE, MODALITIES, SHAPE, make_images, reoriented, write_volume


def write_mixed(folder, codes=("RAS", "LPS", "SAR", "ASR")):
    """Four files of one patient, each of which stores its voxels in another order."""
    for (name, array), code in zip(make_images().items(), codes, strict=True):
        write_volume(folder / f"p_{name}.nii.gz", *reoriented(array, AFFINE, code))
    return folder / "p_t1c.nii.gz"


def pixels(study, *place):
    return np.asarray(Image.open(io.BytesIO(study.picture(*place))))


def test_slices_show_the_patients_right_on_the_left_however_files_store_their_voxels(tmp_path):
    study = Viewer(MODALITIES).study(write_mixed(tmp_path))
    for name, array in make_images().items():
        greys = to_greys(array)
        for plane, axis, index in (("axial", 2, 11), ("coronal", 1, 14), ("sagittal", 0, 22)):
            shown = pixels(study, name, plane, index)
            assert np.array_equal(shown[::-1, ::-1].T, greys.take(index, axis)), (name, plane)
    # A column of the axial slice is one of the right side: the first shows the highest x.
    assert pixels(study, "t1c", "axial", 11).shape == (SHAPE[1], SHAPE[0])


def test_a_study_tells_where_its_voxels_lie_in_the_file_that_is_clicked_in(tmp_path):
    told = Viewer(MODALITIES).study(write_mixed(tmp_path, ("RAS", "RAS", "LPS", "RAS"))).describe()
    assert (told["file"], told["shape"], told["modalities"]) == ("p_t1c.nii.gz", list(SHAPE), MODALITIES)
    assert np.array_equal(told["ras_to_file"], np.eye(4))
    turned = Viewer(MODALITIES).study(write_mixed(tmp_path / "b", ("RAS", "LPS", "RAS", "RAS"))).describe()
    assert turned["ras_to_file"][0] == [-1, 0, 0, SHAPE[0] - 1]
    np.testing.assert_allclose(turned["ras_affine"], AFFINE)


def test_greys_stretch_what_is_not_background():
    voxels = np.arange(-100.0, 1001.0)
    greys = to_greys(voxels)
    assert (greys[voxels == 0], greys.max()) == (0, 255)
    assert (np.diff(greys[voxels > 0].astype(int)) >= 0).all()
    assert greys[voxels == 450] == pytest.approx(127.5, abs=1)
    assert not to_greys(np.zeros((2, 3))).any()
    assert not to_greys(np.array([0, 7, 7])).any()


def test_what_cannot_be_shown_is_refused_by_name(tmp_path):
    viewer = Viewer(MODALITIES)
    whole = np.stack(list(make_images().values()), axis=-1)
    path = tmp_path / "all.nii.gz"
    write_volume(path, whole)
    with pytest.raises(RequestError, match="channel_order must be declared"):
        viewer.study(path)
    assert viewer.study(path, "t2f,t1n,t1c,t2w").describe()["shape"] == list(SHAPE)
    write_json(tmp_path / "dataset.json", {"modality": {"0": "t1", "1": "t1ce", "2": "t2", "3": "flair"}})
    assert np.array_equal(viewer.study(path).greys["t2w"], to_greys(make_images()["t2w"]))
    other = write_mixed(tmp_path / "other")
    write_volume(other.with_name("p_t2f.nii.gz"), make_images()["t2f"][1:])
    with pytest.raises(RequestError, match="t2f must lie on the voxel grid of t1n"):
        viewer.study(other)
    other.unlink()
    with pytest.raises(RequestError, match=r"p_t1c\.nii\.gz"):
        viewer.study(other)
    with pytest.raises(NotFoundError, match="index of coronal slices must be from 0 to 32, got 33"):
        viewer.study(path).picture("t1n", "coronal", 33)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_replaced_file_of_any_modality_is_shown(tmp_path, modality):
    viewer, path = Viewer(MODALITIES), write_mixed(tmp_path, ["RAS"] * 4)
    before = viewer.study(path)
    array = make_images()[modality][:, ::-1].copy()
    write_volume(tmp_path / f"p_{modality}.nii.gz", array)
    after = viewer.study(path)
    assert np.array_equal(after.greys[modality], to_greys(array))
    assert not np.array_equal(after.greys[modality], before.greys[modality])


def test_channels_that_are_named_anew_are_shown_under_the_new_names(tmp_path):
    viewer, images = Viewer(MODALITIES), make_images()
    path = tmp_path / "all.nii.gz"
    write_volume(path, np.stack(list(images.values()), axis=-1))
    for names in (["t1", "t1ce", "t2", "flair"], ["flair", "t1ce", "t2", "t1"]):
        write_json(tmp_path / "dataset.json", {"modality": {str(index): name for index, name in enumerate(names)}})
        shown = viewer.study(path).greys["t2f"]
        assert np.array_equal(shown, to_greys(list(images.values())[names.index("flair")]))


def test_a_study_is_read_once_and_the_last_ones_are_kept(tmp_path, monkeypatch):
    viewer = Viewer(MODALITIES)
    paths = [write_mixed(tmp_path / str(number)) for number in range(KEPT + 1)]
    first = viewer.study(paths[0])
    assert viewer.study(paths[0]) is first
    for path in paths[1:]:
        viewer.study(path)
    assert viewer.study(paths[0]) is not first
    assert viewer.study(paths[-1]) is viewer.study(paths[-1])
