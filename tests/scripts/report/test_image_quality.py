from __future__ import annotations

import pytest

from scripts.image_quality.reader_results import reader_results
from scripts.provenance.study_files import StudyFiles
from scripts.report.image_quality import average_rows, gate_rows, measure_section, unfinished_images
from scripts.report.page import render_part
from scripts.running.files import read_json, write_json
from tests.fake_study import write_empty_set


def row(value, **changes):
    floor = {"mean": 0.02, "sd": 0.01, "low": 0.0, "high": 0.05, "n": 10, "num_splits": 5}
    common = {"measure": "KD", "network": "resnet10", "direction": "lower is better", "num_synthetic": 30}
    measured = {"value": value, "low": None, "high": None, "p_value": 0.5, "floor": floor, "value_at_floor_n": value}
    return {**common, "num_real": 20, "ratio": None, "reason": None, **measured, **changes}


MISSING = row(None, floor=None, value_at_floor_n=None, p_value=None, reason="KD needs at least 2 images")


def write(folder, fold, rows, cohort="site_a", made_alike=True):
    content = {"cohort": cohort, "method": "ddpm", "fold": fold, "real_parts": ["validation"]}
    content |= {"left_out": [], "made_alike": made_alike}
    classes = {"LGG": {"num_synthetic": 30, "num_real": 20, "measures": rows}}
    write_json(folder / f"fold{fold}" / "measures.json", {**content, "classes": classes})
    return f"fold{fold}"


def section(folder, stages):
    return measure_section(StudyFiles(str(folder), stages))


def test_folds_are_averaged_with_their_spread():
    averaged = average_rows([row(0.1, measure="MMD", p_value=0.01), row(0.3, measure="MMD", num_real=24)])
    assert averaged["value"] == ".2 (.1, .3)"
    assert average_rows([row(value, measure="MMD") for value in (0.1, 0.2, 0.3)])["value"] == ".2 ± .1"
    assert (averaged["floor"], averaged["floor_n"]) == (".02 ± .01", "10")
    assert (averaged["p_value"], averaged["num_real"], averaged["num_folds"]) == (".010 to .500", "20 to 24", 2)
    assert averaged["interval"] == ""


def test_distances_in_the_features_of_each_folds_own_network_are_given_fold_by_fold():
    floors = [{"mean": 32.0, "sd": 3.0, "n": 10}, {"mean": 1.3, "sd": 0.1, "n": 10}]
    rows = [
        row(value, measure="FD", floor=floor, ratio=ratio)
        for value, floor, ratio in zip((45.0, 2.0), floors, (1.4, 1.6), strict=True)
    ]
    averaged = average_rows(rows)
    assert (averaged["value"], averaged["floor"]) == ("45 / 2", "32 ± 3 / 1.3 ± .1")
    assert averaged["ratio"] == "1.5 (1.4, 1.6)"


def test_one_fold_shows_its_interval():
    averaged = average_rows([row(0.1, low=-0.05, high=0.25)])
    assert (averaged["value"], averaged["interval"]) == (".1", "−.05 to .25")


def test_a_fold_without_a_value_is_left_out_of_the_mean():
    averaged = average_rows([MISSING, row(0.3)])
    assert (averaged["value"], averaged["num_folds"]) == (".3", 1)
    assert average_rows([MISSING])["reason"] == "KD needs at least 2 images"


def test_the_section_groups_by_cohort_and_network(tmp_path):
    rows = [row(0.1), row(0.2, measure="MMD", network="pixels")]
    stages = [write(tmp_path, 0, rows), write(tmp_path, 1, rows)]
    (cohort,) = section(tmp_path, stages)["measures"]
    assert [group["network"] for group in cohort["networks"]] == ["resnet10", "pixels"]
    assert cohort["networks"][0]["rows"][0]["value"] == ".1 / .1"


def test_the_page_shows_values_and_reasons(tmp_path):
    stages = [write(tmp_path, 0, [row(0.123), {**MISSING, "measure": "recall"}])]
    html = render_part("image_quality.html.j2", section(tmp_path, stages))
    for words in (".123", "Not measured: KD needs at least 2 images", "lower is better", "30 / 20 / 10", "resnet10"):
        assert words in html
    assert "there are no synthetic images" in render_part("image_quality.html.j2", section(tmp_path, []))


def test_counts_are_written_whole_and_a_p_of_the_finest_permutation_is_no_zero():
    averaged = average_rows([row(0.1, num_synthetic=12345, p_value=1 / 1001), row(0.3, num_synthetic=12346)])
    assert averaged["num_synthetic"] == "12345 to 12346"
    assert averaged["p_value"] == "< .001 to .500"


def test_the_page_says_why_an_interval_is_missing_and_what_was_not_compared(tmp_path):
    reason = "kernel must be of images of at least 3 patients in each set, got 2"
    rows = [
        row(0.1, interval_reason=reason),
        row(0.2, measure="MMD", interval_reason=reason),
        row(0.3, measure="recall"),
    ]
    stages = [write(tmp_path, 0, rows)]
    (cohort,) = section(tmp_path, stages)["measures"]
    names = ["KD (resnet10, LGG, DDPM)", "MMD (resnet10, LGG, DDPM)"]
    assert cohort["without_interval"] == [{"names": names, "reason": reason}]
    html = render_part("image_quality.html.j2", section(tmp_path, stages))
    assert html.count('<span class="ci">no interval</span>') == 2
    assert f"No interval of {', '.join(names)}: {reason}." in html
    assert "Nothing says how" not in html


def test_folds_together_have_a_spread_and_miss_no_interval():
    assert average_rows([row(0.1, interval_reason="too few"), row(0.3)])["interval_reason"] is None


def test_the_page_names_the_methods_of_which_nothing_says_how_their_images_were_made(tmp_path):
    stages = [write(tmp_path, 0, [row(0.1)], made_alike=True), write(tmp_path, 1, [row(0.1)], made_alike=False)]
    (cohort,) = section(tmp_path, stages)["measures"]
    assert cohort["not_made_alike"] == ["ddpm"]
    html = render_part("image_quality.html.j2", section(tmp_path, stages))
    assert "Nothing says how the images of DDPM were made." in html


GATE = {"label_auc": 0.8, "coverage": 0.6}


def judged(verdict, coverage, method="ddpm", area=0.7, reasons=()):
    gate = {"verdict": verdict, "reasons": list(reasons), "coverage": coverage, "real_coverage": 0.9}
    common = {"cohort": "site_a", "method": method, "gate": GATE, "label_auc": {"value": area, "real": 0.95}}
    return {**common, "classes": {"LGG": {"measures": [], "gate": gate}}}


def test_the_gates_of_the_folds_stand_together_and_a_failed_fold_is_not_outvoted():
    contents = [judged("finished", 0.8), judged("unfinished", 0.4, reasons=["coverage 0.40 is below the gate 0.6"])]
    (row,) = gate_rows(contents)
    assert list(row["verdicts"].items()) == [("unfinished", 1), ("finished", 1)]
    assert (row["label_auc"], row["coverage"]) == pytest.approx((0.7, 0.6))
    assert row["reasons"] == ["coverage 0.40 is below the gate 0.6"]


def test_unfinished_methods_are_named_with_their_number_of_sets_and_the_gates():
    rows = gate_rows([judged("unfinished", 0.1), judged("finished", 0.9), judged("unfinished", 0.2, "mixed")])
    sentence = unfinished_images(rows)
    assert sentence.startswith(
        "By measurement, images of DDPM (1 of 2 sets) and Mixed pairs (control) (1 of 1 sets) are unfinished: their"
        " label AUC is below .80 or their coverage below .60, which real images reach."
    )
    assert unfinished_images(gate_rows([judged("finished", 0.9), judged("cannot be told", None)])) == ""


def test_measures_of_before_there_were_gates_have_none():
    (old,) = [judged("finished", 0.9)]
    del old["gate"]
    assert gate_rows([old]) == []


def test_a_control_generator_is_not_called_unfinished(tmp_path):
    for method in ("ddpm", "mixed"):
        write_json(
            tmp_path / method / "measures.json", {**judged("unfinished", 0.1, method), "left_out": [], "real_parts": []}
        )
        write_empty_set(tmp_path / method, method, **({"control": method} if method == "mixed" else {}))
    found = section(tmp_path, ["ddpm", "mixed"])
    assert [row["method"] for row in found["gates"]] == ["ddpm", "mixed"]
    assert found["unfinished"].startswith("By measurement, images of DDPM (1 of 1 sets) are unfinished")
    assert section(tmp_path, ["mixed"])["unfinished"] == ""


def test_what_readers_could_tell_stands_beside_the_measures(tmp_path):
    truths = [("real", None), ("synthetic", "ddpm")] * 6
    pictures = [
        {"picture": f"{k}.png", "source": source, "method": method, "class_name": "LGG"}
        for k, (source, method) in enumerate(truths)
    ]
    key = {"study": "0", "simulated": True, "asks_class": False, "classes": ["LGG", "HGG"], "pictures": pictures}
    answers = [{"picture": one["picture"], "source": one["source"], "source_confidence": 4} for one in pictures]
    content = reader_results(key, {"Ada": answers, "Bob": answers}, num_bootstrap_draws=100)
    write_json(tmp_path / "results" / "reader_results.json", content)
    html = render_part("image_quality.html.j2", section(tmp_path, ["results"]))
    assert "Ada can tell pictures of ddpm from real ones: AUC 1.00" in html
    assert html.count("<tr><th>Bob</th><td>DDPM</td>") == 1
    assert "kappa of Ada, Bob (real or synthetic): 1.00" in html


SPECTRUM = {"unit": "cycles per mm", "edges": [0, 0.25, 0.5], "difference_db": [0.1, -6.0], "band_db": [1.0, 1.0]}
WEAK = "More than real images differ among each other, synthetic ones are weak from 0.25 to 0.5 cycles per mm."


def test_spectra_are_drawn_and_said_in_a_sentence_with_their_folds(tmp_path):
    stages = [write(tmp_path, fold, [row(0.1)]) for fold in range(3)]
    spectra = [{**SPECTRUM, "sentence": WEAK, "reason": None}] * 2
    spectra.append({**dict.fromkeys(SPECTRUM), "sentence": None, "reason": "3 of 40 images have a constant channel"})
    for stage, spectrum in zip(stages, spectra, strict=True):
        path = tmp_path / stage / "measures.json"
        content = read_json(path)
        content["classes"]["LGG"]["spectrum"] = spectrum
        write_json(path, content)
    result = section(tmp_path, stages)
    common = {"cohort": "site_a", "class": "LGG", "method": "ddpm"}
    unmeasured = "Not measured: 3 of 40 images have a constant channel."
    assert result["spectra"] == [
        {**common, "sentence": WEAK, "folds": [0, 1]},
        {**common, "sentence": unmeasured, "folds": [2]},
    ]
    html = render_part("image_quality.html.j2", result)
    for words in (WEAK, unmeasured, "site_a, LGG: synthetic less real images", "<svg"):
        assert words in html


def test_the_kernel_of_a_discrepancy_stands_beside_its_name(tmp_path):
    stages = [write(tmp_path, 0, [row(0.1, measure="MMD", kernel="linear, x.y/D")])]
    html = render_part("image_quality.html.j2", section(tmp_path, stages))
    assert 'MMD<span class="ci">kernel linear, x.y/D</span>' in html


def test_tissue_volumes_are_shown_with_their_sentence_or_the_reason(tmp_path):
    tissue = {"tissue": "dark", "mean_synthetic": 310.2, "sd_synthetic": 12.0, "mean_real": 250.4, "sd_real": 20.0}
    tissue |= {"difference": 1.25, "low": 0.5, "high": 2.0, "ks": 0.8, "ks_p_value": 0.0001, "differs": True}
    counts = {"channel": "t1n", "unit": "ml", "num_synthetic": 30, "num_real": 20}
    measured = {**counts, "tissues": [tissue], "sentence": "Synthetic volumes differ.", "reason": None}
    sets = [measured, {**counts, "tissues": [], "sentence": None, "reason": "no three intensities"}, None]
    stages = [write(tmp_path, fold, [row(0.1)]) for fold in range(3)]
    for stage, volumes in zip(stages, sets, strict=True):
        path = tmp_path / stage / "measures.json"
        content = read_json(path)
        content["classes"]["LGG"]["tissue_volumes"] = volumes
        write_json(path, content)
    result = section(tmp_path, stages)
    assert [(volumes["class"], volumes["fold"]) for volumes in result["tissue_volumes"]] == [("LGG", 0), ("LGG", 1)]
    html = render_part("image_quality.html.j2", result)
    words = ("LGG, DDPM, fold 0:</b> Synthetic volumes differ.", "Not measured: no three intensities.", "310 ± 12")
    for text in (*words, "1.25", "Real, ml (20)", "&lt; .001"):
        assert text in html
