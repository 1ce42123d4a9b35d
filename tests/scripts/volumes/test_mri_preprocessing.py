"""N4 bias correction, rigid registration, and brains by HD-BET."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from nibabel.eulerangles import euler2mat
from scipy.ndimage import affine_transform, gaussian_filter, label

from scripts.patches.subject_volumes import CorrectBiasFieldd, RegisterRigidlyd
from scripts.running.errors import root_cause
from scripts.volumes.mri_preprocessing import (
    correct_bias_field,
    describe_brain_extraction,
    find_brain,
    register_rigidly,
)
from scripts.volumes.volume import Volume
from tests import stub_hd_bet
from tests.tiny_subjects import AFFINE, chain, make_images, reoriented, write_subject

SHAPE = (40, 36, 32)


def make_head(seed=0):
    """Return three blobs and a texture in an ellipsoid, float32, without symmetry."""
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij")
    brain = sum((axis / 0.85) ** 2 for axis in axes) < 1
    texture = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 3)
    blob = np.exp(-8 * ((axes[0] - 0.3) ** 2 + (axes[1] + 0.2) ** 2 + (axes[2] - 0.1) ** 2))
    return np.where(brain, 300 + 1500 * texture + 300 * blob, 0).astype(np.float32)


def variation(values):
    return values.std() / values.mean()


def test_a_smooth_field_is_removed_and_background_kept():
    pytest.importorskip("SimpleITK")
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij")
    brain = make_head() != 0
    tissue = np.where(brain, 300 + np.random.default_rng(0).normal(0, 5, SHAPE), 0)
    field = 0.3 * axes[0] - 0.2 * axes[1]
    biased = tissue * np.exp(field)
    corrected = correct_bias_field(Volume("a", biased.astype(np.float32), AFFINE), shrink_factor=2)
    assert variation(corrected.data[brain]) < 0.5 * variation(biased[brain])
    assert (corrected.data[~brain] == 0).all()
    assert np.corrcoef(np.log(biased[brain] / corrected.data[brain]), field[brain])[0, 1] > 0.95


@pytest.mark.parametrize("codes", ["RAS", "PIL"])
def test_a_moved_head_comes_back(codes):
    pytest.importorskip("SimpleITK")
    head = make_head()
    rotation, center = euler2mat(0.08, -0.05, 0.06), np.array(SHAPE) / 2
    offset = center - rotation @ center + [2.0, -1.5, 1.0]
    moved = affine_transform(head, rotation, offset, order=1)
    ideal = affine_transform(moved, rotation.T, -rotation.T @ offset, order=1)  # what interpolating twice leaves
    fixed = Volume("fixed", head, AFFINE)
    moving = Volume("moving", *reoriented(moved, AFFINE, codes))
    back = register_rigidly(moving, fixed)
    brain = head != 0
    reached = [np.corrcoef(array[brain], head[brain])[0, 1] for array in (moved, back.data, ideal)]
    assert reached[0] < 0.6
    assert reached[1] > reached[2] - 0.005
    assert back.data.shape == head.shape
    np.testing.assert_array_equal(back.affine, fixed.affine)


def test_registration_repeats_itself_bit_for_bit():
    pytest.importorskip("SimpleITK")
    fixed, moving = Volume("a", make_head(), AFFINE), Volume("b", np.roll(make_head(), 2, 0), AFFINE)
    np.testing.assert_array_equal(register_rigidly(moving, fixed).data, register_rigidly(moving, fixed).data)


def test_both_options_run_in_the_chain(tmp_path):
    pytest.importorskip("SimpleITK")
    subject = write_subject(tmp_path / "S")
    other = write_subject(tmp_path / "other", affine=AFFINE @ np.diag([1, 1, 1.05, 1]))
    subject["images"]["t2w"] = other["images"]["t2w"]
    with pytest.raises(RuntimeError) as caught:
        chain()(dict(subject))
    assert "registration: true" in str(root_cause(caught.value))
    patch = chain(registration=True, bias_correction=True)(dict(subject))
    assert patch["image"].shape == (4, 16, 14)


def test_volumes_on_one_grid_are_not_registered():
    volumes = {key: Volume(key, array, AFFINE) for key, array in make_images().items()}
    assert RegisterRigidlyd("t1c")({"volumes": volumes})["volumes"] == volumes


def test_a_reference_that_is_no_modality_is_refused():
    with pytest.raises(ValueError, match="registration_reference must be one of"):
        RegisterRigidlyd("t1x")({"volumes": {"t1c": Volume("a", make_head(), AFFINE)}})


def test_a_missing_package_names_the_way_to_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"SimpleITK must be installed.*registration"):
        CorrectBiasFieldd()({"volumes": {"t1c": Volume("a", make_head(), AFFINE)}})


@pytest.mark.parametrize(
    ("factor", "scale", "message"), [(0, 1, "bias_shrink_factor must be >= 1"), (2, 0, "got zeros only")]
)
def test_what_cannot_be_corrected_is_refused(factor, scale, message):
    with pytest.raises(ValueError, match=message):
        correct_bias_field(Volume("a", make_head() * scale, AFFINE), factor)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_a_brain_is_found_in_the_axes_of_the_file(codes, monkeypatch):
    head = make_head()
    seen = stub_hd_bet.install(monkeypatch, lambda voxels: voxels > 400)
    array, affine = reoriented(head, AFFINE @ np.diag([1, 2, 3, 1]), codes)
    brain = find_brain(Volume("head.nii", array, affine), "cpu")
    assert np.array_equal(seen["head"].T, head)
    assert (seen["spacing"], seen["mode"], seen["device"], seen["do_tta"]) == ([3, 2, 1], "fast", "cpu", False)
    parts, count = label(head > 400, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert count > 1, "a head of which the largest part is not all"
    assert np.array_equal(brain.ras, parts == 1 + sizes.argmax())
    assert np.array_equal(brain.affine, affine)


@pytest.mark.parametrize(("device", "asked"), [("cuda:1", (1, "accurate", True)), ("mps", ("cpu", "fast", False))])
def test_all_networks_answer_on_cuda_and_one_on_the_cpu_wherever_else(device, asked, monkeypatch):
    seen = stub_hd_bet.install(monkeypatch, lambda voxels: voxels > 400)
    find_brain(Volume("head.nii", make_head(), AFFINE), device)
    assert (seen["device"], seen["mode"], seen["do_tta"]) == asked
    said = describe_brain_extraction(device)
    assert (said["networks"], said["mirrored"]) == ((5, True) if seen["mode"] == "accurate" else (1, False))


def test_denormal_weights_are_zero_while_a_brain_is_found_and_nowhere_else(monkeypatch):
    denormal, products = torch.full((8,), 1e-40), []

    def brain_of(head):
        products.append((denormal * 2).tolist())
        return head > 400

    stub_hd_bet.install(monkeypatch, brain_of)
    find_brain(Volume("head.nii", make_head(), AFFINE), "cpu")
    assert products == [[0.0] * 8]
    assert (denormal * 2 != 0).all()


def test_a_head_without_a_brain_is_named(monkeypatch):
    stub_hd_bet.install(monkeypatch, np.zeros_like)
    with pytest.raises(ValueError, match="must find a brain in head.nii, got none; look at the image, or give a brain"):
        find_brain(Volume("head.nii", make_head(), AFFINE), "cpu")
