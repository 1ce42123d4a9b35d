"""Floating-point operations of the generators, counted by torch on a CPU; nothing is timed.

    python -m benchmarks.flops

One image of the given size, forward, and what follows from it: training (a forward and a backward pass) and sampling
with the number of evaluations of each recipe, beside the least seconds that a GPU's peak allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.generator import configured, new_network

GUIDED = 2  # evaluations a step: with the class and without
PEAK_TFLOPS = 790.0  # bf16 matrix products, measured on an H200; see docs/results/speed.md


@dataclass(frozen=True)
class Counted:
    """A generator and what one image costs.

    Args:
        name: in words.
        parameters: number of weights.
        forward: operations of an evaluation; a multiplication and an addition are two.
        training: operations of a forward and a backward pass.
        evaluations: of the network for one synthetic image.
    """

    name: str
    parameters: int
    forward: int
    training: int
    evaluations: int

    @property
    def sampling(self) -> int:
        """Operations of one synthetic image."""
        return self.forward * self.evaluations


# Name -> overrides of configs/common.yaml and train_generator.yaml, steps of the sampler, evaluations a step.
RECIPES: dict[str, tuple[dict[str, Any], int, int]] = {
    "paper.yaml: noise, 1000 steps": ({"generator_condition": None, "generator_unshuffle": 1}, 1000, 1),
    "the default: flow, unshuffle 2, guidance, 10 steps": ({"generator_condition": "label"}, 10, GUIDED),
    "the same, not unshuffled": ({"generator_condition": "label", "generator_unshuffle": 1}, 10, GUIDED),
    "the same, unshuffle 2, (192, 384, 384)": (
        {"generator_condition": "label", "generator_channels": [192, 384, 384]},
        10,
        GUIDED,
    ),
}


def count(name: str, overrides: dict[str, Any], steps: int, evaluations_a_step: int) -> Counted:
    """Count one image through the network of a recipe."""
    # What is fused is not counted: attention as separate products.
    config = configured((), 1, device="cpu", generator_flash_attention=False, **overrides)
    network = new_network(config).train()
    shape = (1, len(config.get_parsed_content("modalities")), *config.get_parsed_content("patch_size"))
    labels = {"context": torch.zeros(1, dtype=torch.long)} if overrides["generator_condition"] else {}
    with FlopCounterMode(display=False) as forward:
        predicted = network(torch.zeros(shape), torch.zeros(1, dtype=torch.long), **labels)
    with FlopCounterMode(display=False) as backward:
        predicted.sum().backward()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    first, second = forward.get_total_flops(), backward.get_total_flops()
    return Counted(name, parameters, first, first + second, steps * evaluations_a_step)


def table(counted: Sequence[Counted], peak_tflops: float) -> str:
    """Write a Markdown table; the last columns are what a GPU at its peak would need."""
    first = counted[0]
    head = [
        "generator",
        "parameters, M",
        "GFLOP forward",
        "GFLOP trained",
        "evaluations",
        "TFLOP sampled",
        "times less",
    ]
    lines = [[*head, "least ms trained", "least ms sampled"], ["---"] * (len(head) + 2)]
    for row in counted:
        cells = [
            row.name,
            f"{row.parameters / 1e6:.1f}",
            f"{row.forward / 1e9:.1f}",
            f"{row.training / 1e9:.0f}",
            f"{row.evaluations}",
            f"{row.sampling / 1e12:.2f}",
            f"{first.sampling / row.sampling:.0f}",
            f"{row.training / peak_tflops / 1e9:.2f}",
            f"{row.sampling / peak_tflops / 1e9:.2f}",
        ]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="pixels a side; that of configs/common.yaml if left out")
    parser.add_argument("--peak", type=float, default=PEAK_TFLOPS, help="TFLOP/s of the GPU")
    options = parser.parse_args(arguments)
    sizes = {"patch_size": [options.size] * 2} if options.size else {}
    counted = [count(name, {**overrides, **sizes}, *steps) for name, (overrides, *steps) in RECIPES.items()]
    print(table(counted, options.peak))


if __name__ == "__main__":
    main()
