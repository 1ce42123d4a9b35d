"""The autoencoder of a latent diffusion model: from images to small latents that are learned and drawn, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn

from scripts.generator.conditional_unet import fold_pixels, unfold_pixels
from scripts.patches.tensors import LabeledImages, PatchTensorDataset
from scripts.provenance.image_form import ImageForm, recorded_images, require_same_images
from scripts.provenance.leakage import refuse_leakage, seen_subjects
from scripts.provenance.record import hash_subjects, read_provenance
from scripts.provenance.state_dicts import load_state, refuse_other_state, save_tensors
from scripts.running.files import write_json
from scripts.splits.parts import held_out_subjects, load_part, load_splits, part_subjects
from scripts.training.memory import checkpoint_blocks
from scripts.training.reconstruction_loss import Reconstruction
from scripts.training.reconstruction_measures import reconstruction_report

SPACES = ("pixel", "latent")
HELD_OUT_PART = "validation"
WAY_OUT = "write it with configs/train_autoencoder.yaml"


class LatentAutoencoder(AutoencoderKL):
    """MONAI's `AutoencoderKL` that knows the scale of its latents, which is kept with its weights.

    A diffusion model learns the means of the latents times `scale_factor`, 1 over their standard deviation on the
    training images, so that its noise schedule fits them. It is 0 until `fit_scale`.

    Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.1 and
    appendix G.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the images.
        latent_channels: of the latents.
        channels: of each level; each level after the first halves the sides.
        num_res_blocks: of each level.
        norm_num_groups: of group normalization.
        attention: self-attention at the lowest level.
        unshuffle: pixels of each axis folded into channels before the first layer, as in
            `scripts.generator.conditional_unet.ClassConditionalUNet`; each doubling saves a level.
        checkpointing: as in `scripts.training.memory.checkpoint_blocks`.
        kwargs: as for `AutoencoderKL`.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        latent_channels: int,
        channels: Sequence[int],
        num_res_blocks: int = 1,
        norm_num_groups: int = 8,
        attention: bool = False,
        unshuffle: int = 1,
        checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        folded = in_channels * unshuffle**spatial_dims
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=folded,
            out_channels=folded,
            num_res_blocks=num_res_blocks,
            channels=channels,
            attention_levels=[False] * len(channels),
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            with_encoder_nonlocal_attn=attention,
            with_decoder_nonlocal_attn=attention,
            **kwargs,
        )
        self.unshuffle = unshuffle
        self.register_buffer("scale_factor", torch.zeros(()))
        if checkpointing:
            checkpoint_blocks(self.blocks)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of encoder and decoder, in the order in which they are called."""
        return [*self.encoder.blocks, *self.decoder.blocks]  # type: ignore[misc]

    def forward(self, images: Tensor) -> Reconstruction:  # type: ignore[override]
        """Encode and decode: in training a latent drawn around the mean, else the mean itself.

        Args:
            images: shape (B, C, *spatial), in [-1, 1].
        """
        means, deviations = self.encode(fold_pixels(images, self.unshuffle))
        latents = self.sampling(means, deviations) if self.training else means
        return Reconstruction(unfold_pixels(self.decode(latents), self.unshuffle), means, deviations)

    @torch.no_grad()
    def to_latents(self, images: Tensor, batch_size: int = 16) -> Tensor:
        """Return what a diffusion model learns of images: scaled means, (N, L, *latent), on the device of the images.

        Args:
            images: shape (N, C, *spatial), in [-1, 1].
            batch_size: images at once; bounds memory only.

        Raises:
            ValueError: if the scale is not known.
        """
        scale = self._known_scale()
        return torch.cat([self._means(part) * scale for part in images.split(batch_size)])

    @torch.no_grad()
    def to_images(self, latents: Tensor, batch_size: int = 16) -> Tensor:
        """Decode scaled latents, (N, L, *latent), to images (N, C, *spatial) in [-1, 1]; arguments as `to_latents`."""
        scale, device = self._known_scale(), self.scale_factor.device
        decoded = torch.cat([self.decode(part.to(device) / scale) for part in latents.float().split(batch_size)])
        return unfold_pixels(decoded, self.unshuffle).float().clamp(-1, 1).to(latents.device)

    @torch.no_grad()
    def fit_scale(self, blocks: Iterable[Tensor]) -> float:
        """Take 1 over the standard deviation of the latents' means of training images as scale, and return it.

        Args:
            blocks: the images, some at a time, each block (B, C, *spatial) in [-1, 1].

        Raises:
            ValueError: if all latents are the same number: nothing was learned.
        """
        means = torch.cat([self._means(block) for block in blocks])
        deviation = float(means.std())
        if not deviation > 0:
            raise ValueError(
                f"latents must differ, got a standard deviation of {deviation}; train the autoencoder for longer, or at"
                " another autoencoder_learning_rate"
            )
        self.scale_factor.fill_(1 / deviation)
        return 1 / deviation

    def _means(self, images: Tensor) -> Tensor:
        means, _ = self.encode(fold_pixels(images.to(self.scale_factor.device), self.unshuffle))
        return means.float().to(images.device)

    def _known_scale(self) -> float:
        scale = float(self.scale_factor)
        if not scale > 0:
            raise ValueError(f"scale_factor of an autoencoder must be above 0, got {scale:g}; {WAY_OUT}")
        return scale


def generated_shape(
    space: str,
    num_channels: int,
    patch_size: Sequence[int],
    latent_channels: int,
    num_levels: int,
    unshuffle: int = 1,
) -> list[int]:
    """Return the shape (C, *spatial) of what the diffusion network learns and draws: images, or their latents.

    >>> generated_shape("latent", 4, [48, 64], latent_channels=8, num_levels=2, unshuffle=2)
    [8, 12, 16]

    Args:
        space: one of `SPACES`.
        num_channels: of the images.
        patch_size: cells of each axis of the images.
        latent_channels: of the latents.
        num_levels: of the autoencoder, each after the first halves the sides.
        unshuffle: of the autoencoder.

    Raises:
        ValueError: if the space is unknown, or the sides of the images cannot be divided as often.
    """
    if space not in SPACES:
        raise ValueError(f"generator_space must be one of {', '.join(SPACES)}, got {space!r}")
    if space == "pixel":
        return [num_channels, *patch_size]
    factor = unshuffle * 2 ** (num_levels - 1)
    if any(size % factor for size in patch_size):
        raise ValueError(
            f"patch_size must be divisible by {factor} with generator_space latent, got {list(patch_size)}: that is"
            f" autoencoder_unshuffle {unshuffle} x 2^(levels - 1), for the {num_levels} levels of"
            " autoencoder_channels; choose other patches or fewer levels"
        )
    return [latent_channels, *(size // factor for size in patch_size)]


def load_autoencoder(network: LatentAutoencoder, path: str) -> None:
    """Load trained weights with their scale, all of them or none.

    Args:
        network: of the same architecture.
        path: `model.pt` of configs/train_autoencoder.yaml.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the weights are of another latent shape or architecture, or their scale is missing.
    """
    state = load_state(path, WAY_OUT)
    if not float(state.get("scale_factor", torch.zeros(()))) > 0:
        raise ValueError(
            f"{path} must hold the scale_factor of its latents, above 0, got"
            f" {float(state['scale_factor']) if 'scale_factor' in state else 'none'}; finish its training with"
            " configs/train_autoencoder.yaml, which writes it at the end"
        )
    refuse_other_state(
        network.state_dict(),
        state,
        f"{path} must hold weights of the configured autoencoder",
        "set autoencoder_latent_channels and the other autoencoder_* keys, modalities and spatial_dims as in its"
        " training (config.yaml beside it)",
    )
    network.load_state_dict(state)
    network.eval()


def enter_latents(
    network: nn.Module,
    datasets: Sequence[LabeledImages],
    autoencoder_path: str | None,
    patches_path: str,
    splits_path: str,
    fold: int,
) -> None:
    """Give a latent generator its trained autoencoder, and put the latents of its images in their place.

    A generator of pixels, which has no autoencoder, stays as it is. Call it before anything copies the network.

    Args:
        network: generator whose `autoencoder` is a `LatentAutoencoder`, or None.
        datasets: images of training and validation, which are encoded once.
        autoencoder_path: `model.pt` of configs/train_autoencoder.yaml, with its record beside it.
        patches_path: `patches.json` of the training.
        splits_path: `splits.json`.
        fold: number of the fold.

    Raises:
        FileNotFoundError: if the autoencoder or its record is missing.
        LeakageError: if the autoencoder has seen a subject that the fold holds out.
        ValueError: if it is another one than the generator's, was made of other images, or saw other subjects.
    """
    autoencoder = getattr(network, "autoencoder", None)
    check_autoencoder_path("pixel" if autoencoder is None else "latent", autoencoder_path)
    if autoencoder is None or autoencoder_path is None:
        return
    record = autoencoder_record(autoencoder_path, patches_path, splits_path, fold)
    facts = datasets[0].image_facts  # type: ignore[attr-defined]
    require_same_images(recorded_images(record, autoencoder_path), facts, patches_path, autoencoder_path)
    load_autoencoder(autoencoder, autoencoder_path)
    for dataset in datasets:
        dataset.images = torch.cat([autoencoder.to_latents(block) for block in dataset.blocks()])


def autoencoder_record(path: str, patches_path: str, splits_path: str, fold: int) -> Mapping[str, Any]:
    """Read the record of an autoencoder and check that it has seen nobody whom the fold holds out, nor strangers.

    What it has seen, every image that is drawn through it has seen, too.

    Args:
        path: its weights.
        patches_path: `patches.json` of the generator.
        splits_path: `splits.json`.
        fold: number of the fold.

    Raises:
        FileNotFoundError: if weights or record are missing.
        LeakageError: if a held-out subject is behind it.
        ValueError: if subjects outside the fold's training part are.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; {WAY_OUT}")
    record = read_provenance(path)
    held_out = held_out_subjects(splits_path, fold)
    refuse_leakage(seen_subjects(record, path), held_out, path, f"validation or test of fold {fold}")
    training = hash_subjects(entry["subject_id"] for entry in load_part(patches_path, splits_path, fold, "train"))
    strangers = set(record["subjects"]) - set(training)
    if strangers:
        raise ValueError(
            f"{path} must be trained on the training part of fold {fold} of {splits_path} only, got {len(strangers)}"
            " other subjects; train it again on this split"
        )
    return record


def check_autoencoder_path(space: str, path: str | None) -> None:
    """Refuse a latent generator without an autoencoder, and an autoencoder that nothing would ask.

    Raises:
        ValueError: naming both keys.
    """
    if (space == "latent") != (path is not None):
        wanted = "the model.pt of configs/train_autoencoder.yaml" if space == "latent" else "null"
        raise ValueError(f"autoencoder_path must be {wanted} with generator_space {space}, got {path!r}")


def to_generated(network: nn.Module, images: Tensor) -> Tensor:
    """Return images as a generator learns them: their latents, or themselves where it draws pixels."""
    autoencoder = getattr(network, "autoencoder", None)
    return images if autoencoder is None else autoencoder.to_latents(images)


def to_images(network: nn.Module, generated: Tensor) -> Tensor:
    """Return what a generator has drawn as images; the inverse of `to_generated`."""
    autoencoder = getattr(network, "autoencoder", None)
    return generated if autoencoder is None else autoencoder.to_images(generated)


def complete_weights(network: LatentAutoencoder, weights_path: str, training: LabeledImages) -> None:
    """Take up the kept weights of a training, and write them again with the scale of their latents.

    Args:
        network: of the training.
        weights_path: `model.pt`, written by the validations of the training.
        training: images trained on.

    Raises:
        FileNotFoundError: if no validation has written weights.
    """
    network.load_state_dict(load_state(weights_path, WAY_OUT))
    network.eval()
    network.fit_scale(training.blocks())
    save_tensors(weights_path, {name: value.cpu() for name, value in network.state_dict().items()})


def write_reconstructions(
    network: LatentAutoencoder,
    path: str,
    training: PatchTensorDataset,
    selection: PatchTensorDataset,
    patches_path: str,
    splits_path: str,
    fold: int,
    form: ImageForm,
) -> None:
    """Write how well images come back, of those trained on, of those that chose the epoch and of nobody's training.

    Args:
        network: with the kept weights.
        path: JSON file; "latent": its shape, the factor by which it has fewer values than a patch, and its scale; and
            for "train", "selection" and "held_out" what `measure_reconstruction` returns. The held-out subjects are
            those of the validation part, named in "held_out_part"; both are null where it chose the epoch or is empty:
            the test part is not looked at while settings are chosen.
        training: images trained on.
        selection: images that chose the epoch.
        patches_path: `patches.json`.
        splits_path: `splits.json`.
        fold: number of the fold.
        form: of the images.
    """
    parts = {"train": training.blocks(), "selection": selection.blocks()}
    held_out = part_subjects(load_splits(splits_path), fold, HELD_OUT_PART)
    if held_out and not set(held_out) & set(selection.subject_ids):
        parts["held_out"] = PatchTensorDataset(patches_path, splits_path, fold, HELD_OUT_PART, None, form).blocks()
    first = next(training.blocks(1))
    latent = list(network.to_latents(first).shape[1:])
    write_json(
        path,
        {
            "latent": {
                "shape": latent,
                "compression": first.numel() / math.prod(latent),
                "scale_factor": float(network.scale_factor),
            },
            "held_out_part": HELD_OUT_PART if "held_out" in parts else None,
            **{"held_out": None, **reconstruction_report(network, parts)},
        },
    )
