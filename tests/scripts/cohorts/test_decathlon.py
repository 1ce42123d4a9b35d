from __future__ import annotations

import json

import pytest

from scripts.cohorts.decathlon import find_decathlon, is_decathlon
from tests.cohort_files import write_decathlon

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        (["edema", "non-enhancing tumor", "enhancing tumour"], {"edema": 1, "necrotic": 2, "enhancing": 3}),
        (["NCR/NET", "ED", "ET"], {"necrotic": 1, "edema": 2, "enhancing": 3}),
        (
            ["necrotic and non-enhancing core", "peritumoral oedema", "Enhancing"],
            {"necrotic": 1, "edema": 2, "enhancing": 3},
        ),
        (
            ["necrosis", "edema", "non-enhancing", "enhancing"],
            {"necrotic": 1, "edema": 2, "non_enhancing": 3, "enhancing": 4},
        ),
        (
            ["NETC", "edema", "enhancing", "resection cavity"],
            None,  # NETC is not understood
        ),
        (["edema", "tumor core", "enhancing"], None),
        (["edema", "enhancing", "enhancing rim"], None),
    ],
)
def test_labels_in_words_give_the_codes_or_none_of_them(tmp_path, labels, codes):
    source = find_decathlon(write_decathlon(tmp_path, ["A"], labels=["background", *labels]), MODALITIES)
    assert source.mask_codes == codes
    assert bool(source.labels) == (codes is None)


def test_links_into_a_store_keep_the_names_of_the_subjects(tmp_path):
    folder = write_decathlon(tmp_path / "Task01", ["BRATS_001", "BRATS_002"])
    (tmp_path / "store").mkdir()
    for number, path in enumerate(sorted(folder.rglob("*.nii.gz"))):
        path.rename(tmp_path / "store" / f"{number:064x}")
        path.symlink_to(tmp_path / "store" / f"{number:064x}")
    source = find_decathlon(folder, MODALITIES)
    assert [subject.subject_id for subject in source.subjects] == ["BRATS_001", "BRATS_002"]
    assert source.subjects[0].image == folder / "imagesTr" / "BRATS_001.nii.gz"


NNUNET = {"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "edema": 1}, "numTraining": 1}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            NNUNET,
            "must be that of the Medical Decathlon, with the keys modality and training, got channel_names, labels",
        ),
        ([1], "got list; list the files in a table"),
        ({"modality": ["FLAIR"], "training": []}, "modality must be a mapping from number to name"),
        ({"modality": {"first": "FLAIR"}, "training": []}, "modality must be a mapping from number to name"),
        ({"modality": {}, "labels": {"edema": 1}, "training": []}, "labels must be a mapping from number to name"),
        ({"modality": {}, "training": {"a": 1}}, "training must be a list"),
        ({"modality": {}, "training": ["a.nii.gz"]}, "entry 1 of training must be .* got 'a.nii.gz'"),
        ({"modality": {}, "training": [{"image": "a.nii", "label": 1}]}, "entry 1 of training must be"),
    ],
)
def test_a_dataset_json_of_another_kind_is_refused_with_file_and_key(tmp_path, description, message):
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=f"dataset.json.*{message}"):
        find_decathlon(tmp_path, MODALITIES)


def test_only_a_dataset_json_of_the_decathlon_makes_a_folder_one(tmp_path):
    assert not is_decathlon(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps(NNUNET))
    assert not is_decathlon(tmp_path)
    assert is_decathlon(write_decathlon(tmp_path, ["A"]))
