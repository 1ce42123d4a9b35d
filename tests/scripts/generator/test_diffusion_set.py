"""Weights of a generator go into a network of their architecture only."""

from __future__ import annotations

import pytest
import torch

from scripts.generator.diffusion_set import load_generator


def test_weights_of_another_architecture_are_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"got 1 difference: weight has shape \(3, 2\) instead of \(3, 4\)"):
        load_generator(torch.nn.Linear(4, 3), str(tmp_path / "model.pt"))
    with pytest.raises(ValueError, match=r"0\.weight \(3, 2\) is missing; .*set generator_channels"):
        load_generator(torch.nn.Sequential(torch.nn.Linear(2, 3)), str(tmp_path / "model.pt"))
    with pytest.raises(FileNotFoundError, match="configs/train_generator.yaml"):
        load_generator(torch.nn.Linear(4, 3), str(tmp_path / "none.pt"))
