"""Networks whose features images are compared in, each under its own name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scripts.classifier.features import LastLayerInput
from scripts.classifier.networks import FoldEnsemble
from scripts.image_quality.channel_encoder import NUM_COLORS, ChannelEncoder
from scripts.image_quality.inception import InceptionV3, find_weights, how_to_get_weights, is_published, load_inception
from scripts.image_quality.volume_networks import (
    PLANES,
    MiddleSlice,
    StandardizedChannel,
    check_depth,
    load_volume_network,
)
from scripts.provenance.image_form import ImageForm
from scripts.provenance.leakage import known_subjects
from scripts.provenance.record import read_provenance
from scripts.provenance.state_dicts import load_state
from scripts.running.files import sha256_file
from scripts.running.progress import progress
from scripts.volumes.picture_files import RGB

INCEPTION = "Inception-v3"
TRIPLET = ("t1c", "t2w", "t2f")


class Features(NamedTuple):
    """Features (N, D) of N images seen in one way, and the logits (N, K) of the same network."""

    features: Tensor
    logits: Tensor


View = Callable[[Tensor], Tensor]
Forward = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network, and the ways in which it sees an image of several modalities; a measure is the mean over them.

    Args:
        name: as it stands in tables.
        forward: from (B, C, *spatial) to features (B, D) and logits (B, K), without gradients.
        views: each turns images (B, C, *spatial) in [-1, 1] into what `forward` takes.
        weights_sha256: hash of the weights.
        published: whether these are the weights of the FID, so that scores may be called FID and KID.
        names_classes: whether the logits name many kinds of things, so that an inception score means something. Those
            of a classifier of two grades do not: for images of one grade, one answer is the right one.
        known_subjects: hashed subjects that it was trained on; it tells their images from all others.
        encoder_sha256: hash of the encoder's weights, where images go through one.
        tells_classes: whether the logits are of the classes of the images, in the order of their labels.
    """

    name: str
    forward: Forward
    views: Sequence[View]
    weights_sha256: str
    published: bool = False
    names_classes: bool = False
    known_subjects: frozenset[str] = frozenset()
    encoder_sha256: str | None = None
    tells_classes: bool = False

    @torch.inference_mode()
    def extract(self, images: Tensor, batch_size: int = 32, device: torch.device | str = "cpu") -> list[Features]:
        """Compute the features of each view.

        Args:
            images: (N, C, *spatial) in [-1, 1].
            batch_size: images at once.
            device: where the network is.

        Returns:
            One item a view, float64 on the device.
        """
        outputs_of_views: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.views]
        batches = images.split(batch_size)
        for batch in progress(batches, description=f"features of {self.name}"):
            for view, outputs in zip(self.views, outputs_of_views, strict=True):
                outputs.append(self.forward(view(batch.to(device))))
        return [
            Features(*(torch.cat(part).double() for part in zip(*outputs, strict=True))) for outputs in outputs_of_views
        ]


def inception_networks(
    path: str | Path,
    modalities: Sequence[str],
    encoder: ChannelEncoder | None = None,
    device: torch.device | str = "cpu",
) -> list[FeatureNetwork]:
    """Inception-v3 on one modality at a time as grey RGB, on (t1c, t2w, t2f) as RGB, and behind an encoder.

    Pictures in colors (`scripts.provenance.image_form.RGB`) it sees upright, as they are, and in no other way: their
    FID is that of pytorch-fid.

    Args:
        path: weights in the layout of pytorch-fid.
        modalities: name of each channel; without one of the triplet's, the triplet is left out.
        encoder: from all modalities to three colors; None leaves it out.
        device: where the network runs.

    Returns:
        Feature networks, of one Inception-v3.

    Raises:
        FileNotFoundError: if there are no weights, naming which file to put where.
        ValueError: if the weights are of another network.
    """
    network = load_inception(path).to(device)
    digest = sha256_file(path)
    published = is_published(path)
    title = INCEPTION if published else f"{INCEPTION} with weights {digest[:8]}"
    ways: dict[str, Sequence[View]] = {
        "one modality at a time": [_Grey(channel) for channel in range(len(modalities))],
    }
    if tuple(modalities) == RGB:
        ways, encoder = {"RGB": [_upright]}, None
    if set(TRIPLET) <= set(modalities):
        ways[f"({', '.join(TRIPLET)})"] = [_Colors([list(modalities).index(name) for name in TRIPLET])]
    forward = _inception_forward(network)
    networks = [
        FeatureNetwork(f"{title}, {way}", forward, views, digest, published, names_classes=True)
        for way, views in ways.items()
    ]
    if encoder is None:
        return networks
    encoded = replace(networks[0], name=f"{title}, {len(modalities)} to 3 encoder", views=[encoder.to(device)])
    return [*networks, replace(encoded, encoder_sha256=encoder.sha256())]


def classifier_network(
    path: str | Path,
    backbone: str,
    stem_stride: int,
    form: ImageForm,
    device: torch.device | str = "cpu",
) -> FeatureNetwork:
    """Take the classifier that a fold trained on its real images: what its last layer reads are the features.

    Args:
        path: `model.pt` of one fold, with its `provenance.json` beside it.
        backbone: as it was trained, and likewise the next two.
        stem_stride: of the first convolution.
        form: of the images.
        device: where the network runs.

    Raises:
        FileNotFoundError: if weights or provenance are missing.
        ValueError: if the weights are of another network, or were trained on synthetic images too.
    """
    provenance = read_provenance(path)
    if provenance["synthetic"]:
        raise ValueError(
            f"{path} must be trained on real images only, got setup {provenance.get('setup')!r} with images of"
            f" {len(provenance['synthetic'])} generators: it would find them real; give the classifier of setup real"
        )
    ensemble = FoldEnsemble(
        backbone,
        num_members=1,
        spatial_dims=form.spatial_dims,
        in_channels=form.num_channels,
        num_classes=len(form.classes),
        stem_stride=stem_stride,
        image_size=form.patch_size,
    )
    ensemble.load_state_dict(load_state(path, "write it with configs/train_classifier.yaml"))
    ensemble.to(device).eval().requires_grad_(False)
    name = f"{backbone} trained on the fold's real images"
    return FeatureNetwork(
        name,
        LastLayerInput(ensemble),
        [_unchanged],
        provenance["weights_sha256"],
        known_subjects=frozenset(provenance["subjects"]),
        tells_classes=True,
    )


def slice_networks(networks: Sequence[FeatureNetwork]) -> Iterator[FeatureNetwork]:
    """Let networks that see pictures see the middle slices of volumes, in each of three planes by itself."""
    for network in networks:
        for axis, plane in enumerate(PLANES):
            views = [MiddleSlice(axis, view) for view in network.views]
            yield replace(network, name=f"{network.name}, middle {plane} slices", views=views)


def volume_network(
    path: str | Path, depth: int, num_channels: int, device: torch.device | str = "cpu"
) -> FeatureNetwork:
    """Take a 3D ResNet from a local file, which sees one modality at a time.

    Distances in its features are no FID, and can be compared with those of the same file alone.

    Args:
        path: see `load_volume_network`, which raises errors, as `depth`.
        depth: likewise.
        num_channels: of the images.
        device: where the network runs.
    """
    network, form = load_volume_network(path, depth)
    network = network.to(device)
    digest = sha256_file(path)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        features = network(images)
        return features, features

    views = [StandardizedChannel(channel) for channel in range(num_channels)]
    return FeatureNetwork(f"3D {form}{depth} with weights {digest[:8]}", forward, views, digest)


class ClassifierFeatures:
    """A classifier of real images as a function to features.

    Args:
        network: of one view.
        device: where it is.
    """

    def __init__(self, network: FeatureNetwork, device: torch.device | str = "cpu") -> None:
        self.network = network
        self.device = device

    @property
    def name(self) -> str:
        """What a table calls scores in these features."""
        return f"features of {self.network.name}"

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, *spatial), float64."""
        return self.network.extract(images, device=self.device)[0].features

    def refuse_known(self, subject_ids: Iterable[str]) -> None:
        """Stop where the network was trained on a subject: it tells these images from all others.

        Raises:
            ValueError: with the number of such subjects.
        """
        known = known_subjects(self.network.known_subjects, subject_ids)
        if known:
            raise ValueError(
                f"audit_features_path must be trained on none of the subjects that are compared, got weights of"
                f" {len(known)} of them; give the classifier of another cohort, or null"
            )


def classifier_features(path: str, **settings: Any) -> ClassifierFeatures:
    """Load a classifier for the audit; the arguments are those of `classifier_network`."""
    return ClassifierFeatures(classifier_network(path, **settings), settings.get("device", "cpu"))


@dataclass(frozen=True)
class NetworkChoice:
    """Which feature networks a stage uses, and their settings; nothing is read before `load`.

    Args:
        inception_path: Inception-v3 weights; None takes them from torch's usual cache, or leaves the network out.
        classifier_path: `model.pt` of a fold's classifier of setup real; None leaves it out.
        backbone: of the classifier.
        stem_stride: of its first convolution.
        form: of the images.
        volume_network_path: weights of a 3D ResNet, see `volume_network`; None leaves it out.
        volume_network_depth: its number of layers.
        with_encoder: look at images through an encoder of the modalities to three colors, too.
        batch_size: images at once.
        device: where the networks run.
    """

    inception_path: str | None
    classifier_path: str | None
    backbone: str
    stem_stride: int
    form: ImageForm
    with_encoder: bool = True
    volume_network_path: str | None = None
    volume_network_depth: int = 10
    batch_size: int = 32
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"measure_batch_size must be at least 1, got {self.batch_size!r}")
        check_depth(self.volume_network_depth)
        if self.volume_network_path is not None and self.form.spatial_dims != 3:
            raise ValueError(
                f"measure_volume_network_path must be null for images of {self.form.spatial_dims} axes, got"
                f" {self.volume_network_path}; set spatial_dims: 3, or leave it null"
            )

    @property
    def weights_path(self) -> str | None:
        """Weights of Inception-v3: those given, else those in the cache, else None."""
        cached = find_weights()
        return self.inception_path or (None if cached is None else str(cached))

    def inputs(self) -> list[str | None]:
        """List the files that `load` reads."""
        volumes = [] if self.volume_network_path is None else [self.volume_network_path]
        return [self.weights_path, *volumes, self.classifier_path]

    def load(self, training_images: Tensor) -> tuple[list[FeatureNetwork], list[dict[str, str]]]:
        """Load the networks.

        Args:
            training_images: real images (N, C, *spatial) that the encoder is fitted to.

        Returns:
            The networks, and those left out: `network` and `reason`.
        """
        networks: list[FeatureNetwork] = []
        left_out = [*self._inception(training_images, networks)]
        networks += self._volume_network()
        if self.form.spatial_dims == 3 and self.volume_network_path is None:
            left_out.append({"network": "a 3D network", "reason": "no measure_volume_network_path was given"})
        if self.classifier_path is None:
            left_out.append({"network": "a classifier of this cohort", "reason": "no classifier_path was given"})
        else:
            network = classifier_network(self.classifier_path, self.backbone, self.stem_stride, self.form, self.device)
            networks.append(network)
        return networks, left_out

    def _inception(self, training_images: Tensor, networks: list[FeatureNetwork]) -> Iterator[dict[str, str]]:
        if self.weights_path is None:
            yield {"network": INCEPTION, "reason": f"no weights; {how_to_get_weights()}"}
        else:
            encoder = None
            if self.with_encoder and self.form.num_channels < NUM_COLORS:
                reason = f"to {NUM_COLORS} colors it needs as many channels, these images have {self.form.num_channels}"
                yield {"network": f"{INCEPTION} behind an encoder", "reason": reason}
            elif self.with_encoder and not self.form.is_rgb:
                encoder = ChannelEncoder(training_images)
            of_pictures = inception_networks(self.weights_path, self.form.modalities, encoder, self.device)
            networks += of_pictures if self.form.spatial_dims == 2 else slice_networks(of_pictures)

    def _volume_network(self) -> Iterator[FeatureNetwork]:
        if self.volume_network_path is not None:
            yield volume_network(
                self.volume_network_path, self.volume_network_depth, self.form.num_channels, self.device
            )


class _Grey:
    """One modality as grey RGB."""

    def __init__(self, channel: int) -> None:
        self.channel = channel

    def __call__(self, images: Tensor) -> Tensor:
        return images[:, [self.channel] * 3]


class _Colors:
    """Three modalities as RGB."""

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = list(channels)

    def __call__(self, images: Tensor) -> Tensor:
        return images[:, self.channels]


def _upright(images: Tensor) -> Tensor:
    """Turn images whose axes run to the right and up, as a report draws them, to rows from the top, as in a file."""
    return images.transpose(-1, -2).flip(-2)


def _unchanged(images: Tensor) -> Tensor:
    return images


def _inception_forward(network: InceptionV3) -> Forward:
    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        if images.ndim != 4:
            raise ValueError(
                f"images must be 2D for {INCEPTION}, got (B, C, *spatial) = {tuple(images.shape)};"
                " measure volumes with a classifier (classifier_path)"
            )
        features, logits = network(images)
        return features, logits

    return forward
