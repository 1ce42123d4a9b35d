"""Every rule of the model zoo, offline: PASS or FAIL a line, with the rule's name and the way out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bundle import rules_configs, rules_files, rules_metadata, rules_networks
from bundle.package import Package, packaged_scripts, random_weights_left_out

Rule = Callable[[Package], Iterator[str]]

# In the order in which a fault is best understood: what is there, what it says, what it does.
RULES: tuple[Rule, ...] = (
    rules_files.files,
    rules_files.folder_name,
    rules_metadata.schema,
    rules_metadata.changelog,
    rules_metadata.versions,
    rules_metadata.packages,
    rules_metadata.formats,
    rules_metadata.simulated,
    rules_configs.standalone,
    rules_configs.required_ids,
    rules_configs.optional_ids,
    rules_configs.zoo_ids,
    rules_configs.data_keys,
    rules_networks.weights,
    rules_networks.strictness,
    rules_networks.provenance,
    rules_networks.net_in_out,
    rules_networks.generator_in_out,
    rules_networks.torchscript,
    rules_networks.exports,
    rules_networks.training_distance,
    rules_files.models_folder,
    rules_files.personal_paths,
    rules_files.sizes,
    rules_files.large_files,
    rules_files.card,
    rules_files.code_style,
)


def verify(
    root: str | Path, allow_placeholder: bool = False, rules: Iterable[Rule] = RULES
) -> Iterator[tuple[str, list[str]]]:
    """Try every rule on a package, with the package's own `scripts`.

    Args:
        root: root of the package.
        allow_placeholder: accept addresses in `large_files.yml` that cannot exist.
        rules: rules to try.

    Yields:
        Name of a rule and its faults, none if the package keeps it.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; make it with `python -m bundle pack`")
    package = Package(folder, allow_placeholder)
    for rule in rules:
        with packaged_scripts(folder), random_weights_left_out():
            faults = list(_faults(rule, package))
        yield rule.__name__, faults


def report(root: str | Path, allow_placeholder: bool = False) -> bool:
    """Print PASS or FAIL for every rule.

    Returns:
        Whether all rules are kept.
    """
    all_kept = True
    with _quiet_monai():
        for name, faults in verify(root, allow_placeholder):
            all_kept = all_kept and not faults
            print("\n".join(f"FAIL {name}: {fault}" for fault in faults) or f"PASS {name}{_remark(name)}", flush=True)
    return all_kept


@contextlib.contextmanager
def _quiet_monai() -> Iterator[None]:
    # Each of MONAI's loggers has a level of its own: that of their parent changes nothing.
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith("monai")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _faults(rule: Rule, package: Package) -> Iterator[str]:
    try:
        yield from rule(package)
    except Exception as error:  # noqa: BLE001 - a package that a rule cannot even read does not keep it
        said = next(iter(str(error).splitlines()), "")
        yield f"the package must let this rule be checked, got {type(error).__name__}: {said}; see the faults above"


def _remark(name: str) -> str:
    if name != "code_style":
        return ""
    checkers = rules_files.installed_checkers()
    absent = [tool for tool in rules_files.STYLE if tool not in checkers]
    return f": {', '.join(checkers)}" + (f" (not installed, not asked: {', '.join(absent)})" if absent else "")
