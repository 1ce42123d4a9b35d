"""Batches mirrored, turned, scaled and moved at random."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Rotate

from scripts.training.random_affine import RandomAffine

STILL = {"flip": False, "rotate_degrees": 0.0, "scale": 0.0, "translate": 0.0}


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 1, 6, 8, 10)])
def test_without_changes_images_stay(shape):
    images = torch.rand(shape) * 2 - 1
    assert torch.equal(RandomAffine(**STILL)(images), images)
    hardly = RandomAffine(**{**STILL, "rotate_degrees": 1e-5})(images)
    assert torch.allclose(hardly, images, atol=1e-4)


def test_about_half_are_mirrored_and_nothing_else_changes():
    images = torch.rand(200, 1, 4, 4)
    changed = RandomAffine(**{**STILL, "flip": True})(images)
    same, mirrored = ((changed == other).flatten(1).all(1) for other in (images, images.flip(2)))
    assert bool((same ^ mirrored).all())
    assert 60 < int(mirrored.sum()) < 140


@pytest.mark.parametrize("shape", [(1, 1, 9, 9), (1, 1, 9, 21), (1, 1, 9, 13, 21)])
def test_a_rotation_is_rigid_on_sides_of_any_length(shape):
    torch.manual_seed(0)
    matrix = RandomAffine(**{**STILL, "rotate_degrees": 40.0}).matrices(torch.zeros(shape))[0]
    sides = torch.tensor(shape[:1:-1], dtype=torch.float32)
    in_voxels = matrix[:, :-1] * sides[:, None] / sides
    assert torch.allclose(in_voxels @ in_voxels.T, torch.eye(len(sides)), atol=1e-5)
    assert float(torch.linalg.det(in_voxels)) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(in_voxels, torch.eye(len(sides)), atol=1e-3)


def test_it_turns_as_monai_does(monkeypatch):
    image = torch.nn.functional.avg_pool2d(torch.rand(1, 24, 24), 5, 1, 2)
    monkeypatch.setattr(RandomAffine, "_draw", staticmethod(lambda count, limit, like: torch.full((count,), limit)))
    own = RandomAffine(**{**STILL, "rotate_degrees": 10.0})(image[None])[0]
    theirs = [Rotate(sign * 0.17453, mode="bicubic", padding_mode="reflection")(image) for sign in (1, -1)]
    inner = (slice(None), slice(6, 18), slice(6, 18))
    assert min(float((own - other.as_tensor())[inner].abs().max()) for other in theirs) < 0.01


def test_a_shift_moves_by_a_share_of_each_side(monkeypatch):
    image = torch.zeros(1, 1, 8, 16)
    image[..., 4, 8] = 1
    monkeypatch.setattr(RandomAffine, "_draw", staticmethod(lambda count, limit, like: torch.full((count,), limit)))
    moved = RandomAffine(**{**STILL, "translate": 0.25})(image)
    assert moved[0, 0].argmax() == 2 * 16 + 4  # two of eight, four of sixteen


def test_the_draws_fill_their_ranges():
    torch.manual_seed(0)
    matrices = RandomAffine(flip=False, rotate_degrees=15, scale=0.1, translate=0.05).matrices(
        torch.zeros(2000, 1, 8, 8)
    )
    size = torch.linalg.det(matrices[:, :, :2]).sqrt()
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).rad2deg()
    for drawn, limit in ((size - 1, 0.1), (angle, 15), (matrices[:, 0, 2], 0.1), (matrices[:, 1, 2], 0.1)):
        assert float(drawn.abs().max()) == pytest.approx(limit, rel=0.02)
        assert float(drawn.mean()) == pytest.approx(0, abs=limit / 20)


def test_the_range_and_the_background_are_kept():
    images = torch.full((4, 2, 16, 16), -1.0)
    images[:, :, 6:10, 6:10] = 1
    changed = RandomAffine()(images)
    assert float(changed.min()) == -1
    assert float(changed.max()) <= 1
    assert bool((changed[:, :, 0] == -1).all())


@pytest.mark.parametrize(
    ("name", "value"), [("rotate_degrees", 181), ("rotate_degrees", -1), ("scale", 1.0), ("translate", -0.1)]
)
def test_a_number_outside_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"generator_{name} must be in"):
        RandomAffine(**{name: value})
