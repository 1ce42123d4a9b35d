"""Reading NIfTI volumes."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from scripts.volumes.reading import mask_codes_in, read_channels, read_mask, read_volume
from tests.tiny_subjects import AFFINE, SHAPE, make_images, make_mask, write_volume

DTYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2", ">f4"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_voxels_and_affine_are_those_that_nibabel_reads(tmp_path, dtype, suffix):
    array = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    path = tmp_path / f"a{suffix}"
    nib.save(nib.Nifti1Image(array, AFFINE, header), path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, array)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata()
    assert expected.min() < 0
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").data, expected)


def test_nifti2_and_a_fourth_dimension_of_one_are_read(tmp_path):
    array = make_images()["t1n"]
    nib.save(nib.Nifti2Image(array[..., None], AFFINE), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").data, array)


def test_a_gzip_file_of_several_members_is_read_whole(tmp_path):
    array = make_images()["t1n"]
    raw = nib.Nifti1Image(array, AFFINE).to_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(raw[:10_000]) + gzip.compress(raw[10_000:]))
    np.testing.assert_array_equal(read_volume(path).data, array)


def test_channels_of_a_4d_file_come_by_name(tmp_path):
    images = make_images()
    order = ["t2f", "t1n", "t1c", "t2w"]
    path = write_volume(tmp_path / "a.nii.gz", np.stack([images[name] for name in order], axis=-1))
    for name, volume in read_channels(path, order).items():
        np.testing.assert_array_equal(volume.data, images[name])


@pytest.mark.parametrize("order", [None, [], ["t1n", "t1c"], ["t1n", "t1n", "t1c", "t2w"]])
def test_a_4d_file_without_a_whole_channel_order_is_refused(tmp_path, order):
    path = write_volume(tmp_path / "a.nii.gz", np.stack(list(make_images().values()), axis=-1))
    with pytest.raises(ValueError, match="channel_order must name"):
        read_channels(path, order)


def test_two_members_of_equal_size_are_both_read(tmp_path):
    raw = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE).to_bytes()
    raw += bytes(-len(raw) % 2)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(raw[: len(raw) // 2]) + gzip.compress(raw[len(raw) // 2 :]))
    np.testing.assert_array_equal(read_volume(path).data, np.arange(60).reshape(3, 4, 5))


def test_a_4d_file_is_no_volume(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz", np.zeros((4, 5, 6, 2), np.int16))
    with pytest.raises(ValueError, match=r"a\.nii\.gz must hold one 3D image"):
        read_volume(path)


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "a.nii.gz"
    write_volume(path, make_images()["t1n"])
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(ValueError, match=r"a\.nii\.gz must be a complete gzip file.*copy or download"):
        read_volume(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_volume(path, make_images()["t1n"])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.nii\.gz must be a complete gzip file"):
        read_volume(path)


def test_a_truncated_file_without_compression_is_named(tmp_path):
    path = tmp_path / "a.nii"
    write_volume(path, make_images()["t1n"])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.nii must hold \d+ bytes"):
        read_volume(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"x" * 1000])
def test_a_file_that_is_no_nifti_is_named(tmp_path, content):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.nii\.gz must be a NIfTI file"):
        read_volume(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.nii\.gz does not exist"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(tmp_path, value):
    array = make_images()["t1n"].astype(np.float32)
    array[3, 4, 5] = value
    with pytest.raises(ValueError, match=r"a\.nii\.gz must hold finite values"):
        read_volume(write_volume(tmp_path / "a.nii.gz", array))


@pytest.mark.parametrize("shape", [(4, 5, 6, 1, 2), (4, 5, 6, 2, 1)])
def test_channels_in_a_fifth_dimension_as_itk_writes_them_are_read(tmp_path, shape):
    array = np.arange(240, dtype=np.int16).reshape(4, 5, 6, 2)
    path = write_volume(tmp_path / "a.nii.gz", array.reshape(shape))
    volumes = read_channels(path, ["t1n", "t1c"])
    np.testing.assert_array_equal(volumes["t1c"].data, array[..., 1])


def test_one_modality_in_a_file_of_channels_is_read(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz", make_images()["t1n"])
    np.testing.assert_array_equal(read_channels(path, ["t1n"])["t1n"].data, make_images()["t1n"])


def test_codes_stored_with_a_scale_factor_are_whole(tmp_path):
    image = nib.Nifti1Image((make_mask() * 60).astype(np.uint8), AFFINE)
    image.header.set_slope_inter(np.float32(1 / 60), 0)
    nib.save(image, tmp_path / "a.nii.gz")
    assert not np.isin(read_volume(tmp_path / "a.nii.gz").data, [0, 1, 2, 4]).all()
    mask = read_mask(tmp_path / "a.nii.gz")
    assert mask_codes_in(mask) == [1, 2, 4]
    np.testing.assert_array_equal(mask.data, make_mask())


@pytest.mark.parametrize(("value", "told"), [(1.5, r"1\.5"), (0.99, r"0\.99"), (-1, "-1"), (1e20, r"1e\+20")])
def test_what_is_no_code_is_told_as_it_is(tmp_path, value, told):
    array = make_mask().astype(np.float64)
    array[3, 4, 5] = value
    with pytest.raises(ValueError, match=rf"a\.nii\.gz must hold whole codes of at least 0, got {told};"):
        read_mask(write_volume(tmp_path / "a.nii.gz", array))
