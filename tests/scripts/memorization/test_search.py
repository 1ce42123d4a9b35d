"""The search finds copies however they were altered, treats every subject alike, and is exact where nothing moved."""

from __future__ import annotations

import pytest
import torch

from benchmarks import altered_copies as copies
from benchmarks.phantom_patches import phantom_patches, phantom_volumes
from scripts.memorization.alignment import pixel_coordinates
from scripts.memorization.nearest_images import brain_pearson
from scripts.memorization.parts import block_correlations, compare_parts, permuted_correlations
from scripts.memorization.refinement import affine_basis, refine
from scripts.memorization.search import CopySearch, Found, reduced

ALTERATIONS = {
    "none": lambda images, generator: images,
    "turn": copies.turned,
    "transposed": copies.transposed,
    "shift": copies.shifted,
    "rotation 15": lambda images, generator: copies.rotated(images, generator, 15.0),
    "zoom": copies.zoomed,
    "inverted": copies.inverted,
    "contrast": copies.rescaled,
}


@pytest.fixture(scope="module")
def patients():
    return phantom_patches(24, seed=3, patch_size=24, matrix_size=(60, 60, 16))


@pytest.fixture(scope="module")
def search(patients):
    return CopySearch(patients[:16], range(16))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_copies_are_found_with_a_small_ratio(patients, search, name):
    altered = ALTERATIONS[name](patients[:4], torch.Generator().manual_seed(0))
    found = search(altered, parts=False)
    assert found.similarities.argmax(1).tolist() == [0, 1, 2, 3]
    whole = compare_parts(found, altered, patients[:16], range(16))[0]
    assert whole.ratios.max() < 0.35
    assert found.similarities.max(1).values.min() > 0.9


@pytest.mark.parametrize("channel", [None, 2])
def test_the_alignment_that_is_told_is_the_one_that_correlates_best(patients, search, channel):
    scores = search.whole(patients[16:])
    rows, references = torch.tensor([0, 3, 5]), torch.tensor([7, 7, 2])
    numbers = scores.alignments(rows, references, channel)
    channels = range(4) if channel is None else [channel]
    places, matrices = scores.windows.shape[2], scores.templates.shape[1]
    assert len(search.whole.lattice.turns) * len(search.whole.lattice.shifts) == places
    for row, reference, number in zip(rows, references, numbers, strict=True):
        windows = scores.windows[channels, row, number // matrices]
        templates = scores.templates[channels, number % matrices, reference]
        expected = scores.values[0 if channel is None else channel + 1, row, reference]
        assert (windows * templates).sum(-1).abs().mean() == pytest.approx(float(expected), abs=1e-5)


def test_elastic_copies_are_bent_back(patients, search):
    found = search(copies.bent(patients[:8], torch.Generator().manual_seed(1), pixels=1.0), parts=False)
    before, after = (found.ways[name].similarities[:, 0] for name in ("whole image", "bent"))
    assert found.similarities.argmax(1).tolist() == list(range(8))
    assert (after >= before - 1e-6).all()
    assert (1 - after).mean() < 0.6 * (1 - before).mean()


def test_other_patients_are_no_copies(patients, search):
    parts = {part.name: part for part in compare_parts(search(patients[16:]), patients[16:], patients[:16], range(16))}
    assert parts["whole image"].ratios.min() > 0.6
    assert min(float(parts[name].ratios.min()) for name in ("lesion", "quarters", "channel 2")) > 0.35


def test_a_channel_a_lesion_and_quarters_are_named_alone(patients, search):
    fresh, sources = patients[16:], patients[:8]
    one = fresh.clone()
    one[:, 1] = sources[:, 1]
    parts = {part.name: part for part in compare_parts(search(one), one, patients[:16], range(16), "abcd")}
    assert (parts["b"].ratios < 0.1).sum() >= 5
    assert (parts["b"].subjects == torch.arange(8)).sum() >= 5
    assert parts["a"].ratios.min() > 0.35
    inside = copies.centers((24, 24))
    graft = torch.where(inside, sources, fresh)
    lesion = next(
        part for part in compare_parts(search(graft), graft, patients[:16], range(16)) if part.name == "lesion"
    )
    assert (lesion.ratios < 0.1).sum() >= 5
    collage = copies.collage(sources, 2)
    quarters = block_correlations(collage, patients[:16], 2)
    assert quarters.argmax(2).T[0].tolist() == [0, 7, 6, 5]


def test_channels_in_another_order_are_seen(patients):
    shown = permuted_correlations(copies.permuted(patients[:4], torch.Generator()), patients[:16])
    assert shown.argmax(1).tolist() == [0, 1, 2, 3]
    assert shown.max(1).values.min() > 0.99


def test_a_subject_is_not_compared_with_itself_and_its_images_are_one(patients):
    owners = [0, 0, 1, 2, 3, 4]
    found = CopySearch(patients[:6], owners)(patients[:6], owners, parts=False)
    assert torch.isinf(found.similarities[torch.arange(6), torch.tensor(owners)]).all()
    assert found.similarities.shape == (6, 5)
    both = CopySearch(patients[:6], owners)(patients[1:2], parts=False)
    assert int(both.images[0, 0]) == 1
    assert float(both.similarities[0, 0]) == pytest.approx(1, abs=1e-4)


def test_results_do_not_depend_on_the_block_nor_on_other_images(patients):
    whole = CopySearch(patients[:8], range(8))(patients[8:14])
    blocks = CopySearch(patients[:8], range(8), block_size=2)(patients[8:14])
    torch.testing.assert_close(whole.similarities, blocks.similarities, atol=1e-4, rtol=0)
    again = Found.join([whole.take([0, 1]), whole.take([2, 3, 4, 5])])
    torch.testing.assert_close(again.ways["center"].similarities, whole.ways["center"].similarities)


def test_without_a_step_the_correlation_is_that_inside_the_brain(patients):
    images, references = patients[8:12], patients[:4]
    inside = (references != -1).any(1, keepdim=True).float()
    start = pixel_coordinates((24, 24)).expand(4, 24, 24, 2)
    refined = refine(images, references + 1, inside, start, affine_basis((24, 24)), 0)
    torch.testing.assert_close(
        refined.correlations.mean(1), brain_pearson(images, references).diag(), atol=1e-4, rtol=0
    )


def test_volumes_are_searched_by_the_same_code():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.randn(6, 2, 4, 4, 4, generator=generator), (12, 13, 14), mode="trilinear"
    )
    volumes = smooth.tanh()
    volumes[:, :, :2] = volumes[:, :, -2:] = -1.0
    moved = volumes[:3].roll(1, 3).flip(2) * 0.8
    found = CopySearch(volumes, range(6))(moved, parts=False)
    assert found.similarities.argmax(1).tolist() == [0, 1, 2]
    assert found.similarities.max(1).values.min() > 0.95


@pytest.fixture(scope="module")
def heads():
    """Whole brains, which are compared at 12^3 first and at 24^3 last."""
    volumes = phantom_volumes(16, seed=5, size=24)
    return volumes, CopySearch(volumes[:12], range(12))


@pytest.mark.parametrize(
    "change",
    [
        copies.flipped,
        lambda volumes, generator: copies.shifted(volumes, generator, 1),
        lambda volumes, generator: copies.shifted(volumes, generator, 2),
        lambda volumes, generator: copies.rotated(volumes, generator, 10.0),
        lambda volumes, generator: copies.rotated(copies.shifted(volumes.flip(2), generator, 1), generator, 5.0),
    ],
    ids=["flipped", "shifted by 1", "shifted by 2", "rotated", "all"],
)
def test_copies_of_volumes_are_found_between_the_voxels_that_are_searched(heads, change):
    volumes, search = heads
    altered = change(volumes[:4], torch.Generator().manual_seed(0))
    found = search(altered, parts=False)
    assert found.similarities.argmax(1).tolist() == [0, 1, 2, 3]
    assert compare_parts(found, altered, volumes[:12], range(12))[0].ratios.max() < 0.35
    assert found.alignments[0].coordinates.shape == (12, 12, 12, 3)


def test_blank_volumes_resemble_nobody(heads):
    found = heads[1](torch.full((2, 1, 24, 24, 24), -1.0), parts=False)
    assert (found.similarities == 0).all()


def test_other_volumes_are_no_copies(heads):
    volumes, search = heads
    parts = {part.name: part for part in compare_parts(search(volumes[12:]), volumes[12:], volumes[:12], range(12))}
    assert parts["whole image"].ratios.min() > 0.6
    assert {"lesion", "quarters"} < set(parts)
    assert "blocks of 1/8 of the side" not in parts


def test_parts_are_found_the_same_alone(patients, search):
    own = list(range(8))
    alone, whole = search.ways_of_parts(patients[:8], own), search(patients[:8], own).ways
    assert set(alone) == set(whole) - {"whole image", "bent"}
    for name, match in alone.items():
        torch.testing.assert_close(match.similarities, whole[name].similarities)


def test_large_images_are_averaged_and_their_background_stays():
    image = torch.full((1, 1, 96, 96), -1.0)
    image[..., 20:60, 20:60] = 0.5
    small = reduced(image)
    assert small.shape == (1, 1, 48, 48)
    assert set(small.unique().tolist()) == {-1.0, 0.5}


def test_a_blank_patient_is_refused():
    with pytest.raises(ValueError, match="references must show brain"):
        CopySearch(torch.full((2, 1, 8, 8), -1.0), [0, 1])
