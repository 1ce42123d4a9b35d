from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.answers import (
    ROLES,
    aligned,
    group_answers,
    main_role,
    merge_predictions,
    refuse_other_subjects,
)
from scripts.running.files import write_csv
from tests.fake_study import COLUMNS
from tests.predictions import prediction_row, prediction_rows

SUBJECTS = [f"s{index:03d}" for index in range(40)]


def answers(**options):
    return group_answers(prediction_rows(**options))


def splits(test=(), validation=()):
    return {"test": list(test), "folds": [{"train": [], "inner": [], "validation": list(validation)}]}


def test_rows_become_arrays_of_one_setup_and_test():
    real, ddpm, _ = answers()
    assert (real.setup, ddpm.setup, real.title) == ("real", "ddpm", "a -> b, external")
    assert real.n_by_class == [12, 28]
    assert real.probabilities.sum(axis=1) == pytest.approx(np.ones(40))
    assert (real.right == (real.probabilities.argmax(axis=1) == real.labels)).all()
    assert np.isfinite(real.volumes_ml).all()


def test_a_volume_or_a_site_that_is_not_known_is_not_invented():
    rows = prediction_rows()
    rows[0] |= {"lesion_volume_ml": "", "site": ""}
    real = group_answers(rows)[0]
    assert np.isnan(real.volumes_ml[0])
    assert real.sites[0] == "not stated"


def test_a_patient_has_the_mean_of_the_scans_and_an_entry_for_each_class():
    rows = [
        prediction_row("BraTS-GLI-00001-000", "LGG", 0.2, site="X", lesion_volume_ml="10"),
        prediction_row("other", "HGG", 0.9, lesion_volume_ml=""),
        prediction_row("BraTS-GLI-00001-001", "LGG", 0.4, site="Y", lesion_volume_ml="20"),
        prediction_row("BraTS-GLI-00001-002", "HGG", 0.6),
    ]
    (real,) = group_answers(rows)
    assert (real.n, real.labels.tolist(), real.sites[0]) == (3, [0, 1, 1], "X")
    assert real.probabilities[:, 1] == pytest.approx([0.3, 0.9, 0.6])
    assert real.volumes_ml == pytest.approx([15, np.nan, 0], nan_ok=True)
    assert len(real.subject_ids) == 4


def test_aligned_answers_are_in_the_order_of_the_reference():
    rows = prediction_rows()
    real, ddpm, _ = group_answers(rows)
    shuffled = group_answers([*rows[:40], *rows[79:39:-1]])[1]
    assert shuffled.subject_ids != real.subject_ids
    assert (aligned(shuffled, real).probabilities == ddpm.probabilities).all()


def test_setups_tested_on_other_subjects_are_refused():
    real, ddpm, _ = group_answers(prediction_rows()[:-1])[:3]
    short = group_answers(prediction_rows()[:-1])[2]
    assert aligned(ddpm, real).subject_ids == real.subject_ids
    with pytest.raises(ValueError, match="got s039 in only one of ddpm_mi and real"):
        aligned(short, real)


def test_setups_that_disagree_on_the_class_of_a_subject_are_refused():
    rows = prediction_rows()
    rows[45]["label"] = "HGG"
    real, ddpm, _ = group_answers(rows)
    with pytest.raises(ValueError, match="must agree on the classes, got other ones in ddpm and real for s005"):
        aligned(ddpm, real)


@pytest.mark.parametrize(
    ("role", "held_out", "message"),
    [
        ("locked_test", splits(test=SUBJECTS[:-1]), "got too many: s039"),
        ("locked_test", splits(test=[*SUBJECTS, "s040"]), "got missing: s040"),
        ("out_of_fold", splits(validation=SUBJECTS[1:]), "got too many: s000"),
        ("out_of_fold", splits(validation=[*SUBJECTS, "s040"]), "got missing: s040"),
        ("out_of_fold", {"test": [], "folds": []}, "got fold 0 of 0"),
    ],
)
def test_predictions_of_other_subjects_than_the_splits_are_refused(role, held_out, message):
    with pytest.raises(ValueError, match=message):
        refuse_other_subjects(answers(role=role)[0], held_out, None)


@pytest.mark.parametrize("role", ["out_of_fold", "validation_selected_on"])
def test_a_subject_that_another_fold_held_out_is_refused(role):
    rows = [{**row, "fold": str(index % 2)} for index, row in enumerate(prediction_rows({"real": 1.0}, role=role))]
    folds = [{"train": [], "inner": [], "validation": SUBJECTS[fold::2]} for fold in (0, 1)]
    refuse_other_subjects(group_answers(rows)[0], {"test": [], "folds": folds}, None)
    rows[4]["fold"] = "1"
    with pytest.raises(ValueError, match=r"all held-out subjects of fold 0 of splits.json, got missing: s004"):
        refuse_other_subjects(group_answers(rows)[0], {"test": [], "folds": folds}, None)
    rows[5]["fold"] = "0"
    with pytest.raises(ValueError, match=r"the held-out subjects of fold 0 of splits.json, got too many: s005"):
        refuse_other_subjects(group_answers(rows)[0], {"test": [], "folds": folds}, None)


def test_predictions_of_a_stranger_to_the_other_cohort_are_refused():
    with pytest.raises(ValueError, match=r"must be of subjects of patches.json, got too many: s039"):
        refuse_other_subjects(answers()[0], None, SUBJECTS[:-1])


def test_predictions_of_the_held_out_subjects_pass():
    refuse_other_subjects(answers()[0], None, [*SUBJECTS, "ungraded"])
    refuse_other_subjects(answers(role="locked_test")[0], splits(test=SUBJECTS), None)
    refuse_other_subjects(answers(role="out_of_fold")[0], splits(validation=SUBJECTS), None)
    refuse_other_subjects(answers(role="out_of_fold")[0], None, None)


def test_a_file_without_predictions_is_refused_by_name(tmp_path):
    write_csv(tmp_path / "one.csv", [prediction_row("a", "LGG", 0.2)], COLUMNS)
    for text in ("", ",".join(COLUMNS) + "\n"):
        (tmp_path / "two.csv").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"two.csv must hold a row for each subject, got none; run"):
            merge_predictions([tmp_path / "one.csv", tmp_path / "two.csv"])


def test_a_subject_predicted_twice_is_refused(tmp_path):
    for name in ("one.csv", "two.csv"):
        write_csv(tmp_path / name, [prediction_row("a", "LGG", 0.2)], COLUMNS)
    with pytest.raises(ValueError, match="got 'a' twice"):
        merge_predictions([tmp_path / "one.csv", tmp_path / "two.csv"])


def test_predictions_of_other_classes_are_refused(tmp_path):
    write_csv(tmp_path / "one.csv", [prediction_row("a", "LGG", 0.2)], COLUMNS)
    write_csv(tmp_path / "two.csv", [{"direction": "A", "probability_x": 1.0}], ["direction", "probability_x"])
    with pytest.raises(ValueError, match="must have the columns"):
        merge_predictions([tmp_path / "one.csv", tmp_path / "two.csv"])


def test_a_study_without_evaluations_is_refused():
    with pytest.raises(ValueError, match="run configs/evaluate.yaml"):
        merge_predictions([])


@pytest.mark.parametrize(
    ("roles", "main"),
    [
        (ROLES, "external"),
        (("out_of_fold", "locked_test"), "locked_test"),
        (("validation_selected_on", "out_of_fold"), "out_of_fold"),
        (("validation_selected_on",), "validation_selected_on"),
    ],
)
def test_a_study_is_about_the_most_distant_subjects_that_it_tested(roles, main):
    assert main_role([{"role": role} for role in roles]) == main


def test_setups_that_disagree_on_who_is_one_patient_are_refused():
    rows = [{**row, "patient_id": row["subject_id"]} for row in prediction_rows()]
    for row in rows[:2]:  # of the first setup
        row["patient_id"] = "P1"
    real, ddpm, _ = group_answers(rows)
    with pytest.raises(ValueError, match="another patient_id in ddpm and real for s000, s001"):
        aligned(ddpm, real)
