"""The paper's own figures agree with each other and stand on the page as printed, with their source."""

from __future__ import annotations

import re
from html import unescape

import pytest

from scripts.provenance.task import GLIOMA
from scripts.report.page import render_part
from scripts.report.published import MOSHE, PUBLICATIONS, publications, published_section
from scripts.report.words import SETUP_NAMES


def test_the_grades_of_each_cohort_add_up_to_its_subjects():
    cohorts = re.findall(r"(\d+) subjects \((\d+) LGG, (\d+) HGG\)", PUBLICATIONS[MOSHE].data)
    assert [int(low) + int(high) for _, low, high in cohorts] == [int(subjects) for subjects, _, _ in cohorts]
    assert len(cohorts) == 2


FIGURES = [figure for paper in PUBLICATIONS.values() for figure in paper.figures]


def test_no_figure_stands_twice_and_every_setup_has_a_name():
    keys = [(figure.setup, figure.direction, figure.measure) for figure in FIGURES]
    assert len(keys) == len(set(keys))
    assert {figure.setup for figure in FIGURES} <= set(SETUP_NAMES)


def test_shares_are_shares_and_no_spread_is_negative():
    shares = [figure for figure in FIGURES if figure.measure.startswith(("accuracy", "weighted F1"))]
    assert shares
    assert all(0 <= figure.value <= 1 for figure in shares)
    assert all(figure.spread > 0 for figure in FIGURES if figure.spread is not None)


@pytest.mark.parametrize("names", [GLIOMA.published, ("nafi_2024_leukemia",), tuple(PUBLICATIONS)])
def test_every_figure_stands_on_the_page_with_its_source(names):
    html = unescape(render_part("published.html.j2", {"published": published_section(names, [])}))
    papers = [PUBLICATIONS[name] for name in names]
    assert all(paper.reference in html and paper.data in html and paper.remark in html for paper in papers)
    assert html.count("<tr>") == sum(1 + len(paper.figures) for paper in papers)


def test_a_study_of_something_else_has_no_figures_beside_it():
    assert render_part("published.html.j2", {"published": published_section([], [])}).strip() == ""
    with pytest.raises(ValueError, match="task_published must hold names of moshe_2025_glioma, nafi_2024_leukemia"):
        publications(["moshe"])


def test_a_figure_of_the_study_stands_beside_the_published_one():
    row = {"setup": "synthetic_only", "role": "locked_test", "cohort": "ours", "measure": "accuracy", "n": 50}
    rows = [{**row, "value": 0.875, "low": 0.8, "high": 0.9}, {**row, "role": "out_of_fold", "value": 0.123}]
    html = unescape(render_part("published.html.j2", {"published": published_section(["nafi_2024_leukemia"], rows)}))
    assert re.search(r">\.9138</td><td class=\"n\">\.875<span class=\"ci\">\.80 to \.90, ours, n = 50</span>", html)
    assert ".123" not in html
