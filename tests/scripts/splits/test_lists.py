from __future__ import annotations

import copy
import json

import pytest

from scripts.running.files import write_json
from scripts.splits.lists import DIGEST, SCHEMAS, content_digest, image_path, read_list, with_digest

HASH = "0" * 64
COHORT = {
    "name": "tiny",
    "simulated": True,
    "subjects": [{"subject_id": "A", "grade": None, "images": {"t1n": "a.nii"}}],
}
FACTS = {"simulated": False, "modality": {"0": "t1n"}, "labels": {"0": "LGG", "1": "HGG"}, "spatial_dims": 2}
PATCH = {
    "image": "a.nii.gz",
    "label": 1,
    "subject_id": "A",
    "site": None,
    "lesion_volume_ml": 3.5,
    "image_sha256": HASH,
}
LISTS = {
    "cohort": COHORT,
    "patches": {"name": "tiny", **FACTS, "training": [PATCH, {**PATCH, "label": None}]},
    "synthetic": {
        **FACTS,
        "provenance": {"cohort": "tiny", "method": "ddpm", "subjects": [HASH], "fold": 0},
        "training": [{"image": "a.nii.gz", "label": 0}],
    },
    "images": {"modality": {"0": "t1n"}, "training": [{"image": "a.nii.gz"}]},
    "splits": {"test": ["A"], "folds": [{"train": ["B"], "inner": [], "validation": ["C"]}], "selection": "inner"},
    "reader_key": {
        "study": "0123",
        "simulated": True,
        "asks_class": False,
        "classes": ["LGG", "HGG"],
        "pictures": [{"picture": "picture_001.png", "source": "real", "method": None, "class_name": "LGG"}],
    },
    "reader_answers": {
        "study": "0123",
        "reader": "A",
        "answers": [{"picture": "picture_001.png", "source": "real", "source_confidence": 5}],
    },
    "provenance": {"cohorts": ["tiny"], "subjects": [HASH], "simulated": False, "weights_sha256": HASH},
}


def changed(kind: str, place: list, value) -> dict:
    """The list of a kind with another value at one place; without the key where the value is ...."""
    content = copy.deepcopy(LISTS[kind])
    *way, last = place
    inner = content
    for step in way:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_list_as_a_stage_writes_it_is_read(tmp_path, kind):
    write_json(tmp_path / "list.json", LISTS[kind])
    assert read_list(tmp_path / "list.json", kind) == LISTS[kind]


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        ("patches", ["training", 0, "label"], -1, "training[0].label must be the whole number of a class"),
        ("patches", ["training", 0, "label"], "", "training[0].label must be the whole number of a class"),
        ("patches", ["training", 0, "label"], "abc", "training[0].label must be the whole number of a class"),
        ("patches", ["training", 0, "label"], 2, "(0 is LGG, 1 is HGG), got 2"),
        ("patches", ["training", 0, "label"], True, "training[0].label must be the whole number of a class"),
        ("patches", ["training", 1, "label"], ..., "training[1].label must be the whole number of a class"),
        ("patches", ["training", 0, "subject_id"], 7, "training[0].subject_id must be a name usable as a file name"),
        ("patches", ["training", 0, "image"], "", "training[0].image must be the path of a file, got ''"),
        ("patches", ["training", 0, "image_sha256"], "abc", "training[0].image_sha256 must be a sha256 of 64"),
        ("patches", ["training", 0, "lesion_volume_ml"], "3", "training[0].lesion_volume_ml must be a number from 0"),
        ("patches", ["training"], {}, "training must be a list of patches, got {}"),
        ("patches", ["labels"], {"LGG": "0"}, "labels must be names by numbers"),
        ("patches", ["simulated"], ..., "simulated must be true or false, got none"),
        ("cohort", ["simulated"], ..., "simulated must be true or false, got none"),
        ("cohort", ["simulated"], "no", "simulated must be true or false, got 'no'"),
        ("cohort", ["subjects"], None, "subjects must be a list of subjects, got None"),
        ("cohort", ["subjects", 0], "A", "subjects[0] must be a subject, got 'A'"),
        ("cohort", ["subjects", 0, "subject_id"], "..", "subjects[0].subject_id must be a name usable as a file name"),
        ("cohort", ["subjects", 0, "images"], {"t1n": None}, "subjects[0].images.t1n must be the path of a file"),
        ("splits", ["test"], ..., "test must be a list of subject ids, got none"),
        ("splits", ["folds"], [], "folds must be a list of at least one fold, got []"),
        ("splits", ["folds", 0, "train"], "A", "folds[0].train must be a list of subject ids, got 'A'"),
        ("splits", ["selection"], "both", "selection must be inner or validation, got 'both'"),
        ("synthetic", ["provenance", "subjects"], ["A"], "provenance.subjects[0] must be a sha256 of 64"),
        ("synthetic", ["provenance", "fold"], ..., "provenance.fold must be a whole number from 0 or null, got none"),
        ("synthetic", ["provenance", "method"], ..., "provenance.method must be a text that is not empty, got none"),
        ("synthetic", ["provenance", "cohort"], ..., "provenance.cohort must be a text that is not empty, got none"),
        ("synthetic", ["modality"], ..., "modality must be names by numbers"),
        ("synthetic", ["content_sha256"], "abc", "content_sha256 must be a sha256 of 64"),
        ("patches", ["modality"], ..., "modality must be names by numbers"),
        ("synthetic", ["training", 0, "label"], 3, "training[0].label must be the whole number of a class"),
        ("images", ["training", 0], {"image": 3}, "training[0].image must be the path of a file, got 3"),
        ("reader_answers", ["answers", 0, "source"], "fake", "answers[0].source must be real or synthetic, or null"),
        (
            "reader_answers",
            ["answers", 0, "source_confidence"],
            6,
            "must be a whole number from 1 to 5",
        ),
        ("reader_answers", ["reader"], "", "reader must be a text that is not empty, got ''"),
        ("reader_key", ["pictures", 0, "source"], None, "pictures[0].source must be real or synthetic, got None"),
        ("provenance", ["simulated"], 0, "simulated must be true or false, got 0"),
        ("provenance", ["fold"], -1, "fold must be a whole number from 0 or null, got -1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_file_key_and_value(tmp_path, kind, place, value, message):
    write_json(tmp_path / "list.json", changed(kind, place, value))
    with pytest.raises(ValueError, match="list.json") as caught:
        read_list(tmp_path / "list.json", kind)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'list.json'}: ")
    assert "; correct it, or make the file again with " in str(caught.value)


@pytest.mark.parametrize("content", [[], "text", 3, None])
@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_file_of_something_else_is_refused(tmp_path, kind, content):
    write_json(tmp_path / "list.json", content)
    with pytest.raises(ValueError, match="list.json: the content must be .*, got"):
        read_list(tmp_path / "list.json", kind)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(tmp_path, number):
    text = json.dumps(LISTS["patches"]).replace('"label": 1', f'"label": {number}')
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match=rf"list.json must be JSON, got a number that it cannot hold \({number}\)"):
        read_list(tmp_path / "list.json", "patches")


def test_a_list_that_was_changed_is_checked_again_and_all_faults_are_counted(tmp_path):
    write_json(tmp_path / "list.json", LISTS["patches"])
    read_list(tmp_path / "list.json", "patches")
    wrong = {**PATCH, "label": -1}
    write_json(tmp_path / "list.json", {**LISTS["patches"], "training": [wrong, wrong, wrong]})
    with pytest.raises(ValueError, match=r"got -1 \(and 2 more\)"):
        read_list(tmp_path / "list.json", "patches")


@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("path", [None, ""])
def test_a_list_that_was_not_given_is_named_with_its_flag(kind, path):
    with pytest.raises(ValueError, match=f"{kind}_path must be a {kind}.json, got {path!r}; pass --{kind}_path"):
        read_list(path, kind)


@pytest.mark.parametrize("kind", ["synthetic", "images"])
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["training", 0, "label"], 1),
        (["provenance", "subjects"], ["1" * 64]),
        (["provenance", "fold"], 1),
        (["provenance"], ...),
        (["training", 0, "image_sha256"], HASH),
        (["simulated"], True),
    ],
)
def test_a_set_edited_after_its_stage_wrote_it_is_refused_by_file(tmp_path, kind, place, value):
    path = tmp_path / "synthetic.json"
    write_json(path, with_digest(LISTS["synthetic"]))
    assert read_list(path, kind) == with_digest(LISTS["synthetic"])
    write_json(path, {**changed("synthetic", place, value), DIGEST: content_digest(LISTS["synthetic"])})
    with pytest.raises(ValueError, match=rf"{path} must be as its stage wrote it .* take content_sha256 out of it"):
        read_list(path, kind)


def test_a_set_without_a_hash_of_its_content_is_read_with_a_warning(tmp_path, caplog):
    write_json(tmp_path / "synthetic.json", LISTS["synthetic"])
    read_list(tmp_path / "synthetic.json", "synthetic")
    assert "synthetic.json carries no content_sha256: whether it was edited" in caplog.text


def test_the_hash_of_a_list_does_not_depend_on_the_form_of_its_file():
    content = {"modality": {0: "t1n"}, "patch_size": (4, 5), "spacing_mm": 0.1}
    read = json.loads(json.dumps(dict(reversed(content.items())), indent=3))
    assert content_digest(content) == content_digest(read) == with_digest(with_digest(read))[DIGEST]
    assert content_digest(content) != content_digest({**content, "spacing_mm": 0.2})


def test_images_lie_beside_the_name_of_their_list_even_if_that_is_a_link(tmp_path, monkeypatch):
    write_json(tmp_path / "store" / "0a", LISTS["patches"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "patches.json").symlink_to("../store/0a")
    monkeypatch.chdir(tmp_path)
    assert image_path("set/patches.json", PATCH) == str(tmp_path / "set" / "a.nii.gz")
    assert image_path("set/patches.json", {"image": "/elsewhere/b.nii.gz"}) == "/elsewhere/b.nii.gz"
