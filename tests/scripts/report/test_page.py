from __future__ import annotations

import csv
import re
import shutil

import pytest
import yaml

from scripts.evaluation.answers import merge_predictions
from scripts.provenance.study_files import StudyFiles
from scripts.report.page import check_report
from scripts.report.words import format_p
from scripts.running.files import read_csv, read_json, write_csv, write_json
from tests.fake_study import COLUMNS, SETUPS
from tests.helpers import ROOT
from tests.ring_or_blob import messages


def test_the_report_fetches_nothing(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', html)
    assert addresses
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert "<script" not in html


def test_the_report_holds_every_section(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    for words in (
        "Simulated images",
        "Balanced accuracy",
        "site_a → site_b",
        "other cohort (ensemble)",
        "locked test (ensemble)",
        "out of fold",
        "no grade in name_mapping.csv",
        "DDPM + MI",
        "Max-Pearson",
        "resnet10 trained on the fold&#39;s real images",
        "Not measured: recall needs at least 6 synthetic images",
        "The paper’s own figures",
        "McNemar p",
        "could be found with a power of 80 %",
        "One seed:",
        "ECE by chance",
        "site_b → site_a, by site",
        "site_a → site_b: all subjects are of one site (B), whose figures are those above.",
        "split once, by patient, into",
        "(Lyon, Oslo)",
        "Rank-biserial effect",
        "torch 2.13.0",
        "Most confidently wrong answer",
        "Sanity check",
        "What an answer is worth",
        "Decision curves: hits less false alarms",
        "TRIPOD+AI",
        "CLAIM 2024",
        "Tejani et al. 2024",
    ):
        assert words in html
    assert html.count('class="pictures"') == 2 * 2 * 3  # cohorts, classes, real and two methods
    assert html.count("<svg") == 2 + 2 + 4 + 4 + 8 + 8  # intervals, forests, ROC and reliability, use, trainings


def test_the_methods_state_the_weight_of_the_regularizer_and_both_cohorts(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    assert "<tr><th>mi_weight</th><td>–</td><td>0.1</td></tr>" in html
    assert "<tr><th>phantom_site</th><td>A</td><td>B</td></tr>" in html


def test_a_study_resumed_with_another_version_names_both(study, tmp_path, write_report):
    folder, _ = study
    names = [f"site_a/evaluation_{setup}" for setup in ("real", "ddpm")]
    for name in names:
        shutil.copytree(folder / name, tmp_path / name)
    path = tmp_path / names[1] / "stage.json"
    write_json(path, {**read_json(path), "versions": {"python": "3.11.0", "torch": "2.9.0", "monai": "1.6.1"}})
    html = (write_report((tmp_path, names)) / "report.html").read_text(encoding="utf-8")
    assert html.count("torch 2.13.0 and 2.9.0") == 2  # methods, and item 23 of the checklist


def test_the_same_study_gives_the_same_bytes_whatever_the_order_of_its_evaluations(study, report, write_report):
    folder, stages = study
    again = write_report((folder, stages), "again")
    shuffled = merge_predictions(StudyFiles(str(folder), stages[::-1]).named("predictions.csv"))
    assert (again / "report.html").read_bytes() == (report / "report.html").read_bytes()
    assert (again / "predictions.csv").read_bytes() == (report / "predictions.csv").read_bytes()
    assert shuffled == read_csv(report / "predictions.csv")


def test_predictions_are_copied_as_text(study, report):
    folder, _ = study
    with (folder / "site_a" / "evaluation_real" / "predictions.csv").open(encoding="utf-8") as stream:
        original = {tuple(row) for row in csv.reader(stream)}
    with (report / "predictions.csv").open(encoding="utf-8") as stream:
        assert original <= {tuple(row) for row in csv.reader(stream)}


def test_another_seed_stands_beside_the_intervals(study, tmp_path, write_report):
    folder, _ = study
    stages = ["site_a/evaluation_real", "site_a/evaluation_ddpm"]
    for seed in range(3):
        for stage in stages:
            path = shutil.copytree(folder / stage, tmp_path / str(seed) / stage) / "stage.json"
            write_json(path, {**read_json(path), "identity": {**read_json(path)["identity"], "seed": seed}})
    write_report((tmp_path / "0", stages), other_seed_dirs=[str(tmp_path / "1"), str(tmp_path / "2")])
    html = (tmp_path / "0" / "report" / "report.html").read_text(encoding="utf-8")
    numbers = read_json(tmp_path / "0" / "report" / "comparisons.json")
    assert "between 3 seeds" in html
    assert "One seed:" not in html
    assert all(row["sd"] < 1e-15 for row in [*numbers["seeds"], *numbers["seed_differences"]])
    assert len(numbers["seed_differences"]) == 3
    assert "Differences from “Real images only” on the same patients." in html
    assert "Over 3 trainings and over patients, of 3 differences, not corrected for their number," in html


def test_images_that_measured_below_a_gate_are_called_unfinished_above_the_samples_and_in_the_first_lines(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    words = "By measurement, images of DDPM (4 of 4 sets) are unfinished: their label AUC is below .80 or"
    assert html.count(words) == 2
    assert words in (report / "summary.txt").read_text(encoding="utf-8").replace("\n", " ")
    assert "label AUC 0.70 is below the gate 0.8; real images reach 0.90" in html


def test_the_summary_has_a_line_for_each_setup_and_the_path_of_the_report(report):
    lines = (report / "summary.txt").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("") + 1 :]
    assert [line.split()[0] for line in table[2:6]] == list(SETUPS)
    assert all(len(line.split()) == 9 for line in table[2:6])
    assert lines[-1] == f"Report: {report / 'report.html'}"


def test_the_page_and_the_summary_begin_with_the_same_result_in_words(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    paragraph = re.search(r'<p class="findings">(.*?)</p>', html)[1]
    summary = (report / "summary.txt").read_text(encoding="utf-8").split("\n\n")[0].replace("\n", " ")
    assert paragraph == summary
    assert paragraph.startswith("Of 6 comparisons with “Real images only” (3 setups on another cohort, 2 directions), ")
    assert html.index(paragraph) < html.index("<table")


def test_a_study_of_one_cohort_shows_its_locked_test_and_then_its_folds(study, tmp_path, write_report):
    folder, stages = study
    shutil.copytree(folder / "site_a", tmp_path / "site_a")
    for path in tmp_path.glob("site_a/evaluation_*/predictions.csv"):
        write_csv(path, [row for row in read_csv(path) if row["role"] != "external"], COLUMNS)
    own = [name for name in stages if name.startswith("site_a/")]
    html = (write_report((tmp_path, own), "locked") / "report.html").read_text(encoding="utf-8")
    assert "Tested on patients of the same cohort, set aside before training" in html
    assert "No evaluation on another cohort was made" in html
    assert "site_a → site_a" not in html
    assert html.count('<td style="background:') == 4 * 4  # measures, setups
    assert html.count("<svg") == 2 + 2 + 2 + 2 + 4 + 4  # intervals, forests, ROC and reliability, use, trainings
    lines = (tmp_path / "locked" / "summary.txt").read_text(encoding="utf-8").split("\n\n")
    assert "3 comparisons with “Real images only” (3 setups on the locked test part)" in lines[0].replace("\n", " ")
    assert lines[1].splitlines()[0].split() == ["site_a,", "locked", "test", "(n", "=", "10)"]
    assert [line.split()[0] for line in lines[1].splitlines()[2:]] == list(SETUPS)
    for path in tmp_path.glob("site_a/evaluation_*/predictions.csv"):
        write_csv(path, [row for row in read_csv(path) if row["role"] == "out_of_fold"], COLUMNS)
    folds = write_report((tmp_path, [name for name in own if "evaluation" in name]), "folds")
    assert "Tested on the fold that was left out" in (folds / "report.html").read_text(encoding="utf-8")
    assert "site_a, out of fold (n = 30)" in (folds / "summary.txt").read_text(encoding="utf-8")


def test_a_study_of_several_classifiers_has_a_table_of_them_and_compares_each_with_its_own_reference(
    study, tmp_path, write_report
):
    folder, _ = study
    names = {"real": "real~thin", "augmentation": "real~deep", "ddpm": "ddpm~thin", "ddpm_mi": "ddpm~deep"}
    stages = []
    for setup, name in names.items():
        stages.append(f"site_a/evaluation_{name}")
        shutil.copytree(folder / f"site_a/evaluation_{setup}", tmp_path / stages[-1])
        for path in (tmp_path / stages[-1]).glob("*predictions.csv"):
            write_csv(path, [{**row, "setup": name} for row in read_csv(path)], COLUMNS)
        record = read_json(tmp_path / stages[-1] / "stage.json")
        place = {"cohort": "site_a", "setup": name, "classifier": name.partition("~")[2]}
        write_json(tmp_path / stages[-1] / "stage.json", {**record, "belongs_to": place})
    out = write_report((tmp_path, stages), "several", report_num_wrong_cases=1)
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count("<h2>Every setup with every classifier</h2>") == 1
    assert "Against “Real images only” of the same classifier, after Holm’s correction for 4 tests" in html
    assert "Every setup was trained with each of 2 classifiers (deep, thin)" in html
    assert "Is a setup better than “Real images only, same classifier”?" in html
    rows = read_json(out / "comparisons.json")["comparisons"]
    pairs = {(row["setup"], row["reference"]) for row in rows}
    assert pairs == {("ddpm~thin", "real~thin"), ("ddpm~deep", "real~deep")}
    figures = html.count("<svg")
    assert figures == 2 + 2 + 2 * (2 + 2)  # intervals, forests, and of each classifier ROC, reliability, use
    assert "Real images only, deep" in re.search('<section id="wrong">(.*?)</section>', html, re.DOTALL)[1]
    words = (out / "summary.txt").read_text(encoding="utf-8").replace("\n", " ")
    assert words.startswith(
        "Of 2 comparisons with “Real images only, same classifier” (1 setup with 2 classifiers on another cohort), "
    )


def test_nothing_is_bold_but_what_differs_after_correction(study, report):
    html = (report / "report.html").read_text(encoding="utf-8")
    rows = read_json(report / "comparisons.json")["comparisons"]
    different = [row for row in rows if row["p_holm"] is not None and row["p_holm"] < 0.05]
    external = [row for row in different if row["role"] == "external"]
    assert html.count(' differs"') == len(different)  # cells of the table of differences
    assert html.count('class="differs"') == len(external)  # cells of the heatmaps


def test_predictions_of_other_subjects_than_the_splits_are_refused(study, tmp_path, write_report):
    folder, stages = study
    shutil.copytree(folder / "site_a", tmp_path / "site_a")
    path = tmp_path / "site_a" / "splits" / "splits.json"
    splits = read_json(path)
    write_json(path, {**splits, "test": splits["test"][1:]})
    own = [name for name in stages if name.startswith("site_a")]
    with pytest.raises(RuntimeError) as caught:
        write_report((tmp_path, own))
    assert f"held-out subjects of splits.json, got too many: {splits['test'][0]}" in messages(caught.value)
    assert not (tmp_path / "report" / "report.html").exists()


def test_a_report_without_synthetic_images_says_so(study, tmp_path, write_report):
    folder, stages = study
    shutil.copytree(folder / "site_a" / "evaluation_real", tmp_path / "site_a" / "evaluation_real")
    write_report((tmp_path, ["site_a/evaluation_real"]))
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "No synthetic images were made" in html
    assert "No answer was explained" in html
    assert {metric["setup"] for metric in read_json(tmp_path / "report" / "metrics.json")} == {"real"}


def test_a_declared_end_point_comes_first_and_the_other_comparisons_are_secondary(study, tmp_path, write_report):
    folder, stages = study
    endpoint = {"setup": "ddpm_mi", "reference": "real", "trained_on": "site_a", "tested_on": "site_b"}
    endpoint["measure"] = "auc"
    names = [name for name in stages if "/evaluation_" in name or "/classifier_" in name or name.endswith("/patches")]
    for name in names:
        shutil.copytree(folder / name, tmp_path / name)
    after = write_report((tmp_path, names), "after", primary_endpoint=endpoint)
    words = (after / "summary.txt").read_text(encoding="utf-8").replace("\n", " ")
    assert words.startswith("End point declared after the evaluations: AUC of “+ DDPM with MI” against “Real images")
    assert "so it counts as one of the comparisons. Of 6 comparisons with" in words
    primary = read_json(after / "comparisons.json")["primary"]
    assert (primary["is_declared_before"], primary["num_tests"]) == (False, 12)
    assert f"p {format_p(primary['p_holm'])} after Holm’s correction for 12 tests)" in words
    for name in names:
        path = tmp_path / name / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**config, "primary_endpoint": endpoint}), encoding="utf-8")
    before = write_report((tmp_path, names), "before", primary_endpoint=endpoint)
    words = (before / "summary.txt").read_text(encoding="utf-8").replace("\n", " ")
    assert words.startswith("Primary end point, declared before the evaluations: AUC of “+ DDPM with MI” against")
    assert "Of 6 secondary comparisons with" in words
    html = (before / "report.html").read_text(encoding="utf-8")
    assert html.index("The primary end point</h2>") < html.index("Is a setup better than")
    (row,) = [row for row in read_csv(before / "comparisons.csv") if row["is_primary"] == "True"]
    assert row["p"] == row["p_holm"]


def test_an_end_point_that_the_study_does_not_compute_is_refused_before_any_work():
    endpoint = {"setup": "gan", "reference": "real", "trained_on": "a", "tested_on": "b", "measure": "auc"}
    stages = ["a/evaluation_real", "a/evaluation_ddpm", "b/evaluation_real", "b/evaluation_ddpm"]
    check_report("real", stages, 100, 1, 1, {**endpoint, "setup": "ddpm"})
    with pytest.raises(ValueError, match=r"primary_endpoint#setup must be one of the setups .* got 'gan'"):
        check_report("real", stages, 100, 1, 1, endpoint)


def test_the_reference_is_a_setup_whatever_its_classifiers_are():
    numbers = {"num_bootstrap_draws": 100, "num_samples": 1, "num_curves": 1}
    names = [f"a/evaluation_{setup}~{classifier}" for setup in ("real", "ddpm") for classifier in ("thin", "deep")]
    check_report("ddpm", names, **numbers)
    with pytest.raises(ValueError, match="report_reference must be one of the setups real, ddpm, got 'real~thin'"):
        check_report("real~thin", names, **numbers)


def test_the_figures_that_people_look_for_are_pictures_too(report):
    names = {"contact_sheet", "roc", "calibration", "decision_curves", "training_curves"}
    pictures = {path.stem: path.read_bytes() for path in (report / "pictures").glob("*.png")}
    assert set(pictures) == names
    assert all(png.startswith(b"\x89PNG") and len(png) > 5000 for png in pictures.values())


def test_a_study_of_gliomas_keeps_its_words(report):
    html = re.sub(r"\s+", " ", (report / "report.html").read_text(encoding="utf-8"))
    for words in (
        "was cut around the center of the tumor",
        "Subjects were split once, by patient",
        "What gives the class away without a look at the tumor",
        "the mean or the noise of a modality inside the brain, the background",
        "By site, by group of patients, and by size of the lesion",
        "Everything else is measured inside the brain",
        "if one modality, the lesion or a quarter of it is one",
        "The line is the outline of the whole tumor in the mask of the cohort",
        "The paper’s own figures",
        "mutual information for glioma grading",
    ):
        assert words in html, words


def test_no_template_has_words_of_its_own_for_what_is_shown():
    for path in sorted((ROOT / "scripts" / "report").glob("*.j2")):
        literal = re.sub(r"\{[{%#].*?[}%#]\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"(?i)glioma|tumor|brain|\bMRI\b|modalit", literal), path.name
