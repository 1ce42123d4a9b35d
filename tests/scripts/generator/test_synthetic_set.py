"""Training a generator and drawing its images, through the configs, at tiny size."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from scripts.classifier.datasets import ClassifierData
from scripts.generator.record import checked_provenance
from scripts.generator.synthetic_set import default_num_images
from scripts.patches.class_balance import synthetic_limits
from scripts.patches.tensors import PatchTensorDataset
from scripts.provenance.image_form import ImageForm, image_facts
from scripts.provenance.leakage import LeakageError
from scripts.provenance.record import hash_subject
from scripts.running.configs import Invocation
from scripts.running.files import read_json, sha256_file, write_json
from scripts.training.resume import Resumption
from tests.helpers import config_files, run_stage
from tests.patches import TINY_GENERATOR, write_tiny_patches
from tests.ring_or_blob import messages

TRAINING: dict[str, Any] = {
    **TINY_GENERATOR,
    "generator_class": "LGG",
    "generator_batch_size": 4,
    "generator_max_epochs": 2,
    "generator_epoch_images": 8,
    "generator_num_validation_draws": 4,
}


SET = {"sampler": "ddim", "num_inference_steps": 4, "num_images": 5, "generate_batch_size": 2}


def train(folder: Path, name: str, *overlays: str, **overrides: Any) -> Path:
    output_dir = folder / name
    run_stage("train_generator", *overlays, **{**TRAINING, "output_dir": str(output_dir), **overrides})
    return output_dir / "model.pt"


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_tiny_patches(tmp_path_factory.mktemp("patches"))


def refusal_of(stage: Callable[..., Path], *arguments: Any, **overrides: Any) -> str:
    """Run a stage that must fail; return the message behind those that MONAI wraps around it."""
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError)) as caught:
        stage(*arguments, **overrides)
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def weights_equal(first: Path, second: Path) -> bool:
    states = [torch.load(path, weights_only=True) for path in (first, second)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_loss_without_mi_trains_the_weights_of_plain_ddpm_bit_for_bit(tmp_path, patches):
    plain = train(tmp_path, "ddpm", **patches)
    without = train(tmp_path, "ddpm_mi_0", "options/mutual_information", denoise_weight=1.0, mi_weight=0.0, **patches)
    regularized = train(tmp_path, "ddpm_mi", "options/mutual_information", **patches)
    assert weights_equal(plain, without)
    assert not weights_equal(plain, regularized)
    assert read_json(plain.parent / "metrics.json")[0]["mutual_information"] is None
    assert read_json(regularized.parent / "metrics.json")[0]["mutual_information"] > 0


def generate(folder: Path, name: str, model_path: Path, *overlays: str, **overrides: Any) -> Path:
    output_dir = folder / name
    places = {"output_dir": str(output_dir), "generator_path": str(model_path)}
    run_stage("generate", *overlays, **{**TINY_GENERATOR, **SET, **places, **overrides})
    return output_dir


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory, patches: dict[str, str]) -> Path:
    return train(tmp_path_factory.mktemp("generator"), "lgg", **patches)


def images_of(folder: Path) -> torch.Tensor:
    entries = read_json(folder / "synthetic.json")["training"]
    return torch.stack([torch.as_tensor(np.asarray(nib.load(folder / entry["image"]).dataobj)) for entry in entries])


def test_a_set_lists_images_of_the_patches_form_with_their_provenance(tmp_path, patches, generator):
    folder = generate(tmp_path, "set", generator, fold=0, **patches)
    synthetic = read_json(folder / "synthetic.json")
    training_part = read_json(patches["splits_path"])["folds"][0]["train"]
    own = [subject for subject in training_part if subject.startswith("LGG")]
    assert [entry["image"] for entry in synthetic["training"]] == [f"LGG_{k:04d}.nii.gz" for k in range(5)]
    assert {entry["label"] for entry in synthetic["training"]} == {0}
    assert synthetic["provenance"]["subjects"] == sorted(hash_subject(subject) for subject in own)
    assert synthetic["provenance"]["weights_sha256"] == sha256_file(generator)
    assert synthetic["simulated"] is True
    assert image_facts(synthetic, "set") == image_facts(read_json(patches["patches_path"]), "patches")
    assert images_of(folder).shape == (5, 8, 12, 1, 4)
    assert images_of(folder).abs().max() <= 1


@pytest.mark.parametrize(
    "sampler",
    [{}, {"sampler": "ddpm", "num_inference_steps": None}, {"sampler": "dpm_solver"}, {"sampler": "unipc"}],
    ids=["ddim", "ddpm", "dpm_solver", "unipc"],
)
def test_images_do_not_depend_on_the_batch_they_are_drawn_in(tmp_path, generator, sampler):
    sets = [generate(tmp_path, str(n), generator, generate_batch_size=n, **sampler) for n in (1, 3, 5)]
    for other in sets[1:]:
        torch.testing.assert_close(images_of(other), images_of(sets[0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("option", "tolerance"),
    [("generate_channels_last", 1e-4), ("generate_cudnn_benchmark", 1e-4), ("generate_amp", 0.2)],
)
def test_options_of_speed_give_the_same_images_within_a_tolerance(tmp_path, generator, option, tolerance):
    plain, fast = generate(tmp_path, "plain", generator), generate(tmp_path, "fast", generator, **{option: True})
    torch.testing.assert_close(images_of(fast), images_of(plain), rtol=0, atol=tolerance)
    assert torch.equal(images_of(fast), images_of(plain)) is (option == "generate_cudnn_benchmark")


def test_options_of_speed_hold_for_one_stage_and_reach_the_network(tmp_path, generator, monkeypatch):
    modes, benchmarks = [], []

    def compiled(network, mode):
        modes.append(mode)
        benchmarks.append(torch.backends.cudnn.benchmark)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    generate(tmp_path, "set", generator, generate_compile=True, generate_cudnn_benchmark=True)
    generate(tmp_path, "next", generator, generate_compile=True)
    assert (modes, benchmarks) == (["reduce-overhead"] * 2, [True, False])


def test_a_set_repeats_byte_for_byte_and_continues_after_a_loss(tmp_path, generator):
    folders = [generate(tmp_path, name, generator) for name in ("first", "second")]
    files = [path.name for path in sorted(folders[0].glob("*.nii.gz"))] + ["synthetic.json"]
    before = {name: (folders[0] / name).read_bytes() for name in files}
    assert before == {name: (folders[1] / name).read_bytes() for name in files}
    # A run killed in its second batch: no list yet, one image of that batch missing.
    (folders[0] / "synthetic.json").unlink()
    (folders[0] / "LGG_0003.nii.gz").unlink()
    generate(tmp_path, "first", generator)
    assert before == {name: (folders[0] / name).read_bytes() for name in files}


@pytest.fixture(scope="module")
def copying(
    tmp_path_factory: pytest.TempPathFactory, patches: dict[str, str], generator: Path
) -> tuple[dict[str, str], Path]:
    """Patches two of whose training subjects look like images 1 and 3 that the generator draws, and its images."""
    folder = tmp_path_factory.mktemp("copying")
    drawn = generate(folder, "drawn", generator)
    shutil.copytree(Path(patches["patches_path"]).parent, folder / "patches")
    trained = [name for name in read_json(patches["splits_path"])["folds"][0]["train"] if name.startswith("LGG")]
    for name, k in zip(trained, (1, 3), strict=False):
        shutil.copy(drawn / f"LGG_{k:04d}.nii.gz", folder / "patches" / f"{name}.nii.gz")
    paths = {f"{name}_path": str(folder / "patches" / f"{name}.json") for name in ("patches", "splits")}
    return {**paths, "audit_max_shift": 2, "reject_copies": True}, drawn


def test_copies_of_training_images_are_rejected_and_replaced_by_the_next(tmp_path, generator, copying):
    settings, drawn = copying
    synthetic = read_json(generate(tmp_path, "set", generator, **settings) / "synthetic.json")
    assert synthetic["rejected"] == {"number": 2, "k": [1, 3], "copy_ratio": 0.5}
    assert [entry["k"] for entry in synthetic["training"]] == [0, 2, 4, 5, 6]
    assert len(list((tmp_path / "set").glob("*.nii.gz"))) == 5
    assert "rejected" not in read_json(drawn / "synthetic.json")


def test_a_set_with_rejected_copies_continues_byte_for_byte(tmp_path, generator, copying):
    settings, _ = copying
    whole, killed = (generate(tmp_path, name, generator, **settings) for name in ("whole", "killed"))
    (killed / "synthetic.json").unlink()
    for k in (2, 5):
        (killed / f"LGG_{k:04d}.nii.gz").unlink()
    generate(tmp_path, "killed", generator, **settings)
    for path in [*whole.glob("*.nii.gz"), whole / "synthetic.json"]:
        assert (killed / path.name).read_bytes() == path.read_bytes()


def test_a_generator_that_copies_too_often_is_refused(tmp_path, generator, copying):
    message = refusal_of(generate, tmp_path, "set", generator, **{**copying[0], "max_draws_per_image": 1.2})
    assert "num_images must be reached within 1.2 draws per image, got 4 of 5" in message
    assert "fewer epochs" in message


@pytest.mark.parametrize("batch_size", [2, 5])
def test_an_evaluator_hands_out_no_copy_either_but_the_images_of_the_set(tmp_path, generator, copying, batch_size):
    settings, drawn = copying
    written = images_of(generate(tmp_path, "set", generator, **settings))
    parser = ConfigParser(Invocation(tuple(config_files("generate"))).merged())
    parser.update({**TINY_GENERATOR, **SET, **settings, "device": "cpu", "generate_batch_size": batch_size})
    parser.update({"output_dir": str(tmp_path / "out"), "generator_path": str(generator)})
    evaluator, handed_out = parser.get_parsed_content("evaluator"), []
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: handed_out.extend(item["pred"] for item in engine.state.output)
    )
    evaluator.run()
    # Written as (x, y, 1, channel).
    images = torch.stack(handed_out).permute(0, 2, 3, 1).unsqueeze(3)
    torch.testing.assert_close(images, written, rtol=0, atol=1e-4)
    copies = images_of(drawn)[[1, 3]]
    assert torch.cdist(images.flatten(1), copies.flatten(1)).min() > 1e-2
    assert not (tmp_path / "out").exists()


def test_an_evaluator_of_a_generator_that_copies_too_often_is_refused(generator, copying):
    parser = ConfigParser(Invocation(tuple(config_files("generate"))).merged())
    parser.update({**TINY_GENERATOR, **SET, **copying[0], "device": "cpu", "generator_path": str(generator)})
    parser["max_draws_per_image"] = 1.2
    parser["output_dir"] = "nowhere"
    with pytest.raises(ValueError, match=r"num_images must be reached within 1\.2 draws per image, got 4 of 5"):
        parser.get_parsed_content("evaluator").run()


@pytest.mark.parametrize("missing", ["patches_path", "splits_path"])
def test_rejecting_copies_needs_the_training_images(tmp_path, generator, copying, missing):
    message = refusal_of(generate, tmp_path, "set", generator, **{**copying[0], missing: None})
    assert message.startswith(f"{missing} must be given where reject_copies is true")


def test_seeds_and_numbers_give_other_images(tmp_path, generator):
    first, other = (images_of(generate(tmp_path, str(seed), generator, seed=seed)) for seed in (0, 1))
    images = torch.cat([first, other]).flatten(1)
    assert torch.cdist(images, images).fill_diagonal_(1).min() > 1e-3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sampler": "ddpm"}, "must be 20 for sampler 'ddpm', got 4"),
        ({"num_inference_steps": 21}, "from 1 to 20"),
        ({"sampler": "pndm"}, "sampler must be one of ddpm, ddim, dpm_solver, unipc"),
        ({"sampler": "unipc", "num_inference_steps": 1}, "from 2 to 20 for sampler 'unipc', got 1"),
        ({"guidance_scale": 2.0}, "guidance_scale must be 1 for a generator that is not told the class, got 2.0"),
        (
            {"generator_parametrization": "epsilon"},
            r"must be 'v_prediction', what .*model.pt predicts, got 'epsilon'; pass --generator_parametrization v_pr",
        ),
        (
            {"generator_channels": [8, 16]},
            r"model\.pt must hold weights of the configured generator, got \d+ differences",
        ),
        ({"generator_num_res_blocks": 2}, r"got \d+ differences: .* is missing; .*set generator_channels"),
        ({"generator_class": "HGG"}, "generator_class must be 'LGG'"),
        ({"fold": 1}, "fold must be 0"),
        ({"patch_size": [16, 12]}, r"must have patch_size \[8, 12\], as .*model.pt has, got \[16, 12\]; make both"),
        ({"modalities": ["t1c", "t1n", "t2w", "t2f"]}, r"must have modality \['t1n', .* got \['t1c', "),
        ({"classes": {"HGG": 0, "LGG": 1}}, r"must have labels \['LGG', 'HGG'\], as .* got \['HGG', 'LGG'\]"),
        ({"patch_spacing_mm": 2.0}, r"must have spacing_mm 1\.0, as .* got 2\.0; make both with one patch_spacing_mm"),
        ({"num_images": 0}, "num_images must be >= 1"),
        ({"generator_path": "nowhere/model.pt"}, "nowhere/model.pt does not exist"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_work(tmp_path, generator, overrides, message):
    assert re.search(message, refusal_of(generate, tmp_path, "set", generator, **overrides))
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_generator_whose_record_does_not_tell_the_images_is_refused(tmp_path, generator):
    record = read_json(generator.parent / "provenance.json")
    write_json(tmp_path / "old" / "provenance.json", {k: v for k, v in record.items() if k != "images"})
    (tmp_path / "old" / "model.pt").write_bytes(generator.read_bytes())
    message = refusal_of(generate, tmp_path, "set", tmp_path / "old" / "model.pt")
    assert re.search(r"old/provenance.json must say in `images` .*got None; train again", message)


def test_a_generator_of_another_split_is_refused(tmp_path, generator):
    strangers = write_tiny_patches(tmp_path / "patches", classes=("LGG", "other"), subjects_per_class=7, seed=1)
    message = refusal_of(generate, tmp_path, "set", generator, fold=0, classes={"LGG": 0, "other": 1}, **strangers)
    assert "training part of fold 0" in message


def test_a_classifier_that_tests_on_a_subject_behind_the_generator_stops(tmp_path, patches, generator):
    folder = generate(tmp_path, "set", generator)
    splits = read_json(patches["splits_path"])
    moved = next(name for name in splits["folds"][0]["train"] if name.startswith("LGG"))
    for fold in splits["folds"]:
        fold.update({part: [name for name in names if name != moved] for part, names in fold.items()})
    write_json(tmp_path / "splits.json", {**splits, "test": [*splits["test"], moved]})
    settings = {"patches_path": patches["patches_path"], "splits_path": str(tmp_path / "splits.json")}
    settings |= {"synthetic_paths": [str(folder / "synthetic.json")], "synthetic_ratio": 0, "num_threads": 1}
    output_dir = tmp_path / "classifier"
    with pytest.raises(RuntimeError) as caught:
        run_stage(
            "train_classifier",
            setup="ddpm",
            synthetic_method="ddpm",
            classifier_backbone="resnet10",
            output_dir=str(output_dir),
            **settings,
        )
    assert re.search(rf"must not know the subjects of .*test.*: {moved};", messages(caught.value))
    assert not (output_dir / "model.pt").exists()


def test_images_of_a_generator_selected_on_validation_are_kept_from_a_classifier_validated_there(tmp_path, patches):
    model = train(tmp_path, "generator", generator_selection="validation", generator_max_epochs=1, **patches)
    folder = generate(tmp_path, "set", model, fold=0, **patches)
    splits = read_json(patches["splits_path"])
    validation = [name for name in splits["folds"][0]["validation"] if name.startswith("LGG")]
    provenance = read_json(folder / "synthetic.json")["provenance"]
    assert provenance["selection_subjects"] == sorted(hash_subject(name) for name in validation)

    settings = {"fold": 0, "classes": {"LGG": 0, "HGG": 1}, "synthetic_method": "ddpm", "synthetic_ratio": 0}
    sets = {"synthetic_paths": [str(folder / "synthetic.json")]}
    with pytest.raises(LeakageError, match=validation[0]):
        ClassifierData(**patches, **settings, **sets)
    splits["folds"][0]["inner"] = splits["folds"][0]["validation"]
    write_json(tmp_path / "paper.json", {**splits, "selection": "validation"})
    ClassifierData(**{**patches, "splits_path": str(tmp_path / "paper.json")}, **settings, **sets)


def test_a_training_killed_after_an_epoch_ends_with_the_same_files(tmp_path, patches, monkeypatch):
    overrides = {**patches, "mi_warmup_steps": 5, "generator_max_epochs": 3}
    whole = train(tmp_path, "whole", "options/mutual_information", **overrides)
    killed_after = 2

    class Killed(BaseException):
        pass

    def kill(self, engine):
        original(self, engine)
        if engine.state.epoch == killed_after:
            raise Killed

    original = Resumption.save
    monkeypatch.setattr(Resumption, "save", kill)
    with pytest.raises(Killed):
        train(tmp_path, "killed", "options/mutual_information", **overrides)
    monkeypatch.undo()
    resumed = train(tmp_path, "killed", "options/mutual_information", **overrides)
    for name in ("model.pt", "metrics.json", "provenance.json"):
        assert (resumed.parent / name).read_bytes() == (whole.parent / name).read_bytes()


@pytest.mark.parametrize(
    ("modalities", "classes", "shape", "overrides"),
    [
        (("t1n",), ("LGG", "HGG"), (8, 12), {}),
        (("t1n", "t2w"), ("glioma", "meningioma", "pituitary"), (8, 12), {"generator_class": "pituitary"}),
        (("t1n",), ("healthy", "sick"), (8, 8, 12), {"generator_class": "sick", "spatial_dims": 3}),
    ],
    ids=["one_channel", "three_classes", "3d"],
)
def test_the_configs_run_at_any_channels_classes_and_dimensions(tmp_path, modalities, classes, shape, overrides):
    patches = write_tiny_patches(tmp_path / "patches", shape, modalities, classes)
    labels = {name: index for index, name in enumerate(classes)}
    shared = {"modalities": list(modalities), "classes": labels, "patch_size": list(shape), **overrides}
    model = train(tmp_path, "model", "options/mutual_information", generator_max_epochs=1, **patches, **shared)
    folder = generate(tmp_path, "set", model, num_images=None, **shared)
    volume_shape = shape if len(shape) == 3 else (*shape, 1)
    assert images_of(folder).shape[1:] == (*volume_shape, len(modalities))


def test_one_generator_for_all_serves_a_cohort_without_grades(tmp_path):
    patches = write_tiny_patches(tmp_path / "patches", graded=False)
    model = train(tmp_path, "model", generator_class=None, generator_max_epochs=1, **patches)
    entries = read_json(generate(tmp_path, "set", model, generator_class=None) / "synthetic.json")["training"]
    digest = sha256_file(tmp_path / "set" / "synthetic_0000.nii.gz")
    assert entries[0] == {
        "image": "synthetic_0000.nii.gz",
        "label": None,
        "k": 0,
        "seed": 0,
        "image_sha256": digest,
    }


def test_one_conditioned_generator_draws_each_class_from_the_same_noise(tmp_path, patches):
    conditioned = {"generator_condition": "label"}
    overrides = {"generator_class": None, "generator_learning_rate": 0.01, **conditioned, **patches}
    model = train(tmp_path, "model", "options/mutual_information", **overrides)
    folders = [generate(tmp_path, name, model, generator_class=name, **conditioned) for name in ("LGG", "HGG")]
    entries = [read_json(folder / "synthetic.json")["training"][0] for folder in folders]
    assert [(entry["image"], entry["label"]) for entry in entries] == [("LGG_0000.nii.gz", 0), ("HGG_0000.nii.gz", 1)]
    assert not torch.equal(*(images_of(folder) for folder in folders))
    guided = generate(tmp_path, "guided", model, generator_class="LGG", guidance_scale=4.0, **conditioned)
    assert not torch.equal(images_of(guided), images_of(folders[0]))
    scales = [read_json(folder / "synthetic.json")["provenance"]["guidance_scale"] for folder in (guided, folders[0])]
    assert scales == [4.0, 3.0]
    with pytest.raises(ValueError, match="one of LGG, HGG, the classes that .*model.pt was trained on, got 'GBM'"):
        checked_provenance(str(model), "GBM")


def test_a_generator_that_was_always_told_the_class_is_not_guided_whatever_the_config_says(tmp_path, patches):
    conditioned = {"generator_condition": "label", **patches}
    always_told = {"generator_class": None, "generator_label_dropout": 0.0, "generator_max_epochs": 1}
    model = train(tmp_path, "model", **always_told, **conditioned)
    assert "trained without label dropout" in refusal_of(generate, tmp_path, "set", model, **conditioned)
    generate(tmp_path, "unguided", model, guidance_scale=1.0, **conditioned)


def test_the_closed_form_part_is_of_the_training_subjects_alone(tmp_path):
    patches = write_tiny_patches(tmp_path / "patches", subjects_per_class=16)
    settings = {"generator_class": None, "generator_condition": "label", "generator_gaussian_rank": 3}
    weights = train(tmp_path, "model", generator_max_epochs=1, **settings, **patches)
    state = torch.load(weights, weights_only=True)
    form = ImageForm(["t1n", "t1c", "t2w", "t2f"], {"LGG": 0, "HGG": 1}, TINY_GENERATOR["patch_size"])
    training = PatchTensorDataset(patches["patches_path"], patches["splits_path"], 0, "train", None, form)
    assert 4 < len(training) < 32
    for label in (0, 1):
        mean = training.images[training.labels == label].flatten(1).mean(0)
        assert torch.allclose(state["prior.mean"][label], mean, atol=1e-5)
    assert torch.allclose(state["prior.mean"][2], training.images.flatten(1).mean(0), atol=1e-5)
    drawn = generate(tmp_path, "set", weights, **{**settings, "generator_class": "HGG"})
    assert len(images_of(drawn)) == 5


def test_a_conditioned_generator_refuses_subjects_without_grade(tmp_path):
    patches = write_tiny_patches(tmp_path / "patches", graded=False)
    message = refusal_of(train, tmp_path, "model", generator_class=None, generator_condition="label", **patches)
    assert "LGG_subject_" in message
    assert "grade" in message


def test_an_inner_part_without_the_class_is_refused(tmp_path, patches):
    splits = read_json(patches["splits_path"])
    for fold in splits["folds"]:
        fold["train"] += [subject for subject in fold["inner"] if subject.startswith("LGG")]
        fold["inner"] = [subject for subject in fold["inner"] if not subject.startswith("LGG")]
    write_json(tmp_path / "splits.json", splits)
    message = refusal_of(train, tmp_path, "model", **{**patches, "splits_path": str(tmp_path / "splits.json")})
    assert "part 'inner' of fold 0 must have at least one patch of LGG" in message


def test_validation_that_never_ran_is_named(tmp_path, patches):
    message = refusal_of(train, tmp_path, "model", generator_val_interval=5, **patches)
    assert "generator_val_interval must be at most" in message


@pytest.mark.parametrize(
    ("class_name", "ratio", "balance", "expected"),
    [("LGG", 1, True, 270), ("HGG", 1, True, 160), ("LGG", 1, False, 50), ("HGG", 0.5, True, 80), (None, 2, True, 420)],
)
def test_the_smaller_class_gets_as_many_images_as_the_largest(class_name, ratio, balance, expected):
    assert default_num_images({"LGG": 50, "HGG": 160}, class_name, ratio, balance) == expected


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("balance", [True, False])
def test_as_many_images_are_generated_as_a_classifier_takes_whatever_has_no_grade(ratio, balance):
    real = {"LGG": 50, "HGG": 160}
    taken = synthetic_limits(real, ratio, balance)
    for name in real:
        assert default_num_images({**real, "": 300}, name, ratio, balance) == taken[name][1]


@pytest.mark.parametrize("class_name", ["GBM", ""])
def test_images_of_a_class_that_is_not_there_are_refused_by_name(class_name):
    with pytest.raises(ValueError, match=f"generator_class must be one of LGG, HGG, got '{class_name}'"):
        default_num_images({"LGG": 50, "HGG": 160, "": 3}, class_name, 1.0, True)
