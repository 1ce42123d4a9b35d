"""The rooms of `scripts/`: who imports whom, what a config may name, and that a change of code is noticed in each."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.running.configs import components
from scripts.running.identity import DOTTED_NAME, code_identity, target_modules
from tests.helpers import ROOT

SCRIPTS = ROOT / "scripts"
ROOMS = sorted(path.name for path in SCRIPTS.iterdir() if path.is_dir() and path.name != "__pycache__")
CONFIGS = sorted(
    path
    for folder in ("configs", "bundle", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".yaml", ".json"} and "schema" not in path.name
)
in_every_room = pytest.mark.parametrize("room", ROOMS)


def modules_of(room: str) -> list[Path]:
    return sorted(path for path in (SCRIPTS / room).glob("*.py") if path.name != "__init__.py")


@cache
def imported_names(path: Path) -> list[str]:
    """Dotted names that a module imports, inside functions, too; relative ones made absolute."""
    names: list[str] = []
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def imported_rooms(room: str) -> set[str]:
    names = [name.split(".") for path in modules_of(room) for name in imported_names(path)]
    return {parts[1] for parts in names if parts[0] == "scripts" and len(parts) > 1} - {room}


def targets(value: Any) -> Iterator[str]:
    """Every `_target_` below a part of a config."""
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from targets(item)


def test_no_two_rooms_import_each_other_by_any_way_round():
    try:
        TopologicalSorter({room: imported_rooms(room) for room in ROOMS}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_running_stands_on_no_other_room():
    assert imported_rooms("running") == set()


def test_a_cycle_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_rooms.ROOT", tmp_path)
    path = tmp_path / "scripts" / "a" / "inside.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from ..b.c import d\nfrom . import e\ndef f():\n    import scripts.g.h\n    from scripts.i import j\n",
        encoding="utf-8",
    )
    assert list(imported_names(path)) == ["scripts.b.c.d", "scripts.a.e", "scripts.g.h", "scripts.i.j"]


def test_there_are_12_to_18_rooms():
    assert 12 <= len(ROOMS) <= 18


@in_every_room
def test_a_room_holds_3_to_15_modules(room):
    assert 3 <= len(modules_of(room)) <= 15


@in_every_room
def test_a_room_says_in_one_sentence_what_it_is_and_imports_nothing(room):
    tree = ast.parse((SCRIPTS / room / "__init__.py").read_text(encoding="utf-8"))
    sentence = ast.get_docstring(tree)
    assert len(tree.body) == 1
    assert re.fullmatch(r"[A-Z][^.\n]+\.", sentence or ""), sentence


def test_no_module_stands_outside_a_room():
    outside = [path.relative_to(SCRIPTS) for path in SCRIPTS.rglob("*.py") if len(path.relative_to(SCRIPTS).parts) != 2]
    assert [path.as_posix() for path in outside] == ["__init__.py"]


def test_the_tests_stand_in_the_same_rooms():
    tests = ROOT / "tests" / "scripts"
    assert sorted(path.name for path in tests.iterdir() if path.is_dir() and path.name != "__pycache__") == ROOMS
    assert {path.parent.parent for path in tests.rglob("test_*.py")} == {tests}
    assert all((tests / room / "__init__.py").is_file() for room in ROOMS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_of_ours_in_a_config_is_there(path):
    for name in set(DOTTED_NAME.findall(path.read_text(encoding="utf-8"))):
        (module,) = target_modules({"name": name})
        if name != module:
            attrgetter(name.removeprefix(f"{module}."))(import_module(module))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_target_of_others_in_a_config_is_there(path):
    locator = components()
    names = set(targets(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for name in sorted(name for name in names if not name.startswith(("$", "scripts."))):
        full = name if "." in name else f"{locator.get_component_module_name(name)}.{name}"
        module, _, attribute = full.rpartition(".")
        assert callable(getattr(import_module(module), attribute)), name


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A folder with a copy of `scripts` that may be changed."""
    root = tmp_path_factory.mktemp("code")
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@in_every_room
def test_the_identity_of_code_changes_when_and_only_when_code_changes(room, copied):
    for original in modules_of(room):
        path = copied / original.relative_to(ROOT)
        name = f"scripts.{room}.{path.stem}"
        text = path.read_text(encoding="utf-8")
        before = code_identity([name], root=copied)

        path.write_text(f"# A remark.\n\n{text}\n# Another one.\n", encoding="utf-8")
        assert code_identity([name], root=copied) == before, name

        path.write_text(f"{text}\nADDED = 1\n", encoding="utf-8")
        after = code_identity([name], root=copied)
        assert {key for key in before | after if before.get(key) != after.get(key)} == {name}

        path.write_text(text, encoding="utf-8")
        assert code_identity([name], root=copied) == before, name


@in_every_room
def test_a_change_in_a_room_is_noticed_by_those_that_import_it(room, copied):
    importers = {
        f"scripts.{other}.{path.stem}": name
        for other in ROOMS
        for path in modules_of(other)
        for name in imported_names(path)
        if name.startswith(f"scripts.{room}.")
    }
    for importer, name in importers.items():
        (module,) = target_modules({"name": name})
        assert module in code_identity([importer], root=copied), f"{importer} imports {module}"
