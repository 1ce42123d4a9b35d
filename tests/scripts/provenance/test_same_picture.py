"""The same picture in another form, planted among pictures of other patients."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from scripts.provenance import same_picture
from scripts.provenance.same_picture import Picture, correlation, same_pictures, thumbnails_of

SHAPES = {"2d": (32, 48), "3d": (20, 32, 16)}
NUM_PATIENTS = 6


def patient(shape: tuple[int, ...], seed: int, num_channels: int = 3) -> np.ndarray:
    """A brain with structures of several sizes, (C, *shape) in [-1, 1], background -1."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    brain = sum(axis**2 for axis in axes) < random.uniform(0.6, 0.9)
    noise = random.normal(size=(num_channels, *shape))
    tissue = sum(gaussian_filter(noise, (0, *[sd] * len(shape))) * sd for sd in (1, 2, 4))
    return np.where(brain, np.clip(tissue / 4, -0.99, 1), -1).astype(np.float32)


def moved(image: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Shift by pixels; what comes in is background."""
    padded = np.pad(image, [(0, 0), *[(2, 2)] * len(steps)], constant_values=image.min())
    rolled = np.roll(padded, steps, tuple(range(1, image.ndim)))
    return rolled[(slice(None), *[slice(2, -2)] * len(steps))]


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda image: image,
    "scaled": lambda image: image * 1.7,
    "scaled and clipped": lambda image: np.clip((image + 1) * 0.85 - 1, -1, 1),
    "each channel scaled": lambda image: image * np.array([0.5, 1.7, 3]).reshape(-1, *[1] * (image.ndim - 1)) - 4,
    "z-scored": lambda image: (image - image.mean()) / image.std(),
    "int16": lambda image: np.round(image * 500).astype(np.int16),
    "float16": lambda image: image.astype(np.float16).astype(np.float32),
    "shifted": lambda image: moved(image, (1, *[0] * (image.ndim - 2))),
    "shifted along all axes": lambda image: moved(image, (-1, 2, 1)[: image.ndim - 1]),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored along all axes": lambda image: image[(slice(None), *[slice(None, None, -1)] * (image.ndim - 1))],
    "noisy": lambda image: image + np.random.default_rng(0).normal(0, 0.01, image.shape) * (image > -1).any(0),
    "scaled, shifted and mirrored": lambda image: moved(image * 1.7, (1, *[0] * (image.ndim - 2)))[:, :, ::-1],
}


def save(folder: Path, name: str, image: np.ndarray) -> str:
    spatial = np.moveaxis(image, 0, -1)
    nib.save(nib.Nifti1Image(spatial[:, :, None] if image.ndim == 3 else spatial, np.eye(4)), folder / name)
    return str(folder / name)


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def patients(request, tmp_path_factory) -> tuple[list[np.ndarray], list[Picture]]:
    folder = tmp_path_factory.mktemp("patients")
    images = [patient(request.param, seed) for seed in range(NUM_PATIENTS)]
    return images, [Picture(save(folder, f"{n}.nii.gz", image), f"P{n}") for n, image in enumerate(images)]


def test_pictures_of_different_patients_are_far_from_alike(patients):
    images, pictures = patients
    assert same_pictures(pictures) == []
    assert max(correlation(one, other) for one in images[:3] for other in images[3:]) < 0.7


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_whatever_was_done_to_it(patients, tmp_path, copy):
    images, pictures = patients
    copied = Picture(save(tmp_path, "copy.nii.gz", np.ascontiguousarray(copy(images[4]))), "somebody else")
    ((first, second, value),) = same_pictures([*pictures, copied])
    assert (first, second) == (4, NUM_PATIENTS)
    assert value > 0.97


def test_images_of_one_patient_are_not_compared(patients, tmp_path):
    images, pictures = patients
    copied = save(tmp_path, "copy.nii.gz", images[4] * 1.7)
    assert same_pictures([*pictures, Picture(copied, "P4")]) == []


def test_pairs_of_one_cohort_cost_nothing_of_what_is_compared_between_cohorts(patients, tmp_path, monkeypatch):
    images, pictures = patients
    first = [Picture(path, patient, "first") for path, patient in ((one.path, one.patient) for one in pictures)]
    first += [Picture(save(tmp_path, f"{n}.nii.gz", images[0] * (2 + n)), f"twin {n}", "first") for n in range(5)]
    other = Picture(save(tmp_path, "copy.nii.gz", images[4] + 0.0), "somebody else", "second")
    compared = []
    monkeypatch.setattr(same_picture, "correlation", lambda *pair: compared.append(pair) or correlation(*pair))
    ((one, two, _),) = same_pictures([*first, other])
    assert (one, two) == (4, len(first))
    assert len(compared) == 1


@pytest.mark.parametrize("num_names", [2, 4])
def test_every_copy_of_a_cohort_is_found(patients, tmp_path, num_names):
    images, pictures = patients
    for name in range(1, num_names):
        paths = [save(tmp_path, f"{name}_{n}.nii.gz", image[:, ::-1] * name) for n, image in enumerate(images)]
        pictures = [*pictures, *(Picture(path, path) for path in paths)]
    pairs = {(pair.first, pair.second) for pair in same_pictures(pictures)}
    own = [[number + NUM_PATIENTS * name for name in range(num_names)] for number in range(NUM_PATIENTS)]
    assert pairs == {pair for numbers in own for pair in combinations(numbers, 2)}


@pytest.mark.parametrize("value", [-1, 0.3])
def test_images_without_contrast_are_nobodys_picture(tmp_path, value):
    blank = np.full((2, 20, 20), -1, np.float32)
    blank[:, 5:15, 5:15] = value
    assert not thumbnails_of(blank).any()
    assert correlation(blank, blank) == 0
    paths = [save(tmp_path, f"{number}.nii.gz", blank) for number in range(3)]
    assert same_pictures([Picture(path, path) for path in paths]) == []


def test_a_set_that_shows_one_picture_by_design_is_named_and_not_refused(tmp_path, caplog):
    random = np.random.default_rng(0)
    template = patient((32, 32), 0)
    images = [template + random.normal(0, 0.01, template.shape) * (template > -1) for _ in range(8)]
    paths = [save(tmp_path, f"{number}.nii.gz", image) for number, image in enumerate(images)]
    assert same_pictures([Picture(path, path) for path in paths]) == []
    assert "0.nii.gz and 7 of 8 images show one picture, as if by design" in caplog.text
    assert len(same_pictures([Picture(path, path) for path in paths[:4]])) == 6


def digits(folder: Path, count: int) -> list[Picture]:
    """Real pictures of 8 x 8 pixels, which are alike without being one: ones above all."""
    images = load_digits().images[load_digits().target == 1][:count, None].astype(np.float32)
    return [
        Picture(save(folder, f"{n}.nii.gz", image.repeat(2, 1).repeat(2, 2)), f"{n}") for n, image in enumerate(images)
    ]


def test_digits_are_many_pictures_and_a_copy_among_them_is_one(tmp_path, monkeypatch):
    pictures = digits(tmp_path, 120)
    assert same_pictures(pictures) == []
    image = np.asarray(nib.load(pictures[5].path).dataobj)[:, :, 0].transpose(2, 0, 1)
    copied = Picture(save(tmp_path, "copy.nii.gz", image * 1.7 + 2), "somebody else")
    ((first, second, _),) = same_pictures([*pictures, copied])
    assert (first, second) == (5, 120)
    monkeypatch.setattr(same_picture, "CROWD", 1000)  # none has so many others
    monkeypatch.setattr(same_picture, "ALIKE_BY_DESIGN", 1000)
    assert len(same_pictures([*pictures[1:], copied])) > 10  # what a correlation of .95 alone would say


def test_the_crowd_is_of_other_patients_and_does_not_hide_slices(patients, tmp_path):
    """Two names of one person, each with slices that are nearly alike, among many others."""
    images, _ = patients
    shape = images[0].shape[1:]
    others = [Picture(save(tmp_path, f"other{n}.nii.gz", patient(shape, 100 + n)), f"other{n}") for n in range(9)]
    random = np.random.default_rng(0)
    slices = [images[0] + random.normal(0, 0.1, images[0].shape) * (images[0] > -1) for _ in range(10)]
    twins = [
        Picture(save(tmp_path, f"{name}{n}.nii.gz", image * factor), name)
        for name, factor in (("one", 1.0), ("two", 1.7))
        for n, image in enumerate(slices)
    ]
    pairs = {(pair.first, pair.second) for pair in same_pictures([*others, *twins])}
    assert pairs >= {(9 + n, 19 + n) for n in range(10)}


def test_one_picture_under_many_names_is_no_crowd(patients, tmp_path):
    images, _ = patients
    shape = images[0].shape[1:]
    others = [Picture(save(tmp_path, f"other{n}.nii.gz", patient(shape, 200 + n)), f"other{n}") for n in range(14)]
    noise = np.random.default_rng(0).normal(0, 0.01, (10, *images[0].shape)) * (images[0] > -1).any(0)
    names = [Picture(save(tmp_path, f"name{n}.nii.gz", images[0] + noise[n]), f"name{n}") for n in range(10)]
    pairs = {(pair.first, pair.second) for pair in same_pictures([*others, *names])}
    assert pairs == set(combinations(range(14, 24), 2))


def test_images_of_other_shapes_are_not_compared(tmp_path):
    paths = [save(tmp_path, f"{size}.nii.gz", patient((size, 32), 0)) for size in (32, 33)]
    paths += [save(tmp_path, "channels.nii.gz", patient((32, 32), 0, num_channels=2))]
    assert same_pictures([Picture(path, path) for path in paths]) == []


def test_an_image_that_changed_is_read_again(patients, tmp_path):
    images, pictures = patients
    path = save(tmp_path, "changing.nii.gz", patient(images[0].shape[1:], 99))
    other = Picture(path, "somebody else")
    assert same_pictures([*pictures, other]) == []
    shutil.copyfile(pictures[2].path, path)
    assert [(pair.first, pair.second) for pair in same_pictures([*pictures, other])] == [(2, NUM_PATIENTS)]
