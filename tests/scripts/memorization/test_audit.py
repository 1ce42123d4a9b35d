"""Planted faults: copies are named, patients who share nothing are not, and noise is no good news."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from benchmarks.altered_copies import ALTERATIONS, shifted
from benchmarks.phantom_patches import phantom_patches, phantom_volumes
from benchmarks.planted_copies import NUM_COPIES, count_named, plant, real_images, untrained_noise
from scripts.generator.controls import CONTROLS
from scripts.memorization.audit import MemorizationAudit
from scripts.memorization.verdict import COLLAPSED, KNOWS_HELD_OUT, MEMORIZES, NO_SIGN, TOO_FEW, UNUSABLE
from scripts.patches.image_sets import ImageSet

# 24 x 24 pixels of 4 mm: small, and a shift of 4 pixels is a sixth of the field of view. No seed of the benches.
SMALL = {"patch_size": 24, "matrix_size": (60, 60, 16)}
AUDIT = MemorizationAudit(num_permutations=19)


@pytest.fixture(scope="module")
def patients():
    """40 training, 12 held-out and 60 further patients."""
    return phantom_patches(112, seed=1, **SMALL).split([40, 12, 60])


@pytest.fixture(scope="module")
def real(patients):
    return real_images(patients[0], "training"), real_images(patients[1], "held out")


@pytest.fixture(scope="module")
def audit(real):
    """The audit of synthetic images against these patients, who are compared with one another once."""
    prepared = AUDIT.prepare(*real)
    return lambda images: AUDIT.judge(images, prepared, prepared.search(images))


@pytest.mark.parametrize("alteration", ["all four", "noise at 20 dB"])
def test_ten_altered_copies_among_sixty_images_are_named(patients, audit, alteration):
    assert alteration in ALTERATIONS
    result = audit(plant(patients[0], patients[2], alteration, seed=0))
    named, false = count_named(result)
    assert named >= NUM_COPIES - 1
    assert false == 0
    assert result["verdict"] == MEMORIZES
    assert result["copies"]["held_out"] == 0
    assert f"{named} of 60 images are copies" in result["evidence"][0]


def test_fresh_patients_are_not_said_to_be_memorized(patients):
    everybody, verdicts = torch.cat(patients), []
    for seed in range(1):
        # Two parts of 47 share nobody.
        shuffled = everybody[torch.randperm(len(everybody), generator=torch.Generator().manual_seed(seed))]
        for part in shuffled[: 2 * 47].split(47):
            training, held_out, fresh = part.split([12, 6, 29])
            verdicts.append(AUDIT(fresh, real_images(training, "t"), real_images(held_out, "h"))["verdict"])
    assert verdicts == [NO_SIGN] * 2


def test_the_noise_of_an_untrained_generator_is_unusable(audit):
    result = audit(untrained_noise((30, 4, 24, 24), seed=0))
    assert result["verdict"] == UNUSABLE
    assert result["copies"]["number"] == 0
    assert result["usability"]["farther"] > 0.99


def test_one_image_many_times_is_collapsed_and_the_mean_of_patients_unusable(patients, audit):
    assert audit(patients[2][:1].repeat(30, 1, 1, 1))["verdict"] == COLLAPSED
    assert audit(patients[0].mean(0, keepdim=True).repeat(30, 1, 1, 1))["verdict"] == UNUSABLE


def test_copies_of_held_out_patients_are_said_to_be_that(patients, audit):
    result = audit(torch.cat([patients[1][:5].flip(2), patients[2][5:30]]))
    assert result["verdict"] == KNOWS_HELD_OUT
    assert result["copies"]["held_out"] == 5
    assert "of held-out subjects, whom the generator must not know" in result["evidence"][0]
    assert (result["images"][3]["of"], result["images"][3]["is_held_out"]) == (3, True)


def test_a_patient_under_two_names_hides_no_copies(patients, real):
    held_out = real_images(torch.cat([patients[0][3:4] * 0.98, patients[1]]), "held out")
    result = AUDIT(plant(patients[0], patients[2][:12], "none", seed=0), real[0], held_out)
    (duplicate,) = result["duplicates"]
    assert (duplicate["first"], duplicate["second"]) == ("training3", "held out0")
    assert "training subject training3 under another name" in result["evidence"][0]
    assert (result["num_held_out_subjects"], result["copies"]["number"]) == (12, NUM_COPIES)
    assert result["verdict"] == MEMORIZES
    nearest = {row["pearson"]["held_out"]["index"] for row in result["images"]}
    assert nearest <= set(range(1, 13))  # numbers of the set as it was handed over


def test_the_same_real_images_are_compared_with_one_another_once(patients):
    training, held_out = patients[0][:8].clone(), patients[1][:4]
    first = AUDIT.prepare(real_images(training, "t"), real_images(held_out, "h"))
    assert AUDIT.prepare(real_images(training.clone(), "t"), real_images(held_out, "h")) is first
    assert AUDIT.prepare(real_images(training, "other "), real_images(held_out, "h")) is not first
    training[0] = -1
    assert torch.equal(first.training.images, patients[0][:8])
    assert AUDIT.prepare(real_images(training[1:], "t"), real_images(held_out, "h")) is not first


def graft(images, source, noise, channel=1):
    """Put one channel of other patients into the first images."""
    images, pixels = images.clone(), source[:, channel]
    random = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    images[: len(source), channel] = torch.where(pixels > -1, (pixels + noise * random).clamp(-0.99, 1), -1.0)
    return images


def test_two_real_subjects_who_share_a_channel_hide_no_copies_of_others(patients):
    held_out = real_images(graft(patients[1][:6], patients[0][:1], 0.01), "h")
    fresh = graft(patients[2][:30], patients[0][4:10], 0.05)
    result = AUDIT(fresh, real_images(patients[0][:12], "t"), held_out)
    assert result["copies"]["by_part"]["channel 1"] >= 5
    assert result["copies"]["below_by_part"]["channel 1"] == 0.3
    (pair,) = result["shared_parts"]
    assert (pair["first"], pair["second"], pair["part"]) == ("t0", "h0", "channel 1")
    assert any(sentence.startswith("Real subjects share channel 1: t0 and h0") for sentence in result["evidence"])


def test_where_all_real_images_come_near_in_a_channel_the_ratio_of_its_copies_is_lowered(patients):
    training, held_out = (graft(part, part[len(part) // 2 :], 0.05) for part in (patients[0][:12], patients[1][:6]))
    fresh = graft(patients[2][:30], patients[0][4:10], 0.05, channel=2)
    result = AUDIT(fresh, real_images(training, "t"), real_images(held_out, "h"))
    limits = result["copies"]["below_by_part"]
    assert 0 < limits["channel 1"] < limits["channel 2"] == 0.3
    assert f"0.3 times (channel 1 {limits['channel 1']:.2g}, where real images come near" in result["evidence"][0]
    assert result["shared_parts"] == []


def test_tensors_of_monai_with_metadata_are_judged_as_plain_ones(patients):
    sets = [part[:8] for part in patients]
    plain, with_metadata = (
        AUDIT(fresh, real_images(training, "t"), real_images(held_out, "h"))
        for training, held_out, fresh in (sets, [MetaTensor(part) for part in sets])
    )
    assert with_metadata == plain


def test_blank_images_are_unusable(audit):
    assert audit(torch.full((30, 4, 24, 24), -1.0))["verdict"] == UNUSABLE


def test_blends_of_two_training_images_are_found_by_the_share(patients, audit):
    training = patients[0]
    result = audit(0.5 * training[:30] + 0.5 * training[10:40])
    assert result["verdict"] == MEMORIZES
    share = result["shares"]["whole image"]
    assert share["relative"] == pytest.approx(1)
    assert share["p_value"] < 0.001


@pytest.mark.parametrize(("images", "training", "held_out"), [(28, 8, 6), (30, 4, 6), (30, 8, 4)])
def test_where_little_could_be_seen_no_sign_is_not_claimed(patients, images, training, held_out):
    real = real_images(patients[0][:training], "training"), real_images(patients[1][:held_out], "held out")
    result = AUDIT(patients[2][:images], *real)
    assert result["verdict"] == TOO_FEW
    assert "of which the audit needs" in result["evidence"][-1]


def test_without_held_out_images_copies_are_found_and_nothing_else_is_claimed(patients, real):
    nobody = ImageSet(patients[1][:0], [])
    seen = real[0].take(range(12))
    fresh = AUDIT(patients[2][:30], seen, nobody)
    assert fresh["verdict"] == TOO_FEW
    assert fresh["measures"]["pearson"]["train_minus_held_out"] is None
    assert fresh["measures"]["l2"]["c_t"] is None
    assert AUDIT(plant(patients[0][:12], patients[2][:12], "flip", seed=0), seen, nobody)["verdict"] == MEMORIZES


def test_further_images_of_the_copied_subject_do_not_hide_the_copy(patients, real):
    twice = ImageSet(patients[0][:12].repeat(2, 1, 1, 1), [f"t{index % 12}" for index in range(24)])
    result = AUDIT(plant(patients[0][:12], patients[2][:12], "flip", seed=0), twice, real[1])
    assert count_named(result) == (NUM_COPIES, 0)
    assert result["num_training_subjects"] == 12


def test_second_scans_of_held_out_patients_are_no_baselines_of_their_own(patients, real):
    training, held_out = patients[0][:12], patients[1]
    names = [f"h{index % 12}" for index in range(24)]
    twice = ImageSet(held_out.repeat(2, 1, 1, 1), names)
    synthetic = plant(training, patients[2][:12], "flip", seed=0)
    once, again = (AUDIT(synthetic, real_images(training, "t"), held) for held in (real_images(held_out, "h"), twice))
    assert (once["num_held_out"], again["num_held_out"]) == (12, 24)
    assert once["num_held_out_subjects"] == again["num_held_out_subjects"] == 12
    assert again["copies"] == once["copies"]
    for name in ("pearson", "aligned"):
        one, two = (result["measures"][name] for result in (once, again))
        assert two["held_out_to_training"]["n"] == 12
        assert two["c_t"] == pytest.approx(one["c_t"], abs=1e-6)


@pytest.mark.parametrize("max_shift", [-1, 2])
def test_a_shift_that_leaves_little_overlap_is_refused(max_shift):
    images = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="audit_max_shift must be 0 to a quarter"):
        MemorizationAudit(max_shift=max_shift)(images, ImageSet(images, "abc"), ImageSet(images[:0], []))


@pytest.mark.parametrize("control", ["mixed", "noisy"])
def test_control_generators_that_copy_are_said_to_memorize(patients, audit, control):
    drawn = CONTROLS[control](patients[0])(30, torch.Generator().manual_seed(0))
    result = audit(drawn)
    assert result["verdict"] == MEMORIZES
    # A mix of two halves is as near to both: its copies are those with most of one.
    assert result["copies"]["number"] >= {"mixed": 8, "noisy": 27}[control]


def test_the_gaussian_of_the_training_patients_copies_none_of_them(patients, audit):
    drawn = CONTROLS["pca_gaussian"](patients[0])(30, torch.Generator().manual_seed(0))
    result = audit(drawn)
    assert result["copies"]["number"] == 0
    assert result["verdict"] == NO_SIGN


@pytest.fixture(scope="module")
def volumes():
    return phantom_volumes(18, seed=6, size=24).split([7, 6, 5])


def test_copies_of_volumes_are_named_and_no_others(volumes):
    training, held_out, fresh = volumes
    copied = shifted(training.flip(3), torch.Generator().manual_seed(0), 2)
    result = AUDIT(torch.cat([copied, fresh]), real_images(training, "t"), real_images(held_out, "h"))
    assert [row["copy"] for row in result["images"]] == [True] * 7 + [False] * 5
    assert result["verdict"] == MEMORIZES


def test_large_volumes_are_averaged_first_with_their_shift(volumes, monkeypatch):
    monkeypatch.setattr("scripts.memorization.audit.LARGEST_SIDE", 24)
    small = [part[:4] for part in volumes]
    large = [part.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4) for part in small]
    audits = [MemorizationAudit(max_shift=shift, num_permutations=9) for shift in (3, 6)]
    expected, result = (
        audit(images[2], real_images(images[0], "t"), real_images(images[1], "h"))["measures"]
        for audit, images in zip(audits, (small, large), strict=True)
    )
    for name in ("l2", "aligned"):
        values = [measures[name]["synthetic_to_training"]["values"] for measures in (result, expected)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert audits[1].max_shift == 6
