"""What a study compares: its setups, and the classifiers with each of which it trains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from scripts.running.errors import some_names

LABELS = ("own", "shuffled")
WITH = "~"  # between a setup and its classifier; no name of either may hold it
PERMUTATION = "="  # between a setup and the number of its permutation of labels, from 1; no name may hold it, either
# What every stage must know of the network of a classifier; its other settings are those of the training alone.
NETWORK = ("classifier_backbone", "classifier_stem_stride")


@dataclass(frozen=True)
class Setup:
    """How the classifiers of a setup train.

    Args:
        method: of the generators whose synthetic images are added; None adds none.
        ratio: synthetic images of each class, relative to its real ones; None is the study's `synthetic_ratio`.
        train_on_real: False trains on synthetic images alone.
        labels: of the synthetic images, "own" or "shuffled".
        permutations: classifiers that are trained on shuffled labels alone, each with labels of its own. None is one
            per class, by which chance cancels out in their mean (`shuffle_labels` says how), as by any multiple.
            Beside real images, whose labels are true, there is one.
        overlays: config files laid over `train_classifier`, without folder `configs` and ending.
    """

    method: str | None = None
    ratio: float | None = None
    train_on_real: bool | None = None
    labels: str | None = None
    permutations: int | None = None
    overlays: Sequence[str] = ()

    @property
    def is_shuffled_alone(self) -> bool:
        """Whether shuffled labels are all that its classifiers know."""
        return self.labels == "shuffled" and self.train_on_real is False

    @classmethod
    def of(cls, name: str, settings: Setup | Mapping[str, Any] | None) -> Setup:
        """Read the setup of a config; an empty one, or null, trains on real images as `train_classifier` says.

        Raises:
            ValueError: naming a key that is none of a setup, or a value of another kind.
        """
        if isinstance(settings, Setup):
            return settings
        key, settings = f"setups.{name}", {} if settings is None else settings
        if not isinstance(settings, Mapping):
            raise ValueError(f"{key} must be a mapping such as {{method: ddpm}}, got {settings!r}")
        known = [field.name for field in fields(cls)]
        unknown = [str(item) for item in settings if item not in known]
        if unknown:
            near = get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key} must have keys of {', '.join(known)}, got {some_names(unknown)}{hint}")
        setup = cls(**settings)
        if setup.method is not None and not isinstance(setup.method, str):
            raise ValueError(f"{key}#method must be the name of one of methods, got {setup.method!r}; put it in quotes")
        if setup.ratio is not None and (not _is_number(setup.ratio) or setup.ratio < 0):
            raise ValueError(f"{key}#ratio must be a number >= 0, got {setup.ratio!r}")
        if setup.train_on_real not in (None, True, False):
            raise ValueError(f"{key}#train_on_real must be true or false, got {setup.train_on_real!r}")
        if setup.labels not in (None, *LABELS):
            raise ValueError(f"{key}#labels must be one of {', '.join(LABELS)}, got {setup.labels!r}")
        if setup.permutations is not None and (type(setup.permutations) is not int or setup.permutations < 1):
            raise ValueError(f"{key}#permutations must be a whole number >= 1, got {setup.permutations!r}")
        if setup.permutations is not None and not setup.is_shuffled_alone:
            raise ValueError(
                f"{key}#permutations must be left out but for shuffled labels without real images, got"
                f" {setup.permutations}; write labels: shuffled and train_on_real: false for a check of the protocol"
            )
        return setup

    def overrides(self) -> dict[str, Any]:
        """Return the overrides of `train_classifier`; what the setup leaves open is not among them."""
        values = {
            "synthetic_ratio": self.ratio,
            "train_on_real": self.train_on_real,
            "synthetic_labels": self.labels,
        }
        return {"synthetic_method": self.method, **{key: value for key, value in values.items() if value is not None}}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_classifiers(settings: Any) -> dict[str, dict[str, Any]]:
    """Read the `classifiers` of a config.

    Args:
        settings: name -> overrides of `train_classifier` that begin with classifier_; or a list of names; null, [] and
            {} are none. Without a `classifier_backbone` the name is that of one.

    Returns:
        Name -> overrides, the `classifier_backbone` among them.

    Raises:
        ValueError: if it is nothing of that, a name comes twice, or a key is none of a classifier as a whole.
    """
    example = "[resnet18, densenet121] or {vgg: {classifier_backbone: torchvision_vgg16}}"
    if isinstance(settings, (list, tuple)):
        twice = [name for name in settings if list(settings).count(name) > 1]
        if twice or not all(isinstance(name, str) for name in settings):
            got = f"{twice[0]!r} twice" if twice else repr(list(settings))
            raise ValueError(f"classifiers must be names, each once, got {got}; write them as {example}")
        settings = dict.fromkeys(settings)
    if not isinstance(settings or {}, Mapping):
        raise ValueError(f"classifiers must be a list of backbones or a mapping, got {settings!r}; write {example}")
    return {name: _read_classifier(name, overrides) for name, overrides in (settings or {}).items()}


def _read_classifier(name: Any, overrides: Any) -> dict[str, Any]:
    example = "{classifier_backbone: torchvision_vgg16, classifier_pretrained_path: vgg16.pth}"
    if not isinstance(overrides or {}, Mapping):
        raise ValueError(f"classifiers.{name} must be a mapping such as {example}, got {overrides!r}")
    others = [str(key) for key in overrides or {} if not str(key).startswith("classifier_") or "#" in str(key)]
    if others:
        raise ValueError(
            f"classifiers.{name} must hold whole keys that begin with classifier_, got {some_names(others)}; write it"
            f" as {example}, and set what all classifiers share in a recipe or on the command line"
        )
    return {"classifier_backbone": name, **(overrides or {})}


def with_classifier(setup: str, classifier: str | None) -> str:
    """Name a setup that is trained with one of several classifiers; without one, the setup itself.

    >>> with_classifier("real", "vgg16"), with_classifier("real", None)
    ('real~vgg16', 'real')
    """
    return setup if classifier is None else f"{setup}{WITH}{classifier}"


def permutations_of(name: str, setup: Setup, num_classes: int) -> list[str]:
    """Name the permutations of a setup, by which its classifiers are trained and evaluated apart.

    >>> permutations_of("real", Setup(), 2)
    ['real']
    >>> permutations_of("control", Setup(labels="shuffled", train_on_real=False), 2)
    ['control=1', 'control=2']
    """
    count = (setup.permutations or num_classes) if setup.is_shuffled_alone else 1
    return [name] if count == 1 else [f"{name}{PERMUTATION}{number}" for number in range(1, count + 1)]


def setup_of(name: str) -> str:
    """Return the setup in a name of `permutations_of` and `with_classifier`.

    >>> setup_of("real~vgg16"), setup_of("control=2~vgg16"), setup_of("real")
    ('real', 'control', 'real')
    """
    return without_classifier(name).partition(PERMUTATION)[0]


def permutation_of(name: str) -> int | None:
    """Return the number of the permutation in a name of `permutations_of`, from 1; None where there is only one.

    >>> permutation_of("control=2~vgg16"), permutation_of("real")
    (2, None)
    """
    number = without_classifier(name).partition(PERMUTATION)[2]
    return int(number) if number else None


def without_classifier(name: str) -> str:
    """Return what stands before the classifier in a name of `with_classifier`.

    >>> without_classifier("control=2~vgg16"), without_classifier("real")
    ('control=2', 'real')
    """
    return name.partition(WITH)[0]


def classifier_of(name: str) -> str | None:
    """Return the classifier in a name of `with_classifier`, None where there is none.

    >>> classifier_of("real~vgg16"), classifier_of("real")
    ('vgg16', None)
    """
    return name.partition(WITH)[2] or None
