"""How the learning rate of a classifier moves, step by step."""

from __future__ import annotations

from monai.optimizers import WarmupCosineSchedule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

SCHEDULES = ("cosine", "one_cycle", "constant")


def learning_rate_schedule(
    name: str, optimizer: Optimizer, num_epochs: int, steps_per_epoch: int, warmup_epochs: int = 0
) -> LRScheduler:
    """Build a schedule that is stepped after every optimizer step.

    Sources: Loshchilov, Hutter 2017, "SGDR" (cosine, one period); Smith, Topin 2018, "Super-convergence" (one_cycle,
    the schedule of fastai's `fit_one_cycle`).

    Args:
        name: `cosine` from the optimizer's rate to 0; `one_cycle` up to the optimizer's rate and down; `constant`.
        optimizer: its learning rate is the highest.
        num_epochs: epochs of the whole training, also when it stops early.
        steps_per_epoch: optimizer steps an epoch.
        warmup_epochs: epochs over which `cosine` first rises from near 0, as a ViT needs it; 0 for the others.

    Raises:
        ValueError: if the name is unknown, or there is no such warm-up.
    """
    if warmup_epochs and (name != "cosine" or not 0 < warmup_epochs < num_epochs):
        raise ValueError(
            f"classifier_warmup_epochs must be 0, or below the {num_epochs} epochs of a cosine schedule,"
            f" got {warmup_epochs!r} with {name!r}"
        )
    total = num_epochs * steps_per_epoch
    if name == "cosine" and warmup_epochs:
        warmup = warmup_epochs * steps_per_epoch
        return WarmupCosineSchedule(optimizer, warmup, total, warmup_multiplier=1 / (warmup + 1))
    if name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total)
    if name == "one_cycle":
        highest = [float(group["lr"]) for group in optimizer.param_groups]
        # One step more than there are: the handler also steps after the last one.
        return OneCycleLR(optimizer, max_lr=highest, total_steps=total + 1)
    if name == "constant":
        return ConstantLR(optimizer, factor=1.0)
    raise ValueError(f"classifier_schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
