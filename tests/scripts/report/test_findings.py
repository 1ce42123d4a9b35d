"""The sentence that a reader takes home must be the one that the tests allow."""

from __future__ import annotations

import pytest

from scripts.evaluation.against_controls import compare_with_controls
from scripts.evaluation.answers import group_answers, main_role
from scripts.evaluation.metrics import compute_metrics, trivial_measures
from scripts.evaluation.seeds import holds_over_seeds
from scripts.evaluation.setups import compare_setups, power_rows
from scripts.report.findings import audit_sentence, findings, generator_findings, next_step, primary_sentence
from scripts.report.words import format_number, format_p
from tests.predictions import prediction_rows


def numbers(rows, reference="real"):
    comparisons, not_compared = compare_setups(group_answers(rows), reference)
    return {
        "primary": None,
        "one_answer": [],
        "role": main_role(rows),
        "comparisons": comparisons,
        "not_compared": not_compared,
        "power": power_rows(comparisons),
    }


def both_directions(skills, **options):
    rows = prediction_rows(skills, **options)
    return rows + [{**row, "direction": "b", "cohort": "a"} for row in prediction_rows(skills, seed=1, **options)]


def test_no_difference_is_said_with_the_smallest_p_and_the_gain_that_could_have_been_found():
    found = numbers(both_directions({"real": 1.0, "ddpm": 1.0, "ddpm_mi": 1.0}))
    smallest = min(row["p_holm"] for row in found["comparisons"] if row["p_holm"] is not None)
    gains = sorted(format_number(row["detectable_gain_holm"], 2) for row in found["power"])
    first, second = findings(found)
    assert first == (
        "Of 4 comparisons with “Real images only” (2 setups on another cohort, 2 directions), none differs after Holm’s"
        f" correction for all 8 tests; the smallest corrected p is {format_p(smallest)}."
    )
    assert second == (
        f"A gain of {gains[0]} to {gains[1]} in accuracy could have been found with a power of 80 % after the same"
        " correction."
    )


def test_what_differs_is_named_with_its_interval_and_its_corrected_p():
    found = numbers(both_directions({"real": 0.0, "ddpm": 3.0}, sizes=(30, 40)))
    first = findings(found)[0]
    row = min((row for row in found["comparisons"] if row["p_holm"] is not None), key=lambda row: row["p_holm"])
    assert "Of 2 comparisons" in first
    assert ", 2 differ after Holm’s correction for all 4 tests: “+ DDPM”, " in first
    assert f"+{format_number(row['value'], 2)} (95 % interval " in first
    assert f"p {format_p(row['p_holm'])})" in first


def test_a_loss_is_said_as_a_loss():
    first = findings(numbers(prediction_rows({"real": 3.0, "ddpm": 0.0}, sizes=(30, 40))))[0]
    assert "Of 1 comparison with “Real images only” (1 setup on another cohort), 1 differs" in first
    assert " −." in first


def test_many_differences_are_counted_and_the_strongest_are_named():
    skills = {"real": -2.0, **dict.fromkeys(("ddpm", "ddpm_mi", "augmentation"), 3.0)}
    first = findings(numbers(prediction_rows(skills, sizes=(30, 40))))[0]
    assert first.count("95 % interval") == 4
    assert first.endswith("; and 2 more below.")


def test_a_check_of_the_protocol_is_no_finding():
    with_check = prediction_rows() + prediction_rows({"synthetic_shuffled": -9.0}, seed=3)
    assert findings(numbers(with_check)) == findings(numbers(prediction_rows()))
    (only,) = findings(numbers(prediction_rows({"real": 1.0, "synthetic_shuffled": 0.0})))
    assert only == "No two setups were compared on another cohort: a check of the protocol is no hypothesis."


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (prediction_rows({"real": 1.0}), "only 'real' was evaluated; run another setup"),
        (prediction_rows(sizes=(1, 20)), "a comparison needs 2 subjects of each class, got LGG 1"),
        (prediction_rows({"ddpm": 1.0}), "no evaluation of the reference 'real'"),
    ],
)
def test_nothing_compared_is_said_with_the_reason(rows, reason):
    (only,) = findings(numbers(rows))
    assert only.startswith(f"No two setups were compared on another cohort: {reason}")


def test_subjects_too_few_for_any_gain_are_said():
    rows = prediction_rows({"real": 1.0})
    twin = [{**row, "setup": "ddpm"} for row in rows]
    assert findings(numbers(rows + twin))[1].startswith("No gain in accuracy, however large, could have been found")


def test_unfinished_generators_are_said_last():
    assert findings(numbers(prediction_rows()), "Unfinished.")[-1] == "Unfinished."
    assert findings(numbers(prediction_rows({"real": 1.0})), "Unfinished.")[-1] == "Unfinished."


def test_the_locked_test_speaks_where_there_is_no_other_cohort():
    rows = prediction_rows(role="locked_test") + prediction_rows(role="out_of_fold", seed=2)
    assert "(2 setups on the locked test part)" in findings(numbers(rows))[0]


def with_controls(skills, **options):
    rows = prediction_rows(skills, **options)
    controls = [name for name in skills if name in ("mixed", "pca_gaussian")]
    diffusion = [name for name in skills if name.startswith("ddpm")]
    against = compare_with_controls(group_answers(rows), dict.fromkeys(diffusion, controls))
    return {**numbers(rows), "controls": against}


def test_a_diffusion_model_that_beats_every_control_is_said_right_after_the_first_sentence():
    found = with_controls({"real": 0.0, "ddpm": 3.0, "mixed": 0.3, "pca_gaussian": 0.0}, sizes=(40, 60))
    nearest = min(found["controls"], key=lambda row: row["value"])
    assert findings(found)[1].startswith(
        "Better in AUC on another cohort than every control generator, the nearest named: “+ DDPM”, a → b,"
        f" +{format_number(nearest['value'], 2)} over “+ mixed pairs (control)” (95 % interval "
    )
    assert findings(found)[1].endswith("after Holm’s correction for 1 test).")


def test_that_none_beats_every_control_is_said_with_the_nearest_to_it():
    found = with_controls({"real": 1.0, "ddpm": 1.0, "ddpm_mi": 0.2, "mixed": 1.5})
    assert findings(found)[1].startswith(
        "No other generator beats every control generator in AUC on another cohort beyond chance; the nearest to it:"
        " “+ DDPM”, a → b, −."
    )
    alone = prediction_rows({"ddpm": 1.0, "mixed": 1.0})
    against = compare_with_controls(group_answers(alone), {"ddpm": ["mixed"]})
    assert findings({**numbers(alone), "controls": against})[1].startswith("No other generator beats")


def test_nothing_is_said_of_controls_where_there_are_none():
    assert not any("control generator" in sentence for sentence in findings(with_controls({"real": 1.0, "ddpm": 1.0})))


def against_mixed(setup, value, beats_all, direction="a"):
    estimate = {"value": value, "low": value - 0.05, "high": value + 0.05, "p_holm": None, "num_tests": 9}
    place = {"direction": direction, "cohort": "b" if direction == "a" else "a", "role": "external"}
    return {**place, "setup": setup, "control": "mixed", "measure": "auc", "beats_all": beats_all, **estimate}


def test_a_loss_in_one_direction_is_said_beside_a_gain_in_the_other():
    rows = [against_mixed("ddpm", 0.1, True), against_mixed("ddpm", -0.2, False, direction="b")]
    said = findings({**numbers(prediction_rows()), "controls": rows})[1]
    assert said.startswith(
        "Better in AUC on another cohort than every control generator, the nearest named: “+ DDPM”, a →"
    )
    assert "Not better beyond chance: “+ DDPM”, b → a, −.20 over “+ mixed pairs (control)”" in said


def test_many_setups_that_beat_every_control_are_counted():
    rows = [against_mixed(f"mine{number}", 0.1, True) for number in range(6)]
    said = findings({**numbers(prediction_rows()), "controls": rows})[1]
    assert said.count("95 % interval") == 4
    assert said.endswith("; and 2 more below.")


def test_being_ahead_of_every_control_with_an_answer_that_needs_no_images_is_no_success():
    rows = [against_mixed("ddpm", 0.2, True), against_mixed("ddpm_mi", 0.1, True)]
    needs_none = {("auc", "a", setup, "external", "b") for setup in ("ddpm", "ddpm_mi")}
    said = findings({**numbers(prediction_rows()), "controls": rows}, trivial=needs_none)[1]
    assert said.startswith(
        "No other generator beats every control generator in AUC on another cohort beyond chance with a figure that"
        " needs images. Ahead of all, but no better than an answer without images: “+ DDPM”, a → b, +.20"
    )
    needs_none.remove(("auc", "a", "ddpm_mi", "external", "b"))
    said = findings({**numbers(prediction_rows()), "controls": rows}, trivial=needs_none)[1]
    assert said.startswith(
        "Better in AUC on another cohort than every control generator, the nearest named: “+ DDPM with"
    )
    assert "Ahead of all, but no better than an answer without images: “+ DDPM”, a → b, +.20" in said


def test_a_single_test_is_not_spoken_of_as_many():
    content = numbers(prediction_rows({"real": 1.0, "ddpm": 1.1}))
    (first, *_) = [row for row in content["comparisons"] if row["p_holm"] is not None]
    power = [{**row, "num_tests": 1, "detectable_gain_holm": row["detectable_gain"]} for row in content["power"]]
    said = findings({**content, "comparisons": [first], "power": power})
    assert "none differs in the only test of them; p is " in said[0]
    assert "correction" not in " ".join(said)


def test_one_answer_to_everybody_is_said_with_the_number_of_patients():
    rows = prediction_rows({"real": 1.0, "ddpm": 1.0})
    for row in rows:
        if row["setup"] == "ddpm":
            row |= {"probability_LGG": "0.1", "probability_HGG": "0.9"}
    (answers,) = [one for one in group_answers(rows) if one.setup == "ddpm"]
    assert answers.only_answer == "HGG"
    row = {"direction": "a", "setup": "ddpm", "role": "external", "cohort": "b", "n": 40, "answer": "HGG"}
    said = findings({**numbers(rows), "one_answer": [row]})
    assert said[-1] == "“+ DDPM” answers HGG to all 40 patients (a → b): its accuracy is that of no classifier."
    assert findings({**numbers(rows), "one_answer": [{**row, "role": "locked_test"}]}) == findings(numbers(rows))
    control = {**row, "setup": "synthetic_shuffled=1"}
    assert findings({**numbers(rows), "one_answer": [control]}) == findings(numbers(rows))


def test_an_area_below_guessing_is_named_as_swapped_labels():
    row = {"direction": "a", "setup": "ddpm", "role": "external", "cohort": "b", "value": 0.2, "low": 0.1, "high": 0.3}
    said = findings(numbers(prediction_rows()), swapped=[row])[-1]
    assert said.startswith(
        "AUC below guessing, as where the labels of a cohort were swapped: “+ DDPM”, a → b, .20 (95 %"
    )
    shuffled = {**row, "setup": "synthetic_shuffled"}
    assert findings(numbers(prediction_rows()), swapped=[shuffled]) == findings(numbers(prediction_rows()))


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((0.52,), "Shuffled labels are answered as by chance, as they must be: “DDPM images only, labels shuffled"),
        ((0.52, 0.71), "Shuffled labels are not answered as by chance, so the protocol lets true ones through: “DDPM"),
    ],
)
def test_shuffled_labels_are_judged_by_the_mean_over_their_permutations(means, said):
    test = {"direction": "a", "role": "external", "cohort": "b", "setup": "synthetic_shuffled", "num_permutations": 4}
    spread = {"lowest": 0.3, "highest": 0.7}
    rows = [{**test, **spread, "value": mean, "is_chance": mean < 0.6} for mean in means]
    sentence = findings(numbers(prediction_rows()), permutations=rows)[-1]
    assert sentence.startswith(said)
    assert f"a → b, mean AUC {str(means[-1])[1:]} of 4 permutations (.30 to .70)" in sentence
    others = [{**row, "role": "locked_test"} for row in rows]
    assert findings(numbers(prediction_rows()), permutations=others) == findings(numbers(prediction_rows()))


def end_point(is_declared_before, **changes):
    test = {"direction": "a", "role": "external", "cohort": "b", "setup": "ddpm", "reference": "real", "measure": "auc"}
    numbers = {"n": 40, "value": 0.1, "low": 0.01, "high": 0.19, "p": 0.03, "p_holm": 0.03, "num_tests": 1}
    return {**test, **numbers, "detectable": 0.12, "is_declared_before": is_declared_before, **changes}


def test_an_end_point_is_judged_by_its_own_p_only_where_it_was_declared_before():
    said = primary_sentence(end_point(True))
    assert "(95 % interval .01 to .19, p .030): better. A true difference of .12 would be found" in said
    said = primary_sentence(end_point(False, p_holm=0.24, num_tests=8, detectable=None))
    assert said.endswith(
        ", p .240 after Holm’s correction for 8 tests): no difference shown. It may have been chosen by its result, so"
        " it counts as one of the comparisons."
    )
    said = primary_sentence(end_point(False, p_holm=None, num_tests=None, detectable=None))
    assert said.endswith(
        ": +.10 (95 % interval .01 to .19). It may have been chosen by its result, and no corrected test is of it, so"
        " it has no verdict."
    )


def test_a_gain_of_one_answer_to_everybody_is_no_success_and_a_loss_stays_one():
    rows = prediction_rows({"real": -3.0, "ddpm": 3.0}, sizes=(10, 70))
    for row in rows:
        if row["setup"] == "ddpm":
            row |= {"probability_LGG": "0.1", "probability_HGG": "0.9"}
    content = {**numbers(rows), "seeds": []}
    trivial = trivial_measures(compute_metrics(rows, 100), group_answers(rows))
    said = findings(content, trivial=trivial)[0]
    assert said.endswith("), but no better than an answer without images.")
    assert "believing a difference" in next_step(content)
    assert "more patients" in next_step(content, trivial=trivial)
    figure = ("auc", "a", "ddpm", "external", "b")
    assert "): better than the reference, but no better than an answer without images." in primary_sentence(
        end_point(True), {figure}
    )
    assert "): worse." in primary_sentence(end_point(True, value=-0.1, low=-0.19, high=-0.01), {figure})
    worse = prediction_rows({"real": 3.0, "ddpm": -3.0}, sizes=(10, 70))
    trivial = trivial_measures(compute_metrics(worse, 100), group_answers(worse))
    assert "without images" not in findings(numbers(worse), trivial=trivial)[0]
    assert "believing a difference" in next_step({**numbers(worse), "seeds": []}, trivial=trivial)


def over_seeds(measure="auc", mean=0.1, low=0.01, high=0.19, **changes):
    names = {"setup": "ddpm", "direction": "a", "role": "external", "cohort": "b", "reference": "real"}
    own = {"measure": measure, "values": [mean] * 3, "mean": mean, "both_low": low, "both_high": high}
    row = {**names, **own, "needs_no_images": False, **changes}
    return {**row, "differs": holds_over_seeds(row) and not row["needs_no_images"]}


def test_what_other_seeds_show_stands_behind_what_this_one_shows():
    content = numbers(prediction_rows({"real": 0.0, "ddpm": 3.0}, sizes=(30, 40)))
    said = findings({**content, "seed_differences": [over_seeds(), over_seeds("accuracy", 0.2, -0.1, 0.5)]})[1]
    assert said == (
        "Over 3 trainings and over patients, of 2 differences, not corrected for their number, 1 has a 95 % interval"
        " without 0: “+ DDPM”, a → b, AUC +.10 (.01 to .19)."
    )
    trivial = over_seeds("accuracy", needs_no_images=True)
    assert findings({**content, "seed_differences": [trivial]})[1].endswith(
        "accuracy +.10 (.01 to .19), but no better than an answer without images."
    )
    said = findings({**content, "seed_differences": [over_seeds(low=-0.1)]})[1]
    assert said == "Over 3 trainings and over patients, the only difference has no 95 % interval without 0."
    said = findings({**content, "seed_differences": [over_seeds(low=-0.1), over_seeds("accuracy", low=-0.1)]})[1]
    assert said.endswith("of 2 differences, not corrected for their number, none has a 95 % interval without 0.")
    two = over_seeds(low=None, high=None)
    assert findings({**content, "seed_differences": [two]}) == findings(content)


def test_what_differs_with_one_seed_and_not_over_all_asks_for_more():
    content = {**numbers(prediction_rows({"real": 0.0, "ddpm": 3.0}, sizes=(30, 40))), "seeds": [{}]}
    for rows, words in (
        ([over_seeds()], "test what differs on a further cohort"),
        ([over_seeds(low=-0.1)], "with more seeds; what differs with this seed is not shown over all of them"),
        ([over_seeds(needs_no_images=True)], "with more seeds"),
        ([over_seeds(low=None, high=None)], "with a third seed (other_seed_dirs): 3 give an interval"),
    ):
        assert words in next_step({**content, "seed_differences": rows})


def audited(verdict, is_grave):
    return {"cohort": "a", "class": "LGG", "method": "ddpm", "verdict": verdict, "is_grave": is_grave}


def test_the_audit_is_said_with_the_sets_that_must_not_be_used():
    assert audit_sentence([]) == ""
    said = audit_sentence([audited("no sign of memorization", False), *[audited("memorizes", True)] * 2])
    assert "2 of 3 groups of synthetic sets (by cohort, class, method) must not be used as they are" in said
    assert said.endswith("(memorizes in 2), of DDPM. Of the others: no sign of memorization in 1.")
    assert audit_sentence([audited("memorizes", True)]).endswith("(memorizes in 1), of DDPM.")


def test_sets_that_nothing_could_be_told_of_are_counted_apart_from_those_without_a_sign():
    rows = [*[audited("no sign of memorization", False)] * 4, *[audited("too few images to tell", False)] * 12]
    assert audit_sentence(rows) == (
        "By the audit of copies, of 16 groups of synthetic sets (by cohort, class, method): too few images to tell in"
        " 12, no sign of memorization in 4."
    )


def test_the_next_step_is_the_first_fault_and_else_what_makes_the_result_surer():
    same = {**numbers(prediction_rows({"real": 1.0, "ddpm": 1.0})), "seeds": []}
    better = {**numbers(prediction_rows({"real": 0.0, "ddpm": 3.0}, sizes=(30, 40))), "seeds": []}
    alone = {**numbers(prediction_rows({"real": 1.0})), "seeds": []}
    swapped = {
        "role": "external",
        "setup": "real",
        "direction": "a",
        "cohort": "b",
        "value": 0.2,
        "low": 0.1,
        "high": 0.3,
    }
    needed = same["power"][0]["subjects_for_paper_gain"]
    for content, options, words in (
        (same, {"swapped": [swapped]}, "check the grades"),
        (same, {"swapped": [swapped], "audit": [audited("memorizes", True)]}, "look at the most suspicious pairs"),
        (better, {"unfinished": "Unfinished."}, "train the generators longer"),
        (better, {"audit": [audited("memorizes", True)]}, "look at the most suspicious pairs"),
        (alone, {}, "evaluate a second setup"),
        (better, {"audit": [audited("no sign of memorization", False)]}, "repeat the study with another seed"),
        ({**better, "seeds": [{}], "seed_differences": [over_seeds()]}, {}, "test what differs on a further cohort"),
        (same, {}, f"the paper’s gain of .02 in accuracy needs {needed}."),
    ):
        assert words in next_step(content, **options)


def figure(method, value, cohort="A", name="HGG", measure="FID", floor=1.1):
    keys = {"cohort": cohort, "class": name, "method": method, "network": "Inception-v3", "measure": measure}
    return {**keys, "direction": "lower is better", "value": value, "floor": floor}


def test_generators_are_ranked_within_a_cohort_and_class_and_controls_named_apart():
    rows = [
        *(figure("noisy", 2.3), figure("ddpm", 9.1, floor=1.5), figure("mine", 6.2)),
        *(figure("ddpm", 30.0, "B", floor=4.2), figure("mixed", 20.0, "B"), figure("noisy", 25.0, "B")),
        *(figure("noisy", 3.4, "B", "LGG", floor=2.5), figure("ddpm", 5.0, "B", "LGG", measure="KID")),
    ]
    said = generator_findings(rows, [], controls={"noisy", "mixed"})
    assert said == [
        "By FID (Inception-v3) images of mine come nearest to real patients (A, HGG): 6.2, after it 9.1 of DDPM; two"
        " halves of the real ones 1.1; the best control, Noisy copies, has 2.3.",
        "By FID (Inception-v3) images of DDPM have 30 against real patients (B, HGG); two halves of the real ones 4.2;"
        " the best control, Mixed pairs, has 20.",
        "By FID (Inception-v3) the best control, Noisy copies, has 3.4 against real patients (B, LGG); two halves of"
        " the real ones 2.5.",
    ]


def test_of_a_single_set_several_measures_are_told_without_its_name():
    rows = [figure("ddpm", 2.6, measure=measure) for measure in ("FID", "KID", "MMD", "FD", "KD")]
    said = generator_findings(rows, [])
    assert len(said) == 4
    assert (
        said[1]
        == "By KID (Inception-v3) images of DDPM have 2.6 against real patients; two halves of the real ones 1.1."
    )
