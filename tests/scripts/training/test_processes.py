"""A batch in parts, one after the other or in several processes: the weights are those of a batch at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from ignite.handlers import EMAHandler
from monai.engines import SupervisedTrainer
from monai.inferers import DiffusionInferer
from torch.utils.data import DataLoader

from scripts.generator.checks import check_training
from scripts.generator.parametrization import noise_scheduler
from scripts.generator.validation import StoredNoisePrepareBatch
from scripts.patches.tensors import batches
from scripts.running.configs import Invocation
from scripts.running.files import read_json
from scripts.running.stages import run_invocation
from scripts.training.averaging import WarmEMA
from scripts.training.curves import GeneratorCurves
from scripts.training.processes import (
    PartOfBatch,
    Processes,
    by_main_process,
    handlers_here,
    is_main_process,
    start_processes,
)
from tests.helpers import ROOT, config_files, run_stage
from tests.patches import TINY_GENERATOR, write_tiny_patches
from tests.ring_or_blob import write_patches, write_splits

TRAINING: dict[str, Any] = {
    **TINY_GENERATOR,
    "generator_class": "LGG",
    "generator_batch_size": 4,
    "generator_max_epochs": 2,
    "generator_epoch_images": 8,
    "generator_num_validation_draws": 4,
    "generator_amp": False,
}
# Sums of gradients are rounded in another order. (AdamW makes much of it: a gradient of about 0 may change its sign.)
TOLERANCE = {"rtol": 0.0, "atol": 2e-6}
PLAIN_STEPS = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1}


class Steps(torch.nn.Module):
    """A small network with timesteps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 1, 1)
        )

    def forward(self, x, timesteps, context=None):
        return self.layers(x) + timesteps.reshape(-1, 1, 1, 1) / 20


def trained(num_parts: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    items = [
        {"image": image, "noise": noise, "timesteps": torch.tensor(index)}
        for index, (image, noise) in enumerate(zip(*torch.randn(2, 16, 1, 6, 8, generator=generator), strict=True))
    ]
    scheduler, network = noise_scheduler("epsilon", 20), Steps()
    ema = EMAHandler(network, momentum=0.1)
    SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=DataLoader(items, batch_size=8 // num_parts),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=torch.nn.MSELoss(),
        inferer=DiffusionInferer(scheduler),
        prepare_batch=StoredNoisePrepareBatch(scheduler),
        train_handlers=[WarmEMA(ema, num_parts)],
        decollate=False,
        accumulation_steps=num_parts,
    ).run()
    return network.state_dict(), ema.ema_model.state_dict()


@pytest.mark.parametrize("num_parts", [2, 4])
def test_gradients_added_up_over_parts_are_those_of_the_batch(num_parts):
    for expected, in_parts in zip(trained(1), trained(num_parts), strict=True):
        for name, value in expected.items():
            torch.testing.assert_close(in_parts[name], value, **TOLERANCE)


def test_parts_of_a_batch_are_handed_out_one_after_the_other():
    loader = batches(torch.utils.data.TensorDataset(torch.arange(6)), 4, 8, num_parts=2)  # type: ignore[arg-type]
    assert [len(batch[0]) for batch in loader] == [2, 2, 2, 2]


def test_an_uneven_number_of_parts_is_refused():
    numbers = {"max_epochs": 1, "val_interval": 1, "learning_rate": 0.1, "ema_decay": 0.9, "num_draws": 1}
    check_training(batch_size=6, accumulation=3, **numbers)
    with pytest.raises(ValueError, match="generator_batch_size must be divisible by generator_accumulation 4, got 6"):
        check_training(batch_size=6, accumulation=4, **numbers)


def test_curves_count_steps_and_not_their_parts(tmp_path):
    trainer = Engine(lambda *_: {"loss": torch.tensor(1.0)})
    path = tmp_path / "metrics.json"
    GeneratorCurves(str(path), torch.nn.MSELoss(), Engine(lambda *_: None), "val_noise_loss", 2).attach(trainer)
    trainer.run(range(6), max_epochs=2)
    assert [row["steps"] for row in read_json(path)] == [3, 6]


GENERATOR = config_files("train_generator", "options/multi_gpu")
# The flat files, which are made of the YAML.
CLASSIFIER = [str(ROOT / "configs" / name) for name in ("train.json", "multi_gpu_train.json")]


def in_process(rank: int, files: list[str], overrides: dict[str, Any]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    run_invocation(Invocation(tuple(files), overrides))


def in_two_processes(files: list[str], overrides: dict[str, Any]) -> list[int | None]:
    """Run a stage in two processes; return their exit codes."""
    return exit_codes(in_process, (files, overrides))


def exit_codes(work: Callable[..., None], arguments: tuple[Any, ...]) -> list[int | None]:
    """Do something in two processes that are forked, so that neither loads MONAI again; return their exit codes."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


@pytest.fixture
def meeting_place(monkeypatch):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))


def test_two_processes_train_the_weights_of_one(tmp_path, meeting_place):
    settings = {**TRAINING, **write_tiny_patches(tmp_path / "patches"), "optimizer": PLAIN_STEPS}
    # Told the class, so that the processes must agree on the labels that are dropped, too.
    settings |= {"generator_class": None, "generator_condition": "label", "generator_label_dropout": 0.5}
    settings["generator_learning_rate"] = 0.1  # to which the schedule sets it
    run_stage("train_generator", **settings, output_dir=str(tmp_path / "one"))
    both = {**settings, "output_dir": str(tmp_path / "two")}
    del both["device"]  # each process has its own
    assert in_two_processes(GENERATOR, both) == [0, 0]
    one, two = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, **TOLERANCE)
    curves = [read_json(tmp_path / name / "metrics.json") for name in ("one", "two")]
    losses = [[row["val_noise_loss"] for row in rows] for rows in curves]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert abs(losses[0][1] - losses[0][0]) > 3e-4 * losses[0][0]  # the steps are far larger than that
    assert read_json(tmp_path / "two" / "stage.json")["finished"]
    # Finished: both processes have nothing left to do.
    assert in_two_processes(GENERATOR, both) == [0, 0]
    # Another setting: both are refused, and neither waits for the other.
    assert all(code != 0 for code in in_two_processes(GENERATOR, {**both, "generator_max_epochs": 1}))


def test_two_processes_train_the_classifier_of_one_with_its_batch_norm(tmp_path, meeting_place):
    settings: dict[str, Any] = {
        "bundle_root": str(ROOT),
        "num_threads": 1,
        "patches_path": write_patches(tmp_path),
        "splits_path": write_splits(tmp_path),
        "classifier_backbone": "resnet10_thin",
        "classifier_max_epochs": 2,
        "classifier_batch_size": 8,
        "modalities": ["t1c", "t2f"],
        "patch_size": [32, 32],
        "classifier_learning_rate": 0.05,
        "classifier_optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.05},
    }
    run_invocation(Invocation((CLASSIFIER[0],), {**settings, "device": "cpu", "output_dir": str(tmp_path / "one")}))
    assert in_two_processes(CLASSIFIER, {**settings, "output_dir": str(tmp_path / "two")}) == [0, 0]
    one, two = (read_json(tmp_path / name / "metrics.json") for name in ("one", "two"))
    for name in ("loss", "selection_loss", "selection_brier"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-4), name
    assert abs(one[1]["loss"] - one[0]["loss"]) > 1e-2 * one[0]["loss"]  # the steps are far larger than that
    weights = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("one", "two")]
    assert list(weights[0]) == list(weights[1])
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5)
    assert read_json(tmp_path / "two" / "stage.json")["finished"]
    assert (tmp_path / "two" / "provenance.json").is_file()


def wait_for_main(rank: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    start_processes()
    by_main_process(lambda: time.sleep(3.0))
    if rank == 1:  # of the training itself, in which process 0 has no part any more
        with pytest.raises(RuntimeError, match="[Tt]imed out"):
            torch.distributed.recv(torch.zeros(1), 0)
    by_main_process(lambda: None)


def test_the_data_may_take_longer_than_what_trains_may_be_silent(meeting_place, monkeypatch):
    monkeypatch.setattr(torch.distributed.distributed_c10d, "default_pg_timeout", timedelta(seconds=2))
    assert exit_codes(wait_for_main, ()) == [0, 0]


def test_each_process_takes_its_own_rows():
    def prepare(batch: torch.Tensor) -> Any:
        return batch, 2 * batch, (), {"noise": 3 * batch}

    whole = torch.arange(6)
    parts = [PartOfBatch(prepare, Processes(rank, 3, torch.device("cpu")))(whole) for rank in range(3)]  # type: ignore[arg-type]
    assert [part[0].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert parts[2][3]["noise"].tolist() == [12, 15]
    with pytest.raises(ValueError, match="generator_batch_size must be divisible by the 4 processes of torchrun"):
        PartOfBatch(prepare, Processes(0, 4, torch.device("cpu")))(whole)  # type: ignore[arg-type]


def test_without_torchrun_the_overlay_is_refused_and_a_process_alone_writes(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="options/multi_gpu must be started by torchrun, got no RANK"):
        start_processes()
    assert is_main_process()
    assert handlers_here([1, 2]) == [1, 2]
