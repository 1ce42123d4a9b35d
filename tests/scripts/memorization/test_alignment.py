from __future__ import annotations

import math

import pytest
import torch

from scripts.memorization.alignment import (
    Alignment,
    Turn,
    align,
    in_words,
    pixel_coordinates,
    read_at,
    resized_coordinates,
    similarity_transforms,
    turns,
)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).tanh()


def test_a_square_has_eight_turns_and_the_first_changes_nothing():
    image = draw(1, 4, 4)
    turned = [turn(image) for turn in turns((4, 4))]
    assert torch.equal(turned[0], image)
    expected = [part.rot90(number, (1, 2)) for part in (image, image.flip(1)) for number in range(4)]
    assert all(any(torch.equal(one, other) for other in turned) for one in expected)
    assert len(turned) == 8


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (2, 3, 4)], ids=str)
def test_a_turn_is_undone(shape):
    image = draw(2, *shape)
    assert len(turns(shape)) == (8 if shape == (4, 4) else 2 ** len(shape))
    assert all(torch.equal(turn.undo(turn(image)), image) for turn in turns(shape))


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6)], ids=["2d", "3d"])
def test_an_image_read_at_its_own_pixels_is_itself(shape):
    image = draw(1, 2, *shape)
    torch.testing.assert_close(read_at(image, pixel_coordinates(shape)[None]), image, atol=1e-5, rtol=0)


def test_a_rotation_by_a_quarter_turns_a_square_and_keeps_pixels_of_a_rectangle_square():
    image = draw(1, 1, 6, 6)
    (_, quarter) = similarity_transforms((6, 6), [90.0], [1.0])
    coordinates = pixel_coordinates((6, 6)) @ quarter.T
    torch.testing.assert_close(read_at(image, coordinates[None]), image.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    (_, matrix) = similarity_transforms((4, 8), [30.0], [1.0])
    sides = torch.tensor([8.0, 4.0])
    in_pixels = matrix * sides[:, None] / sides
    torch.testing.assert_close(in_pixels @ in_pixels.T, torch.eye(2), atol=1e-6, rtol=0)


def test_coordinates_of_another_size_stay_affine_and_exact():
    matrix = torch.tensor([[0.9, 0.1], [-0.2, 1.1]])
    small, large = (pixel_coordinates(shape) @ matrix.T + 0.1 for shape in ((6, 8), (12, 16)))
    torch.testing.assert_close(resized_coordinates(small[None], (12, 16))[0], large, atol=1e-5, rtol=0)


def test_a_reference_that_was_flipped_and_moved_is_laid_over():
    reference = torch.full((2, 8, 8), -1.0)
    reference[:, 2:6, 2:6] = draw(2, 4, 4)
    image = reference.roll((1, -2), (1, 2)).flip(1)
    coordinates = pixel_coordinates((8, 8)) - torch.tensor([-2, 1]) * 2 / 8
    alignment = Alignment(Turn((0, 1), (True, False)), coordinates)
    torch.testing.assert_close(align(reference, alignment), image, atol=1e-5, rtol=0)
    assert in_words(alignment) == "flipped along x, moved by +1, -2 pixels"


def test_words_tell_angle_and_scale():
    angle = math.radians(10)
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / 1.2
    alignment = Alignment(Turn((1, 0), (False, False)), pixel_coordinates((16, 16)) @ matrix.T)
    assert in_words(alignment) == "axes exchanged, rotated by +10 degrees, scaled by 1.20"


def test_words_tell_the_angle_of_a_volume_around_any_axis():
    angle = math.radians(20)
    turn = torch.tensor([[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]])
    alignment = Alignment(Turn((0, 1, 2), (False, True, False)), pixel_coordinates((8, 8, 8)) @ turn.T)
    assert in_words(alignment) == "flipped along y, rotated by 20 degrees"
