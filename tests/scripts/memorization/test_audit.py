"""Planted faults: copies are named, patients who share nothing are not, and noise is no good news."""

from __future__ import annotations

import pytest
import torch

from benchmarks.altered_copies import ALTERATIONS
from benchmarks.phantom_patches import phantom_patches
from benchmarks.planted_copies import NUM_COPIES, count_named, plant, real_images, untrained_noise
from scripts.generator.controls import CONTROLS
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.verdict import MEMORIZES, NO_SIGN, TOO_FEW, UNUSABLE
from scripts.patches.image_sets import ImageSet

# 24 x 24 pixels of 4 mm: small, and a shift of 4 pixels is a sixth of the field of view. No seed of the benches.
SMALL = {"patch_size": 24, "matrix_size": (60, 60, 16)}
AUDIT = MemorizationAudit(num_permutations=199)


@pytest.fixture(scope="module")
def patients():
    """40 training, 12 held-out and 200 further patients."""
    return phantom_patches(252, seed=1, **SMALL).split([40, 12, 200])


@pytest.fixture(scope="module")
def real(patients):
    return real_images(patients[0], "training"), real_images(patients[1], "held out")


@pytest.mark.parametrize("alteration", [name for name in ALTERATIONS if name != "none"])
def test_ten_altered_copies_among_two_hundred_images_are_named(patients, real, alteration):
    result = AUDIT(plant(patients[0], patients[2], alteration, seed=0), *real)
    named, false = count_named(result)
    assert named >= NUM_COPIES - 1
    assert false <= 2
    assert result["verdict"] == MEMORIZES
    assert result["copies"]["held_out"] == 0
    assert f"{named + false} of 200 images are copies" in result["evidence"][0]


def test_fresh_patients_are_said_to_be_memorized_in_at_most_one_of_twenty_parts(patients):
    everybody, verdicts = torch.cat(patients), []
    for seed in range(4):
        # Five parts of 47 share nobody; two parts of different seeds share nine patients in the mean.
        shuffled = everybody[torch.randperm(len(everybody), generator=torch.Generator().manual_seed(seed))]
        for part in shuffled[: 5 * 47].split(47):
            training, held_out, fresh = part.split([12, 6, 29])
            verdicts.append(AUDIT(fresh, real_images(training, "t"), real_images(held_out, "h"))["verdict"])
    assert len(verdicts) == 20
    assert verdicts.count(MEMORIZES) <= 1
    assert verdicts.count(NO_SIGN) >= 18


def test_the_noise_of_an_untrained_generator_is_unusable(real):
    result = AUDIT(untrained_noise((60, 4, 24, 24), seed=0), *real)
    assert result["verdict"] == UNUSABLE
    assert result["copies"]["number"] == 0
    assert result["unlike_share"] > 0.9


def test_blank_images_are_unusable(real):
    assert AUDIT(untrained_noise((40, 4, 24, 24), seed=0) * 0 - 1, *real)["verdict"] == UNUSABLE


def test_blends_of_two_training_images_are_found_by_the_gap(patients, real):
    training = patients[0]
    result = AUDIT(0.5 * training[:30] + 0.5 * training[10:40], *real)
    assert result["verdict"] == MEMORIZES
    gap = result["measures"]["aligned"]["train_minus_held_out"]
    assert gap["low"] > 0
    assert gap["p_value"] <= 0.01


@pytest.mark.parametrize(("images", "training", "held_out"), [(28, 40, 12), (200, 4, 12), (200, 40, 4)])
def test_where_little_could_be_seen_no_sign_is_not_claimed(patients, images, training, held_out):
    real = real_images(patients[0][:training], "training"), real_images(patients[1][:held_out], "held out")
    result = AUDIT(patients[2][:images], *real)
    assert result["verdict"] == TOO_FEW
    assert "of which the audit needs" in result["evidence"][-1]


def test_without_held_out_images_copies_are_found_and_nothing_else_is_claimed(patients, real):
    nobody = ImageSet(patients[1][:0], [])
    fresh = AUDIT(patients[2][:40], real[0], nobody)
    assert fresh["verdict"] == TOO_FEW
    assert fresh["measures"]["pearson"]["train_minus_held_out"] is None
    assert fresh["measures"]["l2"]["c_t"] is None
    assert AUDIT(plant(patients[0], patients[2][:40], "flip", seed=0), real[0], nobody)["verdict"] == MEMORIZES


def test_further_images_of_the_copied_subject_do_not_hide_the_copy(patients, real):
    twice = ImageSet(patients[0][:20].repeat(2, 1, 1, 1) * 0.99, [f"t{index % 20}" for index in range(40)])
    result = AUDIT(plant(patients[0][:20], patients[2][:40], "flip", seed=0), twice, real[1])
    assert count_named(result) == (NUM_COPIES, 0)
    assert result["num_training_subjects"] == 20


def test_second_scans_of_held_out_patients_are_no_baselines_of_their_own(patients, real):
    training, held_out = patients[0][:20], patients[1]
    names = [f"h{index % 12}" for index in range(24)]
    twice = ImageSet(torch.cat([held_out, held_out * 0.99]), names)
    synthetic = plant(training, patients[2][:40], "flip", seed=0)
    once, again = (AUDIT(synthetic, real_images(training, "t"), held) for held in (real_images(held_out, "h"), twice))
    assert (once["num_held_out"], again["num_held_out"]) == (12, 24)
    assert once["num_held_out_subjects"] == again["num_held_out_subjects"] == 12
    assert again["copies"] == once["copies"]
    for name in ("pearson", "aligned"):
        one, two = (result["measures"][name] for result in (once, again))
        assert two["held_out_to_training"]["n"] == 12
        assert two["c_t"] == pytest.approx(one["c_t"], abs=1e-6)
    assert "of 12 real held-out subjects" in again["evidence"][0]


def test_too_few_exchanges_for_the_threshold_are_refused():
    with pytest.raises(ValueError, match="audit_num_permutations must be at least 99 for a gap to reach"):
        MemorizationAudit(num_permutations=98)


@pytest.mark.parametrize("max_shift", [-1, 2])
def test_a_shift_that_leaves_little_overlap_is_refused(max_shift):
    images = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="audit_max_shift must be 0 to a quarter"):
        MemorizationAudit(max_shift=max_shift)(images, ImageSet(images, "abc"), ImageSet(images[:0], []))


@pytest.mark.parametrize("control", ["mixed", "noisy"])
def test_control_generators_that_copy_are_said_to_memorize(patients, real, control):
    drawn = CONTROLS[control](patients[0])(60, torch.Generator().manual_seed(0))
    result = AUDIT(drawn, *real)
    assert result["verdict"] == MEMORIZES
    # A mix of two halves is as near to both: its copies are those with most of one.
    assert result["copies"]["number"] >= {"mixed": 20, "noisy": 55}[control]


def test_the_gaussian_of_the_training_patients_copies_none_of_them(patients, real):
    drawn = CONTROLS["pca_gaussian"](patients[0])(60, torch.Generator().manual_seed(0))
    result = AUDIT(drawn, *real)
    assert result["copies"]["number"] == 0
    assert result["verdict"] == NO_SIGN
