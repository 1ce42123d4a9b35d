"""The data of a training that are not there yet: cohort, patches and splits of the folder that `dataset_dir` names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.running import stages
from scripts.running.configs import Invocation, is_plain, parser_of, references
from scripts.running.errors import root_cause, some_names
from scripts.running.files import why_no_file
from scripts.running.folders import read_record
from scripts.running.overrides import config_folder, load_file, part_of
from scripts.running.stages import (
    ENTRY_POINTS,
    PLACE,
    AlreadyFinished,
    OtherRunError,
    current_config,
    current_invocation,
    run_invocation,
)
from scripts.training.processes import by_main_process

DEFAULT_FOLDER = '$@bundle_root + "/data"'  # of common.yaml, where nobody has given a folder
STAGES = ("cohort", "patches", "splits")
DATASET_OF_OTHERS = ("train", "dataset", "data")  # where MONAI Label puts its own list of images


def check_command_line() -> None:
    """Do what `scripts.running.stages.check_command_line` does, and take keys of the stages before where they run.

    So `--dataset_dir DATA --mask_codes brats_2023` says of the folder what `cohort.yaml` would have to be told.

    Raises:
        ValueError: naming the key, what it must be, and the way out.
    """
    invocation = current_invocation()
    known: set[str] = set()
    if invocation is not None:
        layers = [*map(load_file, invocation.config_files), invocation.overrides]
        if any(layer.get("dataset_dir", DEFAULT_FOLDER) != DEFAULT_FOLDER for layer in layers):
            files = [path for stage in STAGES for path in stage_files(config_folder(invocation), stage)]
            known = {key for path in files for key in load_file(path) if _says_how(key)}
    stages.check_command_line(known=known)


def stage_files(config_dir: Path, stage: str) -> tuple[str, ...]:
    """Return the config files of a stage: one flat file in a package, two in the repository."""
    flat = config_dir / f"{stage}.json"
    files = [flat] if flat.is_file() else [config_dir / f"{stem}.yaml" for stem in ("common", stage)]
    return tuple(str(path) for path in files)


def _says_how(key: str) -> bool:
    """Tell whether a key says how something is made, not where, nor what runs."""
    return not key.startswith("_") and key not in ENTRY_POINTS and not PLACE.search(key)


def make_training_data(
    dataset_dir: str, config_dir: str, patches_path: str, splits_path: str, settings: Mapping[str, Any]
) -> None:
    """Make patches and splits of the patients in a folder, if one is given; what is finished is passed over.

    The stages are those of the command line, with their records, in the folders of the two files and, for the cohort,
    in `cohort` beside the patches. A folder with a `cohort.json`, as the phantom's, is a cohort already. What is there
    is never overwritten, whatever the training may overwrite of its own: other trainings rest on it.

    Args:
        dataset_dir: folder of patients, or a table of them; left as it is in `common.yaml`, nothing is made.
        config_dir: folder of the stages' configs.
        patches_path: `patches.json` that the training reads.
        splits_path: `splits.json` that it reads.
        settings: key -> value that the stages take over as far as they know the key; they also take over what command
            line and overlays of the training say of their other keys.

    Raises:
        FileNotFoundError: if nothing is made and a file is missing, with what to type.
        ValueError: if the folders hold the data of another source or other settings, the files are named otherwise, or
            a cohort that is there already was not made as a key asks for.
    """
    config = current_config()
    if isinstance(part_of(config, DATASET_OF_OTHERS), list):
        return
    if config.get("dataset_dir", DEFAULT_FOLDER) != DEFAULT_FOLDER:
        before = _StagesBefore(Path(config_dir), settings, config)
        by_main_process(lambda: before.make(Path(dataset_dir), Path(patches_path), Path(splits_path)))
    for path in (patches_path, splits_path):
        if why := why_no_file(path):
            raise FileNotFoundError(
                f"{path} {why}; pass --dataset_dir DATA, a folder of patients, of which the training makes its cohort,"
                " patches and splits first, or the paths of those that you have (--patches_path, --splits_path)"
            )


def refuse_keys_of_cohort(folder: Path, config_dir: Path, values: Mapping[str, Any]) -> None:
    """Refuse keys that only the stage `cohort` reads where a cohort is there, unless it was made with them.

    The bundle's own recipes may say more of data than one folder needs.

    Args:
        folder: of the `cohort.json`.
        config_dir: folder of the stages' configs.
        values: key -> value of what this run says.

    Raises:
        ValueError: naming the keys and the way out.
    """
    cohort, *later = (Invocation(stage_files(config_dir, stage)).merged() for stage in STAGES)
    made_with = {**cohort, **read_record(folder).get("identity", {}).get("settings", {})}
    of_cohort_alone = cohort.keys() - set().union(*later) - _keys_of_recipes()
    ignored = [
        key for key in sorted(of_cohort_alone & values.keys()) if json.dumps(values[key]) != json.dumps(made_with[key])
    ]
    if ignored:
        raise ValueError(
            f"dataset_dir {folder} must hold a cohort.json that was made with the keys of the cohort, got"
            f" {some_names(ignored)}, which it was not made with; leave them out, or make a cohort with them"
            " (cohort.yaml, --source_path) and give its folder as --dataset_dir"
        )


def _keys_of_recipes() -> set[str]:
    """Return the keys of this run that the bundle's own config files say and its command line does not."""
    invocation = current_invocation()
    if invocation is None:
        return set()
    folder = config_folder(invocation)
    own = [path for path in invocation.config_files if folder in Path(path).resolve().parents]
    return {key for path in own for key in load_file(path)} - set(invocation.overrides)


class _StagesBefore:
    """The stages before a training, with its settings."""

    def __init__(self, config_dir: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.config_dir = config_dir
        others = {key: value for key, value in config.items() if _says_how(key) and is_plain(value)}
        invocation = current_invocation()
        typed = {} if invocation is None else invocation.overrides
        # What somebody typed is meant for whoever knows the key, as '$None' is; the files' expressions are their own.
        expressions = {key: value for key, value in typed.items() if _says_how(key) and not is_plain(value)}
        self.values = {**others, **settings, **expressions}
        self.config = config

    def make(self, source: Path, patches_path: Path, splits_path: Path) -> None:
        for path, key in ((patches_path, "patches"), (splits_path, "splits")):
            if path.name != f"{key}.json":
                raise ValueError(
                    f"{key}_path must be named {key}.json where dataset_dir makes it, got {str(path)!r}; give"
                    f" --{key}_path FOLDER/{key}.json"
                )
        try:
            cohort_path = source / "cohort.json"
            if not why_no_file(cohort_path):
                refuse_keys_of_cohort(source, self.config_dir, self.values)
            else:
                cohort_path = patches_path.parent.with_name("cohort") / "cohort.json"
                self._run("cohort", cohort_path.parent, source_path=str(source))
            self._run("patches", patches_path.parent, cohort_path=str(cohort_path))
            self._run("splits", splits_path.parent, cohort_path=str(cohort_path))
        except OtherRunError as error:
            keep = ", pass --keep_old_code True to keep what other code made" if "--keep_old" in str(error) else ""
            raise OtherRunError(
                f"dataset_dir {source} cannot be made into these folders: {error.fault}",
                f"give --patches_path and --splits_path in other folders{keep}, or leave --dataset_dir out to train on"
                " what these hold (--overwrite True is of the training alone: other trainings may rest on the data)",
            ) from error

    def _run(self, name: str, output_dir: Path, **places: str) -> None:
        invocation = Invocation(stage_files(self.config_dir, name))
        known = invocation.merged()
        changed = {key: value for key, value in self.values.items() if key in known and value != known[key]}
        for key, value in changed.items():
            if references(value) - known.keys():
                # Of keys that the training alone has; the stage gets what the training makes of them.
                changed[key] = parser_of(self.config).get_parsed_content(key)
        try:
            run_invocation(Invocation(invocation.config_files, {**changed, **places, "output_dir": str(output_dir)}))
        except AlreadyFinished:
            return
        except Exception as error:
            cause = root_cause(error)
            raise cause from cause.__cause__
