from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as pictures
from skimage.io import imsave
from sklearn.datasets import load_digits

from scripts.patches.pictures import mosaic
from scripts.provenance.foreign_images import check_reading, read_foreign, stem


@pytest.fixture
def images():
    """Whole numbers of 8 bits with unequal sides, so that a swapped axis fails: (N, C, H, W)."""
    return np.random.default_rng(0).integers(0, 256, (3, 4, 5, 7), dtype=np.uint8)


def write_nifti(folder, images):
    for index, image in enumerate(images):
        channels_last = np.moveaxis(image, 0, -1).astype(np.float32)
        volume = channels_last[:, :, None] if channels_last.ndim == 3 else channels_last
        nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / f"{index}.nii.gz")


def write_pictures_of_channels(folder, images):
    for index, image in enumerate(images):
        for name, channel in zip("abcd", image, strict=True):
            imsave(folder / f"{index}_{name}.png", channel.T[::-1], check_contrast=False)


def write_array(axes):
    def write(folder, images):
        order = ["NCHW".index(letter) for letter in axes]
        np.save(folder / "all.npy", images.transpose(order))

    return write


@pytest.mark.parametrize(
    ("write", "options", "is_8_bit"),
    [
        (write_nifti, {}, False),
        (write_pictures_of_channels, {"channel_endings": ["_a", "_b", "_c", "_d"]}, True),
        (write_array("NCHW"), {"image_axes": "NCHW"}, True),
        (write_array("HWCN"), {"image_axes": "HWCN"}, True),
    ],
    ids=["NIfTI", "a picture for each channel", "channels first", "images last"],
)
def test_the_same_images_are_read_from_every_kind_of_file(tmp_path, images, write, options, is_8_bit):
    write(tmp_path, images)
    read = read_foreign(tmp_path, **options)
    assert torch.equal(read.images, torch.from_numpy(images.astype(np.float32)))
    assert read.is_8_bit is is_8_bit
    assert len(read.names) == 3


def test_volumes_are_read_with_and_without_channels(tmp_path):
    volume = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    assert torch.equal(read_foreign(tmp_path).images, torch.from_numpy(volume)[None, None])
    np.savez(tmp_path / "b.npz", volume)
    assert torch.equal(read_foreign(tmp_path / "b.npz", "HWD").images, torch.from_numpy(volume)[None, None])


def test_a_picture_lies_as_a_report_shows_it(tmp_path, images):
    shown = mosaic(images[0, :1].astype(np.float32) / 127.5 - 1, enlarge_to=1)
    imsave(tmp_path / "a.png", shown, check_contrast=False)
    assert torch.equal(read_foreign(tmp_path).images[0, 0], torch.from_numpy(images[0, 0].astype(np.float32)))


def test_colors_are_channels_and_a_palette_or_transparency_is_none(tmp_path):
    tile = pictures.immunohistochemistry()[:32, :24]
    Image.fromarray(tile).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([tile, np.full((32, 24), 9, np.uint8)])).save(tmp_path / "b.png")
    read = read_foreign(tmp_path)
    assert read.images.shape == (2, 3, 24, 32)
    assert torch.equal(read.images[0], read.images[1])
    Image.fromarray(tile[..., 0]).convert("P").save(tmp_path / "c.png")
    assert torch.equal(read_foreign(tmp_path / "c.png").images[0, 1], read.images[0, 0])


def test_the_range_becomes_minus_one_to_one(tmp_path):
    np.save(tmp_path / "digits.npy", load_digits().images[:20])
    read = read_foreign(tmp_path / "digits.npy", "NHW")
    assert read.images.shape == (20, 1, 8, 8)
    assert read.names[3] == "digits.npy[3]"
    scaled = read.scaled((0, 16))
    torch.testing.assert_close(scaled, read.images / 8 - 1)
    assert (scaled.min(), scaled.max()) == (-1, 1)


@pytest.mark.parametrize(
    ("values", "value_range", "message"),
    [
        ([0, 1], (-1, 1), r"must use value_range \[-1, 1\], got 0 to 1, which lies in one half"),
        ([0, 1], (0, 255), r"which lies in one half of it; give --value_range \"\[0, 1\]\""),
        ([-1, 1], (0, 1), r"must lie in value_range \[0, 1\], got -1 to 1"),
        ([0, 300], (0, 255), r"must lie in value_range \[0, 255\], got 0 to 300"),
    ],
)
def test_images_of_another_range_are_refused(tmp_path, values, value_range, message):
    np.save(tmp_path / "a.npy", np.array([values, values], dtype=np.float32))
    with pytest.raises(ValueError, match=message):
        read_foreign(tmp_path).scaled(value_range)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "must hold at least one image .* got nothing"),
        ({"a.npy": (4, 5, 6)}, {}, r"image_axes must say what the axes of .*a.npy are, whose shape is \(4, 5, 6\)"),
        ({"a.npy": (4, 5)}, {"image_axes": "CHW"}, r"a.npy must have the 3 axes of image_axes 'CHW', got .*\(4, 5\)"),
        ({"a.npy": (4, 5), "b.npy": (4, 6)}, {}, r"b.npy must have channels and size of the other images of the fold"),
        ({"a_t1.npy": (4, 5)}, {"channel_endings": ["t1", "t2"]}, "a_t1.npy must have a file .* got none for t2"),
        ({"a_t3.npy": (4, 5)}, {"channel_endings": ["t1", "t2"]}, "a_t3.npy must end in the name of a channel"),
    ],
)
def test_files_that_are_no_set_of_images_are_refused_by_name(tmp_path, files, options, message):
    for name, shape in files.items():
        np.save(tmp_path / name, np.zeros(shape))
    with pytest.raises(ValueError, match=message):
        read_foreign(tmp_path, **options)


def test_damaged_and_pickled_files_are_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="a.png must be a readable image or array"):
        read_foreign(tmp_path)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match="b.npy must be a readable image or array .without pickled objects"):
        read_foreign(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(ValueError, match="c.npz must be .* .an archive of 2 arrays"):
        read_foreign(tmp_path / "c.npz")
    np.save(tmp_path / "d.npy", np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="d.npy must hold finite numbers"):
        read_foreign(tmp_path / "d.npy")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give a folder of images"):
        read_foreign(tmp_path / "nowhere")
    (tmp_path / "e.txt").write_text("x")
    with pytest.raises(ValueError, match="e.txt must be an image .* another ending"):
        read_foreign(tmp_path / "e.txt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (([1, 0], None, None), "value_range must be two increasing numbers"),
        (("0,1", None, None), "value_range must be two increasing numbers"),
        ((None, "HH", None), "image_axes must be letters, each once"),
        ((None, "NC", None), "image_axes must be letters"),
        ((None, None, "t1n"), "channel_endings must be a list"),
        ((None, None, ["a", "a"]), "channel_endings must be a list of different names"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        check_reading(*settings)


def test_a_stack_of_pictures_is_refused_instead_of_read_by_its_first(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 20)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="a stack of 2 pictures"):
        read_foreign(tmp_path)


def test_a_name_loses_its_ending_alone():
    assert [stem(name) for name in ("a/b.v2.PNG", "c.nii.gz", "d.npy[3]")] == ["b.v2", "c", "d.npy[3]"]
