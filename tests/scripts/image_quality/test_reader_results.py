from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from scripts.image_quality.reader_results import ReaderResults, reader_results
from scripts.running.files import read_csv, write_json
from scripts.splits.lists import with_digest

KINDS = [("real", None, 20), ("synthetic", "ddpm", 10), ("synthetic", "pca_gaussian", 10)]


def key_of(kinds=KINDS, classes=("LGG", "HGG"), asks_class=True) -> dict:
    """A key of so many pictures of each kind, classes in turn."""
    truths = [
        {"source": source, "method": method, "class_name": classes[k % len(classes)]}
        for source, method, count in kinds
        for k in range(count)
    ]
    pictures = [{"picture": f"picture_{k:03d}.png", **truth} for k, truth in enumerate(truths)]
    facts = {"study": "0123", "simulated": True, "asks_class": asks_class, "classes": list(classes)}
    return {**facts, "pictures": pictures}


def answers_of(key: dict, says, confidence=lambda k: 3, class_says=None) -> list[dict]:
    return [
        {
            "picture": picture["picture"],
            "source": says(k, picture),
            "source_confidence": confidence(k),
            "class_name": (class_says or (lambda k, own: own["class_name"]))(k, picture),
            "class_confidence": confidence(k),
        }
        for k, picture in enumerate(key["pictures"])
    ]


def truth(k, picture):
    return picture["source"]


def swapped(k, picture):
    return "real" if picture["source"] == "synthetic" else "synthetic"


def always_real(k, picture):
    return "real"


def rows_of(content: dict) -> dict:
    """(reader, pictures) -> row of the sources."""
    return {(result["reader"], row["pictures"]): row for result in content["readers"] for row in result["sources"]}


def test_the_accuracy_of_all_has_the_exact_interval():
    key = key_of()
    wrong = {0, 1, 20, 30, 31}  # two real pictures, one of ddpm, two of pca_gaussian
    says = lambda k, picture: swapped(k, picture) if k in wrong else truth(k, picture)  # noqa: E731
    content = reader_results(key, {"Ada": answers_of(key, says)}, 100)
    row = rows_of(content)["Ada", "all methods"]
    limits = [beta.ppf(0.025, 35, 6), beta.ppf(0.975, 36, 5)]  # Clopper and Pearson 1934, of 35 of 40
    assert [row["accuracy"][name] for name in ("value", "low", "high")] == pytest.approx([35 / 40, *limits])
    assert row["sensitivity"]["value"] == 17 / 20
    assert row["specificity"]["value"] == 18 / 20
    single = rows_of(content)["Ada", "ddpm"]
    assert (single["sensitivity"]["value"], single["specificity"]["value"]) == (9 / 10, 18 / 20)
    assert single["accuracy"]["value"] is None  # of 10 against 20 pictures guessing is not right in half


def test_the_auc_is_that_of_the_signed_confidence():
    key = key_of()
    random = np.random.default_rng(0)
    said, sure = random.choice(["real", "synthetic"], 40), random.integers(1, 6, 40)
    answers = answers_of(key, lambda k, _: str(said[k]), lambda k: int(sure[k]))
    content = reader_results(key, {"Ada": answers}, 100)
    scores = np.where(said == "synthetic", sure, -sure)
    synthetic = np.array([picture["source"] == "synthetic" for picture in key["pictures"]])
    row = rows_of(content)["Ada", "all methods"]
    assert row["auc"]["value"] == pytest.approx(roc_auc_score(synthetic, scores))
    assert row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"]
    # Three verdicts of one reader: their intervals cover 1 - .05 / 3.
    assert content["level"] == pytest.approx(1 - 0.05 / 3)
    assert row["verdict_low"] < row["auc"]["low"]


@pytest.mark.parametrize(
    ("says", "verdict", "words"),
    [
        (truth, "yes", "Ada can tell pictures of ddpm from real ones: AUC 1.00"),
        (swapped, "reversed", "Ada sees a difference, but takes pictures of ddpm for the real ones: AUC 0.00"),
        (always_real, "no sign", "It is not shown that Ada can tell pictures of ddpm from real ones: AUC 0.50"),
    ],
)
def test_the_verdict_is_that_of_the_interval_against_one_half(says, verdict, words):
    key = key_of()
    content = reader_results(key, {"Ada": answers_of(key, says)}, 100)
    assert {row["tells"] for row in rows_of(content).values()} == {verdict}
    assert any(sentence.startswith(words) for sentence in content["sentences"])


def test_one_method_can_be_told_and_another_not():
    key = key_of()
    says = lambda k, own: "synthetic" if own["method"] == "pca_gaussian" else "real"  # noqa: E731
    rows = rows_of(reader_results(key, {"Ada": answers_of(key, says)}, 100))
    assert rows["Ada", "pca_gaussian"]["tells"] == "yes"
    assert rows["Ada", "ddpm"]["tells"] == "no sign"


def test_of_one_method_the_rows_are_not_given_twice():
    key = key_of(KINDS[1:2] + [("real", None, 10)])
    rows = rows_of(reader_results(key, {"Ada": answers_of(key, truth)}, 100))
    assert list(rows) == [("Ada", "ddpm")]
    assert rows["Ada", "ddpm"]["accuracy"]["value"] == 1


def test_the_class_is_measured_among_real_pictures_and_those_of_each_method():
    key = key_of()
    says = lambda k, own: "HGG" if own["method"] == "ddpm" else own["class_name"]  # noqa: E731
    (reader,) = reader_results(key, {"Ada": answers_of(key, truth, class_says=says)}, 100)["readers"]
    rows = {row["pictures"]: row for row in reader["classes"]}
    assert [rows[name]["auc"]["value"] for name in ("real", "ddpm", "pca_gaussian")] == [1, 0.5, 1]
    assert [rows[name]["accuracy"]["value"] for name in ("real", "ddpm", "pca_gaussian")] == [1, 0.5, 1]


def test_of_three_classes_the_class_has_an_accuracy_and_no_auc():
    key = key_of(classes=("G2", "G3", "G4"))
    (reader,) = reader_results(key, {"Ada": answers_of(key, truth)}, 100)["readers"]
    assert {(row["accuracy"]["value"], row["auc"]["value"]) for row in reader["classes"]} == {(1, None)}


def test_readers_are_compared_two_by_two_and_all_together():
    key = key_of()
    readers = {
        "Ada": answers_of(key, truth),
        "Bob": answers_of(key, truth),
        "Cyd": answers_of(key, swapped),
    }
    rows = reader_results(key, readers, 100)["agreement"]
    kappas = {(row["asked"], *row["readers"]): row["value"] for row in rows}
    assert kappas["real or synthetic", "Ada", "Bob"] == pytest.approx(1)
    assert kappas["real or synthetic", "Ada", "Cyd"] == pytest.approx(-1)
    assert kappas["real or synthetic", "Ada", "Bob", "Cyd"] == pytest.approx(1 / 3 * 2 - 1)
    assert kappas["class", "Ada", "Bob", "Cyd"] == pytest.approx(1)


def test_every_estimate_stands_in_the_table(tmp_path):
    key = key_of(asks_class=False)
    write_json(tmp_path / "reader_key.json", with_digest(key))
    (tmp_path / "answers").mkdir()
    for name, says in (("Ada", truth), ("Bob", always_real)):
        sheet = {"study": "0123", "reader": name, "answers": answers_of(key, says)}
        write_json(tmp_path / "answers" / f"{name}.json", sheet)
    ReaderResults(str(tmp_path / "reader_key.json"), str(tmp_path / "answers"), str(tmp_path / "out"), 100).run()
    rows = read_csv(tmp_path / "out" / "reader_results.csv")
    values = {(row["reader"], row["pictures"], row["measure"]): row["value"] for row in rows}
    assert len(values) == len(rows) == 2 * 3 * 4 + 1
    assert values["Bob", "ddpm", "specificity"] == "1"
    assert values["Bob", "ddpm", "accuracy"] == ""
    write_json(tmp_path / "reader_key.json", {**with_digest(key), "study": "4567"})
    with pytest.raises(ValueError, match="reader_key.json must be as its stage wrote it"):
        ReaderResults(str(tmp_path / "reader_key.json"), str(tmp_path / "answers"), str(tmp_path / "out"), 100).run()


def test_too_few_draws_are_refused_before_any_file():
    with pytest.raises(ValueError, match="num_bootstrap_draws must be at least 100, got 10"):
        ReaderResults("none.json", "none", "none", 10)
