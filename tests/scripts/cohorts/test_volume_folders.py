"""Folders of T1 volumes without masks become a cohort: IXI, OASIS-1 and BIDS, each fault by name."""

from __future__ import annotations

import pytest

from scripts.cohorts.scan import CohortError, list_source, scan_cohort
from scripts.cohorts.volume_folders import NameRule
from scripts.running.files import read_json
from scripts.volumes.brain_images import BrainLimits
from tests.cohort_files import image, save, table_row, write_table
from tests.picture_folders import pixels, save_picture
from tests.volume_folders import SHAPE, head, write_bids, write_ixi, write_oasis, write_pair

HEADS = {"modalities": ["t1n"], "classes": (), "require_masks": False, "brain_limits": BrainLimits(None)}
IXI = NameRule(r"IXI(?P<patient>\d+)-(?P<site>[A-Za-z]+)-")
OASIS = NameRule(r"OAS1_(?P<patient>\d+)_MR\d", "**/*_t88_masked_gfc.img", "LAS")


def scan(source, folder, **options) -> dict:
    return read_json(scan_cohort(source, folder / "out", **{**HEADS, **options}))


def faults(source, folder, **options) -> list[str]:
    with pytest.raises(CohortError) as error:
        scan(source, folder, **options)
    assert not (folder / "out" / "cohort.json").exists()
    return str(error.value).splitlines()[1:]


def test_patients_and_sites_are_read_from_names_as_of_ixi(tmp_path):
    cohort = scan(write_ixi(tmp_path / "IXI-T1"), tmp_path, rule=IXI)
    assert (cohort["layout"], cohort["name"], len(cohort["subjects"])) == ("flat", "IXI-T1", 6)
    first = cohort["subjects"][0]
    assert (first["subject_id"], first["patient_id"], first["site"]) == ("IXI002-Guys-0800-T1", "002", "Guys")
    assert first["grade"] is first["mask"] is None
    assert first["grid"] == {"size": list(SHAPE), "spacing_mm": [1.0, 1.0, 1.5]}
    assert {s["site"] for s in cohort["subjects"]} == {"Guys", "HH", "IOP"}
    assert cohort["not_read"] == ["IXI.csv"]


def test_a_folder_of_plain_t1_is_taken_for_nothing_that_it_is_not(tmp_path):
    source = write_ixi(tmp_path / "IXI")
    with pytest.raises(
        ValueError, match=r"got files such as IXI002.*; list the files in a table .*cohort_layout, flat"
    ):
        scan(source, tmp_path)
    cohort = scan(source, tmp_path, layout="flat")
    assert {s["patient_id"] for s in cohort["subjects"]} == {s["subject_id"] for s in cohort["subjects"]}
    assert {s["site"] for s in cohort["subjects"]} == {None}


def test_names_tell_modalities_and_classes_too(tmp_path):
    for name in ("CN/P1_a_T1", "CN/P1_a_T2", "AD/P2_a_T1", "AD/P2_a_T2", "AD/P2_b_T1", "AD/P2_b_T2", "AD/P2_b_PD"):
        save(tmp_path / "set" / f"{name}.nii.gz", image(name))
    rule = NameRule(r"(?P<class>\w+)/(?P<patient>P\d)_\w_(?P<modality>\w\w)$")
    options = {"modalities": ["t1n", "t2w"], "classes": ["CN", "AD"], "rule": rule}
    cohort = scan(tmp_path / "set", tmp_path, **options)
    told = [(s["subject_id"], s["patient_id"], s["grade"], list(s["images"])) for s in cohort["subjects"]]
    both = ["t1n", "t2w"]
    assert told == [("P2_a", "P2", "AD", both), ("P2_b", "P2", "AD", both), ("P1_a", "P1", "CN", both)]
    assert cohort["not_read"] == ["AD/P2_b_PD.nii.gz"]
    (tmp_path / "set" / "CN" / "P1_a_T2.nii.gz").rename(tmp_path / "set" / "CN" / "P1_a_t2.nii")
    save(tmp_path / "set" / "CN" / "P1_a_T2.nii.gz", image("again"))
    assert "P1_a must have one file for t2w, got" in faults(tmp_path / "set", tmp_path / "twice", **options)[0]


def test_masks_and_other_modalities_are_no_t1_of_the_same_patient(tmp_path):
    source = write_ixi(tmp_path / "IXI", count=3)
    for kind in ("T2", "PD"):
        save(source / f"IXI002-Guys-0800-{kind}.nii.gz", head(kind))
    save(source / "IXI002-Guys-0800-T1-brain_mask.nii.gz", head("mask"))
    told = faults(source, tmp_path, rule=IXI)
    assert len(told) == 3
    for word, name in (("T2", "IXI002-Guys-0800-T2"), ("PD", "IXI002-Guys-0800-PD"), ("mask", "T1-brain_mask")):
        (line,) = (line for line in told if f"must hold volumes of t1n alone, got 1 with {word} in the name" in line)
        assert f"{name}); leave them out with source_files, or let name_pattern tell" in line
    chosen = scan(source, tmp_path / "chosen", rule=NameRule(IXI.pattern, "*-T1.nii.gz"))
    told_apart = scan(source, tmp_path / "told", rule=NameRule(IXI.pattern + r"\d+-(?P<modality>[\w-]+)"))
    for cohort in (chosen, told_apart):
        assert [s["patient_id"] for s in cohort["subjects"]] == ["002", "003", "004"]
        assert set(cohort["not_read"]) >= {"IXI002-Guys-0800-T2.nii.gz", "IXI002-Guys-0800-T1-brain_mask.nii.gz"}


def test_a_class_or_a_patient_may_be_called_like_a_modality(tmp_path):
    for name in ("PD/PD_1_T1", "CN/CN_1_T1"):
        save(tmp_path / "set" / f"{name}.nii.gz", image(name))
    rule = NameRule(r"(?P<class>\w+)/(?P<patient>\w+_\d)")
    cohort = scan(tmp_path / "set", tmp_path, classes=["CN", "PD"], rule=rule)
    assert [(s["patient_id"], s["grade"]) for s in cohort["subjects"]] == [("CN_1", "CN"), ("PD_1", "PD")]


def test_visits_under_one_name_are_no_patients_of_their_own(tmp_path):
    for name in ("S1/visit_1", "S1/visit_2", "S2/visit_1"):
        save(tmp_path / "set" / name / "T1.nii.gz", image(name))
    (line,) = faults(tmp_path / "set", tmp_path, layout="flat")
    assert "got S1/visit_1/T1, S1/visit_2/T1, S2/visit_1/T1; set name_pattern with a group named patient" in line
    cohort = scan(tmp_path / "set", tmp_path, rule=NameRule("(?P<patient>[^/]+)/"))
    told = [(s["subject_id"], s["patient_id"]) for s in cohort["subjects"]]
    assert told == [("S1_visit_1_T1", "S1"), ("S1_visit_2_T1", "S1"), ("S2_visit_1_T1", "S2")]


def test_one_of_the_images_of_oasis_is_chosen_and_lies_as_it_is_said(tmp_path):
    source = write_oasis(tmp_path / "oasis")
    cohort = scan(source, tmp_path, rule=OASIS)
    first = cohort["subjects"][0]
    assert (first["subject_id"], first["patient_id"]) == ("OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc", "0001")
    assert first["orientation"] == "LAS"
    assert sorted(first["sha256"]) == ["t1n", "t1n header"]
    assert len(cohort["subjects"]) == 4
    assert not any("masked_gfc" in path for path in cohort["not_read"])  # neither voxels nor headers
    assert sum(path.endswith("t88_gfc.hdr") for path in cohort["not_read"]) == 4
    listing = list_source(source, tmp_path / "listing", modalities=["t1n"], rule=OASIS)
    with open(listing, encoding="utf-8") as stream:
        assert "masked_gfc.hdr\t" in stream.read()


def test_halves_and_unstated_orientations_are_named(tmp_path):
    source = write_oasis(tmp_path / "oasis", count=3)
    told = faults(source, tmp_path, rule=NameRule(OASIS.pattern, OASIS.files))
    assert len(told) == 3
    assert "masked_gfc.img must come with an orientation" in told[0]
    (line,) = faults(source, tmp_path, rule=NameRule(OASIS.pattern, "**/*_t88_masked_gfc.hdr", "LAS"))
    assert "must choose the .img of Analyze pairs, got '**/*_t88_masked_gfc.hdr' with 3 .hdr alone (OAS1_0001" in line
    halves = sorted(source.rglob("*masked_gfc.*"))
    halves[0].unlink()  # .hdr of the first
    halves[3].unlink()  # .img of the second
    told = faults(source, tmp_path, rule=NameRule(OASIS.pattern, "**/*masked_gfc.*", "LAS"))
    assert [line.split(" must lie beside its other half, ")[1].split(".")[1][:3] for line in told] == ["hdr", "img"]


def test_bids_gives_sessions_sites_and_facts(tmp_path):
    cohort = scan(write_bids(tmp_path / "bids"), tmp_path)
    assert cohort["layout"] == "bids"
    subjects = {s["subject_id"]: s for s in cohort["subjects"]}
    assert list(subjects) == ["sub-01_ses-1", "sub-02_ses-1", "sub-03_ses-1", "sub-04_ses-1", "sub-04_ses-2"]
    assert subjects["sub-04_ses-2"]["patient_id"] == subjects["sub-04_ses-1"]["patient_id"] == "sub-04"
    first = subjects["sub-01_ses-1"]
    assert (first["site"], first["age"], first["sex"], first["diagnosis"]) == ("HH", "21", "F", "CN")
    assert list(first["images"]) == ["t1n"]
    assert any(path.startswith("derivatives") for path in cohort["not_read"])
    graded = scan(tmp_path / "bids", tmp_path, modalities=["t1n", "t2f"], classes=["CN", "AD"])
    assert [s["grade"] for s in graded["subjects"]] == ["CN", "AD", "CN", "AD", "AD"]
    assert list(graded["subjects"][0]["images"]) == ["t1n", "t2f"]


def test_bids_without_sessions_names_patients_as_other_doors_do(tmp_path):
    for name in ("sub-01", "sub-02"):
        save(tmp_path / "bids" / name / "anat" / f"{name}_T1w.nii.gz", head(name))
    cohort = scan(tmp_path / "bids", tmp_path)
    assert [(s["subject_id"], s["patient_id"]) for s in cohort["subjects"]] == [("sub-01",) * 2, ("sub-02",) * 2]


def test_two_t1_of_one_session_are_named_and_one_is_chosen(tmp_path):
    source = write_bids(tmp_path / "bids", count=2)
    anat = source / "sub-01" / "ses-1" / "anat"
    (anat / "sub-01_ses-1_T1w.nii.gz").rename(anat / "sub-01_ses-1_run-1_T1w.nii.gz")
    save(anat / "sub-01_ses-1_run-2_T1w.nii.gz", head("again"))
    (line,) = faults(source, tmp_path)
    assert "subject sub-01_ses-1 must have one file for t1n, got" in line
    assert "run-1_T1w.nii.gz" in line
    assert "run-2_T1w.nii.gz; move one away, or choose with source_files" in line
    chosen = scan(source, tmp_path, rule=NameRule(files="**/*run-1_T1w.nii.gz"))
    assert [s["subject_id"] for s in chosen["subjects"]] == ["sub-01_ses-1"]


def test_pictures_and_names_without_a_patient_are_faults_of_a_flat_folder(tmp_path):
    source = write_ixi(tmp_path / "set", count=2)
    save_picture(source / "slice.png", pixels("a"))
    save(source / "other.nii.gz", head("other"))
    told = faults(source, tmp_path, rule=IXI)
    assert (
        "must hold volumes (.nii.gz, .nii, or .hdr with .img) in the layout flat, got 1 pictures (slice.png)" in told[0]
    )
    assert "other.nii.gz must have the patient in its name as name_pattern" in told[1]


def test_a_table_may_list_pairs_too(tmp_path):
    rows = [{"subject_id": f"a{index}", "t1": f"a{index}.img"} for index in range(2)]
    for row in rows:
        write_pair(tmp_path / row["t1"], head(row["t1"]))
    table = write_table(tmp_path / "t.csv", rows)
    cohort = scan(table, tmp_path, rule=NameRule(orientation="RAS"))
    assert [s["orientation"] for s in cohort["subjects"]] == ["RAS", "RAS"]
    table = write_table(tmp_path / "u.csv", [table_row(tmp_path, "b")])
    assert "orientation" not in scan(table, tmp_path, rule=NameRule(orientation="RAS"))["subjects"][0]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"pattern": "("}, r"name_pattern must be a regular expression, got '\('"),
        (
            {"pattern": r"(?P<site>\w+)"},
            r"name_pattern must have a group named patient, .* got site; write it as IXI\(",
        ),
        ({"pattern": r"(?P<patient>a)(?P<age>b)"}, "must have a group named patient, .* got age, patient"),
        ({"pattern": r"(?P<patient>a)(?P<session>b)"}, "others of site, modality, class alone, got patient, session"),
        ({"files": "/data/*.nii"}, "source_files must be a pattern of names below source_path"),
        ({"orientation": "LPX"}, "orientation must be three letters"),
    ],
)
def test_rules_that_are_none_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        NameRule(**rule)


def test_a_rule_is_refused_by_a_layout_that_would_not_heed_it(tmp_path):
    source = write_bids(tmp_path / "bids", count=1)
    with pytest.raises(ValueError, match="name_pattern must be null for the layout bids, got .*; it is read for flat"):
        scan(source, tmp_path, layout="bids", rule=IXI)
    with pytest.raises(ValueError, match="orientation must be null for the layout bids, got 'LAS'; it is read for fl"):
        scan(source, tmp_path, rule=NameRule(orientation="LAS"))
    with pytest.raises(ValueError, match="must have a group named modality, as .* is to give t1n, t2w, got"):
        scan(write_ixi(tmp_path / "ixi", count=1), tmp_path, rule=IXI, modalities=["t1n", "t2w"])
