"""The first sentences of the report: what the study found, in words, from its corrected tests and their power."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scripts.evaluation.metrics import figure_of, is_trivial_gain
from scripts.evaluation.primary import differs_in
from scripts.evaluation.seeds import FEWEST_SEEDS, holds_over_seeds
from scripts.evaluation.setups import PAPER_GAIN, differs, is_protocol_check
from scripts.provenance.task import GLIOMA, Task
from scripts.report.published import MOSHE
from scripts.report.words import (
    MEASURE_NAMES,
    format_interval,
    format_number,
    format_p,
    name_method,
    name_reference,
    name_setup,
    name_test,
)
from scripts.running.setups import classifier_of, setup_of

# In the words of a task: what the setups were tested on, and what several such tests are called.
TESTED_ON = {
    "external": ("on another cohort", "directions"),
    "locked_test": ("on the locked test part", "cohorts"),
    "out_of_fold": ("out of fold", "cohorts"),
    "validation_selected_on": ("on the {cases} that chose the epochs", "cohorts"),
}
LOWER_IS_BETTER = "lower is better"
MAX_NAMED = 4  # differences written out; more would be a table
NEEDS_NO_IMAGES = "no better than an answer without images"

Row = Mapping[str, Any]
Figure = tuple[str, ...]  # measure and names of a setup on a test


def findings(
    numbers: Row,
    unfinished: str = "",
    setups_of_unknown: Sequence[str] = (),
    swapped: Sequence[Row] = (),
    trivial: Collection[Figure] = (),
    permutations: Sequence[Row] = (),
    task: Task = GLIOMA,
) -> list[str]:
    """Say what the study found about its main tests.

    Args:
        numbers: what `comparison_numbers` returns.
        unfinished: sentence about images that did not reach the gates; empty where all did.
        setups_of_unknown: setups that train on images of which nobody can tell what their generators saw.
        swapped: what `scripts.evaluation.metrics.swapped_labels` returns.
        trivial: what `scripts.evaluation.metrics.trivial_measures` returns.
        permutations: what `scripts.evaluation.metrics.label_permutations` returns.
        task: what things are called.

    Returns:
        Sentences that stand on their own, at least one.
    """
    role = numbers["role"]
    primary = numbers["primary"]
    first = [primary_sentence(primary, trivial, task)] if primary else []
    rows = [
        row
        for row in numbers["comparisons"]
        if row["role"] == role and row["p_holm"] is not None and not row["is_primary"]
    ]
    controls = [row for row in numbers.get("controls", ()) if row["role"] == role]
    where = TESTED_ON[role][0].format(cases=task.cases)
    against = [_against_controls(controls, where, trivial)] if controls else []
    suspicious = [*_one_answer(numbers["one_answer"], role, task), *_swapped(swapped, role, task)]
    last = [
        *suspicious,
        *_protocol(permutations, role),
        *([unfinished] if unfinished else []),
        *([leakage_note(setups_of_unknown, task)] if setups_of_unknown else []),
    ]
    if not rows:
        return [*(first or [_not_compared(numbers, role, where)]), *against, *last]
    power = [row for row in numbers["power"] if row["role"] == role]
    noun = "secondary comparison" if primary and primary.get("is_declared_before") else "comparison"
    differing = _what_differs(rows, where, TESTED_ON[role][1], noun, trivial)
    over_seeds = _over_seeds(numbers.get("seed_differences", ()), task) if role == "external" else []
    return [*first, differing, *over_seeds, *against, _what_could_be_found(power, task), *last]


def classifier_sentence(rows: Sequence[Row], comparisons: Sequence[Row], marked: Collection[Figure]) -> str:
    """Say what a table of setups against classifiers shows.

    Args:
        rows: of `scripts.report.results.metric_table`, of one test, of setups with their classifiers.
        comparisons: what `compare_setups` returns of that test.
        marked: measure and `GROUP` of what differs after correction, but for gains that need no images.
    """
    tested = [row for row in comparisons if row["p_holm"] is not None]
    words = [
        _with_classifiers(name, tested, marked) for name in dict.fromkeys(setup_of(row["setup"]) for row in tested)
    ]
    if words:
        num_tests = max(row["num_tests"] for row in tested)
        corrected = f"after Holm’s correction for {_count(num_tests, 'test')}, in accuracy or AUC"
        reference = name_setup(setup_of(tested[0]["reference"]))
        words = [f"Against “{reference}” of the same classifier, {corrected}: {'; '.join(words)}."]
    shown = setup_of(comparisons[0]["reference"] if comparisons else rows[0]["setup"])
    known = [row for row in rows if setup_of(row["setup"]) == shown and row["balanced_accuracy"]["value"] is not None]
    ends = [choose(known, key=lambda row: row["balanced_accuracy"]["value"]) for choose in (min, max)] if known else []
    named = [f"{format_number(row['balanced_accuracy']['value'])} ({classifier_of(row['setup'])})" for row in ends]
    if len(known) > 1:
        words.append(
            f"The balanced accuracy of “{name_setup(shown)}” goes from {' to '.join(named)}, which is not tested."
        )
    return " ".join(words)


def _with_classifiers(setup: str, tested: Sequence[Row], marked: Collection[Figure]) -> str:
    """Count the classifiers with which a setup is better, and those with which it is worse."""
    own = [row for row in tested if setup_of(row["setup"]) == setup]
    different = [row for row in own if figure_of(row) in marked]
    better, worse = (
        list(dict.fromkeys(str(classifier_of(row["setup"])) for row in different if sign * row["value"] > 0))
        for sign in (1, -1)
    )
    of_all = f"of {_count(len({row['setup'] for row in own}), 'classifier')}"
    if not different:
        return f"“{name_setup(setup)}” differs with none {of_all}"
    better_words, worse_words = (f"{len(names)} ({', '.join(names)})" if names else "none" for names in (better, worse))
    return f"“{name_setup(setup)}” is better with {better_words} and worse with {worse_words} {of_all}"


def audit_sentence(rows: Sequence[Row]) -> str:
    """Say what the memorization audits found; empty without synthetic images.

    Args:
        rows: of `scripts.report.audit.audit_section`, one per cohort, class and method.
    """
    if not rows:
        return ""
    grave = [row for row in rows if row["is_grave"]]
    groups = f"{_count(len(rows), 'group')} of synthetic sets (by cohort, class, method)"
    rest = _verdicts([row for row in rows if not row["is_grave"]])
    if not grave:
        return f"By the audit of copies, of {groups}: {rest}."
    methods = dict.fromkeys(name_method(row["method"]) for row in grave)
    others = f" Of the others: {rest}." if rest else ""
    return (
        f"By the audit of copies, {len(grave)} of {groups} must not be used as they are ({_verdicts(grave)}), of"
        f" {', '.join(methods)}.{others}"
    )


def generator_findings(
    figures: Sequence[Row], audit: Sequence[Row], task: Task = GLIOMA, controls: Collection[str] = ()
) -> list[str]:
    """Say what a study without classifiers found: how near each generator comes to real images, and what copies.

    Of each cohort and class the first measures are told, of several cohorts and classes fewer.

    Args:
        figures: of `scripts.report.image_quality.image_figures`.
        audit: of `scripts.report.audit.audit_section`.
        task: what things are called.
        controls: methods of control generators; they are no candidates, and named behind the others.
    """
    if not audit and not figures:
        return ["No synthetic images were made."]
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    for row in figures:
        if row["direction"] == LOWER_IS_BETTER:
            measures = groups.setdefault((row["cohort"], row["class"]), {})
            measures.setdefault((row["network"], row["measure"]), []).append(row)
    varied = [place for place in (0, 1) if len({group[place] for group in groups}) > 1]
    sentences = []
    for group, measures in groups.items():
        names = f" ({', '.join(group[place] for place in varied)})" if varied else ""
        for rows in list(measures.values())[: max(1, MAX_NAMED // len(groups))]:
            sentences.append(_nearest(rows, f"real {task.cases}{names}", controls))
    grave = [row for row in audit if row["is_grave"]]
    last = "Next: look at the most suspicious pairs, and do not share these sets before that." if grave else ""
    return [sentence for sentence in (*sentences, audit_sentence(audit), last) if sentence]


def _nearest(rows: Sequence[Row], real: str, controls: Collection[str]) -> str:
    """Rank the generators of one cohort and class by one measure; of the controls the best is named apart."""
    ranked = sorted(rows, key=lambda row: row["value"])
    generators = [row for row in ranked if row["method"] not in controls]
    best_control = next((row for row in ranked if row["method"] in controls), None)
    best, *others = generators or ranked[:1]
    figure, floor = (format_number(best[key], significant=2) for key in ("value", "floor"))
    lead = f"By {best['measure']} ({best['network']})"
    halves = f"two halves of the real ones {floor}"
    control = "the best control, {}, has {}".format(*_named(best_control)) if best_control else ""
    if not generators:
        return f"{lead} {control} against {real}; {halves}."
    images = f"{lead} images of {name_method(best['method'])}"
    named = [f"{value} of {name}" for name, value in map(_named, others[:MAX_NAMED])]
    words = (
        f"come nearest to {real}: {figure}, after it {', '.join(named)}" if named else f"have {figure} against {real}"
    )
    return f"{images} {'; '.join(filter(None, (words, halves, control)))}."


def _named(row: Row) -> tuple[str, str]:
    """Name and value of a generator; that it is a control is said elsewhere."""
    return name_method(row["method"]).removesuffix(" (control)"), format_number(row["value"], significant=2)


def _verdicts(rows: Sequence[Row]) -> str:
    verdicts = Counter(row["verdict"] for row in rows)
    return ", ".join(f"{verdict} in {number}" for verdict, number in verdicts.most_common())


def next_step(
    numbers: Row,
    audit: Sequence[Row] = (),
    unfinished: str = "",
    swapped: Sequence[Row] = (),
    trivial: Collection[Figure] = (),
    task: Task = GLIOMA,
) -> str:
    """Say what to do next: the first fault that stands in the way of a conclusion, else what would make it surer.

    Args:
        numbers: what `comparison_numbers` returns.
        audit: see `audit_sentence`.
        unfinished: see `findings`.
        swapped: see `findings`.
        trivial: see `findings`.
        task: see `findings`.
    """
    role = numbers["role"]
    rows = [row for row in numbers["comparisons"] if row["role"] == role and row["p_holm"] is not None]
    needed = [row["subjects_for_paper_gain"] for row in numbers["power"] if row["role"] == role]
    known = [number for number in needed if number is not None]
    if unfinished:
        return "Next: train the generators longer, or draw with more steps, before comparing setups with their images."
    if any(row["is_grave"] for row in audit):
        return "Next: look at the most suspicious pairs, and do not share or train on these sets before that."
    if _swapped(swapped, role, task):
        return f"Next: check the {task.class_nouns} of the cohort whose AUC lies below guessing."
    if not rows:
        return "Next: evaluate a second setup, so that there is something to compare."
    if any(differs(row) and not is_trivial_gain(row, trivial) for row in rows):
        again = "Next: repeat the study with another seed (other_seed_dirs) before believing a difference."
        if not numbers["seeds"]:
            return again
        differences = numbers.get("seed_differences", ())
        if not _is_spread_known(differences):
            return f"Next: repeat the study with a third seed (other_seed_dirs): {FEWEST_SEEDS} give an interval."
        if not _kept_over_seeds(rows, differences):
            return "Next: repeat the study with more seeds; what differs with this seed is not shown over all of them."
        return "Next: test what differs on a further cohort."
    if known:
        gain = "the paper’s gain" if MOSHE in task.published else "a gain"
        needs = f"{gain} of {format_number(PAPER_GAIN, 2)} in accuracy needs {max(known)}"
        return f"Next: test on more {task.cases}; {needs}."
    return f"Next: test on more {task.cases}."


def leakage_note(setups: Sequence[str], task: Task = GLIOMA) -> str:
    """Say that the figures of setups may be those of subjects whom their images were made from."""
    names = ", ".join(f"“{name_setup(setup)}”" for setup in setups)
    return (
        f"Leakage is not excluded for {names}: what the generator of these images was trained on is unknown, and may"
        f" hold the {task.subjects} of the tests."
    )


def primary_sentence(primary: Row, trivial: Collection[Figure] = (), task: Task = GLIOMA) -> str:
    """Say what the end point is that was declared, what came out, and what could have been found.

    Args:
        primary: what `comparison_numbers` returns of it.
        trivial: see `findings`.
        task: see `findings`.
    """
    before = primary["is_declared_before"]
    lead = f"{'Primary end point, declared before' if before else 'End point declared after'} the evaluations"
    what = (
        f"{lead}: {MEASURE_NAMES[primary['measure']]} of “{name_setup(primary['setup'])}” against"
        f" “{name_setup(primary['reference'])}”, {name_test(primary)}"
    )
    if "reason" in primary:
        return f"{what}: not compared, {primary['reason']}."
    if primary["value"] is None:
        return f"{what}: not defined for these {primary['n']} {task.cases}."
    sign = "+" if primary["value"] > 0 else ""
    interval = f"95 % interval {format_interval(primary)}" if primary["low"] is not None else "no interval"
    p = "" if primary["p_holm"] is None else f", p {format_p(primary['p_holm'])}"
    if p and not before:
        p += f" after Holm’s correction for {_count(primary['num_tests'], 'test')}"
    words = f"{what}: {sign}{format_number(primary['value'], 2)} ({interval}{p}){_verdict(primary, trivial)}."
    if primary["detectable"] is not None:
        words += f" A true difference of {format_number(primary['detectable'], 2)} would be found with a power of 80 %."
    if before:
        return words
    late = "so it counts as one of the comparisons" if p else "and no corrected test is of it, so it has no verdict"
    return f"{words} It may have been chosen by its result, {late}."


def _verdict(primary: Row, trivial: Collection[Figure]) -> str:
    """What came out, behind a colon; empty where nothing can tell."""
    is_different = differs_in(primary)
    if is_different is None:
        return ""
    if not is_different:
        return ": no difference shown"
    if is_trivial_gain(primary, trivial):
        return f": better than the reference, but {NEEDS_NO_IMAGES}"
    return ": better" if primary["value"] > 0 else ": worse"


def _is_spread_known(differences: Sequence[Row]) -> bool:
    """Tell whether there are seeds enough for intervals over seeds and subjects."""
    return any(row["both_low"] is not None for row in differences)


def _kept_over_seeds(rows: Sequence[Row], differences: Sequence[Row]) -> bool:
    """Tell whether any comparison that differs has an interval over seeds and subjects without 0."""
    kept = {figure_of(row) for row in differences if row["differs"]}
    return any(differs(row) and figure_of(row) in kept for row in rows)


def _over_seeds(differences: Sequence[Row], task: Task) -> list[str]:
    """Say which differences other trainings show, too."""
    known = [row for row in differences if row["both_low"] is not None and not is_protocol_check(row["setup"])]
    if not known:
        return []
    kept = sorted(filter(holds_over_seeds, known), key=lambda row: (row["needs_no_images"], -abs(row["mean"])))
    seeds, single = len(known[0]["values"]), len(known) == 1
    what = "the only difference" if single else f"of {len(known)} differences, not corrected for their number,"
    lead = f"Over {seeds} trainings and over {task.cases}, {what}"
    if not kept:
        return [f"{lead} {'has no' if single else 'none has a'} 95 % interval without 0."]
    words = [
        f"“{name_setup(row['setup'])}”, {name_test(row)}, {MEASURE_NAMES[row['measure']]}"
        f" {'+' if row['mean'] > 0 else ''}{format_number(row['mean'], 2)}"
        f" ({format_interval({'low': row['both_low'], 'high': row['both_high']})})"
        f"{f', but {NEEDS_NO_IMAGES}' if row['needs_no_images'] else ''}"
        for row in kept[:MAX_NAMED]
    ]
    have = "has" if single else "1 has" if len(kept) == 1 else f"{len(kept)} have"
    return [f"{lead} {have} a 95 % interval without 0: {'; '.join(words)}{_more(len(kept) - len(words))}."]


def _what_differs(rows: Sequence[Row], where: str, several: str, noun: str, trivial: Collection[Figure]) -> str:
    pairs = list(dict.fromkeys((row["setup"], *_test(row)) for row in rows))
    different = [row for row in rows if differs(row)]
    count = len({(row["setup"], *_test(row)) for row in different})
    reference = name_reference(rows[0]["reference"])
    setups, tests = len({setup_of(pair[0]) for pair in pairs}), len({pair[1:] for pair in pairs})
    classifiers = {classifier_of(pair[0]) for pair in pairs}
    with_each = "" if None in classifiers else f" with {_count(len(classifiers), 'classifier')}"
    compared = f"{_count(setups, 'setup')}{with_each} {where}" + (f", {tests} {several}" if tests > 1 else "")
    lead = f"Of {_count(len(pairs), noun)} with “{reference}” ({compared})"
    single = len(rows) == 1
    corrected = "in the only test of them" if single else f"after Holm’s correction for all {len(rows)} tests"
    smallest = min(rows, key=lambda row: row["p_holm"])
    if not different:
        p = "p is" if single else "the smallest corrected p is"
        return f"{lead}, none differs {corrected}; {p} {format_p(smallest['p_holm'])}."
    # Gains that need no images come last: they are no success.
    shown = sorted(different, key=lambda row: (is_trivial_gain(row, trivial), row["p_holm"]))[:MAX_NAMED]
    words = [_difference(row) + (f", but {NEEDS_NO_IMAGES}" if is_trivial_gain(row, trivial) else "") for row in shown]
    more = _more(len(different) - len(shown))
    verb = "differs" if count == 1 else "differ"
    return f"{lead}, {count} {verb} {corrected}: {'; '.join(words)}{more}."


def _against_controls(rows: Sequence[Row], where: str, trivial: Collection[Figure]) -> str:
    """Say where generators beat every control generator and where not, each with the control nearest to it.

    One that is ahead of all controls with an AUC that needs no images is named, and is no success.
    """
    families: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        families.setdefault((row["setup"], *_test(row)), []).append(row)
    nearest = [min(family, key=lambda row: row["value"]) for family in families.values()]
    ahead = [row for row in nearest if row["beats_all"] and is_trivial_gain(row, trivial)]
    winners = [row for row in nearest if row["beats_all"] and row not in ahead]
    useless = f" Ahead of all, but {NEEDS_NO_IMAGES}: {_over_controls(ahead)}." if ahead else ""
    if winners:
        others = [row for row in nearest if not row["beats_all"]]
        rest = useless + (f" Not better beyond chance: {_over_controls(others)}." if others else "")
        return (
            f"Better in AUC {where} than every control generator, the nearest named: {_over_controls(winners)}.{rest}"
        )
    best = max(nearest, key=lambda row: row["value"])
    lead = f"No other generator beats every control generator in AUC {where} beyond chance"
    if ahead:
        return f"{lead} with a figure that needs images.{useless}"
    return f"{lead}; the nearest to it: {_over_control(best)}."


def _one_answer(rows: Sequence[Row], role: str, task: Task) -> list[str]:
    own = [row for row in rows if row["role"] == role and not is_protocol_check(row["setup"])]
    if not own:
        return []
    words = [
        f"“{name_setup(row['setup'])}” answers {row['answer']} to all {row['n']} {task.cases} ({name_test(row)})"
        for row in own[:MAX_NAMED]
    ]
    return [f"{'; '.join(words)}{_more(len(own) - MAX_NAMED)}: its accuracy is that of no classifier."]


def _swapped(rows: Sequence[Row], role: str, task: Task) -> list[str]:
    """Name areas below .5; those of shuffled labels may lie there by chance."""
    own = [row for row in rows if row["role"] == role and not is_protocol_check(row["setup"])]
    if not own:
        return []
    words = [
        f"“{name_setup(row['setup'])}”, {name_test(row)}, {format_number(row['value'], 2)} (95 % interval"
        f" {format_interval(row)})"
        for row in own[:MAX_NAMED]
    ]
    names = f"{'; '.join(words)}{_more(len(own) - MAX_NAMED)}"
    first = f"Check the {task.class_nouns} first."
    return [f"AUC below guessing, as where the labels of a cohort were swapped: {names}. {first}"]


def _protocol(permutations: Sequence[Row], role: str) -> list[str]:
    """Say whether classifiers of shuffled labels answer as by chance, in the mean over their permutations."""
    own = [row for row in permutations if row["role"] == role]
    if not own:
        return []
    words = [
        f"“{name_setup(row['setup'])}”, {name_test(row)}, mean AUC {format_number(row['value'], 2)} of"
        f" {row['num_permutations']} permutations ({format_number(row['lowest'], 2)} to"
        f" {format_number(row['highest'], 2)})"
        for row in sorted(own, key=lambda row: -abs(row["value"] - 0.5))[:MAX_NAMED]
    ]
    names = f"{'; '.join(words)}{_more(len(own) - MAX_NAMED)}"
    if all(row["is_chance"] for row in own):
        return [f"Shuffled labels are answered as by chance, as they must be: {names}."]
    return [f"Shuffled labels are not answered as by chance, so the protocol lets true ones through: {names}."]


def _over_controls(rows: Sequence[Row]) -> str:
    return "; ".join(map(_over_control, rows[:MAX_NAMED])) + _more(len(rows) - MAX_NAMED)


def _over_control(row: Row) -> str:
    sign = "+" if row["value"] > 0 else ""
    setups = f"“{name_setup(row['setup'])}”, {name_test(row)}, {sign}{format_number(row['value'], 2)} over"
    words = f"{setups} “{name_setup(row['control'])}” (95 % interval {format_interval(row)}"
    if row["p_holm"] is None:
        return f"{words})"
    corrected = f"after Holm’s correction for {_count(row['num_tests'], 'test')}"
    return f"{words}, p against all controls {format_p(row['p_holm'])} {corrected})"


def _difference(row: Row) -> str:
    sign = "+" if row["value"] > 0 else ""
    return (
        f"“{name_setup(row['setup'])}”, {name_test(row)}, {MEASURE_NAMES[row['measure']]}"
        f" {sign}{format_number(row['value'], 2)} (95 % interval {format_interval(row)}, p {format_p(row['p_holm'])})"
    )


def _what_could_be_found(power: Sequence[Row], task: Task) -> str:
    gains = [row["detectable_gain_holm"] for row in power]
    known = sorted(format_number(gain, 2) for gain in gains if gain is not None)
    blind = [name_test(row) for row in power if row["detectable_gain_holm"] is None]
    if not known:
        return (
            f"No gain in accuracy, however large, could have been found with a power of 80 %: the {task.subjects} are"
            " too few or the setups answer too much alike."
        )
    gain = known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
    corrected = " after the same correction" if any(row["num_tests"] > 1 for row in power) else ""
    words = f"A gain of {gain} in accuracy could have been found with a power of 80 %{corrected}"
    return f"{words}; on {' and '.join(blind)} none." if blind else f"{words}."


def _not_compared(numbers: Row, role: str, where: str) -> str:
    reasons = dict.fromkeys(row["reason"] for row in numbers["not_compared"] if row["role"] == role)
    if any(is_protocol_check(row["setup"]) for row in numbers["comparisons"]):
        reasons["a check of the protocol is no hypothesis"] = None
    return f"No two setups were compared {where}" + (f": {'; '.join(reasons)}." if reasons else ".")


def _test(row: Row) -> tuple[str, str]:
    return row["direction"], row["cohort"]


def _more(number: int) -> str:
    return f"; and {number} more below" if number > 0 else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
