"""The optimizer of a classifier by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMIZERS = ("adamw", "adam", "sgd")


def create_optimizer(
    name: str,
    params: Iterable[nn.Parameter],
    lr: float,
    weight_decay: float = 0.01,
    betas: Sequence[float] = (0.9, 0.999),
) -> Optimizer:
    """Build an optimizer of torch.

    Args:
        name: `adamw` (Loshchilov, Hutter 2019: decay beside the gradient), `adam` (decay in the gradient), or `sgd`
            with Nesterov momentum.
        params: parameters to train.
        lr: learning rate, > 0.
        weight_decay: >= 0.
        betas: of Adam; the first is the momentum of `sgd`.

    Raises:
        ValueError: if the name is unknown.
    """
    first, second = betas
    if name == "adamw":
        return AdamW(params, lr=lr, betas=(first, second), weight_decay=weight_decay)
    if name == "adam":
        return Adam(params, lr=lr, betas=(first, second), weight_decay=weight_decay)
    if name == "sgd":
        return SGD(params, lr=lr, momentum=first, weight_decay=weight_decay, nesterov=first > 0)
    raise ValueError(f"classifier_optimizer must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
