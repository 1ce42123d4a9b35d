from __future__ import annotations

import itertools

import pytest

from scripts.volumes.mask_codes import CANDIDATES, CONVENTIONS, decide_mask_codes, parse_mask_codes, source_of_masks
from scripts.volumes.regions import REGIONS, region_codes


@pytest.mark.parametrize(
    ("layout", "codes", "enhancing"),
    [
        ("brats_2018", [1, 2, 4], 4),
        ("brats_2023", [1, 2, 3], 3),
        ("brats_2023", [1, 2, 3, 4], 3),
        ("decathlon", [1, 2, 3], 3),
        ("table", [1, 2, 4], 4),
    ],
)
def test_the_layout_and_all_masks_decide_the_convention(layout, codes, enhancing):
    masks = {f"mask{code}": [code] for code in codes}
    mask_codes, reason = decide_mask_codes(masks, layout)
    assert mask_codes["enhancing"] == enhancing
    assert ", ".join(map(str, codes)) in reason


def test_four_is_a_cavity_and_no_tumor_after_treatment():
    mask_codes, _ = decide_mask_codes({"a": [1, 2, 3, 4]}, "brats_2023")
    assert all(4 not in region_codes(mask_codes, region) for region in REGIONS)


@pytest.mark.parametrize("codes", [[1, 2, 3, 4], [1, 2, 4], [4]])
def test_a_name_of_the_pediatric_task_says_what_four_means(codes):
    for layout in ("brats_2023", "table"):
        mask_codes, reason = decide_mask_codes({"a": codes}, source_of_masks(layout, "BraTS-PED-00001-000"))
        assert mask_codes == {"enhancing": 1, "non_enhancing": 2, "necrotic": 3, "edema": 4}
        assert "brats_2024_pediatric" in reason
    assert region_codes(mask_codes, "core") == [3, 2, 1]


def test_pediatric_masks_that_may_be_of_2023_must_be_declared():
    with pytest.raises(ValueError, match="brats_2023 and brats_2024_pediatric read differently"):
        decide_mask_codes({"a": [1, 2, 3]}, source_of_masks("brats_2023", "brats-ped-00001-000-seg.nii.gz"))


def test_other_names_do_not_say_more_than_the_layout():
    for name in ("BraTS-GLI-00001-000", "BraTS2021_00001", "PED-1", "moped"):
        assert source_of_masks("brats_2023", name) == "brats_2023"


def test_codes_of_which_nothing_is_known_must_be_declared():
    with pytest.raises(ValueError, match="must be declared where nothing says what the codes 1, 2 mean"):
        decide_mask_codes({"a": [1, 2]}, "unknown")
    assert decide_mask_codes({"a": [1, 2]}, "unknown", "brats_2023")[0]["edema"] == 2


def test_one_is_edema_in_the_decathlon():
    mask_codes, _ = decide_mask_codes({"a": [1, 2, 3]}, "decathlon")
    assert region_codes(mask_codes, "core") == [2, 3]


@pytest.mark.parametrize(
    ("layout", "codes"),
    [("table", [1, 2, 3]), ("table", [1, 2]), ("brats_2023", [1, 2, 4])],
)
def test_conventions_that_fit_and_give_different_regions_are_an_error(layout, codes):
    with pytest.raises(ValueError, match="must be declared where conventions give different regions"):
        decide_mask_codes({"a": codes}, layout)


def test_conventions_that_give_the_same_regions_are_no_error():
    mask_codes, reason = decide_mask_codes({"a": [1], "b": [2]}, "brats_2023")
    assert mask_codes == CONVENTIONS["brats_2023"]
    assert "so would brats_2024_post_treatment, brats_2017, with the same regions" in reason


@pytest.mark.parametrize("layout", CANDIDATES)
def test_a_choice_without_declaration_is_never_one_of_two_meanings(layout):
    """Over every set of codes: whatever is chosen, no other candidate that fits reads a region differently."""
    for codes in itertools.chain.from_iterable(itertools.combinations(range(1, 5), n) for n in range(1, 5)):
        try:
            chosen, _ = decide_mask_codes({"a": codes}, layout)
        except ValueError:
            continue
        for name in CANDIDATES[layout]:
            if set(codes) <= set(CONVENTIONS[name].values()):
                for region in REGIONS:
                    other = set(region_codes(CONVENTIONS[name], region)) & set(codes)
                    assert set(region_codes(chosen, region)) & set(codes) == other


def test_masks_that_fit_no_convention_are_named_with_their_codes():
    masks = {"a.nii.gz": [1, 2, 4], "b.nii.gz": [1, 2, 3], "c.nii.gz": [1]}
    with pytest.raises(ValueError, match=r"got others in b.nii.gz \(3\); declare mask_codes"):
        decide_mask_codes(masks, "brats_2018")


def test_a_declaration_overrules_the_layout_and_is_checked():
    mask_codes, reason = decide_mask_codes({"a": [1, 2, 3, 4]}, "table", "brats_2013")
    assert region_codes(mask_codes, "core") == [1, 3, 4]
    assert reason.startswith("declared as brats_2013")
    own = {"edema": 5, "enhancing": 7}
    assert decide_mask_codes({"a": [5, 7]}, "brats_2018", own)[0] == own
    with pytest.raises(ValueError, match=r"declared mask_codes, got others in a \(9\)"):
        decide_mask_codes({"a": [5, 9]}, "brats_2018", own)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("brats", "mask_codes must be brats_2017 .1 necrotic, 2 edema, 4 enhancing"),
        ({"tumour": 1}, "must give each of some of"),
        ({"edema": 1, "enhancing": 1}, "a code of its own"),
        ({"edema": 0}, "at least 1"),
        ({}, "must give each"),
        ({"edema": True}, "must be integers"),
        ({"edema": [1]}, "must be integers"),
    ],
)
def test_a_declaration_that_is_no_convention_is_refused(declared, message):
    with pytest.raises(ValueError, match=message):
        parse_mask_codes(declared)


@pytest.mark.parametrize("declared", [[1, 2, 3], 4, True])
def test_a_declaration_of_another_type_is_refused_with_the_key(declared):
    with pytest.raises(TypeError, match="mask_codes must be the name of a convention or a mapping tissue: code, got"):
        parse_mask_codes(declared)


def test_the_name_of_a_convention_is_understood_in_any_spelling():
    assert parse_mask_codes("BraTS 2017") == parse_mask_codes("brats-2017") == CONVENTIONS["brats_2017"]
