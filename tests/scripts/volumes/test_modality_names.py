from __future__ import annotations

import pytest

from scripts.volumes.modality_names import ALIASES, mask_words, other_modalities, parse_modality

MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


@pytest.mark.parametrize(
    ("word", "modality"),
    [
        ("T1", "t1n"),
        ("t1w", "t1n"),
        ("t1Gd", "t1c"),
        ("T1-CE", "t1c"),
        ("T1+C", "t1c"),
        ("t2", "t2w"),
        ("T2_FLAIR", "t2f"),
        ("FLAIR", "t2f"),
        ("T1 (Gd)", "t1c"),
        ("T1\u2013CE", "t1c"),
    ],
)
def test_aliases_are_understood_whatever_their_spelling(word, modality):
    assert parse_modality(word, MODALITIES) == modality


def test_no_alias_means_two_modalities():
    words = [word for aliases in ALIASES.values() for word in aliases]
    assert len(words) == len(set(words))


def test_unknown_words_are_not_guessed():
    assert parse_modality("dwi", MODALITIES) is None
    assert parse_modality("t1x", MODALITIES) is None


@pytest.mark.parametrize("word", ["T2*", "t2*", "T2 *", "T2*w", "T1?", "T1#", "T1+", "T1/T2", ""])
def test_a_sign_that_is_no_separator_makes_another_word(word):
    assert parse_modality(word, MODALITIES) is None


def test_a_modality_of_ones_own_is_understood_as_it_is():
    assert parse_modality("ADC", ["adc"]) == "adc"


@pytest.mark.parametrize(
    ("path", "modality", "others"),
    [
        ("IXI002-Guys-0828-T1", "t1n", []),
        ("IXI002-Guys-0828-MRA", "t1n", ["MRA"]),
        ("100206/T2w/T2w_acpc_dc_restore_brain", "t1n", ["T2w", "T2w"]),
        ("S1/t2_flair", "t2f", []),
        ("S1/t2_flair", "t2w", ["t2_flair"]),
        ("S1/T1_Gd", "t1n", ["T1_Gd"]),
        ("case_T2star", "t2w", ["T2star"]),
        ("a_T1w", "t1", []),
        ("a_PDw", "pd", []),
        ("OAS1_0001_MR1/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc", "t1n", []),
        ("ADNI_002_S_0295_MR_MPR__GradWarp__B1_Correction__N3__Scaled", "t1n", []),
    ],
)
def test_words_of_a_path_tell_other_modalities(path, modality, others):
    assert other_modalities(path, modality) == others
    assert mask_words(path) == []
