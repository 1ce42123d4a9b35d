from __future__ import annotations

import torch

from scripts.memorization.alignment import Alignment, Turn, pixel_coordinates
from scripts.memorization.suspicious_pairs import SuspiciousPair, caption, difference

SAME = Alignment(Turn((0, 1), (False, False)), pixel_coordinates((8, 8)))


def test_the_difference_of_a_brighter_copy_is_nothing():
    reference = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1)).tanh()
    assert difference(0.5 * reference + 0.1, reference, SAME).abs().max() < 1e-4


def test_a_caption_says_who_what_and_how():
    pair = SuspiciousPair(
        torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), "LGG_0007.nii.gz", "S1", 0.123, 0.98, True, "lesion"
    )
    moved = Alignment(Turn((0, 1), (True, False)), pixel_coordinates((8, 8)) - torch.tensor([-1, 2]) * 2 / 8)
    said = caption(pair, moved)
    assert (
        said == "COPY: LGG_0007 and S1 (lesion)\nd1/d2 0.12, similarity 0.98, flipped along x, moved by +2, -1 pixels"
    )
