"""What the files of a run say to each item of the checklists CLAIM 2024 and TRIPOD+AI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scripts.evaluation.answers import ROLES, class_name, class_names
from scripts.explanations.pictures import METHOD_TITLES
from scripts.provenance.study_files import StudyFiles
from scripts.provenance.task import GLIOMA, Task
from scripts.report.methods import methods_section
from scripts.report.words import MEASURE_NAMES, name_test
from scripts.running.files import read_json
from scripts.running.setups import setup_of
from scripts.splits.parts import is_split_by_image

RUN, PART, AUTHOR = "from the run", "in part", "for the author"
ENSEMBLE_NAMES = {
    "mean_probability": "mean probability",
    "mean_logit": "mean logit",
    "vote": "share of the votes",
    "weight_average": "answer of the mean weights",
}

Evidence = tuple[str, str] | None


@dataclass(frozen=True)
class RunEvidence:
    """What the files of a run tell.

    Args:
        files: what the stages left.
        predictions: what `merge_predictions` returns.
        metrics: what `compute_metrics` returns.
        question: what the study asks.
        numbers: what `scripts.report.comparison.comparison_numbers` returns; may be empty.
        use: what `scripts.report.clinical_use.clinical_numbers` returns; may be empty.
        task: what things are called.
    """

    files: StudyFiles
    predictions: Sequence[Mapping[str, str]]
    metrics: Sequence[Mapping[str, Any]]
    question: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    use: Mapping[str, Any] = field(default_factory=dict)
    task: Task = GLIOMA

    @cached_property
    def cohorts(self) -> list[dict[str, Any]]:
        """Contents of the `cohort.json` files."""
        return [content for _, content in self.files.lists("cohort")]

    @cached_property
    def patches(self) -> list[dict[str, Any]]:
        """Contents of the `patches.json` files."""
        return [content for _, content in self.files.lists("patches")]

    @cached_property
    def splits(self) -> list[dict[str, Any]]:
        """Contents of the `splits.json` files."""
        return [content for _, content in self.files.lists("splits")]

    @cached_property
    def explanations(self) -> list[dict[str, Any]]:
        """Contents of the `explanations.json` files."""
        return [read_json(path) for path in self.files.named("explanations.json")]

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """Contents of the `metrics.json` files of the evaluations."""
        return [read_json(path) for path in self.files.named("metrics.json", "evaluation")]

    @cached_property
    def methods(self) -> dict[str, Any]:
        """Settings by kind of stage, versions and seeds."""
        return methods_section(self.files)

    @property
    def simulated(self) -> bool:
        """Whether every cohort is simulated."""
        return bool(self.cohorts) and all(cohort["simulated"] for cohort in self.cohorts)

    @property
    def is_split_by_image(self) -> bool:
        """Whether nobody recorded which images of a cohort are of one patient."""
        return any(map(is_split_by_image, self.splits))

    def settings(self, kind: str, *keys: str) -> dict[str, str]:
        """Pick settings of a kind of stage in words; those that it did not read are left out."""
        compared = self.methods["settings"].get(kind)
        return {key: value for key in keys if compared and (value := compared.value(key))}

    def configs(self, kind: str) -> list[dict[str, Any]]:
        """Read the merged configs of all stages of a kind that say how their networks start."""
        return [config for config in self.files.configs(kind) if "classifier_pretrained_path" in config]

    def roles(self, *roles: str) -> dict[str, int]:
        """Count the subjects predicted in each of the given roles that occur."""
        subjects_by_role: dict[str, set[tuple[str, str]]] = {}
        for row in self.predictions:
            if row["role"] in roles:
                subjects_by_role.setdefault(row["role"].replace("_", " "), set()).add(
                    (row["cohort"], row["subject_id"])
                )
        return {role: len(subjects) for role, subjects in subjects_by_role.items()}


def parts_that_share_subjects(splits: Mapping[str, Any]) -> list[str]:
    """Name the pairs of parts of a fold that have a subject in common; none where they are disjoint.

    Where the splits were made for `selection: validation`, inner and validation part are one and are not named.
    """
    shared = []
    for number, fold in enumerate(splits["folds"]):
        parts = {"test": splits["test"], **{name: fold[name] for name in ("train", "inner", "validation")}}
        if splits.get("selection") == "validation":
            del parts["inner"]
        names = list(parts)
        pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
        shared += [f"{a} and {b} of fold {number}" for a, b in pairs if set(parts[a]) & set(parts[b])]
    return shared


def _technology(run: RunEvidence) -> Evidence:
    backbone = run.settings("classifier", "classifier_backbone").get("classifier_backbone")
    generators = run.files.trainings("generator")
    if not backbone:
        return None
    words = f"Deep learning: classifiers ({backbone})" + (", diffusion models" if generators else "")
    return PART, f"{words}. The title is the author’s."


def _objectives(run: RunEvidence) -> Evidence:
    return (PART, "The question stands on top of this page; a hypothesis is the author’s.") if run.question else None


def _sources(run: RunEvidence) -> Evidence:
    words = [
        f"{c['name']} ({'simulated, ' if c['simulated'] else ''}{len(c['subjects'])} {run.task.subjects})"
        for c in run.cohorts
    ]
    return (RUN if run.simulated else PART, "; ".join(words) + ".") if words else None


def _criteria(run: RunEvidence) -> Evidence:
    reasons = sorted({subject["reason"] for subject in _left_out(run)})
    if not run.cohorts:
        return None
    return (
        PART,
        f"Left out in this run: {'; '.join(reasons) if reasons else 'nobody'}. Who entered the cohorts: the author.",
    )


def _preprocessing(run: RunEvidence) -> Evidence:
    keys = ("patch_size", "patch_spacing_mm", "intensity_mode", "intensity_percentiles", "bias_correction")
    return _listed(RUN, run.settings("patches", *keys, "registration"))


def _subsets(run: RunEvidence) -> Evidence:
    return _listed(RUN, run.settings("patches", "region_chain", "min_et_ml", "slice", "crop"))


def _missing(run: RunEvidence) -> Evidence:
    if not run.cohorts:
        return None
    return PART, f"{len(_left_out(run))} {run.task.subjects} left out, each with its reason under Cohorts."


def _reference(run: RunEvidence) -> Evidence:
    return (RUN, "Simulated subjects: the program that drew them set the class.") if run.simulated else None


def _assignment(run: RunEvidence) -> Evidence:
    words = [
        f"{s.get('cohort', 'cohort')}: {len(s['test'])} test, {len(s['folds'])} fold{'s' * (len(s['folds']) != 1)},"
        f" seed {s['seed']}"
        for s in run.splits
    ]
    return (RUN, "; ".join(words) + ".") if words else None


def _disjoint(run: RunEvidence) -> Evidence:
    if not run.splits:
        return None
    shared = [name for splits in run.splits for name in parts_that_share_subjects(splits)]
    subject = run.task.subject
    if shared:
        return PART, f"Not disjoint by {subject}: {', '.join(shared)}."
    words = f"By {subject}: no {subject} is in two parts of a fold, counted in each splits.json."
    if run.is_split_by_image:
        return PART, f"{words} Which of them are of one patient nobody recorded, so the parts may share patients."
    return RUN, words


def _model(run: RunEvidence) -> Evidence:
    keys = ("classifier_backbone", "classifier_stem_stride", "spatial_dims", "modalities")
    return _listed(PART, run.settings("classifier", *keys))


def _software(run: RunEvidence) -> Evidence:
    versions = run.methods["versions"]
    words = [f"{name} {' and '.join(numbers)}" for name, numbers in versions.items()]
    return (RUN, f"{', '.join(words)}.") if versions else None


def _initialization(run: RunEvidence) -> Evidence:
    paths = {str(config["classifier_pretrained_path"]) for config in run.configs("classifier")}
    if not paths:
        return None
    start = "at random" if paths == {"None"} else "from a file of pretrained weights"
    return (RUN if paths == {"None"} else PART), f"Classifiers start {start}, seeds {_in_words(run.methods['seeds'])}."


def _training(run: RunEvidence) -> Evidence:
    numbers = {kind: len(run.files.trainings(kind)) for kind in ("generator", "classifier")}
    if not any(numbers.values()):
        return None
    words = " and ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in numbers.items() if count)
    return RUN, f"{words} trained; their settings stand under Methods, their curves under Training."


def _selection(run: RunEvidence) -> Evidence:
    parts = {str(splits["selection"]) for splits in run.splits if "selection" in splits}
    return (RUN, f"Best epoch on the {' or '.join(sorted(parts))} part of each fold.") if parts else None


def _ensembles(run: RunEvidence) -> Evidence:
    setups = {row["setup"] for row in run.predictions if row["fold"] == "-1"}
    if not setups:
        return None
    where = f"of the networks of all folds, in {len(setups)} setups"
    contents = [content for content in run.evaluations if content["setup"] in setups]
    # Evaluations of before there was a choice do not name it.
    names = sorted({ENSEMBLE_NAMES[content.get("ensemble", "mean_probability")] for content in contents})
    if not names:
        return PART, f"One answer {where}; how it is made of theirs: the author."
    scaled = [float(value) for content in contents for value in content.get("temperatures", {}).values()]
    how = f"; logits divided by a temperature per fold, {min(scaled):.2f} to {max(scaled):.2f}" if scaled else ""
    words = " or ".join(names)
    return RUN, f"{words[:1].upper()}{words[1:]} {where}{how}."


def _measures(run: RunEvidence) -> Evidence:
    names = dict.fromkeys(row["measure"] for row in run.metrics)
    return RUN, ", ".join(MEASURE_NAMES.get(name, name) for name in names) + "."


def _uncertainty(run: RunEvidence) -> Evidence:
    names = dict.fromkeys(row["interval"] for row in run.metrics if row["interval"])
    if not names:
        return None
    intervals = f"95 % intervals: {'; '.join(names)}."
    tested = [row for row in run.numbers.get("comparisons", ()) if row["p"] is not None]
    if not tested:
        return PART, f"{intervals} Tests of significance: the author."
    tests = " and ".join(dict.fromkeys(row["test"] for row in tested))
    references = " and ".join(dict.fromkeys(setup_of(row["reference"]) for row in tested))
    holm = ", p corrected by Holm over all tests of a role" if any(row["p_holm"] is not None for row in tested) else ""
    return RUN, f"{intervals} Tests of differences to {references}: {tests}{holm}."


def _explainability(run: RunEvidence) -> Evidence:
    methods = dict.fromkeys(METHOD_TITLES[name] for content in run.explanations for name in content["sanity"])
    if not methods:
        return None
    return RUN, f"{', '.join(methods)} of single cases, compared with maps of networks with randomized weights."


def _internal(run: RunEvidence) -> Evidence:
    counts = run.roles("out_of_fold", "locked_test", "validation_selected_on")
    return _listed(RUN, {f"{role}, {run.task.subjects}": str(count) for role, count in counts.items()})


def _external(run: RunEvidence) -> Evidence:
    pairs = dict.fromkeys((r["direction"], r["cohort"]) for r in run.predictions if r["role"] == "external")
    if not pairs:
        return None
    words = "; ".join(f"{direction} on {cohort}" for direction, cohort in pairs)
    return (PART if run.simulated else RUN), f"{words}{' (both simulated)' if run.simulated else ''}."


def _numbers(run: RunEvidence) -> Evidence:
    words = [
        f"{cohort['name']}: {len(cohort['subjects'])} in the cohort, {_num_left_out(run, cohort['name'])} left out"
        for cohort in run.cohorts
    ]
    return (RUN, "; ".join(words) + ".") if words else None


def _characteristics(run: RunEvidence) -> Evidence:
    return (PART, f"{_recorded(run)} stand under Cohorts; age, sex and others: the author.") if run.cohorts else None


def _recorded(run: RunEvidence) -> str:
    return "Classes, sites and regions" if run.task.target else "Classes and sites"


def _performance(run: RunEvidence) -> Evidence:
    return RUN, f"{len(run.metrics)} figures in metrics.csv, those with a known interval with it."


def _diagnostic(run: RunEvidence) -> Evidence:
    if not any(row["measure"] in ("balanced_accuracy", "auc") and row["low"] is not None for row in run.metrics):
        return None
    return (
        PART,
        "Balanced accuracy and AUC with intervals, by setup and direction; what they mean for practice: the author.",
    )


def _failures(run: RunEvidence) -> Evidence:
    wrong = sum(_is_wrong(row, class_names(run.predictions)) for row in run.predictions)
    shown = sum(case["label"] != case["answer"] for content in run.explanations for case in content["cases"])
    share = f"{wrong} of {len(run.predictions)} answers are wrong (predictions.csv)"
    return PART, f"{share}; the surest of one setup are shown, {shown} explained by maps."


def _limits(run: RunEvidence) -> Evidence:
    words = [
        *(["Simulated subjects: no evidence about patients."] if run.simulated else []),
        *(["One seed."] if run.numbers and run.numbers.get("role") == "external" and not run.numbers["seeds"] else []),
        *(["Split by image: optimistic, as it may part the images of a patient."] if run.is_split_by_image else []),
        *(["Leakage is not excluded for all setups."] if run.files.setups_of_unknown else []),
    ]
    return _with_the_author((PART, " ".join(words)), "Others") if words else None


def _details(run: RunEvidence) -> Evidence:
    count = len(run.files.named("config.yaml"))
    return (PART, f"The merged config of {count} stages lies beside their outputs.") if count else None


def _listed(status: str, settings: Mapping[str, Any]) -> Evidence:
    words = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())
    return (status, f"{words}.") if words else None


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _left_out(run: RunEvidence) -> list[Mapping[str, Any]]:
    subjects = {
        (content["name"], subject["subject_id"]): subject
        for content in (*run.cohorts, *run.patches)
        for subject in content.get("left_out", [])
    }
    return list(subjects.values())


def _num_left_out(run: RunEvidence, cohort: str) -> int:
    contents = [content for content in (*run.cohorts, *run.patches) if content["name"] == cohort]
    return len({subject["subject_id"] for content in contents for subject in content.get("left_out", [])})


def _is_wrong(row: Mapping[str, str], names: Sequence[str]) -> bool:
    return max(names, key=lambda name: float(row[f"probability_{name}"])) != class_name(row["label"], names)


def _goal(run: RunEvidence) -> Evidence:
    primary = run.numbers.get("primary")
    if not primary:
        return None
    when = "before" if primary["is_declared_before"] else "after"
    what = f"{MEASURE_NAMES[primary['measure']]} of {primary['setup']} against {primary['reference']}"
    return PART, f"One end point, declared {when} the evaluations: {what}. What it is for: the author."


def _acquisition(run: RunEvidence) -> Evidence:
    strengths = Counter(str(value) for value in _of_subjects(run, "field_strength_t"))
    return _listed(PART, {f"field strength in tesla, {run.task.subjects}": _counted(strengths)} if strengths else {})


def _annotations(run: RunEvidence) -> Evidence:
    sources = Counter(str(value) for value in _of_subjects(run, "mask_source"))
    return (
        (PART, f"Masks by source, {run.task.subjects}: {_counted(sources)}; who drew them: the author.")
        if sources
        else None
    )


def _sample_size(run: RunEvidence) -> Evidence:
    gains = [row for row in run.numbers.get("power", ()) if row["role"] == run.numbers["role"]]
    if not gains:
        return None
    words = [
        f"{row['n']} {run.task.subjects} ({name_test(row)}): "
        + (f"a gain of {row['detectable_gain']:.2f}" if row["detectable_gain"] is not None else "no gain")
        for row in gains
    ]
    found = f"Could be found in accuracy with a power of 80 % by a single test: {'; '.join(words)}"
    return PART, f"{found}. How the size was planned: the author."


def _robustness(run: RunEvidence) -> Evidence:
    groups = list(dict.fromkeys(row["by"] for row in run.numbers.get("subgroups", ())))
    sites = {(row["cohort"], row["site"]) for row in run.numbers.get("sites", ())}
    words = [
        *([f"by {', '.join(groups)}"] if groups else []),
        *([f"by {len(sites)} sites"] if len(sites) > 1 else []),
        *(["over seeds"] if run.numbers.get("seeds") else []),
        *(["against control generators"] if run.numbers.get("controls") else []),
    ]
    return (PART, f"Measured {'; '.join(words)}. Other analyses: the author.") if words else None


def _centers(run: RunEvidence) -> Evidence:
    numbers = {c["name"]: len({subject.get("site") for subject in c["subjects"]} - {None}) for c in run.cohorts}
    words = [
        f"{name}: {number} site{'' if number == 1 else 's'}" if number else f"{name}: sites not stated"
        for name, number in numbers.items()
    ]
    return (PART, f"{'; '.join(words)}. What they are: the author.") if words else None


def _outcome(run: RunEvidence) -> Evidence:
    names = class_names(run.predictions)
    if run.simulated:
        return RUN, f"{' or '.join(names)}, set by the program that drew the simulated subjects."
    return PART, f"{' or '.join(names)}, as the tables of the cohorts give it; how it was assessed: the author."


def _predictors(run: RunEvidence) -> Evidence:
    return _listed(
        RUN, run.settings("patches", "modalities", "patch_size", "patch_spacing_mm", "region_chain", "slice")
    )


def _choice_of_predictors(run: RunEvidence) -> Evidence:
    return _with_the_author(_listed(PART, run.settings("patches", "modalities")), "Why these")


def _scaling(run: RunEvidence) -> Evidence:
    return _listed(RUN, run.settings("patches", "intensity_mode", "intensity_percentiles"))


def _building(run: RunEvidence) -> Evidence:
    parts = [part[1] for part in (_model(run), _training(run), _selection(run)) if part]
    return _with_the_author((PART, " ".join(parts)), "Why this model") if parts else None


def _clusters(run: RunEvidence) -> Evidence:
    sites = {(row["cohort"], row["site"]) for row in run.numbers.get("sites", ())}
    if not sites:
        return None
    return PART, f"Every figure by cohort, and by site for {len(sites)} sites; no model differs between clusters."


def _updating(run: RunEvidence) -> Evidence:
    return (
        (PART, "This run changed no model after its evaluation. Later changes: the author.")
        if run.evaluations
        else None
    )


def _imbalance(run: RunEvidence) -> Evidence:
    return _listed(PART, run.settings("classifier", "classifier_sampling", "synthetic_balance", "synthetic_ratio"))


def _output(run: RunEvidence) -> Evidence:
    rows = run.use.get("operating_points", ())
    words = "A probability for each class; the answer is the most probable one"
    if not rows:
        return PART, f"{words}. Thresholds: the author."
    rule = f"{rows[0]['goal']} of {rows[0]['level']} for {rows[0]['class']}"
    return RUN, f"{words}. Thresholds were chosen on the inner parts to reach a {rule}."


def _ethics(run: RunEvidence) -> Evidence:
    return (RUN, "Simulated subjects: no patient took part.") if run.simulated else None


def _protocol(run: RunEvidence) -> Evidence:
    primary = run.numbers.get("primary")
    if not primary or not primary["is_declared_before"]:
        return None
    return PART, "The primary end point was declared in the configs before the evaluations; a protocol: the author."


def _code(run: RunEvidence) -> Evidence:
    count = len(run.files.records)
    words = (
        f"Hashes of code and settings lie in the stage.json of {count} stages; where the code can be had: the author."
    )
    return (PART, words) if count else None


def _analyzed(run: RunEvidence) -> Evidence:
    counts = {f"{role}, {run.task.subjects}": str(count) for role, count in run.roles(*ROLES).items()}
    trained = [f"{len(fold['train'])}" for splits in run.splits for fold in splits["folds"]]
    words = {**({f"training, {run.task.subjects} by fold": ", ".join(trained)} if trained else {}), **counts}
    return _with_the_author(_listed(PART, words), "Events in each")


def _between_cohorts(run: RunEvidence) -> Evidence:
    if len(run.cohorts) < 2:
        return None
    known = "Classes, sites, regions and volumes" if run.task.target else "Classes and sites"
    return PART, f"{known} of the cohorts stand on this page; others: the author."


def _interpretation(run: RunEvidence) -> Evidence:
    return PART, "The first paragraph of this page says what was found; what it means: the author."


def _with_the_author(evidence: Evidence, what: str) -> Evidence:
    return (evidence[0], f"{evidence[1]} {what}: the author.") if evidence else None


def _of_subjects(run: RunEvidence, key: str) -> list[Any]:
    """What the cohorts record of their subjects, those of whom it is not known left out."""
    return [value for c in run.cohorts for subject in c["subjects"] if (value := subject.get(key)) is not None]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


# By the numbers of the items; an item that no file tells anything of is the author's.
CLAIM_EVIDENCE: dict[str, Callable[[RunEvidence], Evidence]] = {
    "1": _technology,
    "4": _objectives,
    "6": _goal,
    "7": _sources,
    "8": _criteria,
    "9": _preprocessing,
    "10": _subsets,
    "12": _missing,
    "13": _acquisition,
    "14": _reference,
    "16": _annotations,
    "19": _assignment,
    "20": _disjoint,
    "21": _sample_size,
    "22": _model,
    "23": _software,
    "24": _initialization,
    "25": _training,
    "26": _selection,
    "27": _ensembles,
    "28": _measures,
    "29": _uncertainty,
    "30": _robustness,
    "31": _explainability,
    "32": _internal,
    "33": _external,
    "35": _numbers,
    "36": _characteristics,
    "37": _performance,
    "38": _diagnostic,
    "39": _failures,
    "40": _limits,
    "42": _details,
}
TRIPOD_EVIDENCE: dict[str, Callable[[RunEvidence], Evidence]] = {
    "1": _technology,
    "4": _objectives,
    "5a": _sources,
    "6a": _centers,
    "6b": _criteria,
    "7": _preprocessing,
    "8a": _outcome,
    "9a": _choice_of_predictors,
    "9b": _predictors,
    "9c": _annotations,
    "10": _sample_size,
    "11": _missing,
    "12a": _assignment,
    "12b": _scaling,
    "12c": _building,
    "12d": _clusters,
    "12e": _measures,
    "12f": _updating,
    "12g": _ensembles,
    "13": _imbalance,
    "15": _output,
    "16": _external,
    "17": _ethics,
    "18c": _protocol,
    "18f": _code,
    "20a": _numbers,
    "20b": _characteristics,
    "20c": _between_cohorts,
    "21": _analyzed,
    "22": _details,
    "23a": _performance,
    "23b": _clusters,
    "24": _updating,
    "25": _interpretation,
    "26": _limits,
}
