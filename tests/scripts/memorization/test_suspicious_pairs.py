from __future__ import annotations

import torch

from scripts.memorization.nearest_images import Alignment
from scripts.memorization.suspicious_pairs import SuspiciousPair, caption, difference


def test_the_difference_of_a_brighter_copy_is_nothing():
    reference = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1)).tanh()
    same = Alignment((False, False), (0, 0))
    assert difference(0.5 * reference + 0.1, reference, same).abs().max() < 1e-5


def test_a_caption_says_who_and_how():
    pair = SuspiciousPair(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), "LGG_0007.nii.gz", "S1", 0.123, 0.98, True)
    said = caption(pair, Alignment((True, False), (2, -1)))
    assert said == "COPY: LGG_0007 and S1\nd1/d2 0.12, similarity 0.98, flipped along x, moved by +2, -1 pixels"
