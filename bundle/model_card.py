"""The model card of a package, in the sections of the model zoo, filled from the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from monai.bundle import ConfigParser

from bundle.metadata import PICTURES
from bundle.trained import Trained, run_config
from scripts.provenance.image_form import names_by_label
from scripts.provenance.task import with_article
from scripts.report.published import publications

SECTIONS = (
    "# Model Overview",
    "## Data",
    "## Training configuration",
    "### Input",
    "### Output",
    "## Performance",
    "## MONAI Bundle Commands",
    "# References",
    "# License",
)


def model_card(trained: Trained, configs: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, Any]) -> str:
    """Fill the template `model_card.md.j2`; an item that it needs and does not get is an error.

    Args:
        trained: weights that are packed.
        configs: configs of the package.
        metadata: its completed metadata.
    """
    inference, generator = configs["inference.json"], configs["train_generator.json"]
    loss = _name_of_part(generator, "train#loss_function")
    names = ("modalities", "intensity_mode", "patch_size", "patch_spacing_mm", "image_background", "cut", "crop")
    of_lesions = ("region_chain", "slice")
    return _template().render(
        name=metadata["name"],
        data_source=metadata["data_source"],
        eval_metrics=metadata["eval_metrics"],
        references=metadata["references"],
        simulated=trained.provenance["simulated"],
        cohorts=trained.provenance["cohorts"],
        leakage_not_excluded=trained.provenance.get("leakage_not_excluded", ()),
        num_members=trained.num_members,
        setup=trained.setup,
        method=trained.method,
        copies_rejected=run_config(trained.synthetic_dir).get("reject_copies", False),
        backbone=inference["classifier_backbone"],
        classes=names_by_label(inference["classes"]),
        train=configs["train.json"],
        generator=generator,
        generator_loss=loss,
        holds_distance=trained.distance_path is not None,
        holds_averages=bool(ConfigParser(dict(generator)).get_parsed_content("generator_gaussian_rank")),
        optimizers=[_name_of_part(config, "optimizer") for config in (configs["train.json"], generator)],
        task=trained.task,
        published=publications(trained.task.published),
        split_by_image=trained.is_split_by_image,
        of_pictures=metadata["data_type"] == PICTURES,
        **{name: inference[name] for name in (*names, *of_lesions)},
    )


def _name_of_part(config: Mapping[str, Any], name: str) -> str:
    parser = ConfigParser(dict(config))
    part = parser[name]
    while isinstance(part, str):
        part = parser[part.removeprefix("@")]
    return str(part["_target_"]).rsplit(".", 1)[-1]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.filters["a"] = with_article
    environment.filters["figure"] = lambda value: "not defined" if value is None else f"{value:.3f}"
    return environment.get_template("model_card.md.j2")
