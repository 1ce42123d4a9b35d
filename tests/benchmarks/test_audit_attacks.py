"""A small version of the attack table: sizes and seeds of its own."""

from __future__ import annotations

import pytest
import torch

from benchmarks.audit_attacks import ATTACKS, SIZES, attack_draw, draw_patients, table
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
    return dict(attack_draw(draw, NAMES, 0, MemorizationAudit(num_permutations=1)))


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_gets_the_verdict_that_it_deserves(verdicts, name):
    everybody, *few = verdicts[name]
    assert everybody == ATTACKS[name].verdict
    assert len(few) == ATTACKS[name].few
    assert set(few) <= {ATTACKS[name].verdict} or name in MISSED_AMONG_OTHERS


def test_the_table_counts_what_is_right_and_lists_what_is_not():
    rows = [
        {"size": list(SIZES[0]), "draw": number, "attack": "exact", "verdicts": [verdict, "memorizes"]}
        for number, verdict in enumerate(["memorizes", "unusable"])
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| exact | memorizes | 1 of 2 | – | – | – | – | 1 x unusable |"
    assert lines[3].startswith("| 5 of 60: exact | memorizes | 2 of 2 |")
    assert len(lines) == 4
