"""Pictures in every way that they are stored come in as they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.patches.pictures import mosaic
from scripts.volumes.checks import check_grid, check_picture
from scripts.volumes.picture_files import picture_header, read_picture
from scripts.volumes.reading import read_channels, read_volume

COLORS = ["red", "green", "blue"]
SHOWN = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)  # rows, columns, colors
GREY = SHOWN[..., 0]


def save(path: Path, pixels: np.ndarray | Image.Image, **options) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def as_shown(path: Path, channels: list[str]) -> np.ndarray:
    """Rows from the top, columns from the left, channels last."""
    volumes = read_channels(path, channels)
    return np.stack([volume.ras[:, ::-1, 0].T for volume in volumes.values()], axis=-1)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "TIFF"])
def test_colors_come_in_pixel_for_pixel_in_formats_without_loss(ending, tmp_path):
    path = save(tmp_path / f"a.{ending}", SHOWN)
    np.testing.assert_array_equal(as_shown(path, COLORS), SHOWN)
    assert read_picture(path).facts() == {"size": [5, 7], "mode": "RGB", "content": "colors"}


def test_the_report_draws_a_picture_as_it_is_shown(tmp_path):
    volume = read_volume(save(tmp_path / "a.png", GREY))
    patch = volume.ras[:, :, 0][None] / 127.5 - 1
    np.testing.assert_array_equal(mosaic(patch, enlarge_to=1), GREY)


def test_a_voxel_of_the_file_is_a_column_and_a_row(tmp_path):
    volume = read_volume(save(tmp_path / "a.png", GREY))
    assert volume.data.shape == (5, 7, 1)
    assert volume.data[3, 6, 0] == GREY[6, 3]
    assert volume.voxel_in_file(np.array([3, 0, 0])) == [3, 6, 0]  # RAS+ counts rows from the bottom


def test_grey_saved_as_colors_is_read_as_grey_and_said_to_be(tmp_path):
    stored = {
        "L": save(tmp_path / "l.png", GREY),
        "RGB": save(tmp_path / "rgb.png", np.dstack([GREY] * 3)),
        "RGBA": save(tmp_path / "rgba.png", np.dstack([GREY] * 3 + [np.full_like(GREY, 255)])),
        "LA": save(tmp_path / "la.png", Image.fromarray(GREY).convert("LA")),
        "P": save(tmp_path / "p.png", Image.fromarray(GREY).convert("P")),
    }
    for mode, path in stored.items():
        assert read_picture(path).facts() == {"size": [5, 7], "mode": mode, "content": "grey"}
        np.testing.assert_array_equal(as_shown(path, ["grey"])[..., 0], GREY)
        np.testing.assert_array_equal(as_shown(path, COLORS), np.dstack([GREY] * 3))
    assert len({check_picture(path, ["grey"])[0] for path in stored.values()}) == 1


def test_a_palette_gives_its_colors_and_not_its_numbers(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(SHOWN // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE))
    np.testing.assert_array_equal(as_shown(path, COLORS), SHOWN // 128 * 255)


def test_one_bit_is_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(GREY > 127))
    assert read_picture(path).mode == "1"
    np.testing.assert_array_equal(as_shown(path, ["grey"])[..., 0], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_of_grey_keep_their_steps_in_the_units_of_eight(ending, tmp_path):
    deep = GREY.astype(np.uint16) * 199 + 7
    path = save(tmp_path / f"a.{ending}", deep)
    np.testing.assert_allclose(as_shown(path, ["grey"])[..., 0], deep / 257, rtol=1e-6)
    assert check_picture(path, ["grey"])[1]["content"] == "grey"


def test_the_camera_says_which_side_is_up(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned by a quarter
    smooth = np.add.outer(np.arange(24), 3 * np.arange(16)).astype(np.uint8)
    path = save(tmp_path / "a.jpg", smooth, exif=tags, quality=100)
    assert picture_header(path)["size"] == [24, 16]
    np.testing.assert_allclose(as_shown(path, ["grey"])[..., 0], np.rot90(smooth, -1), atol=2)


def test_printers_colors_become_those_of_a_screen(tmp_path):
    flat = np.full((8, 8, 3), [250, 10, 10], np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(flat).convert("CMYK"), quality=100)
    np.testing.assert_allclose(as_shown(path, COLORS), flat, atol=3)
    assert read_picture(path).mode == "CMYK"


def test_a_mark_in_color_is_told_and_does_not_make_a_grey_picture_colored(tmp_path):
    scan = np.dstack([np.full((100, 100), 90, np.uint8)] * 3)
    scan[:5, :10] = [255, 0, 0]
    path = save(tmp_path / "a.png", scan)
    assert read_picture(path).facts()["content"] == "grey with colored marks"
    assert as_shown(path, ["grey"])[50, 50, 0] == 90


def truncated(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:1500])


BAD = {
    "cut short.jpg": (truncated, "must be a whole picture that can be read, got .*truncated"),
    "text.png": (lambda path: path.write_text("<html>"), "must be a whole picture that can be read, got cannot ident"),
    "glass.png": (
        lambda path: save(path, np.dstack([SHOWN, np.where(GREY > 127, 255, 0).astype(np.uint8)])),
        r"an alpha channel by which \d\d% of the pixels are transparent; save it",
    ),
    "colors.png": (lambda path: save(path, SHOWN), r"must be grey, .* got colors in \d+% .*; set modalities to"),
    "blank.png": (
        lambda path: save(path, np.full((4, 4), 7, np.uint8)),
        r"must not be constant, got \[7\] in every pixel",
    ),
    "real.tif": (lambda path: save(path, GREY.astype(np.float32)), "pixels of real numbers"),
    "negative.tif": (
        lambda path: save(path, GREY.astype(np.uint16) * 257, tiffinfo={262: 0}),
        "16 bits of grey of which 0 is white; save it with 0 as black",
    ),
    "stack.tif": (
        lambda path: save(path, Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(GREY)]),
        "a stack of 2 pictures",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_picture_that_cannot_be_used_is_refused_by_name_with_the_way_out(name, tmp_path):
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} {message}|{name} .*{message}"):
        check_picture(tmp_path / name, ["grey"])


def test_a_picture_has_one_channel_or_three(tmp_path):
    path = save(tmp_path / "a.png", SHOWN)
    check_grid({"image": path}, num_channels=3)
    for names in ([], ["t1n", "t1c", "t2w"], ["t1n", "t1c", "t2w", "t2f"]):
        with pytest.raises(ValueError, match=r"modalities must be one, such as \[grey\], or the three"):
            read_channels(path, names)
    with pytest.raises(ValueError, match=r"modalities must be one"):
        check_grid({"image": path}, num_channels=4)


def test_colors_are_told_apart_by_their_names(tmp_path):
    path = save(tmp_path / "a.png", SHOWN)
    channels = read_channels(path, ["red", "green", "blue"])
    swapped = read_channels(path, ["blue", "green", "red"])
    for name, volume in channels.items():
        np.testing.assert_array_equal(swapped[name].data, volume.data)


def test_a_picture_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.png does not exist"):
        read_picture(tmp_path / "a.png")
