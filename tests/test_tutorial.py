"""The notebook, cell by cell in this process, with the smallest study in place of its own."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import bundle.__main__
from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.stages import run_invocation
from tests.helpers import ROOT, TINY

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
CELLS = read_json(NOTEBOOK)["cells"]


def shell(command: str) -> None:
    """Do what a line after `!` does, without the seconds that another process takes to import MONAI."""
    python, dash_m, module, *arguments = shlex.split(command.replace("\\\n", " "))
    assert (python, dash_m) == (sys.executable, "-m")
    if module == "monai.bundle":
        invocation = Invocation.from_command_line(["monai/bundle/__main__.py", *arguments])
        assert invocation is not None
        run_invocation(invocation)
    else:
        assert module == "bundle"
        bundle.__main__.main(arguments)


def python_of(cell: dict) -> str:
    """Write a cell's lines after `!` as calls of `shell`, names in braces filled in as IPython does."""
    commands = re.compile(r"(?m)^!((?:.*\\\n)*.*)$")
    return commands.sub(lambda line: f"shell(f{json.dumps(line[1])})", "".join(cell["source"]))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict]:
    root = tmp_path_factory.mktemp("tutorial")
    displayed: list[str] = []
    ipython = ModuleType("IPython.display")
    ipython.Image = lambda filename, width=None: Path(filename)
    ipython.display = lambda image: displayed.append(image.name if image.read_bytes()[:4] == b"\x89PNG" else "?")
    recipe = root / "recipe.yaml"
    tiny = Path(TINY).read_text(encoding="utf-8").replace("generator_condition: null", "generator_condition: label")
    recipe.write_text(f"{tiny}explained_setups: []\n", encoding="utf-8")
    names = {"shell": shell}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "IPython", SimpleNamespace(display=ipython, version_info=(9, 0)))
        patch.setitem(sys.modules, "IPython.display", ipython)
        patch.chdir(ROOT)
        for cell in CELLS:
            if "parameters" in cell["metadata"].get("tags", []):
                names.update(recipe=str(recipe), root=root, workers=1)
            elif cell["cell_type"] == "code":
                exec(python_of(cell), names)
    return root, displayed, names


def test_the_study_ends_in_a_report_about_its_three_setups(executed):
    report = executed[0] / "study" / "report"
    setups = {row["setup"] for row in read_json(report / "metrics.json")}
    assert setups == {"real", "ddpm", "pca_gaussian"}


def test_every_picture_is_there(executed):
    assert executed[1] == ["contact_sheet.png", "place.png", "explanation.png", "suspicious_pairs.png"]


def test_a_patient_is_graded(executed):
    assert sum(executed[2]["answer"]["probabilities"].values()) == pytest.approx(1)


def test_the_copies_are_what_the_audit_suspects(executed):
    (result,) = read_json(executed[0] / "audit" / "audit.json")["classes"].values()
    assert result["verdict"] == "memorizes"


def test_what_the_notebook_printed_names_no_path_of_a_machine_and_no_error():
    outputs = [output for cell in CELLS if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert not re.search(r"/(home|tmp|work|Users|root)/", json.dumps(outputs))
    assert NOTEBOOK.stat().st_size < 1_000_000
