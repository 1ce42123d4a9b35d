"""The paper's own figures agree with each other and stand on the page as printed, with their source."""

from __future__ import annotations

import re
from html import unescape

from scripts.report.page import render_part
from scripts.report.published import COHORTS, FIGURES, SOURCE, published_section
from scripts.report.words import SETUP_NAMES


def test_the_grades_of_each_cohort_add_up_to_its_subjects():
    cohorts = re.findall(r"(\d+) subjects \((\d+) LGG, (\d+) HGG\)", COHORTS)
    assert [int(low) + int(high) for _, low, high in cohorts] == [int(subjects) for subjects, _, _ in cohorts]
    assert len(cohorts) == 2


def test_no_figure_stands_twice_and_every_setup_has_a_name():
    keys = [(figure.setup, figure.direction, figure.measure) for figure in FIGURES]
    assert len(keys) == len(set(keys))
    assert {figure.setup for figure in FIGURES} <= set(SETUP_NAMES)


def test_shares_are_shares_and_no_spread_is_negative():
    shares = [figure for figure in FIGURES if figure.measure in ("accuracy", "weighted F1")]
    assert shares
    assert all(0 <= figure.value <= 1 for figure in shares)
    assert all(figure.spread > 0 for figure in FIGURES if figure.spread is not None)


def test_every_figure_stands_on_the_page_with_its_source():
    html = unescape(render_part("published.html.j2", {"published": published_section()}))
    assert SOURCE in html
    assert COHORTS in html
    assert html.count("<tr>") == 1 + len(FIGURES)
