from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from bundle.__main__ import main
from bundle.large_files import read_large_files
from bundle.model_card import SECTIONS
from bundle.pack import NAME, SIMULATED_DATA, pack
from bundle.trained import Trained
from scripts.running.files import read_json, sha256_file, write_json
from tests.bundle.conftest import URL
from tests.helpers import ROOT
from tests.trained_study import write_trained_study


def config(packed, name):
    return read_json(packed / "configs" / name)


def test_the_weights_are_those_of_the_study_with_their_records(study, packed):
    sources = {"models": "evaluation_ddpm"}
    sources.update({f"models/generator/{name}": f"fold0/generator_{name}_ddpm" for name in ("LGG", "HGG")})
    for target, source in sources.items():
        for name in ("model.pt", "provenance.json"):
            assert (packed / target / name).read_bytes() == (study / "site_a" / source / name).read_bytes()


def test_the_distances_from_the_training_images_are_packed_if_they_are_of_the_weights(study, packed, tmp_path):
    name = "training_distance.json"
    source = study / "site_a" / "evaluation_ddpm" / name
    assert (packed / "models" / name).read_bytes() == source.read_bytes()
    assert f"`models/{name}` lets an answer say" in (packed / "docs" / "README.md").read_text(encoding="utf-8")
    shutil.copytree(study, tmp_path / "study")
    other = tmp_path / "study" / source.relative_to(study)
    write_json(other, {**read_json(source), "weights_sha256": "0" * 64})
    root = pack(Trained.find(str(tmp_path / "study"), "ddpm"), str(tmp_path / "dist"), url_base=URL)
    assert not (root / "models" / name).exists()
    assert name not in (root / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["inference.json", "train.json"])
def test_the_configs_carry_the_sizes_that_the_weights_were_trained_with(packed, name):
    found = config(packed, name)
    assert found["classifier_backbone"] == "resnet10_thin"
    assert found["classifier_stem_stride"] == 1
    assert config(packed, "inference.json")["patch_size"] == [16, 24]
    assert config(packed, "inference.json")["patch_spacing_mm"] == 6.0
    assert config(packed, "inference.json")["min_et_ml"] == 0.01
    assert config(packed, "inference.json")["num_members"] == 2


def test_the_generators_configs_carry_their_sizes_and_sampler(packed):
    generate = config(packed, "generate.json")
    assert generate["generator_channels"] == config(packed, "train_generator.json")["generator_channels"] == [8, 8]
    assert (generate["sampler"], generate["num_inference_steps"]) == ("ddim", 3)


def test_the_package_holds_the_rooms_that_its_configs_reach_and_no_others(packed):
    rooms = {path.name for path in (packed / "scripts").iterdir() if path.is_dir()}
    assert {"cohorts", "patches", "splits", "inference", "volumes", "classifier", "generator", "running"} <= rooms
    assert not rooms & {"phantom", "report"}
    for room in rooms:
        kept = {path.relative_to(packed) for path in (packed / "scripts" / room).glob("*.*")}
        assert kept == {path.relative_to(ROOT) for path in (ROOT / "scripts" / room).glob("*.*")}


def test_what_serves_a_package_finds_the_rooms_that_it_imports(packed):
    # MONAI Label's app runs on the package's own scripts, not on those of this repository.
    for path in [*packed.glob("scripts/*/*.py"), *(ROOT / "bundle" / "label_app").glob("*.py")]:
        for name in re.findall(r"^\s*from (scripts(?:\.\w+)+) import", path.read_text(encoding="utf-8"), re.MULTILINE):
            module = packed / name.replace(".", "/")
            assert module.is_dir() or module.with_name(f"{module.name}.py").is_file(), f"{path.name} imports {name}"


def test_no_path_and_no_choice_of_the_run_is_carried_over(study, packed):
    texts = [path.read_text(encoding="utf-8") for path in (packed / "configs").iterdir()]
    assert not any(str(study) in text for text in texts)
    assert config(packed, "train.json")["overwrite"] is False
    assert config(packed, "train.json")["synthetic_method"] is None  # whose images have stayed behind
    assert config(packed, "patches.json")["min_et_ml"] == 0.01


def test_the_metadata_describe_both_networks(packed):
    metadata = config(packed, "metadata.json")
    image = metadata["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], image["spatial_shape"]) == (4, [16, 24])
    assert list(image["channel_def"].values()) == ["t1n", "t1c", "t2w", "t2f"]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "LGG", "1": "HGG"}
    assert metadata["generator_data_format"]["inputs"]["x"]["spatial_shape"] == [16, 24]
    assert metadata["generator_data_format"]["inputs"]["timesteps"]["value_range"] == [0, 999]
    assert metadata["numpy_version"] == "2.2.6"


def test_the_figures_are_those_of_the_study_with_their_intervals_and_say_simulated(study, packed):
    row = read_json(study / "site_a" / "evaluation_ddpm" / "metrics.json")["roles"][0]
    (heading, figures), *others = config(packed, "metadata.json")["eval_metrics"].items()
    assert others == []
    assert heading == "external, phantom_A to phantom_B, n = 12, simulated patients"
    assert figures["auc"] == row["auc"]
    assert figures["sensitivity_HGG"] == row["sensitivity"]["HGG"]
    card = (packed / "docs" / "README.md").read_text(encoding="utf-8")
    auc = row["auc"]
    assert f"| auc | {auc['value']:.3f} | {auc['low']:.3f} to {auc['high']:.3f} |" in card


def test_a_package_says_that_copies_are_not_told_any_more_and_that_leakage_is_not_excluded(study, tmp_path, caplog):
    shutil.copytree(study, tmp_path / "study")
    record = tmp_path / "study" / "site_a" / "evaluation_ddpm" / "provenance.json"
    write_json(record, {**read_json(record), "leakage_not_excluded": ["web"]})
    for path in (tmp_path / "study").glob("*/fold0/synthetic_*/config.yaml"):
        run = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**run, "reject_copies": True}), encoding="utf-8")
    root = pack(Trained.find(str(tmp_path / "study"), "ddpm"), str(tmp_path / "dist"), url_base=URL)
    assert config(root, "generate.json")["reject_copies"] is False
    card = (root / "docs" / "README.md").read_text(encoding="utf-8")
    assert "this bundle keeps what is drawn first" in card
    assert "**Leakage is not excluded**" in card
    assert "leakage is not excluded: nobody can tell what the generators of web have seen" in caplog.text


def test_the_model_card_has_the_sections_of_the_zoo_in_their_order(packed):
    lines = (packed / "docs" / "README.md").read_text(encoding="utf-8").splitlines()
    assert not any("Leakage is not excluded" in line for line in lines)
    assert [line for line in lines if line in SECTIONS] == list(SECTIONS)


def test_the_model_card_says_that_the_generators_hold_averages_of_training_images(packed):
    assert ConfigParser(config(packed, "train_generator.json")).get_parsed_content("generator_gaussian_rank") == 16
    card = (packed / "docs" / "README.md").read_text(encoding="utf-8")
    assert "hold the mean and the leading principal components of the training images" in card


def test_large_files_name_every_weight_with_its_hash_and_address(packed):
    entries = read_large_files(packed)
    assert {entry["path"] for entry in entries} == {
        "models/model.pt",
        "models/generator/LGG/model.pt",
        "models/generator/HGG/model.pt",
    }
    for entry in entries:
        assert entry["hash_val"] == sha256_file(packed / entry["path"])
        assert entry["url"] == URL + entry["path"]
    assert set(yaml.safe_load((packed / "large_files.yml").read_text(encoding="utf-8"))) == {"large_files"}


def test_simulated_weights_need_no_terms_of_data_and_say_so(packed):
    assert (packed / "docs" / "data_license.txt").read_text(encoding="utf-8") == SIMULATED_DATA


def test_weights_of_patients_need_the_terms_of_their_data(tmp_path):
    trained = Trained.find(str(write_trained_study(tmp_path / "study", simulated=False)), "ddpm")
    with pytest.raises(ValueError, match="data_license must be a text with the terms of phantom_A"):
        pack(trained, str(tmp_path / "dist"), url_base=URL)
    (tmp_path / "terms.txt").write_text("CC BY 4.0", encoding="utf-8")
    root = pack(trained, str(tmp_path / "dist"), url_base=URL, data_license=str(tmp_path / "terms.txt"))
    assert (root / "docs" / "data_license.txt").read_text(encoding="utf-8") == "CC BY 4.0"
    assert "simulated" not in json.dumps(config(root, "metadata.json")["eval_metrics"])
    assert "weights are simulated" not in (root / "docs" / "README.md").read_text(encoding="utf-8")


def test_an_address_must_be_given_or_waived(study, tmp_path, capsys):
    command = ["pack", "--study", str(study), "--setup", "ddpm", "--output", str(tmp_path)]
    assert main(command) == 2
    assert "url_base must be the http or file address" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([*command, "--allow-placeholder"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / NAME)


def test_a_folder_that_is_not_ours_is_refused_and_untouched(study, tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="must be new or a package of"):
        pack(Trained.find(str(study), "ddpm"), str(tmp_path), url_base=URL)
    assert [path.name for path in (tmp_path / NAME).iterdir()] == ["thesis.txt"]


def test_a_package_is_replaced_whole_or_not_at_all(study, packed, tmp_path):
    shutil.copytree(packed, tmp_path / "dist" / NAME)
    stale = tmp_path / "dist" / NAME / "models" / "model.onnx"
    stale.write_text("of earlier weights", encoding="utf-8")
    shutil.copytree(study, tmp_path / "study")
    weights = tmp_path / "study" / "site_a" / "evaluation_ddpm" / "model.pt"
    torch.save({}, weights)
    with pytest.raises(ValueError, match="must be about model.pt"):
        pack(Trained.find(str(tmp_path / "study"), "ddpm"), str(tmp_path / "dist"), url_base=URL)
    assert stale.is_file()
    assert [path.name for path in (tmp_path / "dist").iterdir()] == [NAME]
    pack(Trained.find(str(study), "ddpm"), str(tmp_path / "dist"), url_base=URL)
    assert not stale.exists()


def test_a_choice_that_the_study_does_not_have_is_refused(study):
    with pytest.raises(FileNotFoundError, match="finished evaluation of setup real, got ddpm; give --setup"):
        Trained.find(str(study), "real")
    with pytest.raises(ValueError, match="cohort must be one of site_a, got 'site_c'"):
        Trained.find(str(study), "ddpm", cohort="site_c")
    with pytest.raises(ValueError, match="method must be one of ddpm, got 'ddpm_mi'"):
        Trained.find(str(study), "ddpm", method="ddpm_mi")
    with pytest.raises(FileNotFoundError, match="make demo"):
        Trained.find(str(study / "no"), "ddpm")


def test_weights_are_found_by_the_records_of_the_stages_whatever_their_folders_are_called(study, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    shutil.move(tmp_path / "study" / "site_a", tmp_path / "study" / "renamed")
    (tmp_path / "study" / "renamed" / "evaluation_ddpm").rename(tmp_path / "study" / "renamed" / "answers")
    trained = Trained.find(str(tmp_path / "study"), "ddpm")
    assert trained.cohort == "site_a"
    assert trained.evaluation_dir == tmp_path / "study" / "renamed" / "answers"
    assert list(trained.generators) == ["HGG", "LGG"]


def test_an_unfinished_evaluation_is_not_packed(study, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    path = tmp_path / "study" / "site_a" / "evaluation_ddpm" / "stage.json"
    path.write_text(json.dumps({**read_json(path), "finished": False}), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="finished evaluation of setup ddpm, got none"):
        Trained.find(str(tmp_path / "study"), "ddpm")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"ensemble": "vote"}, "got vote;"), ({"temperatures": {"0": 1.5}}, "got mean_probability with temperatures;")],
)
def test_figures_of_another_ensemble_than_the_weights_give_are_refused(study, tmp_path, changes, said):
    shutil.copytree(study, tmp_path / "study")
    path = tmp_path / "study" / "site_a" / "evaluation_ddpm" / "metrics.json"
    path.write_text(json.dumps({**read_json(path), **changes}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"must be of the mean probability.*{said}"):
        Trained.find(str(tmp_path / "study"), "ddpm")


def test_the_runtime_never_imports_the_bundle_commands():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts").rglob("*.py")]
    assert not any("import bundle" in text or "from bundle" in text for text in sources)
