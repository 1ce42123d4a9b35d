"""Every link of the documentation leads somewhere, on GitHub and in the site that mkdocs builds."""

from __future__ import annotations

import ast
import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import markdown
import pytest
from markdown.extensions.toc import slugify
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from bundle.reference import config_keys
from tests.helpers import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.ipynb"))]


def text_of(path: Path) -> str:
    """Markdown of a page; of a notebook with its code in fences."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(source if kind == "markdown" else f"```\n{source}\n```" for kind, source in cells)


class Page(HTMLParser):
    """Anchors and link targets of one page of Markdown."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(markdown.markdown(text_of(path), extensions=["toc", "tables", "fenced_code"]))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        target = values.get({"a": "href", "img": "src"}.get(tag, ""))
        if target:
            self.targets.append(unquote(target))


def dead_links(path: Path) -> list[str]:
    """Targets of a page that are no file of the repository, or no heading of the page that they name."""
    page = Page(path)
    dead = []
    for target in page.targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        outside_of_the_site = DOCS in path.parents and DOCS not in linked.parents
        if not linked.is_file() or outside_of_the_site or (anchor and anchor not in Page(linked).anchors):
            dead.append(target)
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_of_a_page_is_dead(path):
    assert dead_links(path) == []


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("[x](other.md)", []),
        ("[x](other.md#a-heading)", []),
        ("[x](#here)", []),
        ("[x](https://example.org/none)", []),
        ("[x](none.md)", ["none.md"]),
        ("[x](other.md#none)", ["other.md#none"]),
        ("![x](none.png)", ["none.png"]),
        ("`[x](none.md)`", []),
    ],
)
def test_a_dead_link_is_named(tmp_path, link, dead):
    (tmp_path / "other.md").write_text("# Title\n\n## A heading\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{link}\n", encoding="utf-8")
    assert dead_links(page) == dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_headings_have_the_same_anchor_on_github_and_in_the_site(path):
    text = re.sub(r"(?ms)^```.*?^```", "", text_of(path))
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        github = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        assert slugify(heading, "-") == github


def build_site(**changes: str) -> None:
    """Build the site as `make docs` does: a warning is an error."""
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, **changes)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    build_site(site_dir=str(tmp_path))
    pages = {path.relative_to(tmp_path).with_suffix(".md").as_posix() for path in tmp_path.rglob("*.html")}
    names = {path.relative_to(DOCS).as_posix().replace("README", "index") for path in DOCS.rglob("*.md")}
    assert pages == names | {"404.md"}
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\" >]+)", page.read_text("utf-8")
        )
        assert loaded == [], page


@pytest.mark.parametrize("link", ["[x](none.md)", "[x](README.md#none)"])
def test_the_site_is_not_built_with_a_dead_link(tmp_path, link):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text(f"# Title\n\n{link}\n", encoding="utf-8")
    with pytest.raises(Abort, match="1 warning"):
        build_site(docs_dir=str(docs), site_dir=str(tmp_path / "site"), nav=["README.md"])


def test_every_extra_is_in_the_table_of_what_else_can_be_installed():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(
        re.findall(r"(?m)^([a-z-]+) = \[", project.split("[project.optional-dependencies]")[1].split("\n\n")[0])
    )
    page = (DOCS / "getting-started" / "install.md").read_text(encoding="utf-8")
    named = set(re.findall(r"pip install -c constraints.txt '\.\[([a-z-]+)\]'", page))
    assert named | {"federated"} == extras  # that one has an environment of its own
    assert "make federated-env" in page


def test_the_page_of_the_architecture_draws_and_lists_the_rooms_that_there_are():
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    sentences = {
        path.parent.name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        for path in (ROOT / "scripts").glob("*/__init__.py")
    }
    (table,) = re.findall(r"(?m)^\| room \| .*\n\|[-|]+\n((?:\|.*\n?)+)", page)
    listed = re.findall(r"(?m)^\| `(\w+)` \| (.*) \|$", table)
    assert dict(listed) == sentences
    assert len(listed) == len(sentences) == len(table.splitlines())

    (drawing,) = re.findall(r"(?ms)^```text\n(.*?)^```", page)
    drawn = re.findall(rf"(?<![\w.])(?:{'|'.join(sentences)})(?![\w.])", drawing)
    assert drawn == [room for room, _ in listed]


PATH = re.compile(r"(?<![\w./-])(?:scripts|configs|bundle|benchmarks|tests|docs|options|recipes)/[\w./-]*\w")
FLAG = re.compile(r"(?<![\w-])--([A-Za-z][\w-]*)")
WORD = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?:\([^`]*\))?`")
CODE = [
    path
    for folder in ("scripts", "configs", "bundle", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".yaml", ".j2"}
]
# Of `monai.bundle`, of SLURM, and the word that stands for any key.
FLAGS_OF_OTHERS = {
    "logdir",
    "tracking",
    "args_file",
    "config_file",
    "name",
    "bundle_dir",
    "gres",
    "KEY",
    "nproc_per_node",
    *("source", "repo"),  # of MONAI's download
    *("app", "conf", "host"),  # of `monailabel start_server`
}
# Arguments of clients, server and jobs of federated learning.
WORDS_OF_OTHERS = {
    *("eval_kwargs", "train_kwargs", "config_evaluate_filename", "class_allow_list", "aggregation_weights"),
    *("negate_key_metric", "exclude_vars", "monai_nvflare"),
}


def is_there(path: str) -> bool:
    """Whether a path is one of the repository; `NAME` stands for any, and overlays are named from `configs`."""
    patterns = (path, f"configs/{path}", f"configs/{path}.yaml")
    return any(next(ROOT.glob(pattern.replace("NAME", "*")), None) for pattern in patterns)


@functools.cache
def known_flags() -> set[str]:
    """Every key of the configs, and every flag of the commands of `bundle` and `benchmarks`."""
    sources = [path for path in CODE if path.suffix == ".py" and "scripts" not in path.relative_to(ROOT).parts]
    flags = {flag for path in sources for flag in re.findall(r"\"--([\w-]+)\"", path.read_text(encoding="utf-8"))}
    return flags | {key.name for key in config_keys()} | FLAGS_OF_OTHERS


@functools.cache
def known_words() -> set[str]:
    """Every word of the code and the configs, and the names of their files."""
    words = {word for path in CODE for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    return words | {path.stem for path in CODE} | WORDS_OF_OTHERS


def missing_names(text: str) -> list[str]:
    """Files, flags and names in code font of a page that the repository does not have."""
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    return [
        *(path for path in PATH.findall(text) if not is_there(path)),
        *(f"--{flag}" for flag in FLAG.findall(text) if flag not in known_flags()),
        *(word for word in WORD.findall(prose) if word not in known_words()),
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_key_and_name_of_the_code_on_a_page_is_there(path):
    assert missing_names(text_of(path)) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("pass `--generator_max_epochs 3` with options/cuda_graph", []),
        ("pass `--classifier_cuda_graph True`", ["--classifier_cuda_graph"]),
        ("see scripts/generator/noises.py, made by `configs/study.yaml`", ["scripts/generator/noises.py"]),
        ("lay `options/cuda_graphs.yaml` over it", ["options/cuda_graphs.yaml"]),
        ("`run_in_turns` and `run_by_turns(x)`", ["run_by_turns"]),
        ("    python -m monai.bundle run --config_file configs/quick.yaml", ["configs/quick.yaml"]),
    ],
)
def test_a_name_that_is_gone_is_named(text, missing):
    assert missing_names(text) == missing


def test_the_systems_that_the_code_runs_on_are_named_where_people_look():
    named = re.findall(r"Operating System :: (?:POSIX :: )?(\w+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert named == ["Linux", "MacOS"]
    for page in (ROOT / "README.md", DOCS / "getting-started" / "install.md"):
        assert "Linux or macOS" in page.read_text(encoding="utf-8")
