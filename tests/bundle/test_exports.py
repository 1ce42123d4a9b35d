from __future__ import annotations

import logging
import shutil

import pytest
import torch

from bundle.__main__ import main
from bundle.exports import MAX_DIFFERENCE, export
from bundle.large_files import read_large_files
from bundle.package import Package, packaged_scripts
from bundle.rules_networks import load_network
from bundle.verify import RULES, verify
from scripts.inference import onnx_model
from scripts.inference.onnx_model import OnnxClassifier, open_session, prefer_onnx
from scripts.running.files import read_json
from tests.bundle.test_loading import open_workflow
from tests.tiny_subjects import write_subject

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported_package(packed, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported") / packed.name
    shutil.copytree(packed, root)
    return root, {**export(root, "onnx"), **export(root, "torchscript")}


@pytest.fixture(scope="module")
def networks(packed):
    with packaged_scripts(packed):
        package = Package(packed)
        classifier = load_network(package, "inference.json", package.weights_path)
        generator = load_network(package, "generate.json", packed / "models/generator/LGG/model.pt")
    return classifier, generator


def feed(session, *values):
    names = [item.name for item in session.get_inputs()]
    return torch.from_numpy(session.run(None, dict(zip(names, (value.numpy() for value in values), strict=True)))[0])


def test_every_network_is_exported_once_in_each_format(exported_package):
    root, written = exported_package
    assert {path.relative_to(root).as_posix() for path in written} == {
        "models/model.onnx",
        "models/exports/classifier.ts",
        *(f"models/generator/{name}/model.{ending}" for name in ("LGG", "HGG") for ending in ("onnx", "ts")),
    }
    assert max(written.values()) <= MAX_DIFFERENCE


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_classifier_gives_the_probabilities_of_the_network_in_both_formats(exported_package, networks, batch_size):
    root, _ = exported_package
    image = torch.rand(batch_size, 4, 16, 24) * 2 - 1
    expected = networks[0](image).softmax(dim=1)
    session = open_session(root / "models" / "model.onnx")
    assert [item.name for item in session.get_outputs()] == ["probabilities"]
    assert torch.allclose(feed(session, image), expected, atol=1e-4)
    assert torch.allclose(torch.jit.load(str(root / "models/exports/classifier.ts"))(image), expected, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_generator_predicts_the_same_noise_in_both_formats(exported_package, networks, batch_size):
    root, _ = exported_package
    noisy, timesteps = torch.randn(batch_size, 4, 16, 24), torch.randint(0, 1000, (batch_size,))
    expected = networks[1](noisy, timesteps)
    folder = root / "models" / "generator" / "LGG"
    assert torch.allclose(feed(open_session(folder / "model.onnx"), noisy, timesteps), expected, atol=1e-4)
    assert torch.allclose(torch.jit.load(str(folder / "model.ts"))(noisy, timesteps), expected, atol=1e-4)


def test_a_package_with_exports_keeps_every_rule_and_lists_them(exported_package):
    root, written = exported_package
    assert {name: faults for name, faults in verify(root) if faults} == {}
    listed = {entry["path"] for entry in read_large_files(root)}
    assert {path.relative_to(root).as_posix() for path in written} <= listed


def test_an_export_of_other_weights_is_found_by_verify(exported_package, tmp_path):
    root = tmp_path / exported_package[0].name
    shutil.copytree(exported_package[0], root)
    shutil.copy(root / "models/generator/LGG/model.onnx", root / "models/generator/HGG/model.onnx")
    rules = [rule for rule in RULES if rule.__name__ == "exports"]
    ((_, faults),) = verify(root, rules=rules)
    assert len(faults) == 1
    assert "models/generator/HGG/model.onnx must be exported from the model.pt beside it" in faults[0]


def test_an_export_that_differs_is_not_written(packed, tmp_path, monkeypatch, capsys):
    root = tmp_path / packed.name
    shutil.copytree(packed, root)
    monkeypatch.setattr("bundle.exports.MAX_DIFFERENCE", -1.0)
    assert main(["export", str(root), "--format", "torchscript"]) == 2
    assert "must equal its network within" in capsys.readouterr().err
    assert list(root.rglob("*.ts")) == []


def test_onnx_answers_on_a_cpu_as_the_network_does(exported_package, networks):
    weights = str(exported_package[0] / "models" / "model.pt")
    network = prefer_onnx(networks[0], weights)
    assert isinstance(network, OnnxClassifier)
    image = torch.rand(3, 4, 16, 24) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(network(image).softmax(1), networks[0](image).softmax(1), atol=1e-5)
    assert prefer_onnx(networks[0], weights, "cuda") is networks[0]


def test_a_stale_or_stray_file_changes_nothing_and_is_logged(exported_package, networks, tmp_path, caplog):
    models = tmp_path / "models"
    shutil.copytree(exported_package[0] / "models", models)
    (models / "provenance.json").write_text('{"weights_sha256": "of newer weights"}', encoding="utf-8")
    with caplog.at_level(logging.INFO, "scripts.inference.onnx_model"):
        assert prefer_onnx(networks[0], str(models / "model.pt")) is networks[0]
    assert "it was not exported from" in caplog.text
    (models / "model.onnx").write_bytes(b"something else")
    assert prefer_onnx(networks[0], str(models / "model.pt")) is networks[0]
    (models / "model.onnx").unlink()
    assert prefer_onnx(networks[0], str(models / "model.pt")) is networks[0]


def test_without_onnx_runtime_the_network_answers(exported_package, networks, monkeypatch):
    monkeypatch.setattr(onnx_model, "optional_import", lambda name: (None, False))
    assert prefer_onnx(networks[0], str(exported_package[0] / "models" / "model.pt")) is networks[0]


def test_inference_gives_the_same_answer_with_and_without_the_export(exported_package, packed, tmp_path, caplog):
    patient = write_subject(tmp_path / "patient")
    request = {"images": patient["images"], "mask": patient["mask"]}
    answers = []
    for root in (packed, exported_package[0]):
        caplog.clear()
        with packaged_scripts(root), caplog.at_level(logging.INFO, "scripts.inference.onnx_model"):
            workflow = open_workflow(root, "inference.json", **request, output_dir=str(tmp_path / root.parent.name))
            workflow.run()
            workflow.finalize()
        answers.append(read_json(tmp_path / root.parent.name / "answer.json")["probabilities"])
    assert "answers in place of" in caplog.text
    assert list(answers[0].values()) == pytest.approx(list(answers[1].values()), abs=1e-5)
