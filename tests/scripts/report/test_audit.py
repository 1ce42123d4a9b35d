from __future__ import annotations

import shutil

import pytest

from scripts.memorization.verdict import MEMORIZES, NO_SIGN, TOO_FEW
from scripts.provenance.study_files import StudyFiles
from scripts.report.audit import audit_section, pool
from scripts.report.page import render_part
from scripts.running.files import read_json, write_json


def result(verdict=NO_SIGN, copies=0, gap=(0.1, 0.0, 0.2), c_t=-1.0, held_out=(0.5, 0.7)):
    measure = {
        "synthetic_to_training": {"values": [0.4, 0.6]},
        "held_out_to_training": {"values": list(held_out)} if held_out else None,
        "train_minus_held_out": dict(zip(("mean", "low", "high"), gap, strict=True)) if gap else None,
        "auth_pct": 80.0,
        "held_out_auth_pct": 60.0 if held_out else None,
        "c_t": c_t,
    }
    shares = {"whole image": {"value": 0.9, "chance": 0.75}} if held_out else {}
    figures = {
        "num_synthetic": 50,
        "shares": shares,
        "copies": {"number": copies},
        "verdict": verdict,
        "evidence": ["Said so."],
    }
    return {**figures, "measures": {"pearson": measure, "aligned": measure}}


def test_folds_are_pooled_and_the_gravest_verdict_stands():
    pooled = pool([result(), result(MEMORIZES, copies=3, gap=(0.3, 0.2, 0.4), c_t=-4.0), result(TOO_FEW)])
    assert (pooled["verdict"], pooled["is_grave"]) == (MEMORIZES, True)
    assert pooled["verdicts"] == {MEMORIZES: 1, TOO_FEW: 1, NO_SIGN: 1}
    assert (pooled["copies"], pooled["num_synthetic"]) == (3, 150)
    assert pooled["membership"] is None
    assert pooled["synthetic"]["mean"] == pytest.approx(0.5)
    assert pooled["c_t"] == (-4.0, -1.0)
    assert pooled["share"] == pytest.approx({"value": 0.9, "chance": 0.75})
    assert pooled["gap"]["mean"] == pytest.approx(0.5 / 3)
    assert pooled["gap"]["high"] - pooled["gap"]["mean"] == pytest.approx(0.1 * 3**0.5 / 3)


def test_folds_that_are_compared_with_the_same_subjects_count_them_once_and_get_wide_limits():
    pooled = pool([result(), result(gap=(0.3, 0.2, 0.5))], same_held_out=True)
    assert pooled["gap"] == pytest.approx({"mean": 0.2, "low": 0.1, "high": 0.35})
    assert (pooled["held_out"]["n"], pooled["synthetic"]["n"]) == (2, 4)


def test_whether_the_folds_hold_out_the_same_subjects_is_read_from_the_audits(study, tmp_path):
    folder, _ = study
    stages = [f"site_a/fold{fold}/audit_LGG_ddpm" for fold in range(2)]
    widths = {}
    for part in ("validation", "test"):
        for name in stages:
            content = {**read_json(folder / stages[0] / "audit.json"), "held_out_part": part}
            write_json(tmp_path / name / "audit.json", content)
        (row,) = audit_section(StudyFiles(str(tmp_path), stages))["rows"]
        widths[part] = row["gap"]["high"] - row["gap"]["low"]
    assert widths["test"] == pytest.approx(2**0.5 * widths["validation"])


def test_without_held_out_images_the_baselines_are_left_open():
    pooled = pool([result(TOO_FEW, gap=None, c_t=None, held_out=None)])
    assert (
        pooled["held_out"] is pooled["share"] is pooled["gap"] is pooled["c_t"] is pooled["held_out_auth_pct"] is None
    )
    assert (pooled["verdict"], pooled["is_grave"]) == (TOO_FEW, False)


def test_the_report_shows_verdicts_evidence_and_pairs(study, tmp_path):
    folder, stages = study
    names = [name for name in stages if "/audit_" in name]
    for name in names:
        shutil.copytree(folder / name, tmp_path / name)
    path = tmp_path / "site_a/fold0/audit_LGG_ddpm/audit.json"
    content = read_json(path)
    content["classes"]["LGG"] |= {"verdict": MEMORIZES, "evidence": ["3 of 8 images are copies."]}
    content["classes"]["LGG"]["copies"]["number"] = 3
    content["classes"]["LGG"]["membership"] = {"auc": {"value": 0.873, "low": 0.7, "high": 1.0}}
    write_json(path, content)
    section = audit_section(StudyFiles(str(tmp_path), names))
    assert section["pictures"][0]["title"] == "site_a, fold 0, audit LGG ddpm"
    assert len(section["rows"]) == 2 * 2 * 2
    html = render_part("audit.html.j2", {"audit": section})
    for words in (
        'grave">memorizes',
        "3 of 8 images are copies.",
        "The same of real held-out images",
        "AuthPct",
        ">.87<",
    ):
        assert words in html
    assert html.count('alt="most suspicious pairs') == 4


def test_a_study_without_synthetic_images_has_no_audit(tmp_path):
    assert audit_section(StudyFiles(str(tmp_path), [])) == {
        "rows": [],
        "evidence": {},
        "pictures": [],
        "copy_ratio": None,
        "center": "lesion",
        "has_membership": False,
    }
