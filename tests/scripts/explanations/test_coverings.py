from __future__ import annotations

import torch

from scripts.explanations.coverings import covered

# Two modalities of four pixels; the last pixel is background, the first two are a group in each modality.
IMAGE = torch.tensor([[[0.0, 0.4, 0.6, -1.0]], [[-0.2, 0.2, 0.8, -1.0]]])
GROUPS = torch.tensor([[[0, 0, 1, 4]], [[2, 2, 3, 4]]])


def test_a_part_becomes_background():
    assert torch.equal(covered(IMAGE, GROUPS, "background"), torch.full_like(IMAGE, -1.0))


def test_a_part_becomes_its_mean_in_each_modality_and_background_stays():
    expected = torch.tensor([[[0.2, 0.2, 0.6, -1.0]], [[0.0, 0.0, 0.8, -1.0]]])
    assert torch.allclose(covered(IMAGE, GROUPS, "mean"), expected)
