"""What the report says of the settings, the versions and the time of a study, from the records of its stages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scripts.provenance.study_files import StageRecord, StudyFiles
from scripts.report.methods import methods_section, package_versions, settings_by_kind, timeline_section
from scripts.report.page import render_part
from scripts.running.files import write_json
from scripts.running.progress import format_seconds
from tests.fake_study import kind_and_place


def test_seconds_are_added_by_kind_in_the_order_of_the_stages(tmp_path):
    stages = {
        "a/patches": 4.0,
        "a/fold0/classifier_real": 30.0,
        "a/fold0/classifier_ddpm_mi": 60.0,
        "a/fold0/synthetic_LGG_ddpm": 6.0,
    }
    for name, seconds in stages.items():
        write_json(tmp_path / name / "stage.json", {"finished": True, "seconds": seconds, **kind_and_place(name)})
    unfinished = {"finished": False, "seconds": 9.0, **kind_and_place("a/fold1/classifier_real")}
    write_json(tmp_path / "a/fold1/classifier_real/stage.json", unfinished)
    found = timeline_section(StudyFiles(str(tmp_path), [*stages, "a/fold1/classifier_real"]))
    assert [(row["kind"], row["stages"], row["total"], row["longest"]) for row in found["rows"]] == [
        ("patches", 1, "4.0 s", "4.0 s"),
        ("classifier", 2, "1 min 30 s", "1 min"),
        ("synthetic", 1, "6.0 s", "6.0 s"),
    ]
    assert [row["share"] for row in found["rows"]] == pytest.approx([0.04, 0.9, 0.06])
    assert found["total"] == "1 min 40 s"


def test_a_study_without_records_has_no_table(tmp_path):
    assert timeline_section(StudyFiles(str(tmp_path), []))["rows"] == []


@pytest.mark.parametrize(("seconds", "words"), [(0, "0.0 s"), (9.94, "9.9 s"), (60, "1 min"), (3600, "1 h")])
def test_times_are_said_in_the_units_they_fill(seconds, words):
    assert format_seconds(seconds) == words


def record(name, versions=None, **settings):
    identity = {"settings": settings, "seed": settings.get("seed", 0), "num_threads": 1}
    content = {"identity": identity, "versions": versions or {"torch": "2.13.0"}, **kind_and_place(name)}
    return StageRecord(name, content)


def generators():
    loss = {"_target_": "scripts.mutual_information.loss.MIRegularizedNoiseLoss", "mi_weight": "@mi_weight"}
    plain = {"lr": 0.004, "noise_loss": {"_target_": "torch.nn.SmoothL1Loss"}, "optimizer": "@adam"}
    for cohort in ("site_a", "site_b"):
        for fold in range(2):
            for grade in ("LGG", "HGG"):
                named = {"fold": fold, "generator_class": grade}
                folder = f"{cohort}/fold{fold}/generator_{grade}"
                yield record(f"{folder}_ddpm", **named, method="ddpm", **plain, train={"loss": "@noise_loss"})
                weights = {"mi_num_bins": 23, "mi_weight": 0.1}
                yield record(f"{folder}_ddpm_mi", **named, method="ddpm_mi", **plain, **weights, train={"loss": loss})


def test_the_weight_of_the_regularizer_leads_the_settings_in_which_the_generators_differ():
    compared = settings_by_kind(list(generators()))["generator"]
    assert compared.variants == ["DDPM", "DDPM + MI"]
    assert dict(compared.differences) == {
        "mi_weight": ["–", "0.1"],
        "train#loss#_target_": ["SmoothL1Loss", "MIRegularizedNoiseLoss"],
        "mi_num_bins": ["–", "23"],
    }
    assert dict(compared.common) == {"lr": "0.004"}
    assert (compared.value("mi_weight"), compared.value("lr"), compared.value("nothing")) == ("0.1", "0.004", "")


def test_the_seed_of_a_simulated_cohort_is_not_that_of_the_trainings():
    records = [record("site_a/cohort", seed=0), record("site_a/fold0/classifier_real", seed=1)]
    section = methods_section(SimpleNamespace(records={one.name: one for one in records}))
    assert (section["seeds"], section["cohort_seeds"]) == ([1], [0])


def test_both_cohorts_stand_side_by_side():
    records = [record(f"{name}/cohort", phantom_site=name[-1], seed=0, sizes=[80, 80]) for name in ("site_a", "site_b")]
    compared = settings_by_kind(records)["cohort"]
    assert (compared.variants, dict(compared.differences)) == (["site_a", "site_b"], {"phantom_site": ["a", "b"]})
    assert dict(compared.common) == {"seed": "0", "sizes": "80, 80"}


def test_the_plain_setup_comes_first_and_a_fold_of_other_settings_is_a_variant_of_its_own():
    def classifier(setup, fold, **own):
        return record(f"a/fold{fold}/classifier_{setup}", setup=setup, fold=fold, **own)

    setups = [classifier("ddpm", 0, ratio=1.0), classifier("real", 0, ratio=None), classifier("real", 1, ratio=None)]
    assert settings_by_kind(setups)["classifier"].variants == ["Real images only", "+ DDPM"]
    folds = [classifier("real", 0, epochs=9), classifier("real", 1, epochs=8)]
    assert settings_by_kind(folds)["classifier"].variants == ["fold 0", "fold 1"]
    stranger = [*folds, classifier("ddpm", 1, epochs=9)]
    assert settings_by_kind(stranger)["classifier"].variants == ["a/fold0/classifier_real", "a/fold1/classifier_real"]


def test_versions_are_those_of_all_stages():
    recorded = [{"torch": "2.9.0", "monai": "1.6.1"}, {"torch": "2.13.0", "monai": "1.6.1"}, {"torch": "2.9.0"}]
    assert package_versions(recorded) == {"torch": ["2.9.0", "2.13.0"], "monai": ["1.6.1"]}


def test_the_page_shows_differences_as_a_table_and_the_rest_by_kind(tmp_path):
    for one in generators():
        write_json(tmp_path / one.name / "stage.json", {**one.content, "kept_old_code": ["report.page"]})
    files = StudyFiles(str(tmp_path))
    sections = {"methods": methods_section(files), "timeline": timeline_section(files)}
    html = render_part("methods.html.j2", {**sections, "cohorts": [], "splits": [], "modalities": [], "declared": {}})
    assert "<tr><th>mi_weight</th><td>–</td><td>0.1</td></tr>" in html
    assert "<dt>lr</dt> <dd>0.004</dd>" in html
    assert "Settings of all generators" in html
    assert "Kept although the code had changed: site_a/fold0/generator_HGG_ddpm, " in html
