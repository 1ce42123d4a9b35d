"""A package keeps every rule, and each planted fault breaks the rule that it should, and no other."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import torch

from bundle.__main__ import main
from bundle.verify import RULES, verify
from scripts.provenance.record import FILE_NAME
from scripts.running.files import sha256_file
from tests.helpers import ROOT


def edit_json(path: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        content = json.loads((root / path).read_text(encoding="utf-8"))
        change(content)
        (root / path).write_text(json.dumps(content), encoding="utf-8")

    return plant


def metadata(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return edit_json("configs/metadata.json", change)


def edit_text(path: str, *texts: str) -> Callable[[Path], None]:
    """Replace the first text by the second, the third by the fourth, and so on."""

    def plant(root: Path) -> None:
        content = (root / path).read_text(encoding="utf-8")
        for old, new in zip(texts[::2], texts[1::2], strict=True):
            assert old in content
            content = content.replace(old, new, 1)
        (root / path).write_text(content, encoding="utf-8")

    return plant


def replace_weights(path: str, make: Callable[[dict], object]) -> Callable[[Path], None]:
    """Save other weights, with hashes that fit, so that only their content is wrong."""

    def plant(root: Path) -> None:
        file = root / path
        torch.save(make(torch.load(file, weights_only=True)), file)
        record = json.loads((file.parent / FILE_NAME).read_text(encoding="utf-8"))
        text = (root / "large_files.yml").read_text(encoding="utf-8")
        new = sha256_file(file)
        (root / "large_files.yml").write_text(text.replace(record["weights_sha256"], new), encoding="utf-8")
        (file.parent / FILE_NAME).write_text(json.dumps({**record, "weights_sha256": new}), encoding="utf-8")

    return plant


def large_document(root: Path) -> None:
    with (root / "docs" / "figures.png").open("wb") as stream:
        stream.truncate(26 * 1000**2)


def rename(root: Path) -> None:
    os.rename(root, root.with_name("glioma_segmentation"))


class NotATensor:
    pass


PATH_OF_JANE = PurePosixPath("/", "home", "jane", "patches.json")  # in no other file of the repository
IMAGE = ("network_data_format", "inputs", "image")
FAULTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no license": ("files", lambda root: (root / "LICENSE").unlink()),
    "another folder name": ("folder_name", rename),
    "no task": ("schema", metadata(lambda m: m.pop("task"))),
    "version not in the changelog": ("changelog", metadata(lambda m: m.update(version="0.9.0"))),
    "numpy without a wheel for Python 3.10": ("versions", metadata(lambda m: m.update(numpy_version="2.4.6"))),
    "a range of versions": ("versions", metadata(lambda m: m.update(monai_version=">=1.6"))),
    "a package not required": ("packages", metadata(lambda m: m["required_packages_version"].pop("nibabel"))),
    "channels exchanged": (
        "formats",
        metadata(lambda m: m[IMAGE[0]][IMAGE[1]][IMAGE[2]]["channel_def"].update({"0": "t1c", "1": "t1n"})),
    ),
    "figures that do not say simulated": (
        "simulated",
        metadata(lambda m: m.update(eval_metrics={"external": {}})),
    ),
    "a reference to nothing": (
        "standalone",
        edit_json("configs/inference.json", lambda c: c.update(mask_codes="@codes")),
    ),
    "no inferer to draw with": (
        "required_ids",
        edit_json("configs/generate.json", lambda c: c["evaluator"].update(inferer=c.pop("inferer"))),
    ),
    "a metric given in place": (
        "optional_ids",
        edit_json("configs/train.json", lambda c: c["validate"]["evaluator"].update(key_val_metric={"a": 1})),
    ),
    "data under another name": (
        "zoo_ids",
        edit_json("configs/train.json", lambda c: c["train"].update(dataset=c["train"]["dataset"]["data"])),
    ),
    "another key of the prediction": (
        "data_keys",
        edit_text("configs/inference.json", '"keys": "pred"', '"keys": "logits"'),
    ),
    "a state dict in a dictionary": (
        "weights",
        replace_weights("models/model.pt", lambda state: {"state_dict": state}),
    ),
    "a pickled object": (
        "weights",
        replace_weights("models/generator/LGG/model.pt", lambda state: {**state, "epoch": NotATensor()}),
    ),
    "a prefix of DataParallel": (
        "weights",
        replace_weights("models/model.pt", lambda state: {f"module.{name}": state[name] for name in state}),
    ),
    "a loader that takes what it gets": (
        "strictness",
        edit_text(
            "scripts/classifier/networks.py",
            "        faults = _faults(expected, state_dict)",
            "        faults = _faults(expected, state_dict) if strict else []",
            "load_state_dict(state_dict, strict=True, assign=assign)",
            "load_state_dict(state_dict, strict=strict, assign=assign)",
        ),
    ),
    "the record of other weights": (
        "provenance",
        edit_json("models/generator/HGG/provenance.json", lambda r: r.update(weights_sha256="0" * 64)),
    ),
    "logits of half precision": (
        "net_in_out",
        metadata(lambda m: m["network_data_format"]["outputs"]["pred"].update(dtype="float16")),
    ),
    "noise of half precision": (
        "generator_in_out",
        metadata(lambda m: m["generator_data_format"]["outputs"]["pred"].update(dtype="float16")),
    ),
    "a network that cannot be scripted": (
        "torchscript",
        edit_text(
            "scripts/classifier/networks.py",
            "        if len(logits) == 1:",
            '        if len({*map(str, "a")}) == 0 or len(logits) == 1:',
        ),
    ),
    "an export of other weights": (
        "exports",
        lambda root: (root / "models" / "model.onnx").write_text("not of these weights", encoding="utf-8"),
    ),
    "distances of other weights": (
        "training_distance",
        edit_json("models/training_distance.json", lambda r: r.update(weights_sha256="0" * 64)),
    ),
    "a fold beside the ensemble": (
        "models_folder",
        lambda root: shutil.copy(root / "docs" / "README.md", root / "models" / "fold0.ts"),
    ),
    "a home directory": (
        "personal_paths",
        edit_text("configs/train.json", '"runs/patches/patches.json"', f'"{PATH_OF_JANE}"'),
    ),
    "a drive in a docstring": (
        "personal_paths",
        edit_text("scripts/generator/diffusion_set.py", "Draw a batch.", "Draw a batch, as in C:/Users/jane."),
    ),
    "a large document": ("sizes", large_document),
    "weights of another hash": (
        "large_files",
        edit_text("large_files.yml", "hash_val: ", "hash_val: 0"),
    ),
    "an address that cannot exist": (
        "large_files",
        edit_text("large_files.yml", "https://example.org", "https://example.invalid"),
    ),
    "a model card without license": ("card", edit_text("docs/README.md", "# License", "# Licence")),
    "an import that is not used": (
        "code_style",
        edit_text(
            "scripts/generator/diffusion_set.py", "import torch\n", "import torch\nimport torch.nn.functional as F\n"
        ),
    ),
}
# What follows from a fault, besides the rule that names it.
FOLLOWS = {
    "no inferer to draw with": {"zoo_ids"},
    "a state dict in a dictionary": {"torchscript", "training_distance"},  # which is of the weights that were there
    "a prefix of DataParallel": {"torchscript", "training_distance"},
    "data under another name": {"optional_ids"},
    "a fold beside the ensemble": {"torchscript"},
}


def failing(root: Path, scripted: bool) -> set[str]:
    # Scripting takes as long as everything else together, and most faults cannot reach it.
    rules = [rule for rule in RULES if scripted or rule.__name__ != "torchscript"]
    return {name for name, faults in verify(root, rules=rules) if faults}


def test_a_package_keeps_every_rule(packed):
    assert {name: faults for name, faults in verify(packed) if faults} == {}


def test_verify_prints_a_line_a_rule_and_fails_with_the_way_out(packed, tmp_path, capsys):
    root = tmp_path / packed.name
    shutil.copytree(packed, root)
    (root / "LICENSE").unlink()
    assert main(["verify", str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(RULES)
    assert all(re.match("PASS|FAIL", line) for line in lines)
    assert "FAIL files: LICENSE must be there, got no such file; pack again with `python -m bundle pack`" in lines
    assert main(["verify", str(tmp_path / "nowhere")]) == 2


def test_every_rule_has_a_planted_fault():
    assert {rule for rule, _ in FAULTS.values()} == {rule.__name__ for rule in RULES}
    assert len(FAULTS) >= 20


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_fails_the_rule_that_names_it(packed, tmp_path, name):
    rule, plant = FAULTS[name]
    shutil.copytree(packed, tmp_path / packed.name)
    plant(tmp_path / packed.name)
    (root,) = tmp_path.iterdir()
    expected = {rule} | FOLLOWS.get(name, set())
    assert failing(root, scripted="torchscript" in expected) == expected


def test_a_placeholder_passes_where_it_is_allowed(packed, tmp_path):
    root = tmp_path / packed.name
    shutil.copytree(packed, root)
    FAULTS["an address that cannot exist"][1](root)
    rules = [rule for rule in RULES if rule.__name__ == "large_files"]
    assert dict(verify(root, allow_placeholder=True, rules=rules)) == {"large_files": []}


def test_the_rules_look_at_the_code_of_the_package_and_leave_ours_in_place(packed):
    import scripts.classifier.networks

    ours = scripts.classifier.networks
    dict(verify(packed, rules=RULES[:3]))
    from scripts.classifier import networks

    assert networks is ours
    assert Path(networks.__file__).is_relative_to(ROOT)
