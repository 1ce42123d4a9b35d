from __future__ import annotations

import base64

import pytest

from scripts.explanations.attributions import NO_SHARES, TOGETHER, Attributor
from scripts.provenance.study_files import StudyFiles
from scripts.report.explanations import KIND_TITLES, explanation_sections
from scripts.running.files import read_json, write_json


def test_every_case_is_shown_with_its_picture_and_the_shares_of_the_methods_that_have_them(study):
    folder, stages = study
    sections = explanation_sections(StudyFiles(str(folder), stages))["explanations"]
    assert [section["direction"] for section in sections] == ["site_a", "site_b"]
    for section in sections:
        assert section["role"] == "other cohort (ensemble)"
        assert [case["title"] for case in section["cases"]] == list(KIND_TITLES.values())
        for case in section["cases"]:
            assert base64.b64decode(case["src"].partition(",")[2]).startswith(b"\x89PNG")
            assert [row["method"] for row in case["rows"]] == ["LIME", "Occlusion"]
            assert all(sum(row["shares"].values()) == pytest.approx(1) for row in case["rows"])
        assert [row["method"] for row in section["sanity"]] == ["LIME", "Occlusion", "GradCAM"]


def test_a_kind_without_a_case_is_said(study, tmp_path):
    folder, _ = study
    content = read_json(folder / "site_a" / "explain_real" / "explanations.json")
    write_json(tmp_path / "explain" / "explanations.json", {**content, "cases": [], "kinds_without_case": ["wrong"]})
    section = explanation_sections(StudyFiles(str(tmp_path), ["explain"]))["explanations"][0]
    assert section["without_case"] == ["wrong"]


def test_a_run_that_explains_nothing_has_no_section():
    assert explanation_sections(StudyFiles("nowhere", [])) == {"explanations": []}


def test_methods_that_cover_all_colors_at_once_show_their_fit_and_say_so_once(study, tmp_path):
    folder, _ = study
    content = read_json(folder / "site_a" / "explain_real" / "explanations.json")
    for case in content["cases"]:
        case["picture"] = str(folder / "site_a" / "explain_real" / case["picture"])
        for method, fit in (("lime", 0.9), ("occlusion", None)):
            case["methods"][method] |= {"shares": None, "fit": fit}
    content["no_shares"] = Attributor(channels_together=True).no_shares
    write_json(tmp_path / "explain" / "explanations.json", content)
    section = explanation_sections(StudyFiles(str(tmp_path), ["explain"]))["explanations"][0]
    assert section["no_shares"] == [TOGETHER, NO_SHARES]
    assert all([(row["method"], row["fit"]) for row in case["rows"]] == [("LIME", 0.9)] for case in section["cases"])
