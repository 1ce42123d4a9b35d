"""Ways to make one answer of the classifiers of the folds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from scripts.classifier.networks import mean_log_probabilities

logger = logging.getLogger(__name__)

ENSEMBLES = ("mean_probability", "mean_logit", "vote", "weight_average")


class _Ensemble(nn.Module):
    """Several classifiers that give one answer.

    Args:
        members: classifiers of one set of classes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def logits(self, image: Tensor) -> Tensor:
        """Ask every member about a batch (B, C, *spatial); returns logits (N, B, K)."""
        return torch.stack([member(image) for member in self.members])


class MeanLogit(_Ensemble):
    """Softmax of the mean logit: the geometric mean of the probabilities, normalized.

    A member that is sure weighs more than in the mean probability (Tax et al. 2000, "Combining multiple classifiers by
    averaging or by multiplying?").
    """

    def forward(self, image: Tensor) -> Tensor:
        """Classify a batch (B, C, *spatial); returns logits (B, K)."""
        return self.logits(image).mean(dim=0)


class Vote(_Ensemble):
    """Share of the members that answer each class, their mean probability counted as one vote more.

    That further vote decides where the others are tied, and changes no majority of two classes; without it every class
    that nobody votes for would have a logit of minus infinity.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Classify a batch (B, C, *spatial); returns log-probabilities (B, K)."""
        logits = self.logits(image)
        votes = nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).sum(dim=0)
        return torch.logaddexp(votes.log(), mean_log_probabilities(logits)) - math.log(len(logits) + 1)


class Tempered(nn.Module):
    """A classifier whose logits are divided by a temperature; its answers stay, its probabilities change.

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks", section 4.2.

    Args:
        network: classifier.
        temperature: T > 0; above 1 makes the answers less sure.
    """

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature!r}; 1 changes nothing")
        self.network, self.temperature = network, temperature

    def forward(self, image: Tensor) -> Tensor:
        """Classify a batch (B, C, *spatial); returns logits (B, K)."""
        return self.network(image) / self.temperature


def combine(members: Sequence[nn.Module], ensemble: str) -> list[nn.Module]:
    """Return the networks whose mean probability is the answer of an ensemble.

    Args:
        members: classifiers of the folds.
        ensemble: `mean_probability`, `mean_logit` or `vote`; `average_weights` makes the network of `weight_average`.

    Returns:
        The members themselves, or one network made of them.

    Raises:
        ValueError: if the ensemble is another.
    """
    check_ensemble(ensemble)
    if ensemble == "mean_probability":
        return list(members)
    makers: dict[str, Callable[[Sequence[nn.Module]], nn.Module]] = {"mean_logit": MeanLogit, "vote": Vote}
    if ensemble not in makers:
        raise ValueError(f"ensemble must be of answers, got {ensemble!r}; average_weights makes its network")
    return [makers[ensemble](members).eval()]


def average_weights(members: Sequence[nn.Module], training_images: Iterable[Tensor]) -> nn.Module:
    """Make one network of the mean weights, with the statistics of BatchNorm taken again on training images.

    Sources: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", for the mean of
    weights along *one* training and the second pass over the images; Frankle et al. 2020, "Linear mode connectivity and
    the lottery ticket hypothesis", for why it fails between trainings from different seeds: the mean lies on a hill
    between their valleys. So a warning is logged.

    Args:
        members: networks of one architecture.
        training_images: batches (B, C, *spatial) of images that the members were trained on, on the device of the
            members.

    Returns:
        A new network in evaluation mode; the members are unchanged.
    """
    logger.warning(
        "ensemble weight_average: networks trained from different seeds or folds are rarely connected by a straight"
        " line of low loss, and their mean may be no better than guessing; compare with mean_probability"
    )
    averaged = AveragedModel(members[0])
    for member in members:
        averaged.update_parameters(member)
    network = averaged.module
    with torch.no_grad():
        update_bn(training_images, network)
    return network.eval()


def check_ensemble(ensemble: str, temperature_scaling: bool = False, selection: str = "inner") -> None:
    """Refuse an unknown ensemble, and one that has no temperature.

    Args:
        ensemble: name.
        temperature_scaling: whether temperatures are fitted on the inner parts.
        selection: part that chose the epochs, `selection` of `splits.json`; `validation` makes it the inner part too.

    Raises:
        ValueError: with the names that exist.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"ensemble must be one of {', '.join(ENSEMBLES)}, got {ensemble!r}")
    if temperature_scaling and ensemble == "weight_average":
        raise ValueError(
            "temperature_scaling must be false with ensemble weight_average, got true: another fold was trained on each"
            " inner part, so no subject is left to fit a temperature of the averaged network on; use another ensemble"
        )
    if temperature_scaling and selection == "validation":
        raise ValueError(
            "temperature_scaling must be false with selection validation, got true: the inner part is the validation"
            " part then, and temperatures would be fitted to the subjects that are reported; make the splits with"
            " selection inner"
        )
