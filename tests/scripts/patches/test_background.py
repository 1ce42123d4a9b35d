"""Background of samples: exactly -1 where every channel is dark."""

from __future__ import annotations

import pytest
import torch

from scripts.patches.background import snap_background


def test_background_is_where_every_channel_is_dark():
    images = torch.tensor([[-1.2, -0.95, -0.95, 0.3, 1.4], [-0.97, -0.91, 0.2, -0.99, 0.5]])[None, :, None]
    snapped = snap_background(images, 0.1)[0, :, 0]
    expected = torch.tensor([[-1.0, -1.0, -0.95, 0.3, 1.0], [-1.0, -1.0, 0.2, -0.99, 0.5]])
    torch.testing.assert_close(snapped, expected, rtol=0, atol=0)


def test_snapping_leaves_real_patches_alone_but_for_near_background():
    images = torch.rand(2, 3, 5, 6) * 1.8 - 0.8
    images[..., :2] = -1
    assert torch.equal(snap_background(images), images)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"snap_tolerance must be in \[0, 1\)"):
        snap_background(torch.zeros(1, 1, 2, 2), tolerance)
