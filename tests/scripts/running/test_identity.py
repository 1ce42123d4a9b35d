import ast
from pathlib import Path

import pytest

from scripts.running.identity import ROOT, code_identity, target_modules


@pytest.fixture
def package(tmp_path):
    """A package `scripts` of two rooms: a.first imports b.second and b.third; b.fourth stands alone."""
    files = {
        "a/first.py": "from scripts.b.second import thing\nfrom scripts.b import third\n",
        "b/second.py": 'thing = 1\n\n\ndef doubled(x):\n    """Twice."""\n    return 2 * x\n',
        "b/third.py": "from . import fifth\n",
        "b/fourth.py": "other = 1\n",
        "b/fifth.py": "deep = 1\n",
        "__init__.py": "",
        "a/__init__.py": "",
        "b/__init__.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "scripts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def first(package):
    return code_identity({"scripts.a.first"}, package)


def change(package, name, text):
    (package / "scripts" / name).write_text(text)


def test_imports_are_followed_through_rooms_by_absolute_and_relative_names(package):
    assert set(first(package)) == {
        "scripts.a.first",
        "scripts.b.second",
        "scripts.b.third",
        "scripts.b.fifth",
        "scripts.b",
    }


@pytest.mark.parametrize("name", ["a/first.py", "b/second.py", "b/third.py", "b/fifth.py"])
def test_a_change_of_code_in_any_module_that_is_reached_changes_its_hash_alone(package, name):
    before = first(package)
    path = package / "scripts" / name
    change(package, name, path.read_text() + "added = 1\n")
    after = first(package)
    module = "scripts." + name.removesuffix(".py").replace("/", ".")
    assert {key for key in after if after[key] != before.get(key)} == {module}


def test_comments_docstrings_and_layout_change_nothing(package):
    before = first(package)
    text = '"""A docstring."""\n# a comment\nthing = (\n    1\n)\n'
    text += 'def doubled( x ):\n    "Another."\n    return 2*x  # why\n'
    change(package, "b/second.py", text)
    assert first(package) == before


def test_a_text_that_is_no_docstring_counts(package):
    change(package, "b/second.py", 'thing = "one"\n')
    before = first(package)
    change(package, "b/second.py", 'thing = "two"\n')
    assert first(package) != before


def test_a_module_that_is_not_reached_does_not_count(package):
    before = first(package)
    change(package, "b/fourth.py", "other = 2\n")
    assert first(package) == before


def test_a_template_of_a_modules_stem_counts(package):
    before = first(package)
    change(package, "b/second.html.j2", "template")
    assert first(package) != before


def test_targets_and_expressions_give_dotted_names(package):
    config = {"x": {"_target_": "scripts.a.first.Thing"}, "y": "$[scripts.b.second.doubled(@x), 1]"}
    assert target_modules(config, package) == {"scripts.a.first", "scripts.b.second"}


@pytest.mark.parametrize("name", ["scripts.none.Thing", "scripts.Thing"])
def test_a_name_that_resolves_to_no_file_is_refused(package, name):
    with pytest.raises(ValueError, match=f"modules that exist, got {name}"):
        target_modules({"x": {"_target_": name}}, package)


def test_a_module_without_a_file_is_refused(package):
    with pytest.raises(ValueError, match=r"scripts\.a\.none"):
        code_identity({"scripts.a.none"}, package)


MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "scripts").rglob("*.py")
    if path.stem != "__init__"
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_reached_by_its_own_name_with_all_that_it_imports(module):
    identity = code_identity({module})
    path = Path(ROOT, *module.split(".")).with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("scripts."):
            assert node.module in identity
    assert module in identity
