from __future__ import annotations

import re

import numpy as np
import pytest
from skimage.io import imsave

from scripts.classifier.datasets import ClassifierData
from scripts.patches.image_sets import read_rows
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subjects
from scripts.running.errors import root_cause
from scripts.running.files import read_json
from scripts.splits.lists import read_list
from tests.helpers import run_stage
from tests.patches import write_tiny_patches

ENDINGS = ["_t1n", "_t1c", "_t2w", "_t2f"]
CLASSES = {"LGG": 0, "HGG": 1}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return write_tiny_patches(tmp_path_factory.mktemp("patches"))


@pytest.fixture(scope="module")
def images():
    """Twenty images in [0, 1], darker than .05 at their rim in every channel."""
    images = np.random.default_rng(0).random((20, 4, 8, 12)).astype(np.float32)
    images[:, :, 0] *= 0.04
    return images


@pytest.fixture
def import_set(lists, tmp_path):
    def run(path, **overrides):
        output = tmp_path / overrides.pop("name", "imported")
        settings = {"fold": 0, "patch_size": [8, 12], "method": "gan", "output_dir": str(output), "device": "cpu"}
        run_stage("import_synthetic", **{**lists, **settings, "images_path": str(path), **overrides})
        return output / "synthetic.json"

    return run


@pytest.fixture
def array(tmp_path, images):
    np.save(tmp_path / "images.npy", images)
    return tmp_path / "images.npy"


OF_ARRAY = {"image_axes": "NCHW", "value_range": [0, 1], "trained_on": "train"}


def test_an_array_becomes_a_set_as_a_stage_of_ours_writes_it(import_set, array, images, lists):
    path = import_set(array, **OF_ARRAY, generator_class="HGG")
    content = read_list(path, "synthetic")
    read = read_rows(path, content, content["training"])
    expected = 2 * images - 1
    expected[:, :, 0] = -1  # nearer to background than the tolerance, in every channel
    np.testing.assert_allclose(read.images.numpy(), expected, atol=1e-6)
    assert set(read.class_names) == {"HGG"}
    assert content["training"][3]["source"] == "images.npy[3]"
    provenance = content["provenance"]
    assert provenance["subjects"] == hash_subjects(read_json(lists["splits_path"])["folds"][0]["train"])
    assert (provenance["trained_on"], provenance["method"], provenance["fold"]) == ("train", "gan", 0)


def test_pictures_of_single_channels_give_the_same_set(import_set, array, images, tmp_path):
    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(images):
        for ending, channel in zip(ENDINGS, image, strict=True):
            picture = np.rint(255 * channel).astype(np.uint8).T[::-1]
            imsave(tmp_path / "pictures" / f"{index:02d}{ending}.png", picture, check_contrast=False)
    path = import_set(tmp_path / "pictures", channel_endings=ENDINGS, trained_on="unknown", name="of_pictures")
    by_array = import_set(array, **OF_ARRAY)
    first, second = (read_rows(one, read_json(one), read_json(one)["training"]).images for one in (path, by_array))
    np.testing.assert_allclose(first, second, atol=1.01 / 255)


def test_images_that_do_not_fit_are_refused_before_any_is_written(import_set, array, images, tmp_path):
    np.save(tmp_path / "small.npy", images[:, :, :6])
    np.save(tmp_path / "one.npy", images[0, 0])
    for path, overrides, message in (
        (tmp_path / "small.npy", {}, r"must have 4 channels and the size \(8, 12\), .* got \(4, 6, 12\)"),
        (tmp_path / "one.npy", {"image_axes": None}, r"must have 4 channels .* got \(1, 8, 12\)"),
        (array, {"value_range": [-1, 1]}, r"must use value_range \[-1, 1\], got .* one half"),
        (array, {"value_range": None}, r"value_range must be the two intensities that mean -1 \(background\) and 1"),
        (array, {"import_ratio": 90.0}, r"must hold at least \d+ images of LGG, got 20"),
    ):
        with pytest.raises(RuntimeError) as raised:
            import_set(path, **{**OF_ARRAY, **overrides}, name="refused", overwrite=True)
        assert re.search(message, str(root_cause(raised.value)))
        assert not list((tmp_path / "refused").glob("*.nii.gz"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trained_on": "trian"}, "did you mean train"),
        ({"value_range": [1, 0]}, "value_range must be two increasing numbers"),
        ({"channel_endings": ["a"]}, "channel_endings must be one for each of modalities"),
        ({"import_ratio": -1}, "import_ratio must be a number >= 0"),
        ({"generator_class": "GBM"}, "generator_class must be one of"),
    ],
)
def test_settings_are_refused_before_any_work(import_set, array, overrides, message):
    with pytest.raises(RuntimeError) as raised:
        import_set(array, **{**OF_ARRAY, **overrides})
    assert message in str(root_cause(raised.value))


def test_a_classifier_takes_a_declared_set_and_refuses_one_that_saw_its_test(import_set, array, lists, tmp_path):
    def data(trained_on):
        settings = {**OF_ARRAY, "trained_on": trained_on}
        sets = [import_set(array, **settings, generator_class=name, name=f"{trained_on}{name}") for name in CLASSES]
        paths = [str(path) for path in sets]
        return ClassifierData(**lists, fold=0, classes=CLASSES, synthetic_paths=paths, synthetic_method="gan")

    for trained_on, not_excluded in (("train", []), ("others", []), ("unknown", ["gan"])):
        weights = tmp_path / trained_on / "model.pt"
        weights.parent.mkdir()
        weights.write_bytes(b"weights")
        data(trained_on).record(str(weights), "gan")
        assert read_json(weights.parent / "provenance.json")["leakage_not_excluded"] == not_excluded
    with pytest.raises(LeakageError, match="must not know the subjects of validation or test of fold 0"):
        data("all")
