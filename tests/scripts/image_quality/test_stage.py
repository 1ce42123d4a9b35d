from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from scripts.classifier.networks import FoldEnsemble
from scripts.provenance.record import hash_subjects, write_provenance
from scripts.running.files import read_json, write_json
from tests.helpers import run_stage
from tests.patches import write_tiny_patches
from tests.ring_or_blob import messages

SIZE = (20, 24)
COUNT = 40  # subjects of a class


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Patches, splits, a classifier of fold 0, and a synthetic set of LGG drawn like the patches."""
    folder = tmp_path_factory.mktemp("measures")
    paths = write_tiny_patches(folder / "patches", SIZE, subjects_per_class=COUNT)
    drawn = write_tiny_patches(folder / "drawn", SIZE, subjects_per_class=14, seed=1)
    listing = read_json(drawn["patches_path"])
    (folder / "synthetic").mkdir()
    entries = [entry for entry in listing["training"] if entry["label"] == 0]
    for entry in entries:
        shutil.copy(folder / "drawn" / entry["image"], folder / "synthetic" / entry["image"])
    training = read_json(paths["splits_path"])["folds"][0]["train"]
    provenance = {"cohort": "tiny", "method": "ddpm", "fold": 0, "subjects": hash_subjects(training)}
    entries = [{"image": entry["image"], "label": 0, "k": k, "seed": 0} for k, entry in enumerate(entries)]
    write_json(folder / "synthetic" / "synthetic.json", {**listing, "provenance": provenance, "training": entries})
    torch.manual_seed(0)
    (folder / "classifier").mkdir()
    torch.save(FoldEnsemble("resnet10_thin", 1).state_dict(), folder / "classifier" / "model.pt")
    write_provenance(
        folder / "classifier" / "model.pt", cohorts=["tiny"], subjects=training, simulated=True, fold=0, setup="real"
    )
    return folder


@pytest.fixture
def settings(made, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "no_cache"))
    return {
        "synthetic_path": str(made / "synthetic" / "synthetic.json"),
        "real_path": str(made / "patches" / "patches.json"),
        "output_dir": str(tmp_path / "measures"),
        "classifier_backbone": "resnet10_thin",
        "measure_num_permutations": 19,
        "measure_num_splits": 3,
        "measure_num_pairs": 5,
        "device": "cpu",
    }


def splits(made):
    return {"splits_path": str(made / "patches" / "splits.json"), "fold": 0}


def classifier(made):
    return {"classifier_path": str(made / "classifier" / "model.pt")}


def measure(**overrides):
    run_stage("measure_images", **overrides)
    return read_json(f"{overrides['output_dir']}/measures.json")


def refusal(**overrides):
    with pytest.raises(RuntimeError) as caught:
        run_stage("measure_images", **overrides)
    return messages(caught.value)


def test_a_set_is_compared_with_the_held_out_images_of_its_class_in_the_classifiers_features(made, settings):
    result = measure(**settings, **splits(made), **classifier(made))
    assert (result["cohort"], result["method"], result["fold"]) == ("tiny", "ddpm", 0)
    assert result["real_parts"] == ["validation"]
    assert result["made_alike"] is True
    assert list(result["classes"]) == ["LGG"]
    found = result["classes"]["LGG"]
    validation = read_json(splits(made)["splits_path"])["folds"][0]["validation"]
    assert found["num_real"] == sum(name.startswith("LGG") for name in validation) == 16
    assert found["num_synthetic"] == 14
    rows = {(row["measure"], row["network"]): row for row in found["measures"]}
    name = "resnet10_thin trained on the fold's real images"
    assert {network for _, network in rows} == {name, "pixels, no network"}
    assert {measure for measure, network in rows if network == name} == {
        *("KD", "FD", "precision", "recall", "density", "coverage", "MMD")
    }
    assert all(row["value"] is not None and row["floor"]["n"] == 8 for row in rows.values())
    (network,) = result["networks"]
    assert (network["name"], network["num_known_real"]) == (name, 0)
    assert result["left_out"][0]["network"] == "Inception-v3"
    assert "FID" not in {measure for measure, _ in rows}


def test_real_images_that_the_classifier_knows_are_counted(made, settings):
    result = measure(**settings, **splits(made), **classifier(made), measure_real_parts=["train"])
    assert result["networks"][0]["num_known_real"] == 2 * result["classes"]["LGG"]["num_real"] > 0


def test_any_two_folders_are_compared_without_provenance(made, settings, tmp_path):
    for name in ("synthetic", "patches"):
        (tmp_path / name).mkdir()
        for path in sorted((made / name).glob("LGG*.nii.gz"))[:9]:
            shutil.copy(path, tmp_path / name)
    paths = {"synthetic_path": str(tmp_path / "synthetic"), "real_path": str(tmp_path / "patches")}
    result = measure(**{**settings, **paths})
    assert (result["cohort"], result["fold"], result["simulated"]) == (None, None, None)
    assert list(result["classes"]) == ["all"]
    measured = {row["measure"] for row in result["classes"]["all"]["measures"]}
    assert measured == {"MS-SSIM of pairs", "MMD", "MMD, linear kernel", "spectrum"}
    identity = read_json(f"{settings['output_dir']}/stage.json")["identity"]
    assert len(identity["inputs"]) == 9 + 9 + 3


def test_two_lists_are_compared_class_by_class_and_equal_sets_are_not_told_apart(made, settings):
    result = measure(**{**settings, "synthetic_path": settings["real_path"]})
    assert list(result["classes"]) == ["HGG", "LGG"]
    for found in result["classes"].values():
        rows = {row["measure"]: row for row in found["measures"]}
        assert found["num_synthetic"] == found["num_real"] == COUNT
        assert rows["MMD"]["p_value"] == 1
        # An image and itself on the other side are of one subject, and no pair.
        assert rows["MMD"]["value"] == pytest.approx(0, abs=1e-9)


def test_of_more_images_than_wanted_some_are_drawn(made, settings):
    result = measure(**settings, **splits(made), measure_max_images=10)
    found = result["classes"]["LGG"]
    assert (found["num_synthetic"], found["num_real"]) == (14, 16)
    assert {(row["num_synthetic"], row["num_real"]) for row in found["measures"]} == {(10, 10)}


def test_too_few_images_for_a_measure_are_a_reason_and_the_others_are_measured(made, settings, tmp_path):
    path = rewritten(made, tmp_path, lambda content: {**content, "training": content["training"][:4]})
    result = measure(**{**settings, "synthetic_path": path}, **splits(made), **classifier(made))
    rows = {row["measure"]: row for row in result["classes"]["LGG"]["measures"]}
    assert rows["recall"]["value"] is None
    assert "recall needs at least 6 synthetic images and real images of 12 subjects" in rows["recall"]["reason"]
    assert rows["FD"]["value"] is not None


def rewritten(made, tmp_path, change):
    """Copy the synthetic set and change its list."""
    folder = tmp_path / "changed"
    shutil.copytree(made / "synthetic", folder)
    write_json(folder / "synthetic.json", change(read_json(folder / "synthetic.json")))
    return str(folder / "synthetic.json")


def changed_provenance(made, tmp_path, **values):
    return rewritten(made, tmp_path, lambda c: {**c, "provenance": {**c["provenance"], **values}})


def test_a_set_without_provenance_is_refused_where_splits_choose(made, settings, tmp_path):
    path = rewritten(made, tmp_path, lambda c: {key: value for key, value in c.items() if key != "provenance"})
    assert "must carry the provenance" in refusal(**{**settings, "synthetic_path": path}, **splits(made))
    folder = {**settings, "synthetic_path": str(made / "synthetic"), "output_dir": str(tmp_path / "other")}
    assert "leave splits_path null to compare any two sets" in refusal(**folder, **splits(made))


def test_a_set_of_another_fold_or_cohort_is_refused(made, settings, tmp_path):
    path = changed_provenance(made, tmp_path, fold=1)
    assert "must be of cohort 'tiny' and fold 0, got cohort 'tiny' and fold 1" in refusal(
        **{**settings, "synthetic_path": path}, **splits(made)
    )


def test_a_generator_that_saw_the_held_out_images_is_refused(made, settings, tmp_path):
    validation = read_json(splits(made)["splits_path"])["folds"][0]["validation"]
    path = changed_provenance(made, tmp_path, subjects=hash_subjects(validation))
    assert "must not know the subjects of validation of fold 0" in refusal(
        **{**settings, "synthetic_path": path}, **splits(made)
    )


def test_another_order_of_channels_is_refused(made, settings, tmp_path):
    swapped = dict(enumerate(["t1c", "t1n", "t2w", "t2f"]))
    path = rewritten(made, tmp_path, lambda c: {**c, "modality": {str(k): v for k, v in swapped.items()}})
    assert "must have the channels ['t1n', 't1c', 't2w', 't2f'] in this order, got ['t1c', 't1n'" in refusal(
        **{**settings, "synthetic_path": path}
    )


def test_sets_made_otherwise_are_refused(made, settings, tmp_path):
    zscored = {"intensity_mode": "zscore", "intensity_percentiles": None, "zscore_limit": 4.0}
    path = rewritten(made, tmp_path, lambda c: {**c, **zscored})
    assert "must have intensity_mode 'percentile', as" in refusal(**{**settings, "synthetic_path": path})


def test_a_set_that_does_not_say_how_it_was_made_is_compared_with_any_other_and_the_file_says_so(
    made, settings, tmp_path
):
    path = rewritten(made, tmp_path, lambda c: {key: value for key, value in c.items() if key != "zscore_limit"})
    assert measure(**{**settings, "synthetic_path": path})["made_alike"] is False
    other = {**settings, "synthetic_path": path, "output_dir": str(tmp_path / "other")}
    assert "must say of what its images are made, got no zscore_limit" in refusal(**other, **splits(made))


def write_folder(folder: Path, shape, value=0.0):
    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-1, 1, size=(3, *shape)).astype(np.float32) + value
    for index, image in enumerate(noise):
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / f"{index}.nii.gz")
    return str(folder)


@pytest.mark.parametrize(
    ("shape", "value", "words"),
    [
        ((24, 20, 1, 4), 0, "must have images of the shape of"),
        ((20, 24, 1, 3), 0, "must be an image of 4 channels"),
        ((20, 24, 1, 4), 2, "must lie in [-1, 1]"),
    ],
    ids=["size", "channels", "range"],
)
def test_images_that_do_not_fit_the_real_ones_are_refused(settings, tmp_path, shape, value, words):
    folder = write_folder(tmp_path / "bad", shape, value)
    assert words in refusal(**{**settings, "synthetic_path": folder})


def test_an_empty_or_missing_folder_is_refused(settings, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "must hold at least one .nii.gz" in refusal(**{**settings, "real_path": str(tmp_path / "empty")})
    missing = {**settings, "real_path": str(tmp_path / "nothing"), "output_dir": str(tmp_path / "b")}
    assert "give a decathlon list (.json) or a folder" in refusal(**missing)


def test_weights_of_another_network_are_refused(made, settings):
    assert "must be the Inception-v3 of pytorch-fid" in refusal(
        **settings, inception_path=str(made / "classifier" / "model.pt")
    )


def test_a_number_of_splits_below_one_is_refused(settings):
    assert "measure_num_splits must be at least 1, got 0" in refusal(**{**settings, "measure_num_splits": 0})


def other_class(made, folder, **changes):
    """Write a set of HGG like that of LGG."""
    listing = read_json(made / "drawn" / "patches.json")
    entries = [entry for entry in listing["training"] if entry["label"] == 1]
    rows = [{**entry, "image": str(made / "drawn" / entry["image"])} for entry in entries]
    provenance = read_json(made / "synthetic" / "synthetic.json")["provenance"]
    write_json(folder / "hgg.json", {**listing, "provenance": {**provenance, **changes}, "training": rows})
    return str(folder / "hgg.json")


def test_with_the_sets_of_all_classes_the_label_auc_is_measured_and_the_set_is_judged(made, settings, tmp_path):
    paths = {"label_paths": [other_class(made, tmp_path)], "gate_label_auc": 1.0, "gate_coverage": 0.0}
    result = measure(**settings, **splits(made), **classifier(made), **paths)
    area = result["label_auc"]
    assert (area["num_images"], area["num_real"], area["reason"]) == (28, 32, None)
    assert 0 <= area["low"] <= area["value"] <= area["high"] <= 1
    assert result["gate"] == {"label_auc": 1.0, "coverage": 0.0}
    judged = result["classes"]["LGG"]["gate"]
    # A network with random weights cannot tell the classes of real images, so that it proves nothing.
    assert (area["real"] < 1, judged["verdict"]) == (True, "cannot be told")
    rows = {row["measure"]: row for row in result["classes"]["LGG"]["measures"] if "resnet10_thin" in row["network"]}
    assert judged["coverage"] == rows["coverage"]["value_at_floor_n"]
    assert judged["real_coverage"] == rows["coverage"]["floor"]["mean"]


def test_of_one_class_or_without_a_classifier_there_is_a_reason_for_no_label_auc(made, settings):
    result = measure(**settings, **splits(made), **classifier(made))
    assert result["label_auc"]["reason"] == "no synthetic images of HGG; give their lists in label_paths"
    without = measure(**{**settings, "output_dir": f"{settings['output_dir']}_without"}, **splits(made))
    assert "give classifier_path" in without["label_auc"]["reason"]
    assert without["classes"]["LGG"]["gate"]["verdict"] == "cannot be told"


def test_the_set_of_another_generator_is_no_other_class(made, settings, tmp_path):
    path = other_class(made, tmp_path, method="ddpm_mi")
    message = "label_paths must be of the method 'ddpm' of synthetic_path, got 'ddpm_mi' in"
    assert message in refusal(**settings, **splits(made), **classifier(made), label_paths=[path])


def test_the_set_of_another_fold_is_no_other_class(made, settings, tmp_path):
    path = other_class(made, tmp_path, fold=1)
    message = f"{path} must be of cohort 'tiny' and fold 0, got cohort 'tiny' and fold 1"
    assert message in refusal(**settings, **splits(made), label_paths=[path])
    without_splits = {**settings, "output_dir": str(tmp_path / "without_splits")}
    message = f"label_paths must be of the fold 0 of synthetic_path, got 1 in {path}"
    assert message in refusal(**without_splits, label_paths=[path])


def test_another_class_whose_generator_saw_the_held_out_images_is_refused(made, settings, tmp_path):
    validation = read_json(splits(made)["splits_path"])["folds"][0]["validation"]
    path = other_class(made, tmp_path, subjects=hash_subjects(validation))
    refused = refusal(**settings, **splits(made), label_paths=[path])
    assert "must not know the subjects of validation of fold 0" in refused
    assert path in refused


def test_the_folder_of_another_class_is_refused_by_its_key(made, settings, tmp_path):
    refused = refusal(**settings, **splits(made), label_paths=[str(made / "drawn")])
    assert f"label_paths must be synthetic.json lists, got {made / 'drawn'}" in refused


@pytest.mark.parametrize("own", [True, False], ids=["synthetic_path", "listed twice"])
def test_a_set_that_is_given_twice_is_refused(made, settings, tmp_path, own):
    path = other_class(made, tmp_path)
    (tmp_path / "link").symlink_to(made / "synthetic")
    paths = [path, str(tmp_path / "link" / "synthetic.json")] if own else [path, path]
    refused = refusal(**settings, **splits(made), label_paths=paths)
    assert f"label_paths must list each set once, and not that of synthetic_path, got {paths[1]} twice" in refused


def test_a_gate_out_of_range_is_refused(settings):
    assert "gate_coverage must be in [0, 1], got 2" in refusal(**settings, gate_coverage=2.0)


def test_mm_are_told_only_where_the_patches_record_them(made, settings, tmp_path):
    listing = read_json(settings["real_path"])
    rows = [{**row, "image": str(made / "patches" / row["image"])} for row in listing["training"]]
    path = tmp_path / "patches.json"  # as of crop: pad, whose patches have no common spacing
    write_json(path, {**listing, "spacing_mm": None, "training": rows})
    result = measure(**{**settings, "synthetic_path": settings["real_path"], "real_path": str(path)})
    assert result["classes"]["LGG"]["spectrum"]["unit"] == "cycles per pixel"


def test_volumes_without_classes_have_spectrum_and_tissue_volumes_and_small_ones_say_what_they_lack(settings, tmp_path):
    size, options = (
        (9, 10, 12),
        {"modalities": ("t1n",), "classes": ("LGG",), "graded": False, "subjects_per_class": 14},
    )
    real, drawn = (
        write_tiny_patches(tmp_path / name, size, seed=seed, **options)["patches_path"]
        for seed, name in enumerate(["real", "drawn"])
    )
    for path in (real, drawn):
        write_json(Path(path), {**read_json(path), "labels": {}})
    form = {"modalities": ["t1n"], "classes": {}, "spatial_dims": 3, "patch_size": list(size)}
    result = measure(**{**settings, **form, "synthetic_path": drawn, "real_path": real})
    assert list(result["classes"]) == ["all"]
    of_all = result["classes"]["all"]
    rows = {row["measure"]: row for row in of_all["measures"]}
    assert rows["MMD"]["value"] is not None
    assert "at least 10 pixels along each side" in rows["MS-SSIM of pairs"]["reason"]
    assert (of_all["spectrum"]["unit"], of_all["spectrum"]["num_real"]) == ("cycles per mm", 14)
    assert [row["tissue"] for row in of_all["tissue_volumes"]["tissues"]] == ["all", "dark", "middle", "bright"]
    assert "a 3D network" in {item["network"] for item in result["left_out"]}
