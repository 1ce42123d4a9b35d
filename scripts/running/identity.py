"""The identity of the code that a config reaches: a hash of what each module does, by its dotted name."""

from __future__ import annotations

import ast
import os
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
    files = _Files(root)
    modules = {name: files.module_of(name) for name in names}
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
    files = _Files(root)
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        path = files.path_of(name)
        if path is None:
            raise ValueError(f"modules must be of the package scripts in {root}, got {name!r}, which has no file")
        digest, imported = _parsed(path, file_state(path), root)
        parts = [f"{os.path.basename(part)}:{sha256_file(part)}" for part in files.parts_beside(path)]
        hashes[name] = sha256_text("\n".join([digest, *parts]))[:16]
        waiting |= imported - hashes.keys()
    return dict(sorted(hashes.items()))


class _Files:
    """The files of a package, each folder listed once: a study looks for the same modules thousands of times.

    Args:
        root: folder that holds the package `scripts`.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._listings: dict[str, frozenset[str]] = {}

    def module_of(self, name: str) -> str | None:
        """Return the longest beginning of a dotted name that is a module below the package itself."""
        parts = name.split(".")
        beginnings = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
        return next((beginning for beginning in beginnings if self.path_of(beginning)), None)

    def path_of(self, name: str) -> str | None:
        """Return the file of a module or package."""
        *above, last = name.split(".")
        folder = os.path.join(self.root, *above)
        if f"{last}.py" in self._files_in(folder):
            return os.path.join(folder, f"{last}.py")
        package = os.path.join(folder, last)
        return os.path.join(package, "__init__.py") if "__init__.py" in self._files_in(package) else None

    def parts_beside(self, path: str) -> list[str]:
        """List the files of a module's stem that are not Python."""
        folder, name = os.path.split(path)
        stem = name.removesuffix("py")
        if name == "__init__.py":
            return []
        names = (file for file in self._files_in(folder) if file.startswith(stem) and not file.endswith(".py"))
        return [os.path.join(folder, file) for file in sorted(names)]

    def _files_in(self, folder: str) -> frozenset[str]:
        if folder not in self._listings:
            try:
                with os.scandir(folder) as entries:
                    self._listings[folder] = frozenset(entry.name for entry in entries if entry.is_file())
            except (FileNotFoundError, NotADirectoryError):
                self._listings[folder] = frozenset()
        return self._listings[folder]


@cache
def _parsed(path: str, state: tuple[int, int], root: Path) -> tuple[str, frozenset[str]]:
    """Return the hash of a module's code and the modules of `scripts` it imports; `state` tells a changed file."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    imported = frozenset(_imports(tree, Path(path), root))
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
    files = _Files(root)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path, root)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            module = files.module_of(name) if name.startswith("scripts.") else None
            if module is not None:
                yield module


def _absolute(node: ast.ImportFrom, path: Path, root: Path) -> str:
    if not node.level:
        return node.module or ""
    package = path.parents[node.level - 1].relative_to(root)
    return ".".join([*package.parts, *([node.module] if node.module else [])])
