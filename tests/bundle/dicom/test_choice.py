"""Which series is taken for which modality, and when the user is asked."""

from __future__ import annotations

import shutil

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, RTStructureSetStorage

from bundle import __main__ as command
from bundle.dicom.choice import choose, describe, parse_series
from bundle.dicom.contents import modality_of
from bundle.dicom.convert import plan
from bundle.dicom.headers import Series, read_study
from tests.dicom_studies import SEQUENCES, SMALL, images_of, uid_of, write_series, write_study

T1, T2, FLAIR = (2.9, 2300, 900), (100, 6000, None), (94, 9000, 2500)


def series_of(description="", times=(None, None, None), agent=None, count=20, **elements):
    header = Dataset()
    header.SeriesNumber, header.SeriesDescription, header.ContrastBolusAgent = 1, description, agent
    header.EchoTime, header.RepetitionTime, header.InversionTime = times
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return Series("1.2", (header,) * count)


@pytest.mark.parametrize(
    ("description", "times", "agent", "modality"),
    [
        # Siemens, GE and Philips, in English and German
        ("t1_mprage_sag_p2_iso", T1, None, "t1n"),
        ("t1_mpr_tra_KM", T1, None, "t1c"),
        ("AX T1 SE", (12, 500, None), None, "t1n"),
        ("AX T1 POST", (12, 500, None), None, "t1c"),
        ("Ax 3D BRAVO +C", (3, 8, 450), None, "t1c"),
        ("T1 FLAIR", (20, 2200, 760), None, "t1n"),
        ("sT1W_3D_TFE_Gd", (3.5, 7.6, None), None, "t1c"),
        ("T1W_3D", (3.5, 7.6, None), "GADAVIST", "t1c"),
        ("T1 ohne KM", T1, None, "t1n"),
        ("AX T1 without contrast", (12, 500, None), None, "t1n"),
        ("AX T1 NON-CONTRAST", (12, 500, None), None, "t1n"),
        ("T1 posterior fossa", (12, 500, None), None, "t1n"),
        ("T1 post-op", (12, 500, None), None, "t1n"),
        ("T1 precontrast", (12, 500, None), None, "t1n"),
        ("t1_tse_vor_KM", (12, 500, None), None, "t1n"),
        ("T1 sans Gado", (12, 500, None), None, "t1n"),
        ("T1 nach Kontrastmittel", (12, 500, None), None, "t1c"),
        ("T1 pre-op +C", (12, 500, None), None, "t1c"),
        ("t2_tse_tra_512", T2, "Gadovist", "t2w"),
        ("AX T2 FLAIR", FLAIR, None, "t2f"),
        ("t2_tirm_tra_dark-fluid", FLAIR, None, "t2f"),
        ("FLAIR_longTR", (140, 11000, None), None, "t2f"),
        ("t2_spc_da-fl", (388, 5000, 1800), None, None),  # called T2, with the times of FLAIR: asked
        # no words
        ("AX BRAIN", T1, None, "t1n"),
        ("AX BRAIN", T1, "Dotarem", "t1c"),
        ("AX BRAIN", T2, None, "t2w"),
        ("AX BRAIN", FLAIR, None, "t2f"),
        ("AX BRAIN", (None, None, None), None, None),
        ("AX BRAIN", (40, 1500, None), None, None),
        # something else, or contradictions
        ("AX T1 PRE", (12, 500, None), "Dotarem", None),
        ("T1 pre and post", (12, 500, None), None, None),
        ("T1", T2, None, None),
        ("t2_tse", T1, None, None),
        ("AX T2* GRE", (20, 700, None), None, None),
        ("t2star map", (20, 700, None), None, None),
        ("ep2d_diff_b1000", (90, 5000, None), None, None),
        ("ADC", T2, None, None),
        ("t2_stir_cor", (60, 4000, 150), None, None),
        ("T1 SUB post-pre", T1, None, None),
        ("TOF", (5, 25, None), None, None),
        ("PD/T2", T2, None, None),
    ],
)
def test_words_and_times_tell_the_modality_or_that_nobody_knows(description, times, agent, modality):
    assert modality_of(series_of(description, times, agent))[0] == modality


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (series_of("localizer", T1), "localizer"),
        (series_of("t1", T1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
        (series_of("t1", T1, ImageType=["DERIVED", "SECONDARY", "MPR"]), "derived"),
        (series_of("t2", T2, ScanningSequence="EP"), "echo-planar"),
        (series_of("t1", T1, count=3), "fewer than 10 images"),
    ],
)
def test_what_is_no_image_of_a_head_is_not_taken(series, reason):
    assert modality_of(series) == (None, reason)


def test_each_series_is_found_in_any_order_of_measurement(scanned, tmp_path):
    order = {"t1c": 9, "t2f": 4, "t2w": 2, "t1n": 1}
    write_study(tmp_path, shape=SMALL, changes={name: {"SeriesNumber": number} for name, number in order.items()})
    for folder, numbers in ((scanned, {"t1n": 4, "t1c": 7, "t2w": 5, "t2f": 3}), (tmp_path, order)):
        chosen = choose(read_study(folder), {})
        assert {name: series.number for name, series in chosen.items()} == numbers
        assert list(chosen) == ["t1n", "t1c", "t2w", "t2f"]


@pytest.mark.parametrize("modality", ["t1n", "t2w", "t2f"])
def test_a_missing_modality_is_named_with_the_table(modality, tmp_path):
    write_study(tmp_path, shape=SMALL, changes={modality: None})
    with pytest.raises(ValueError, match=f"got: none for {modality}; --series .*\nnumber  description") as error:
        choose(read_study(tmp_path), {})
    assert len(str(error.value).splitlines()) == 5


def test_a_study_without_contrast_is_refused_until_its_series_is_named(tmp_path):
    changes = {"SeriesDescription": "t1_mprage", "ContrastBolusAgent": None}
    write_study(tmp_path, shape=SMALL, changes={"t1c": changes})
    study = read_study(tmp_path)
    with pytest.raises(ValueError, match=r"2 for t1n \(series 4 .* and series 7 .*none for t1c \(no T1 series whose"):
        choose(study, {})
    assert choose(study, {"t1c": "7"})["t1n"].number == 4


def test_a_series_without_contrast_is_not_one_made_after_the_contrast(tmp_path):
    write_study(tmp_path, shape=SMALL, changes={"t1n": {"SeriesNumber": 9}})
    study = read_study(tmp_path)
    with pytest.raises(ValueError, match=r"series 9 .*, taken for t1n, began after series 7 .* with contrast"):
        choose(study, {})
    assert choose(study, {"t1n": "9"})["t1n"].number == 9


def test_a_series_that_is_named_is_taken_though_nobody_needs_it(scanned):
    chosen = choose(read_study(scanned), {"t1n": "4"}, ["t2f"])
    assert {name: series.number for name, series in chosen.items()} == {"t1n": 4, "t1c": 7, "t2f": 3}


def test_of_two_candidates_the_user_chooses(tmp_path):
    write_study(tmp_path, shape=SMALL)
    write_series(tmp_path / "again", images_of(SMALL)["t2w"], **{**SEQUENCES["t2w"], "SeriesNumber": 8})
    write_series(
        tmp_path / "copy", images_of(SMALL)["t2f"], **{**SEQUENCES["t2f"], "SeriesInstanceUID": uid_of("copy")}
    )
    study = read_study(tmp_path)
    with pytest.raises(ValueError, match=r"2 for t2w \(series 5 \(t2_tse_tra\) and series 8 .*; 2 for t2f"):
        choose(study, {})
    with pytest.raises(ValueError, match=r"for t2f, got 3, which 2 have \(.*\); give its SeriesInstanceUID"):
        choose(study, {"t2w": "8", "t2f": "3"})
    chosen = choose(study, {"t2w": "8", "t2f": uid_of("copy")})
    assert (chosen["t2w"].number, chosen["t2f"].uid) == (8, uid_of("copy"))
    table = [line.split()[-1] for line in describe(study, chosen).splitlines()[1:]]
    assert (sorted(table[:2]), table[2:]) == (["(t2f)", "t2f"], ["t1n", "(t2w)", "t1c", "t2w"])


def test_names_of_no_series_and_of_one_for_two_are_refused(scanned):
    study = read_study(scanned)
    with pytest.raises(ValueError, match="for t1c, got 70, which 0 have; take a number of the table\nnumber"):
        choose(study, {"t1c": "70"})
    with pytest.raises(ValueError, match=r"series 3 .* is named for t2f and t2w"):
        choose(study, {"t2w": "3", "t2f": "3"})


@pytest.mark.parametrize("words", [["t1c"], ["t1=3"], ["t1c=3", "t1c=4"], "t1c=", {"flair": 3}])
def test_series_named_in_no_way_that_is_understood_are_refused(words):
    with pytest.raises(ValueError, match="series must name t1n, t1c, t2w, t2f at most once each"):
        parse_series(words)


def test_a_folder_of_localizers_says_so(tmp_path):
    write_series(tmp_path, images_of(SMALL)["t1n"], **{**SEQUENCES["t1n"], "SeriesDescription": "localizer"})
    with pytest.raises(ValueError, match=r"none for t1n \(there are only localizers\)"):
        choose(read_study(tmp_path), {})


@pytest.mark.parametrize(
    ("element", "value", "message"),
    [
        ("PatientID", "P2", r"must hold one patient, got 2: P1 \(36 images\), P2 \(12 images\)"),
        ("StudyInstanceUID", "1.2.3", "must hold one examination, got 2: 1.2.3"),
    ],
)
def test_a_folder_of_several_patients_or_examinations_is_refused(element, value, message, tmp_path):
    write_study(tmp_path, shape=SMALL, changes={"t2w": {element: value}})
    with pytest.raises(ValueError, match=message):
        read_study(tmp_path)


def test_the_same_image_twice_is_refused(scanned, tmp_path):
    shutil.copytree(scanned, tmp_path / "a")
    shutil.copytree(scanned / "S7", tmp_path / "b")
    with pytest.raises(ValueError, match=r"b/000.dcm must not be an image that .*S7/000.dcm is, too; leave one copy"):
        read_study(tmp_path)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_an_image_without_one_of_its_uids_is_named(keyword, tmp_path):
    write_study(tmp_path, shape=SMALL)
    image = dcmread(tmp_path / "S5" / "003.dcm")
    delattr(image, keyword)
    image.save_as(tmp_path / "S5" / "003.dcm")
    with pytest.raises(ValueError, match=f"003.dcm must have {keyword}, got none; export it again"):
        read_study(tmp_path)


def test_other_objects_are_passed_over_and_named(tmp_path):
    write_study(tmp_path, shape=SMALL, changes={"t1c": {"SOPClassUID": EnhancedMRImageStorage}})
    write_series(
        tmp_path / "rt", images_of(SMALL)["t1n"][:, :, :1], **{**SEQUENCES["t1n"], "SOPClassUID": RTStructureSetStorage}
    )
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    study = read_study(tmp_path)
    assert study.passed_over == {
        "Enhanced MR Image Storage": 12,
        "RT Structure Set Storage": 1,
        "no DICOM": 3,
    }
    with pytest.raises(ValueError, match="none for t1c .*passed over: 12 Enhanced MR .*convert them with `dcm2niix"):
        choose(study, {})


def test_a_study_of_multi_frame_images_alone_names_the_way_out(tmp_path, capsys):
    write_study(tmp_path / "P 1", shape=SMALL, SOPClassUID=EnhancedMRImageStorage)
    assert command.main(["dicom", str(tmp_path / "P 1"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "P 1 must hold MR images as DICOM, got none; passed over: 48 Enhanced MR Image Storage" in error
    assert f"convert them with `dcm2niix -z y -o FOLDER '{tmp_path / 'P 1'}'`, and give the NIfTI" in error


def test_a_table_names_multi_frame_images_that_are_not_read(tmp_path):
    study = tmp_path / "head; neck"
    write_study(study, shape=SMALL)
    facts = {**SEQUENCES["t1c"], "SeriesNumber": 9, "SOPClassUID": EnhancedMRImageStorage}
    write_series(study / "S9", images_of(SMALL)["t1c"], **facts)
    *table, passed_over, way_out = plan(str(study)).describe().splitlines()
    assert len(table) == 5
    assert passed_over == "passed over: 12 Enhanced MR Image Storage"
    assert way_out.startswith("multi-frame images are not read: convert them with `dcm2niix")
    assert "head; neck" in way_out


def test_folders_without_images_and_files_cut_short_are_refused(scanned, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere must be the folder of a DICOM study"):
        read_study(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("no")
    with pytest.raises(ValueError, match="must hold MR images as DICOM, got none; passed over: 1 no DICOM"):
        read_study(tmp_path)
    (tmp_path / "b.dcm").write_bytes((scanned / "S7" / "000.dcm").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"b.dcm must be a whole DICOM file, got .*; export it again"):
        read_study(tmp_path)
