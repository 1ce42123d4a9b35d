from __future__ import annotations

import shutil

from scripts.provenance.study_files import StudyFiles
from scripts.report.cohorts import cohort_sections, image_sections, shortcuts_section
from scripts.running.files import read_json, write_json


def test_cohorts_are_described_with_whom_they_hold_and_whom_they_leave_out(study):
    folder, stages = study
    sections = cohort_sections(StudyFiles(str(folder), stages))
    assert [cohort["name"] for cohort in sections["cohorts"]] == sections["simulated"] == ["site_a", "site_b"]
    first = sections["cohorts"][0]
    assert first["num_subjects"] == sum(first["grades"].values()) == sum(first["sites"].values()) == 40
    assert [subject["reason"] for subject in first["left_out"]] == ["no grade in name_mapping.csv"]
    assert [split["by_site"] for split in sections["splits"]] == [False, True]


def test_the_first_images_stand_beside_the_real_ones_with_their_sampler(study):
    folder, stages = study
    sections = image_sections(StudyFiles(str(folder), stages), num_samples=3)
    assert [(group["cohort"], group["class"]) for group in sections["samples"]] == [
        (cohort, grade) for cohort in ("site_a", "site_b") for grade in ("LGG", "HGG")
    ]
    for group in sections["samples"]:
        assert [strip["method"] for strip in group["strips"]] == ["real", "ddpm", "ddpm_mi"]
        assert [strip["sampler"] for strip in group["strips"]] == ["", "DDIM, 20 steps", "DDIM, 20 steps"]
        assert all(len(strip["pictures"]) <= 3 for strip in group["strips"])


def test_every_cohort_with_patches_is_searched_for_shortcuts(study):
    folder, stages = study
    shortcuts = shortcuts_section(StudyFiles(str(folder), stages))
    assert [item["cohort"] for item in shortcuts] == ["site_a", "site_b"]


def test_the_report_names_a_planted_site_and_a_planted_volume(study, tmp_path, write_report):
    folder, stages = study
    stages = [name for name in stages if name.endswith(("patches", "evaluation_real"))]
    for name in stages:
        shutil.copytree(folder / name, tmp_path / name)
    path = tmp_path / "site_b" / "patches" / "patches.json"
    content = read_json(path)
    for index, row in enumerate(content["training"]):
        row["site"] = "X" if row["label"] == 1 and index % 5 else "Y"
        row["lesion_volume_ml"] = 5.0 + 40 * row["label"] + index % 7
    write_json(path, content)
    html = (write_report((tmp_path, stages)) / "report.html").read_text(encoding="utf-8")
    for words in (
        "The site tells the classes of site_b apart.",
        "The lesion volume tells the classes of site_b apart.",
        "Sites of site_b with one class only: X.",
        "Classes by site of site_b: 2 sites",
        "AUC 1.00 (95 % interval ",
    ):
        assert words in html
    assert "site tells the classes of site_a apart" not in html
    assert "volume tells the classes of site_a apart" not in html
    # The rings of the fake images are brighter in HGG.
    assert "The mean of t1c tells the classes of site_a apart." in html
    assert "by this number alone" in html
