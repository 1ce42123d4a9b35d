"""The words of a study: those of the configs, checked by their keys, and inflected by rule."""

from __future__ import annotations

from dataclasses import fields

import pytest

from scripts.provenance.task import GLIOMA, Task, config_key, plural
from scripts.report.published import PUBLICATIONS
from scripts.running.configs import Invocation, parser_of
from scripts.running.files import read_json
from tests.helpers import ROOT, config_files

NAMES = [field.name for field in fields(Task)]
PICTURES = str(ROOT / "configs" / "recipes" / "pictures.yaml")


def task_of(*files: str, **overrides: object) -> Task:
    return parser_of(Invocation((*config_files(), *files), overrides).merged()).get_parsed_content("task")


def test_the_defaults_are_the_words_of_the_configs_and_those_of_the_metadata():
    task, metadata = task_of(), read_json(ROOT / "configs" / "metadata.json")
    assert {name: getattr(task, name) for name in NAMES if name != "published"} == {
        name: getattr(GLIOMA, name) for name in NAMES if name != "published"
    }
    assert tuple(task.published) == GLIOMA.published
    assert (metadata["name"], metadata["task"]) == (task.package, task.summary)
    assert metadata["references"][0] == PUBLICATIONS[task.published[0]].reference
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == task.dicom_modality


def test_glioma_keeps_its_words_and_pictures_have_none_of_them():
    assert (GLIOMA.cases, GLIOMA.subjects, GLIOMA.class_nouns) == ("patients", "subjects", "grades")
    assert (GLIOMA.channels, GLIOMA.shown, GLIOMA.elsewhere) == (
        "modalities",
        "tumor",
        "the patients of another hospital",
    )
    pictures = task_of(PICTURES)
    assert (pictures.cases, pictures.subjects, pictures.class_nouns) == ("pictures", "pictures", "classes")
    assert (pictures.channels, pictures.shown, pictures.elsewhere) == ("colors", "picture", "pictures from elsewhere")
    words = " ".join(str(getattr(pictures, name)) for name in NAMES).lower()
    assert not any(word in words for word in ("glioma", "tumor", "brain", "mri", "nifti", "lesion"))


@pytest.mark.parametrize(
    ("noun", "several"),
    [("smear", "smears"), ("class", "classes"), ("biopsy", "biopsies"), ("X-ray", "X-rays"), ("CT slice", "CT slices")],
)
def test_regular_nouns_get_their_plural(noun, several):
    assert plural(noun) == several


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task_case", "", "task_case must be a text that says something, got ''"),
        ("task_class", None, "task_class must be a text, got None"),
        ("task_target", " ", "task_target must be a text that says something or null, got ' '"),
        ("task_channel", 3, "task_channel must be a text, got 3"),
        ("task_package", "Leukemia 2", "task_package must be small letters, digits and _"),
        ("task_published", "nafi", r"task_published must be a list of names, \[\] for none, got 'nafi'"),
    ],
)
def test_words_that_say_nothing_are_refused_by_their_key(key, value, message):
    (field,) = [name for name in NAMES if config_key(name) == key]
    with pytest.raises((TypeError, ValueError), match=message):
        Task(**{field: value})
