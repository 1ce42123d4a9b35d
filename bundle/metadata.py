"""`metadata.json` of a package: the repository's, completed from the weights and their evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.pins import ROOT, metadata_versions
from bundle.trained import Trained
from scripts.generator.autoencoder import generated_shape
from scripts.patches.pictures import in_colors
from scripts.provenance.image_form import names_by_label
from scripts.provenance.task import GLIOMA, Task, with_article
from scripts.report.published import PUBLICATIONS, publications
from scripts.running.files import read_json

MEASURES = ("balanced_accuracy", "auc", "accuracy", "weighted_f1")
SIMULATED = "simulated patients"
PICTURES = "pillow"  # data type of what is read as pictures


def packed_metadata(
    trained: Trained, configs: Mapping[str, Mapping[str, Any]], name: str = GLIOMA.package
) -> dict[str, Any]:
    """Complete the metadata of the repository.

    Args:
        trained: weights to pack.
        configs: what `bundle.packed_configs` makes of them.
        name: of the package.

    Returns:
        Content of `configs/metadata.json`.
    """
    metadata = {**read_json(ROOT / "configs" / "metadata.json"), **metadata_versions()}
    inference, generate, task = configs["inference.json"], configs["generate.json"], trained.task
    metadata |= {"name": name, "authors": f"The authors of the bundle {name}", "task": task.summary}
    metadata["data_type"] = PICTURES if inference["patch_spacing_mm"] is None else "nibabel"
    metadata["image_classes"] = describe_channels(inference, task)
    labels = enumerate(names_by_label(inference["classes"]))
    metadata["label_classes"] = ", ".join(f"{label} {class_name}" for label, class_name in labels)
    metadata["references"] = references(metadata["references"], task)
    image = metadata["network_data_format"]["inputs"]["image"]
    image["format"] = "RGB" if in_colors(inference["modalities"]) else image["format"]
    image["modality"] = task.dicom_modality
    if task.dicom_modality is None:
        del image["modality"]
    metadata["network_data_format"] = classifier_format(metadata["network_data_format"], inference)
    metadata["generator_data_format"] = generator_format(metadata["generator_data_format"], generate)
    metadata["eval_metrics"] = evaluation_figures(trained.metrics, bool(trained.provenance["simulated"]))
    metadata["data_source"] = describe_data(trained.provenance, task)
    metadata["description"] = describe_networks(trained, inference)
    return metadata


def classifier_format(template: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the classifier's image and logits with the sizes of a config.

    Args:
        template: `network_data_format` of the repository, for what does not depend on sizes.
        config: inference config with `patch_size`, `modalities` and `classes`.
    """
    names = names_by_label(config["classes"])
    image = {**template["inputs"]["image"], **_image(config)}
    pred = {**template["outputs"]["pred"], **_channels(names), "spatial_shape": [1, len(names)]}
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}


def generator_format(template: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the diffusion network's images, or their latents, timesteps and, where it is told one, class.

    Args:
        template: `generator_data_format` of the repository.
        config: config of sampling with `patch_size`, `modalities`, `classes`, `num_train_timesteps` and, where
            `generator_space` is latent, the `autoencoder_*` keys.
    """
    inputs = template["inputs"]
    described = {
        "x": {**inputs["x"], **_generated(config)},
        "timesteps": {**inputs["timesteps"], "value_range": [0, config["num_train_timesteps"] - 1]},
    }
    if config.get("generator_condition"):
        names = names_by_label(config["classes"])
        label = {"type": "label", "format": "classes", "value_range": [0, len(names) - 1]}
        described["context"] = {**inputs["timesteps"], **label, "channel_def": {"0": "label"}}
    return {"inputs": described, "outputs": {"pred": {**template["outputs"]["pred"], **_generated(config)}}}


def evaluation_figures(metrics: Mapping[str, Any], simulated: bool) -> dict[str, Any]:
    """Turn the figures of an evaluation into `eval_metrics`, each with its interval.

    Args:
        metrics: `metrics.json` of an evaluation.
        simulated: whether the weights were trained on simulated patients, which every heading then says.

    Returns:
        Heading such as "external, phantom_A to phantom_B, n = 80, simulated patients" -> measure -> value and limits.
    """
    return {_heading(metrics, row, simulated): _figures(row) for row in metrics["roles"]}


def references(known: Sequence[str], task: Task) -> list[str]:
    """List the papers that a package stands on: those whose figures a study is laid beside, then all others known.

    Args:
        known: `references` of the repository.
        task: names of the published figures.
    """
    of_figures = {paper.reference for paper in PUBLICATIONS.values()}
    own = [paper.reference for paper in publications(task.published)]
    return [*own, *(reference for reference in known if reference not in of_figures)]


def describe_channels(config: Mapping[str, Any], task: Task) -> str:
    """Say what the channels of an image are, and its intensities."""
    names = config["modalities"]
    channels = f"{len(names)} {task.channel if len(names) == 1 else task.channels} {', '.join(names)}"
    background = ", background exactly -1" if config["image_background"] else ""
    return f"{channels}, in this order, intensities in [-1, 1]{background}"


def describe_data(provenance: Mapping[str, Any], task: Task = GLIOMA) -> str:
    """Say in one sentence what the weights were trained on."""
    who = SIMULATED if provenance["simulated"] else task.cases
    cohorts = ", ".join(provenance["cohorts"])
    return f"Trained on {len(provenance['subjects'])} {who} of {cohorts}; the data are not part of the bundle."


def describe_networks(trained: Trained, config: Mapping[str, Any]) -> str:
    """Say in two sentences which networks are packed, and whether their weights are simulated."""
    task = trained.task
    simulated = " The weights are simulated and no evidence about patients." if trained.provenance["simulated"] else ""
    channels, size = ", ".join(config["modalities"]), " x ".join(map(str, config["patch_size"]))
    image = f"patch of {channels} around it" if task.target else f"image of {channels}, {size} pixels"
    return (
        f"An ensemble of {trained.num_members} x {config['classifier_backbone']}, trained with the setup"
        f" {trained.setup!r}, tells the {task.class_noun} of {with_article(task.shown)}"
        f" ({' or '.join(config['classes'])}) from a {config['spatial_dims']}D {image}. Diffusion models"
        f" ({trained.method}) draw such {'patches' if task.target else 'images'} to train it with.{simulated}"
    )


def _heading(metrics: Mapping[str, Any], row: Mapping[str, Any], simulated: bool) -> str:
    said = [f"{row['role']}, {metrics['direction']} to {row['cohort']}, n = {row['n']}"]
    return ", ".join([*said, SIMULATED] if simulated or metrics["simulated"] else said)


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    sensitivities = {f"sensitivity_{name}": estimate for name, estimate in row.get("sensitivity", {}).items()}
    figures = {**{name: row[name] for name in MEASURES if name in row}, **sensitivities}
    return {name: dict(estimate) for name, estimate in figures.items()}


def _image(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**_channels(config["modalities"]), "spatial_shape": list(config["patch_size"])}


def _generated(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("generator_space", "pixel") == "pixel":
        return _image(config)
    num_channels, *sides = generated_shape(
        "latent",
        len(config["modalities"]),
        config["patch_size"],
        config["autoencoder_latent_channels"],
        len(config["autoencoder_channels"]),
        config["autoencoder_unshuffle"],
    )
    return {**_channels([f"latent {index}" for index in range(num_channels)]), "spatial_shape": sides}


def _channels(names: Sequence[str]) -> dict[str, Any]:
    return {"num_channels": len(names), "channel_def": {str(index): name for index, name in enumerate(names)}}
