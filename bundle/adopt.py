"""Weights of a federation, adopted: with one record of all that its sites have trained on, other stages take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.provenance.image_form import recorded_images, require_same_images
from scripts.provenance.record import FILE_NAME, read_provenance, seen_by_any, write_provenance
from scripts.provenance.state_dicts import load_state, refuse_other_state, save_tensors
from scripts.running.files import listed_twice

WAY_OUT = "give the global model of the federation that these sites trained in, as NVFlare's FL_global_model.pt"


def adopt(weights: str, records: Sequence[str], output_dir: str) -> Path:
    """Write the weights of a federation as `model.pt`, with the `provenance.json` of all its sites together.

    Args:
        weights: state dict, bare or below the key `model`; nothing in it is unpickled but tensors.
        records: `provenance.json` of each site, with the `model.pt` of its own training beside it.
        output_dir: folder for both files, new or empty.

    Returns:
        Path of the weights.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the weights do not fit the sites' network by name and shape, a site is given twice, or sites
            differ in setup or images, or one names no subjects.
    """
    folder = Path(output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out must be a new or empty folder, got {output_dir!r}; choose another")
    if twice := listed_twice(records):
        raise ValueError(f"--records must name each site once, got {twice} twice; leave one out")
    state = load_state(weights, WAY_OUT, wrapped_as="model")
    sites = {path: _site(path) for path in records}
    for path in sites:
        own = load_state(Path(path).with_name("model.pt"))
        refuse_other_state(own, state, f"{weights} must hold weights of the network of {path}", WAY_OUT)
        state = {name: state[name] for name in own}
    _refuse_unlike(sites)
    target = folder / "model.pt"
    save_tensors(target, state)
    _write_record(target, list(sites.values()))
    return target


def _site(path: str) -> Mapping[str, Any]:
    if Path(path).name != FILE_NAME:
        raise ValueError(f"--records must be files named {FILE_NAME}, got {path!r}; each lies beside a site's model.pt")
    record = read_provenance(Path(path).with_name("model.pt"))
    if not record["subjects"]:
        raise ValueError(f"{path} must name the subjects that its site trained on, got none; train on real images")
    return record


def _refuse_unlike(sites: Mapping[str, Mapping[str, Any]]) -> None:
    (first, record), *others = sites.items()
    images = recorded_images(record, first)
    for path, other in others:
        require_same_images(images, recorded_images(other, path), path, first)
        if other.get("setup") != record.get("setup"):
            raise ValueError(
                f"{path} must be of setup {record.get('setup')!r}, as {first}, got {other.get('setup')!r}; give every"
                " site the same one"
            )


def _write_record(target: Path, records: Sequence[Mapping[str, Any]]) -> None:
    folds = {record["fold"] for record in records}
    write_provenance(
        target,
        **seen_by_any(records),
        fold=folds.pop() if len(folds) == 1 else None,
        setup=records[0].get("setup"),
        images=records[0]["images"],
        federated=[record["weights_sha256"] for record in records],
    )
