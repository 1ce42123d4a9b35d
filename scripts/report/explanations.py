"""The sections of the report on single answers: the wrong ones with their masks, and maps over the anatomy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.explanations.pictures import METHOD_TITLES
from scripts.explanations.wrong_cases import WrongCases
from scripts.patches.pictures import data_uri
from scripts.provenance.study_files import StudyFiles
from scripts.report.words import ROLE_NAMES
from scripts.running.files import read_json

KIND_TITLES = {"surest": "Surest right answer", "wrong": "Most confidently wrong answer", "least_sure": "Least sure"}
KIND_WORDS = {"surest": "right", "wrong": "wrong", "least_sure": "unsure"}


def explanation_sections(files: StudyFiles) -> dict[str, Any]:
    """Arrange what the explanation stages left.

    Returns:
        Item of the template, `explanations`: one per stage with `direction`, `setup`, `role`, `modalities`, `cases`,
        `sanity`, `no_shares`, `without_case` (words) and `settings`.
    """
    return {"explanations": [_describe_stage(path, read_json(path)) for path in files.named("explanations.json")]}


def wrong_section(cases: WrongCases) -> dict[str, Any]:
    """Arrange the wrong cases for the template: `wrong`, what `WrongCases.describe` returns with roles in words."""
    tests = cases.describe()
    return {"wrong": [{**test, "role": ROLE_NAMES.get(test["role"], test["role"])} for test in tests]}


def _describe_stage(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "direction": content["direction"],
        "setup": content["setup"],
        "role": ROLE_NAMES.get(content["role"], content["role"]),
        "modalities": content["modalities"],
        "settings": content["settings"],
        "no_shares": list(dict.fromkeys(content["no_shares"].values())),
        "without_case": [KIND_WORDS[kind] for kind in content["kinds_without_case"]],
        "sanity": [{"method": METHOD_TITLES[name], **check} for name, check in content["sanity"].items()],
        "cases": [_describe_case(path.parent, case) for case in content["cases"]],
    }


def _describe_case(folder: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {"method": METHOD_TITLES[name], "fit": attribution["fit"], "shares": attribution["shares"]}
        for name, attribution in case["methods"].items()
        if attribution["shares"] is not None or attribution["fit"] is not None
    ]
    return {
        "title": KIND_TITLES[case["kind"]],
        "subject": f"{case['subject_id']} of {case['cohort']}",
        "label": case["label"],
        "answer": case["answer"],
        "probability": case["probabilities"][case["answer"]],
        "src": data_uri((folder / case["picture"]).read_bytes()),
        "rows": rows,
    }
