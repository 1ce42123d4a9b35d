"""Classifier-free guidance: a prediction drawn away from "no class" towards a class."""

from __future__ import annotations

import torch
from torch import Tensor

NO_CLASS = -1  # as `scripts.generator.conditional_unet.ClassConditionalUNet` reads labels


def predict_noise(
    network: torch.nn.Module,
    noisy_samples: Tensor,
    timesteps: Tensor,
    labels: Tensor | None = None,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Predict the noise, guided towards the labels.

    epsilon = epsilon(x_t) + w (epsilon(x_t, label) - epsilon(x_t)); w = 1 is the prediction for the label itself.
    Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", eq. 6, whose w is ours less 1.

    Args:
        network: predicts noise from (x_t, timesteps, context).
        noisy_samples: x_t, shape (B, C, *spatial).
        timesteps: integers, shape (B,).
        labels: class of each image, shape (B,); None for a network without classes.
        guidance_scale: w >= 1. Above 1 the network sees every image twice, in one batch of 2 B.

    Returns:
        Predicted noise, shape and type of `noisy_samples`.
    """
    if labels is None:
        return network(noisy_samples, timesteps=timesteps).to(noisy_samples.dtype)
    labels = labels.to(noisy_samples.device)
    if guidance_scale == 1:
        return network(noisy_samples, timesteps=timesteps, context=labels).to(noisy_samples.dtype)
    # One call, since a compiled network overwrites the result of its last call.
    context = torch.cat([torch.full_like(labels, NO_CLASS), labels])
    both = network(torch.cat([noisy_samples] * 2), timesteps=torch.cat([timesteps] * 2), context=context)
    without, with_label = both.to(noisy_samples.dtype).chunk(2)
    return without + guidance_scale * (with_label - without)


def check_guidance(
    guidance_scale: float, condition: str | None, class_name: str | None, label_dropout: float | None
) -> None:
    """Refuse guidance that the generator cannot give.

    Args:
        guidance_scale: w.
        condition: "label" for a generator told the class, None for one that is not.
        class_name: class to draw; None for all.
        label_dropout: share of labels dropped in the training; None where it is unknown.

    Raises:
        ValueError: if w is below 1, or above 1 for a generator that was not trained both with and without labels.
    """
    if not guidance_scale >= 1:
        raise ValueError(f"guidance_scale must be >= 1, got {guidance_scale!r}; 1 is no guidance")
    if guidance_scale == 1:
        return
    if condition is None:
        raise ValueError(
            f"guidance_scale must be 1 for a generator that is not told the class, got {guidance_scale!r};"
            " train one with generator_condition: label"
        )
    if class_name is None:
        raise ValueError(
            f"guidance_scale must be 1 where generator_class is null, got {guidance_scale!r}; name a class"
        )
    if not label_dropout:
        raise ValueError(
            f"guidance_scale must be 1 for a generator trained without label dropout, got {guidance_scale!r}:"
            " it never learned to draw without a class; train one whose generator_label_dropout is .1"
        )
