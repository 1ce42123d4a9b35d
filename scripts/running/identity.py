"""The identity of the code that a config reaches: a hash of what each module does, by its dotted name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.running.configs import texts
from scripts.running.files import file_state, sha256_file, sha256_text

# The folder that holds the package `scripts`.
ROOT = Path(__file__).resolve().parents[2]
DOTTED_NAME = re.compile(r"(?<![\w.])scripts(?:\.[A-Za-z_]\w*)+")


def target_modules(config: Mapping[str, Any], root: Path = ROOT) -> set[str]:
    """Collect the modules of `scripts` that a config reaches by `_target_` or in an expression.

    Args:
        config: merged config.
        root: folder that holds the package `scripts`.

    Returns:
        Dotted names, such as "scripts.generator.samplers".

    Raises:
        ValueError: if a dotted name begins with no module of `scripts`: its code could not be watched.
    """
    names = {name for text in texts(config) for name in DOTTED_NAME.findall(text)}
    modules = {name: _module_of(name, root) for name in names}
    unknown = sorted(name for name, module in modules.items() if module is None)
    if unknown:
        raise ValueError(f"a config must name modules that exist, got {', '.join(unknown)}; correct the dotted names")
    return {module for module in modules.values() if module is not None}


def code_identity(modules: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Hash what modules of `scripts`, and all modules of `scripts` that they import, do.

    Comments, docstrings and layout do not count: the syntax tree is hashed. A file of a module's stem that is not
    Python (a template, a table) is part of the module and counts byte by byte.

    Args:
        modules: dotted names of modules.
        root: folder that holds the package `scripts`.

    Returns:
        Dotted name -> 16 hexadecimal digits, sorted by name.

    Raises:
        ValueError: if a name resolves to no file.
    """
    hashes: dict[str, str] = {}
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name, root)
        if path is None:
            raise ValueError(f"modules must be of the package scripts in {root}, got {name!r}, which has no file")
        digest, imported = _parsed(path, file_state(path), root)
        parts = [
            f"{part.name}:{sha256_file(part)}"
            for part in sorted(path.parent.glob(f"{path.stem}.*"))
            if part.suffix != ".py" and part.is_file() and path.stem != "__init__"
        ]
        hashes[name] = sha256_text("\n".join([digest, *parts]))[:16]
        waiting |= imported - hashes.keys()
    return dict(sorted(hashes.items()))


def _module_of(name: str, root: Path) -> str | None:
    """Return the longest beginning of a dotted name that is a module below the package itself."""
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((beginning for beginning in beginnings if _file_of(beginning, root)), None)


def _file_of(name: str, root: Path) -> Path | None:
    path = root.joinpath(*name.split("."))
    return next((file for file in (path.with_name(path.name + ".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _parsed(path: Path, state: tuple[int, int], root: Path) -> tuple[str, frozenset[str]]:
    """Return the hash of a module's code and the modules of `scripts` it imports; `state` tells a changed file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = frozenset(_imports(tree, path, root))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    # Source made anew from the tree, and not a dump of it, whose form changes with the version of Python.
    return sha256_text(ast.unparse(tree)), imported


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:] or [ast.Pass()]


def _imports(tree: ast.Module, path: Path, root: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path, root)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            module = _module_of(name, root) if name.startswith("scripts.") else None
            if module is not None:
                yield module


def _absolute(node: ast.ImportFrom, path: Path, root: Path) -> str:
    if not node.level:
        return node.module or ""
    package = path.parents[node.level - 1].relative_to(root)
    return ".".join([*package.parts, *([node.module] if node.module else [])])
