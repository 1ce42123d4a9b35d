"""The part of a finished study that a package is made of, with random weights: nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from scripts.classifier.training_distance import FILE_NAME, TrainingDistance, write_training_distance
from scripts.evaluation.metrics import summarize
from scripts.provenance.record import hash_subjects, write_provenance
from scripts.running.configs import Invocation, parser_of
from scripts.running.files import sha256_file, write_json
from tests.helpers import TINY, config_files

CLASSES = {"LGG": 0, "HGG": 1}
FEATURES = (16, 64)  # first and last of resnet10_thin, the backbone of tests/tiny.yaml
SIZES = {"patch_size": [16, 24], "classifier_stem_stride": 1, "num_folds": 2}


def write_trained_study(root: Path, simulated: bool = True) -> Path:
    """Write cohort `site_a` with the setup and method `ddpm`, two members of ResNet-10 and two tiny generators."""
    torch.manual_seed(0)
    cohort = root / "site_a"
    _write_config(cohort / "patches", {}, "patches", min_et_ml=0.01)
    members = ["a", "b"]
    _write_config(cohort / "evaluation_ddpm", {"setup": "ddpm"}, "evaluate", setup="ddpm", member_paths=members)
    classifier, place = cohort / "fold0" / "classifier_ddpm", {"setup": "ddpm", "fold": 0}
    _write_config(classifier, place, "train_classifier", setup="ddpm", synthetic_method="ddpm")
    images = image_facts(cohort / "patches")
    _write_weights(cohort / "evaluation_ddpm", simulated, fold=None, setup="ddpm", members=members, images=images)
    write_json(cohort / "evaluation_ddpm" / "metrics.json", _metrics(simulated))
    _write_training_distance(cohort / "evaluation_ddpm", len(members))
    for name in CLASSES:
        folder = cohort / "fold0" / f"generator_{name}_ddpm"
        place = {"fold": 0, "method": "ddpm", "class_name": name}
        _write_config(folder, place, "train_generator", generator_class=name)
        details = {"class_name": name, "condition": None, "method": "ddpm", "images": images}
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        details["parametrization"] = config["generator_parametrization"]
        details["selection_subjects"] = hash_subjects(["subject_8"])
        _write_weights(folder, simulated, fold=0, class_counts={"LGG": 2, "HGG": 3}, **details)
        _write_config(cohort / "fold0" / f"synthetic_{name}_ddpm", place, "generate", generator_class=name)
    return root


def image_facts(folder: Path) -> dict[str, Any]:
    """What the patches of a stage's config are made of."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return parser_of(config).get_parsed_content("image_facts")


def _write_config(folder: Path, belongs_to: dict[str, Any], *names: str, **overrides: Any) -> None:
    place = {"output_dir": str(folder), "overwrite": True}
    merged = Invocation((*config_files(*names), TINY), {**SIZES, **place, **overrides}).merged()
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")
    identity = {"settings": {}, "inputs": [], "code": {}}
    record = {"finished": True, "kind": merged["stage_kind"], "belongs_to": {"cohort": "site_a", **belongs_to}}
    write_json(folder / "stage.json", {**record, "identity": identity})


def _write_weights(folder: Path, simulated: bool, **details: Any) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    network = parser_of({**config, "device": "cpu"}).get_parsed_content("network_def")
    for parameter in network.parameters():
        # A new diffusion network ends in zeros: all of them would draw the same image, and agree with anything.
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    torch.save(network.state_dict(), folder / "model.pt")
    subjects = [f"subject_{index}" for index in range(5)]
    record = {
        "cohorts": ["phantom_A"],
        "subjects": subjects,
        "selection_subjects": hash_subjects(["subject_5"]),
        **details,
    }
    write_provenance(folder / "model.pt", simulated=simulated, **record)


def _write_training_distance(folder: Path, num_members: int) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.rand(num_members, 12, length, generator=generator) for length in FEATURES]
    seen, unseen = (list(zip(*(part[:, rows] for part in drawn), strict=True)) for rows in (slice(8), slice(8, 12)))
    distance = TrainingDistance.fit(sha256_file(folder / "model.pt"), seen, unseen)
    write_training_distance(folder / FILE_NAME, distance)


def _metrics(simulated: bool) -> dict[str, Any]:
    random = np.random.default_rng(0)
    high = random.uniform(size=12)
    rows = [
        {
            "subject_id": f"subject_{index}",
            "fold": -1,
            "label": int(value + random.normal() / 5 > 0.5),
            "probability_HGG": value,
            "probability_LGG": 1 - value,
        }
        for index, value in enumerate(high.tolist())
    ]
    role = {"role": "external", "cohort": "phantom_B", **summarize(rows, CLASSES)}
    return {"direction": "phantom_A", "setup": "ddpm", "simulated": simulated, "classes": CLASSES, "roles": [role]}
