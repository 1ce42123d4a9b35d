from __future__ import annotations

import base64

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from scripts.patches.pictures import (
    STYLE,
    draw_image,
    heat_color,
    heat_text_color,
    mosaic,
    png_bytes,
    save_picture,
    svg,
)


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5, 3), (6, 10)), ((1, 5, 3), (3, 5)), ((3, 4, 6, 5), (18, 18))], ids=str
)
def test_a_mosaic_holds_every_channel_upright(shape, expected):
    assert mosaic(np.zeros(shape), enlarge_to=1, gap=0).shape == expected


def test_the_far_left_corner_of_a_patch_is_at_the_bottom_left_of_the_mosaic():
    patch = np.full((1, 4, 3), -1.0)
    patch[0, 0, 0] = 1.0
    picture = mosaic(patch, enlarge_to=1)
    assert picture[-1, 0] == 255
    assert picture.sum() == 255


def test_a_volume_is_shown_in_three_planes_upright():
    volume = np.full((1, 3, 5, 7), -1.0)
    volume[0, 1, 2, 6] = 1.0  # the top of the middle
    axial, coronal, sagittal = np.split(mosaic(volume, enlarge_to=1, gap=0), 3, axis=1)
    assert axial.shape == coronal.shape == sagittal.shape == (7, 5)
    assert axial.sum() == 0
    assert coronal[0, 2] == sagittal[0, 2] == 255
    assert coronal.sum() == sagittal.sum() == 255


def test_red_green_and_blue_are_shown_as_colors_and_other_channels_side_by_side():
    image = np.stack([np.full((4, 5), value) for value in (-1.0, 0.0, 1.0)])
    assert draw_image(image, ["blue", "red", "green"], enlarge_to=1).shape == (5, 4, 3)
    assert draw_image(image, ["blue", "red", "green"], enlarge_to=1)[0, 0].tolist() == [128, 255, 0]
    np.testing.assert_array_equal(draw_image(image, ["t1n", "t1c", "t2w"]), mosaic(image))


def test_a_white_line_parts_the_channels_of_a_mosaic():
    picture = mosaic(np.full((4, 5, 3), -1.0), enlarge_to=1, gap=2)
    assert picture.shape == (8, 12)
    assert (picture[3:5] == 255).all()
    assert (picture[:, 5:7] == 255).all()
    assert (picture[:3, :5] == 0).all()


def test_a_png_has_no_date_and_no_program():
    data = png_bytes(np.zeros((2, 3), np.uint8))
    assert data == base64.b64decode(base64.b64encode(png_bytes(np.zeros((2, 3), np.uint8))))
    assert b"Software" not in data


def drawn():
    figure = Figure(figsize=(3, 2), layout="constrained")
    for axes, title in zip(figure.subplots(1, 2), ("one", "a longer title\nof two lines"), strict=True):
        axes.imshow(np.arange(12).reshape(3, 4))
        axes.set_title(title)
    figure.suptitle("both")
    return figure


def test_an_svg_is_what_matplotlib_saves(tmp_path):
    with matplotlib.rc_context(STYLE):
        drawn().savefig(tmp_path / "x.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
        ours = svg(drawn())
    assert (tmp_path / "x.svg").read_text(encoding="utf-8").endswith(ours)


@pytest.mark.parametrize("dpi", [50, 130])
def test_a_picture_is_what_matplotlib_saves(tmp_path, dpi):
    save_picture(drawn(), tmp_path / "ours.png", dpi)
    drawn().savefig(tmp_path / "theirs.png", dpi=dpi, metadata={"Software": None})
    assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()


def luminance(color):
    parts = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("value", [None, 0.0, *np.linspace(0.4, 1.0, 61).tolist()])
def test_figures_can_be_read_on_every_color_of_a_heatmap(value):
    # Contrast as WCAG 2.1 defines it; the lines that touch 4.5 from below lie where white and black are equally good.
    dark, bright = sorted([luminance(heat_color(value)), luminance(heat_text_color(value))])
    assert (bright + 0.05) / (dark + 0.05) > 4
