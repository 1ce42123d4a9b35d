"""A small version of the attack table: sizes and seeds of its own."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import audit_attacks
from benchmarks.audit_attacks import ATTACKS, SIZES, attack_draw, draw_patients, main, rows_of, table
from benchmarks.phantom_patches import phantom_patches
from scripts.memorization.audit import MemorizationAudit

SIZE = (18, 7)
NAMES = [
    "honest",
    "rotation 15",
    "elastic 4 mm",
    "one modality",
    "lesion",
    "collage 4 x 4",
    "held-out, rotation 7",
    "smooth noise 2 px",
    "mean image + noise .1",
]
# Five such images among honest ones: their small blocks name nobody.
MISSED_AMONG_OTHERS = {"collage 4 x 4"}


@pytest.fixture(scope="module")
def verdicts():
    pool = phantom_patches(55, seed=11, patch_size=24, matrix_size=(60, 60, 16))
    draw = draw_patients(pool, *SIZE, seed=0, num_images=30)
    everybody = torch.cat([draw.training, draw.held_out, draw.fresh])
    assert len(everybody.flatten(1).unique(dim=0)) == 55
    return dict(attack_draw(draw, rows_of(NAMES, "both"), 0, MemorizationAudit(num_permutations=1)))


@pytest.mark.parametrize("row", rows_of(NAMES, "both"), ids=lambda row: row.title)
def test_a_generator_gets_the_verdict_that_it_deserves(verdicts, row):
    assert verdicts[row] == ATTACKS[row.attack].verdict or (row.is_few and row.attack in MISSED_AMONG_OTHERS)


def test_the_table_counts_what_is_right_and_lists_what_is_not():
    rows = [
        {"size": list(SIZES[0]), "attack": "exact", "is_few": is_few, "verdict": verdict}
        for is_few, verdict in ((False, "memorizes"), (False, "unusable"), (True, "memorizes"), (True, "memorizes"))
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| exact | memorizes | 1 of 2 | – | – | – | – | 1 x unusable |"
    assert lines[3].startswith("| 5 of 60: exact | memorizes | 2 of 2 |")
    assert len(lines) == 4


def test_a_part_of_the_table_is_made_and_gone_on_with(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(audit_attacks, "phantom_patches", lambda *_: phantom_patches(17, 12, 24, (60, 60, 16)))
    monkeypatch.setattr(audit_attacks, "draw_patients", lambda pool, *_: draw_patients(pool, 6, 3, 0, num_images=8))
    part = ["--output", str(tmp_path), "--attacks", "exact", "--images", "few", "--size", "15", "8", "--patients", "17"]
    main([*part, "--draws", "1"])
    assert "| 5 of 60: exact | memorizes | 1 of 1 |" in capsys.readouterr().out
    (line,) = (tmp_path / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["seconds"] > 0
    main([*part, "--draws", "1", "--seconds", "0"])
    assert (tmp_path / "verdicts.jsonl").read_text(encoding="utf-8").splitlines() == [line]
