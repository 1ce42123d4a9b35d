"""The flat configs of a package: those of the repository, with the numbers that the weights were made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser

from bundle.flatten import LOOKED_UP, MULTI_GPU, ROOT, flatten_overlay, merge_flat
from bundle.looked_up import begin_in_run, name_training, write_out_network
from bundle.package import DATA_STAGES
from bundle.trained import ALL_CLASSES, Trained, run_config
from scripts.running.configs import is_plain, reachable
from scripts.running.stages import PLACE

# About the machine or the one run, not about the weights; and what needs the patches trained on, which stay behind.
NOT_TAKEN_OVER = ("num_threads", "fold", "seed", "reject_copies", "keep_overview")
# About the patients trained on, likewise: names of the cohort and of those who were left out of it.
OF_PATIENTS = ("cohort_name", "leave_out", "subtree", "source_files", "name_pattern", "patient_pattern", "class_map")
# Of today's repository, whenever the run was: how a training makes its data.
OF_PREPARATION = ("training_data", "data_settings", "initialize")
# A training of the package begins with real images: those of the generators have stayed behind.
REAL_ALONE = {
    "setup": "real",
    "synthetic_method": None,
    "synthetic_labels": "own",
    "synthetic_permutation": 0,
    "train_on_real": True,
}


def packed_configs(trained: Trained) -> dict[str, dict[str, Any]]:
    """Make the configs of both networks, for training and for use, and of the stages that make data to train on.

    Args:
        trained: weights to pack.

    Returns:
        File name in `configs` -> config that stands alone.
    """
    return {
        "inference.json": _inference(trained),
        "train.json": {
            **_training(("common", "train_classifier"), run_config(trained.classifier_dir)),
            **REAL_ALONE,
            "num_members": trained.num_members,  # it goes on with the weights of the package
        },
        "generate.json": _generate(trained),
        "train_generator.json": _training(("common", "train_generator"), run_config(trained.generator_dir)),
        **{f"{stage}.json": _data_stage(stage, trained) for stage in DATA_STAGES},
        **{name: flatten_overlay(stems) for name, stems in MULTI_GPU.items()},
        "multi_gpu_train_generator.json": flatten_overlay(("common", "train_generator", "options/multi_gpu")),
    }


def _data_stage(stage: str, trained: Trained) -> dict[str, Any]:
    values = {**run_config(trained.patches_dir), **(run_config(trained.splits_dir) if trained.splits_dir else {})}
    taken = {key: value for key, value in values.items() if key not in OF_PATIENTS}
    return with_values(merge_flat(("common", stage)), taken)


def _inference(trained: Trained) -> dict[str, Any]:
    config = merge_flat(("common", "patches", "inference"))
    values = {**run_config(trained.patches_dir), **_network_values(run_config(trained.evaluation_dir))}
    return reachable({**with_values(config, values), "num_members": trained.num_members}, LOOKED_UP)


def _network_values(config: Mapping[str, Any]) -> dict[str, Any]:
    names = ("spatial_dims", "modalities", "classes")
    return {key: value for key, value in config.items() if key.startswith("classifier_") or key in names}


def _generate(trained: Trained) -> dict[str, Any]:
    values = {**run_config(trained.generator_dir), **run_config(trained.synthetic_dir)}
    config = with_values(merge_flat(("common", "generate")), values)
    first = next(iter(trained.generators))
    name = f'"{ALL_CLASSES}"' if first == ALL_CLASSES else "@generator_class"
    config["generator_path"] = f'$@bundle_root + "/models/generator/" + {name} + "/model.pt"'
    return config


def _training(stems: tuple[str, ...], run: Mapping[str, Any]) -> dict[str, Any]:
    # The run's own merged config, overlays and recipe included; only where things lie is taken from the repository.
    written = ConfigParser.load_config_files([str(ROOT / "configs" / f"{stem}.yaml") for stem in stems])
    own = {key: value for key, value in run.items() if key != "_meta_"}
    kept = (*NOT_TAKEN_OVER, *OF_PREPARATION)
    unchanged = {key: value for key, value in written.items() if PLACE.search(key) or key in kept}
    return name_training(begin_in_run(write_out_network(reachable({**own, **unchanged}, LOOKED_UP))))


def with_values(config: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Take over the plain values of a run into a config: numbers, names and lists of them, under the same key.

    Args:
        config: flat config.
        run: merged config of the stage that made the weights.

    Returns:
        The config with the run's values; places, expressions and components stay as they are.
    """
    taken = {
        key: run[key]
        for key, value in config.items()
        if key in run and not PLACE.search(key) and key not in NOT_TAKEN_OVER and is_plain(value) and is_plain(run[key])
    }
    return {**config, **taken}
