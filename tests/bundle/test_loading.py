"""A package opened by MONAI's own functions, from another working directory and with its own scripts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from monai.bundle import create_workflow, run_workflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from bundle.adopt import adopt
from bundle.large_files import write_large_files
from bundle.package import WORKFLOWS
from bundle.rules_metadata import SCHEMA
from scripts.running.files import read_json
from tests.patches import write_patches_of_site, write_tiny_patches
from tests.tiny_subjects import write_subject

ANY_SOURCE = {"source": "github", "progress": False, "device": "cpu"}


def weights_of(root: Path) -> dict[str, torch.Tensor]:
    return torch.load(root / "models" / "model.pt", weights_only=True)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def config_path(root: Path, name: str) -> str:
    return str(root / "configs" / name)


def open_workflow(root: Path, name: str, **override: Any) -> Any:
    settings = {"bundle_root": str(root), "device": "cpu", "logging_file": False, "num_threads": 1, **override}
    return create_workflow(config_file=config_path(root, name), workflow_type=WORKFLOWS[name], **settings)


def test_load_gives_the_ensemble_with_its_weights_and_writes_nothing(elsewhere, tmp_path):
    before = sorted(elsewhere.rglob("*"))
    network = monai.bundle.load(elsewhere.name, bundle_dir=elsewhere.parent, workflow_type="inference", **ANY_SOURCE)
    assert type(network).__module__ == "scripts.classifier.networks"
    assert same(network.state_dict(), weights_of(elsewhere))
    assert sorted(elsewhere.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["inference.json", "generate.json", "train.json", "train_generator.json"])
def test_a_workflow_has_every_property_that_monai_asks_for(elsewhere, tmp_path, name):
    override: dict[str, Any] = {"output_dir": str(tmp_path / "out")}
    if WORKFLOWS[name] == "train":
        override |= write_tiny_patches(tmp_path / "patches", spatial_shape=(16, 24)) | {"overwrite": True}
    if name == "train.json":
        override["synthetic_method"] = "$None"  # MONAI passes over None itself
    if name == "inference.json":
        patient = write_subject(tmp_path / "patient")
        override |= {"images": patient["images"], "mask": patient["mask"]}
    assert open_workflow(elsewhere, name, **override).check_properties() == []


def graded(root: Path, tmp_path: Path) -> Any:
    """Return what a package answers for a patient."""
    patient = write_subject(tmp_path / "patient")
    run_workflow(
        config_file=config_path(root, "inference.json"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(root),
        output_dir=str(tmp_path / "answer"),
        images=patient["images"],
        mask=patient["mask"],
        device="cpu",
        num_threads=1,
    )
    return read_json(tmp_path / "answer" / "answer.json")


def test_run_workflow_grades_a_patient(elsewhere, tmp_path):
    answer = graded(elsewhere, tmp_path)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert answer["crop"]["size"] == [16, 24]
    assert answer["weights"]["simulated"] is True


def test_the_evaluator_of_the_generator_draws_what_its_run_writes(elsewhere, tmp_path):
    import nibabel

    settings = {"num_images": 2, "generate_batch_size": 2, "output_dir": str(tmp_path / "synthetic")}
    workflow = open_workflow(elsewhere, "generate.json", **settings)
    drawn: list[torch.Tensor] = []
    workflow.evaluator.add_event_handler(
        "ITERATION_COMPLETED", lambda engine: drawn.extend(item["pred"] for item in engine.state.output)
    )
    workflow.evaluator.run()
    workflow.run()
    workflow.finalize()
    written = sorted((tmp_path / "synthetic").glob("*.nii.gz"))
    assert len(written) == len(drawn) == 2
    for path, image in zip(written, drawn, strict=True):
        stored = torch.as_tensor(nibabel.load(path).get_fdata(dtype="float32"))
        assert torch.equal(stored[:, :, 0].permute(2, 0, 1), image)


def test_download_from_a_local_mirror_unpacks_a_bundle_that_loads(elsewhere, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "mirror"), "zip", elsewhere.parent, elsewhere.name)
    target = tmp_path / "bundles"
    monai.bundle.download(
        name=elsewhere.name, bundle_dir=str(target), url=Path(archive).as_uri(), source="github", progress=False
    )
    network = monai.bundle.load(elsewhere.name, bundle_dir=target, workflow_type="inference", **ANY_SOURCE)
    assert same(network.state_dict(), weights_of(elsewhere))


def test_weights_left_out_of_a_package_are_fetched_by_address_and_hash(elsewhere, tmp_path):
    root = tmp_path / elsewhere.name
    shutil.copytree(elsewhere, root)
    write_large_files(root, elsewhere.as_uri())
    for path in root.rglob("*.pt"):
        path.unlink()
    monai.bundle.download_large_files(bundle_path=str(root))
    assert same(weights_of(root), weights_of(elsewhere))
    assert len(list(root.rglob("*.pt"))) == 3


def test_ckpt_export_gives_torchscript_of_the_ensemble(elsewhere, tmp_path):
    target = tmp_path / "model.ts"
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(target),
        bundle_root=str(elsewhere),
        config_file=config_path(elsewhere, "inference.json"),
    )
    network = monai.bundle.load(elsewhere.name, bundle_dir=elsewhere.parent, workflow_type="inference", **ANY_SOURCE)
    image = torch.rand(2, 4, 16, 24)
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(target)).eval()(image), network.eval()(image), atol=1e-5)


def test_monais_checks_of_network_and_metadata_pass_offline(elsewhere, tmp_path):
    metadata = config_path(elsewhere, "metadata.json")
    arguments = {"meta_file": metadata, "config_file": config_path(elsewhere, "inference.json"), "device": "cpu"}
    monai.bundle.verify_net_in_out("network_def", **arguments)
    wrong = {"_meta_#network_data_format#outputs#pred#num_channels": 3}
    with pytest.raises(ValueError, match="output channel number"):
        monai.bundle.verify_net_in_out("network_def", **arguments, **wrong)
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    monai.bundle.verify_metadata(meta_file=metadata, filepath=schema)


@pytest.fixture
def sites(elsewhere: Path, tmp_path: Path) -> list[tuple[MonaiAlgo, int]]:
    """Two hospitals with patches of their own, and the number of their training images."""
    found = []
    for seed, name in enumerate(("north", "south")):
        options = {"subjects_per_class": 6 + 3 * seed, "seed": seed}
        patches = write_patches_of_site(tmp_path / name, elsewhere, (16, 24), **options)
        settings = {
            **patches,
            "output_dir": str(tmp_path / name / "out"),
            "device": "cpu",
            "classifier_batch_size": 2,
            "classifier_schedule": {
                "_target_": "torch.optim.lr_scheduler.ConstantLR",
                "optimizer": "@optimizer",
                "factor": 1.0,
            },
        }
        algo = MonaiAlgo(
            bundle_root=str(elsewhere),
            local_epochs=1,
            send_weight_diff=False,
            config_evaluate_filename="configs/train.json",
            train_kwargs=dict(settings),
            eval_kwargs=dict(settings),
        )
        algo.initialize(extra={ExtraItems.CLIENT_NAME: name})
        found.append((algo, len(algo.train_workflow.train_dataset_data)))
    return found


def average(states: list[dict[str, torch.Tensor]], counts: list[int]) -> dict[str, torch.Tensor]:
    """Mean of each weight over the sites, by their numbers of images; what counts batches is taken from the first."""
    shares = [count / sum(counts) for count in counts]
    return {
        name: sum(state[name] * share for state, share in zip(states, shares, strict=True))
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def test_two_sites_train_together_by_a_weighted_average_that_is_adopted_and_answers(sites, elsewhere, tmp_path):
    algos, counts = [algo for algo, _ in sites], [count for _, count in sites]
    assert counts[0] < counts[1]
    start = algos[0].get_weights().weights
    shared = {name: value.clone() for name, value in start.items()}
    for _ in range(2):
        for algo in algos:
            algo.train(ExchangeObject(weights=shared), extra={})
        states = [{name: value.clone() for name, value in algo.get_weights().weights.items()} for algo in algos]
        shared = average(states, counts)
    name = "members.0.fc.weight"
    assert not torch.equal(states[0][name], states[1][name])
    between = counts[0] * states[0][name] + counts[1] * states[1][name]
    assert torch.allclose(shared[name], between / sum(counts), atol=1e-7)
    assert not torch.allclose(shared[name], start[name])
    scores = [algo.evaluate(ExchangeObject(weights=shared, weight_type=WeightType.WEIGHTS)) for algo in algos]
    for algo, score in zip(algos, scores, strict=True):
        assert 0 <= score.metrics["selection_brier"] <= 1
        assert torch.equal(algo.evaluator.network.state_dict()[name], shared[name])
        algo.finalize()

    # As NVFlare keeps them; the sites' records join, and the weights answer a patient.
    torch.save({"model": shared, "train_conf": {"train": {"model": "FoldEnsemble"}}}, tmp_path / "FL_global_model.pt")
    records = [str(tmp_path / site / "out" / "provenance.json") for site in ("north", "south")]
    weights = adopt(str(tmp_path / "FL_global_model.pt"), records, str(tmp_path / "adopted"))
    assert same(torch.load(weights, weights_only=True), shared)
    joined, parts = read_json(weights.with_name("provenance.json")), [read_json(path) for path in records]
    assert joined["cohorts"] == ["north", "south"]
    assert set(joined["subjects"]) == set(parts[0]["subjects"]) | set(parts[1]["subjects"])
    assert joined["federated"] == [part["weights_sha256"] for part in parts]
    root = shutil.copytree(elsewhere, tmp_path / "served" / elsewhere.name)
    for path in weights.parent.iterdir():
        shutil.copy(path, root / "models")
    answer = graded(root, tmp_path)
    assert answer["weights"]["simulated"] is True
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)

    # Other weights than those of the sites' network, by name; a site twice; a folder in use.
    torch.save({"model": dict(list(shared.items())[1:])}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"1 difference: {next(iter(shared))} .* is missing"):
        adopt(str(tmp_path / "other.pt"), records, str(tmp_path / "new"))
    with pytest.raises(ValueError, match="--records must name each site once"):
        adopt(str(tmp_path / "FL_global_model.pt"), records + records[:1], str(tmp_path / "new"))
    with pytest.raises(ValueError, match="--out must be a new or empty folder"):
        adopt(str(tmp_path / "FL_global_model.pt"), records, str(weights.parent))
    assert not (tmp_path / "new").exists()
