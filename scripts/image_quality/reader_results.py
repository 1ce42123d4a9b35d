"""What the readers of a test could tell: real from synthetic, one class from the other, and how far they agree."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.image_quality.reader_answers import answer_files, read_answers
from scripts.running.files import write_csv, write_json, write_text
from scripts.splits.lists import read_list
from scripts.statistics.agreement import cohen_kappa, fleiss_kappa
from scripts.statistics.bootstrap import MIN_DRAWS
from scripts.statistics.intervals import CONFIDENCE, Estimate, clopper_pearson
from scripts.statistics.roc_area import delong

logger = logging.getLogger(__name__)

FILE_NAME = "reader_results.json"
EVERY_METHOD = "all methods"
ASKED = {"source": "real or synthetic", "class_name": "class"}
COLUMNS = ("reader", "pictures", "measure", "n", "value", "low", "high", "interval")
CHANCE = 0.5
Answers = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ReaderResults:
    """Evaluation of the filled sheets of one test.

    Args:
        key_path: `reader_key.json`.
        answers_dir: folder of the filled sheets.
        output_dir: gets `reader_results.json`, `reader_results.csv` and `summary.txt`.
        num_bootstrap_draws: for the intervals of the agreement.
        seed: of these draws.

    Raises:
        ValueError: if there are too few draws.
    """

    key_path: str
    answers_dir: str
    output_dir: str
    num_bootstrap_draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_bootstrap_draws < MIN_DRAWS:
            raise ValueError(f"num_bootstrap_draws must be at least {MIN_DRAWS}, got {self.num_bootstrap_draws!r}")

    def inputs(self) -> list[str]:
        """List every file that the results depend on, for the record of the stage."""
        return [self.key_path, *answer_files(self.answers_dir)]

    def run(self) -> Path:
        """Write the results.

        Returns:
            Path of `reader_results.json`.

        Raises:
            ValueError: as `read_answers`, or if the key was edited.
        """
        key = read_list(self.key_path, "reader_key")
        readers = read_answers(key, self.answers_dir)
        content = reader_results(key, readers, self.num_bootstrap_draws, self.seed)
        folder = Path(self.output_dir)
        write_json(folder / FILE_NAME, content)
        write_csv(folder / "reader_results.csv", _table(content), COLUMNS)
        write_text(folder / "summary.txt", "\n".join(content["sentences"]) + "\n")
        for sentence in content["sentences"]:
            logger.info(sentence)
        return folder / FILE_NAME


def reader_results(
    key: Mapping[str, Any], readers: Mapping[str, Answers], num_bootstrap_draws: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Compute what each reader could tell.

    A reader's score of a picture is the confidence, positive where the answer is *synthetic*. So the area under the ROC
    curve is the chance that of a pair the synthetic picture is thought the more synthetic one; .5 is guessing, however
    often a reader says *synthetic*. A verdict holds over all readers and methods together: its interval covers
    1 - .05 / (number of readers x number of verdicts of each), as Bonferroni has it.

    Args:
        key: content of `reader_key.json`.
        readers: what `read_answers` returns.
        num_bootstrap_draws: for the intervals of the agreement.
        seed: of these draws.

    Returns:
        `readers`: for each, `sources` (a row for each method, and for all where there are several) and `classes` (a row
        for real pictures and each method; none where the class was not asked); `agreement`: rows of pairs of readers,
        and of all where there are more than two; `level` of the verdicts; `sentences`.
    """
    pictures = key["pictures"]
    methods = list(dict.fromkeys(picture["method"] for picture in pictures if picture["method"] is not None))
    scopes = {**({EVERY_METHOD: methods} if len(methods) > 1 else {}), **{method: [method] for method in methods}}
    level = 1 - (1 - CONFIDENCE) / (len(readers) * len(scopes))
    results: list[dict[str, Any]] = [
        {
            "reader": name,
            "sources": [
                {"pictures": scope, **_tell_sources(pictures, answers, own, level)} for scope, own in scopes.items()
            ],
            "classes": _tell_classes(key, answers, methods) if key["asks_class"] else [],
        }
        for name, answers in readers.items()
    ]
    sentences = [_sentence(result["reader"], row, level) for result in results for row in result["sources"]]
    return {
        "study": key["study"],
        "simulated": key["simulated"],
        "num_pictures": len(pictures),
        "level": level,
        "readers": results,
        "agreement": _agreement(key, readers, num_bootstrap_draws, seed),
        "sentences": sentences,
    }


def _tell_sources(
    pictures: Sequence[Mapping[str, Any]], answers: Answers, methods: Sequence[str], level: float
) -> dict[str, Any]:
    """Measure how a reader tells the pictures of some methods from all real ones."""
    shown = [index for index, picture in enumerate(pictures) if picture["method"] in (None, *methods)]
    synthetic = np.array([pictures[index]["source"] == "synthetic" for index in shown])
    said = np.array([answers[index]["source"] == "synthetic" for index in shown])
    sureness = np.array([answers[index]["source_confidence"] for index in shown], dtype=float)
    scores = np.where(said, sureness, -sureness)
    num_synthetic, num_real = int(synthetic.sum()), int((~synthetic).sum())
    measures = {
        # Of unequal numbers, always giving the more frequent answer is right in more than half.
        "accuracy": _share(said == synthetic) if num_real == num_synthetic else Estimate(None),
        "sensitivity": _share(said[synthetic]),
        "specificity": _share(~said[~synthetic]),
        "auc": delong(synthetic, scores),
    }
    wide = delong(synthetic, scores, confidence=level)
    numbers = {"num_real": num_real, "num_synthetic": num_synthetic}
    limits = {"verdict_low": wide.low, "verdict_high": wide.high}
    return {**numbers, **{name: value._asdict() for name, value in measures.items()}, **limits, "tells": _tells(wide)}


def _tells(auc: Estimate) -> str:
    """Say "yes", "no sign" or "reversed": a difference is seen, but synthetic pictures are taken for the real ones."""
    assert auc.low is not None
    assert auc.high is not None
    return "yes" if auc.low > CHANCE else "reversed" if auc.high < CHANCE else "no sign"


def _tell_classes(key: Mapping[str, Any], answers: Answers, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Measure how a reader tells the classes, among real pictures and among those of each method."""
    rows = []
    for source, method in [("real", None), *(("synthetic", method) for method in methods)]:
        pairs = [
            (picture["class_name"], answer)
            for picture, answer in zip(key["pictures"], answers, strict=True)
            if (picture["source"], picture["method"]) == (source, method)
        ]
        truth = np.array([name for name, _ in pairs])
        said = np.array([answer["class_name"] for _, answer in pairs])
        sureness = np.array([answer["class_confidence"] for _, answer in pairs], dtype=float)
        area = Estimate(None)
        if len(key["classes"]) == 2:
            second = key["classes"][1]
            area = delong(truth == second, np.where(said == second, sureness, -sureness))
        measures = {"accuracy": _share(truth == said), "auc": area}
        rows.append({"pictures": method or source, "n": len(pairs), **{k: v._asdict() for k, v in measures.items()}})
    return rows


def _share(right: np.ndarray) -> Estimate:
    return clopper_pearson(int(right.sum()), len(right))


def _agreement(
    key: Mapping[str, Any], readers: Mapping[str, Answers], num_draws: int, seed: int
) -> list[dict[str, Any]]:
    truths = [(picture["source"], picture["class_name"]) for picture in key["pictures"]]
    strata = [sorted(set(truths)).index(truth) for truth in truths]
    rows = []
    for field in ("source", *(["class_name"] if key["asks_class"] else [])):
        said = {name: [answer[field] for answer in answers] for name, answers in readers.items()}
        for pair in itertools.combinations(said, 2):
            kappa = cohen_kappa(said[pair[0]], said[pair[1]], strata, num_draws, seed)
            rows.append({"asked": ASKED[field], "readers": list(pair), "measure": "Cohen's kappa", **kappa._asdict()})
        if len(said) > 2:
            kappa = fleiss_kappa(list(said.values()), strata, num_draws, seed)
            rows.append({"asked": ASKED[field], "readers": list(said), "measure": "Fleiss' kappa", **kappa._asdict()})
    return rows


def _sentence(reader: str, row: Mapping[str, Any], level: float) -> str:
    """Say in words whether a reader can tell the pictures of a method from real ones."""
    name = row["pictures"]
    what = "synthetic pictures" if name == EVERY_METHOD else f"pictures of {name}"
    auc = row["auc"]
    area = f"AUC {auc['value']:.2f} ({auc['low']:.2f} to {auc['high']:.2f})"
    within = f"the interval of {100 * level:.1f} % is {row['verdict_low']:.2f} to {row['verdict_high']:.2f}"
    if row["tells"] == "yes":
        return f"{reader} can tell {what} from real ones: {area}; {within}, above {CHANCE}."
    if row["tells"] == "reversed":
        return f"{reader} sees a difference, but takes {what} for the real ones: {area}; {within}, below {CHANCE}."
    return (
        f"It is not shown that {reader} can tell {what} from real ones: {area}; {within}, around {CHANCE}. That is no"
        f" proof that nobody can: {row['num_synthetic']} such pictures and {row['num_real']} real ones were shown."
    )


def _table(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every estimate as a row of `COLUMNS`."""
    rows = []
    for result in content["readers"]:
        for row in result["sources"]:
            numbers = {
                "accuracy": row["num_real"] + row["num_synthetic"],
                "auc": row["num_real"] + row["num_synthetic"],
            }
            numbers |= {"sensitivity": row["num_synthetic"], "specificity": row["num_real"]}
            rows += [_row(result["reader"], row["pictures"], name, n, row[name]) for name, n in numbers.items()]
        for row in result["classes"]:
            for name in ("accuracy", "auc"):
                rows.append(_row(result["reader"], row["pictures"], f"class {name}", row["n"], row[name]))
    for row in content["agreement"]:
        names, n = " and ".join(row["readers"]), content["num_pictures"]
        rows.append(_row(names, "all", f"{row['measure']}, {row['asked']}", n, row))
    return rows


def _row(reader: str, pictures: str, measure: str, n: int, estimate: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {"reader": reader, "pictures": pictures, "measure": measure, "n": n}
    return {**fixed, **{name: estimate[name] for name in ("value", "low", "high", "interval")}}
