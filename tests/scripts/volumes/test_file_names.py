from __future__ import annotations

import pytest

from scripts.volumes.file_names import as_named, is_nifti, stem_of


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/b/case.nii.gz", "case"), ("case.NII.GZ", "case"), ("case.v2.nii", "case.v2"), ("c.Nii.gz", "c")],
)
def test_the_ending_of_nifti_is_understood_in_capitals_and_left_off(name, stem):
    assert is_nifti(name)
    assert stem_of(name) == stem


@pytest.mark.parametrize("name", ["case.nrrd", "case.gz", "nii", "._case.nii.gz", ".case.nii", "folder.nii/case.img"])
def test_other_files_and_what_macos_leaves_are_no_images(name):
    assert not is_nifti(name)


def test_a_link_keeps_its_name_and_the_folders_above_it_are_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "0a1b").write_text("x")
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real" / "case_t1.nii.gz").symlink_to("../store/0a1b")
    assert as_named(tmp_path / "folder" / "case_t1.nii.gz") == tmp_path / "real" / "case_t1.nii.gz"
    assert as_named(tmp_path / "folder" / "..") == tmp_path
    assert as_named(tmp_path / "folder") == tmp_path / "folder"
