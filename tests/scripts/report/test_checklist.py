"""The checklist claims what the files of a run prove, and no more."""

from __future__ import annotations

import shutil

from scripts.evaluation.answers import group_answers, merge_predictions
from scripts.evaluation.metrics import compute_metrics
from scripts.evaluation.setups import compare_setups
from scripts.provenance.study_files import StudyFiles
from scripts.report.checklist import CLAIM, TRIPOD, checklist_sections
from scripts.report.checklist_evidence import AUTHOR, CLAIM_EVIDENCE, PART, RUN, parts_that_share_subjects
from scripts.running.files import read_json, write_json


def filled(folder, stages, name, **numbers):
    files = StudyFiles(str(folder), stages)
    predictions = merge_predictions(files.named("predictions.csv"))
    sections = checklist_sections(files, predictions, compute_metrics(predictions, 100), "Does it work?", **numbers)
    (section,) = [one for one in sections["checklists"] if one["name"] == name]
    return {row["number"]: row for row in section["rows"]}, section["counts"]


def checklist(folder, stages, comparisons=()):
    rows, counts = filled(folder, stages, "CLAIM 2024", numbers={"comparisons": comparisons, "seeds": []})
    return {int(number): row for number, row in rows.items()}, counts


def test_there_are_44_items_and_each_has_one_status(study):
    rows, counts = checklist(*study)
    assert list(rows) == list(range(1, 45))
    assert len({item for _, _, item in CLAIM}) == 44
    assert sum(counts.values()) == 44
    assert {row["status"] for row in rows.values()} == {RUN, PART, AUTHOR}
    assert all(bool(row["evidence"]) == (row["status"] != AUTHOR) for row in rows.values())


def test_what_no_file_can_tell_is_for_the_author(study):
    rows, _ = checklist(*study)
    for number in (2, 3, 5, 6, 11, 13, 15, 17, 18, 21, 34, 41, 43, 44):
        assert rows[number]["status"] == AUTHOR
    assert not {"2", "3", "5", "34", "41", "44"} & set(CLAIM_EVIDENCE)


def test_the_numbers_are_those_of_the_files(study):
    rows, _ = checklist(*study)
    assert rows[35]["evidence"].startswith("site_a: 40 in the cohort, 1 left out; site_b: 40")
    assert "10 test, 2 folds, seed 0" in rows[19]["evidence"]
    assert "torch 2.13.0" in rows[23]["evidence"]
    assert rows[25]["evidence"].startswith("8 generators and 8 classifiers trained")
    assert rows[31]["evidence"].startswith("LIME, Occlusion, GradCAM of single cases")
    assert "no grade in name_mapping.csv" in rows[8]["evidence"]


def test_the_ensemble_is_the_one_of_the_evaluation(study, tmp_path):
    rows, _ = checklist(*study)
    assert rows[27]["evidence"] == "Mean probability of the networks of all folds, in 4 setups."
    source, stages = study[0] / "site_a" / "evaluation_real", ["evaluation_real"]
    shutil.copytree(source, tmp_path / "evaluation_real")
    content = {**read_json(source / "metrics.json"), "ensemble": "vote", "temperatures": {"0": 0.8, "1": 1.234}}
    write_json(tmp_path / "evaluation_real" / "metrics.json", content)
    assert checklist(tmp_path, stages)[0][27]["evidence"] == (
        "Share of the votes of the networks of all folds, in 1 setups; logits divided by a temperature per fold,"
        " 0.80 to 1.23."
    )
    (tmp_path / "evaluation_real" / "metrics.json").unlink()
    assert checklist(tmp_path, stages)[0][27]["status"] == PART


def test_tests_of_significance_are_named_where_there_are_any(study):
    folder, stages = study
    predictions = merge_predictions(StudyFiles(str(folder), stages).named("predictions.csv"))
    comparisons, _ = compare_setups(group_answers(predictions), "real")
    row = checklist(folder, stages, comparisons)[0][29]
    assert row["status"] == RUN
    assert row["evidence"].endswith("to real: exact McNemar and DeLong, p corrected by Holm over all tests of a role.")
    row = checklist(folder, stages)[0][29]
    assert row["status"] == PART
    assert row["evidence"].endswith("Tests of significance: the author.")


def test_simulated_cohorts_are_no_testing_on_external_patients(study):
    rows, _ = checklist(*study)
    assert rows[33]["status"] == PART
    assert "simulated" in rows[33]["evidence"]
    assert "no evidence about patients" in rows[40]["evidence"]


def test_a_run_of_one_evaluation_claims_next_to_nothing(study):
    folder, _ = study
    rows, counts = checklist(folder, ["site_a/evaluation_real"])
    assert {number for number, row in rows.items() if row["status"] == RUN} == {23, 27, 28, 32, 33, 37}
    for number in (7, 9, 14, 19, 20, 25, 31, 35, 36):
        assert rows[number]["status"] == AUTHOR


def test_disjoint_parts_are_counted_and_not_believed(study, tmp_path):
    folder, stages = study
    splits = read_json(folder / "site_a" / "splits" / "splits.json")
    assert parts_that_share_subjects(splits) == []
    splits["folds"][0]["train"].append(splits["test"][0])
    assert parts_that_share_subjects(splits) == ["test and train of fold 0"]
    write_json(tmp_path / "splits" / "splits.json", splits)
    (tmp_path / "evaluation").mkdir()
    source = folder / "site_a" / "evaluation_real" / "predictions.csv"
    (tmp_path / "evaluation" / "predictions.csv").write_bytes(source.read_bytes())
    rows, _ = checklist(tmp_path, ["splits", "evaluation"])
    assert (rows[20]["status"], rows[20]["evidence"]) == (PART, "Not disjoint by subject: test and train of fold 0.")


def test_tripod_has_52_items_of_27_numbers(study):
    rows, counts = filled(*study, "TRIPOD+AI")
    assert len(rows) == len({item for _, _, item in TRIPOD}) == sum(counts.values()) == 52
    assert list(dict.fromkeys(int(number.rstrip("abcdefg")) for number in rows)) == list(range(1, 28))
    assert all(bool(row["evidence"]) == (row["status"] != AUTHOR) for row in rows.values())
    for number in ("2", "3a", "5b", "6c", "8b", "10", "14", "18a", "18d", "19", "27c"):
        assert rows[number]["status"] == AUTHOR


def test_what_was_computed_for_the_page_answers_items_of_both_lists(study, report):
    numbers, use = read_json(report / "comparisons.json"), read_json(report / "clinical_use.json")
    rows, _ = filled(*study, "TRIPOD+AI", numbers=numbers, use=use)
    assert rows["15"]["evidence"].endswith("chosen on the inner parts to reach a sensitivity of 0.9 for HGG.")
    power = next(row for row in numbers["power"] if row["role"] == numbers["role"])
    assert f"{power['n']} subjects (site_a → site_b): " in rows["10"]["evidence"]
    assert rows["6a"]["evidence"] == "site_a: 2 sites; site_b: 1 site. What they are: the author."
    assert rows["12d"]["status"] == rows["23b"]["status"] == PART
    assert rows["18c"]["status"] == AUTHOR  # no end point was declared
    assert "One seed." in rows["26"]["evidence"]
    claim, _ = filled(*study, "CLAIM 2024", numbers=numbers, use=use)
    assert claim["30"]["evidence"].startswith("Measured by enhancement, volume of the lesion; by ")
    declared = {"setup": "ddpm", "reference": "real", "measure": "auc", "is_declared_before": True}
    rows, _ = filled(*study, "TRIPOD+AI", numbers={**numbers, "primary": declared}, use=use)
    assert rows["18c"]["status"] == PART
    claim, _ = filled(*study, "CLAIM 2024", numbers={**numbers, "primary": declared}, use=use)
    assert "declared before the evaluations: AUC of ddpm against real" in claim["6"]["evidence"]
