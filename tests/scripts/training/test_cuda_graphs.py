"""A network that trains by a CUDA graph is, but for its speed, the network.

Without a GPU, `torch.cuda.make_graphed_callables` is replaced by its warm-up, which trains on a batch as torch's does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from scripts.classifier.datasets import training_batches
from scripts.classifier.losses import ClassFocalLoss
from scripts.classifier.networks import FoldEnsemble
from scripts.patches.tensors import LabeledImages
from scripts.running.configs import Invocation
from scripts.training.cuda_graphs import GraphInferer, graph_inferer, refuse_random_network
from scripts.training.divergence import StopOnNonFinite
from tests.helpers import config_files, image_form
from tests.ring_or_blob import draw, write_image

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")


class Captures:
    """Stands for `make_graphed_callables`: three passes forward and backward, and a count of the calls by graph."""

    def __init__(self) -> None:
        self.num_captures = 0
        self.num_replays = 0

    def __call__(
        self, module: nn.Module, samples: tuple[Tensor, ...], allow_unused_input: bool
    ) -> Callable[[Tensor], Tensor]:
        self.num_captures += 1
        for _ in range(3):
            output = module(*samples)
            torch.autograd.grad(
                output, list(module.parameters()), torch.ones_like(output), allow_unused=allow_unused_input
            )

        def replay(inputs: Tensor) -> Tensor:
            self.num_replays += 1
            output: Tensor = module(inputs)
            return output

        return replay


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Captures:
    stand_in = Captures()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", stand_in)
    return stand_in


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return FoldEnsemble("resnet10_thin", in_channels=2, stem_stride=1)


def batch(size: int = 4) -> Tensor:
    return torch.randn(size, 2, 16, 12, generator=torch.Generator().manual_seed(size))


def test_steps_by_graph_equal_steps_without(network: nn.Module, captures: Captures) -> None:
    ends = []
    for inferer in (SimpleInferer(), GraphInferer()):
        trained = copy.deepcopy(network).train()
        optimizer = torch.optim.AdamW(trained.parameters())
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            inferer(batch(), trained).square().mean().backward()
            optimizer.step()
        ends.append((trained.state_dict(), torch.rand(())))
    assert captures.num_captures == 1
    assert captures.num_replays == 3
    assert ends[0][0].keys() == ends[1][0].keys()
    # Weights, BatchNorm's statistics with their count, and the random state.
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_the_network_itself_is_not_changed(network: nn.Module, captures: Captures) -> None:
    before = copy.deepcopy(network.state_dict())
    buffers = {name: buffer.data_ptr() for name, buffer in network.named_buffers()}
    inferer = GraphInferer()
    inferer(batch(), network.train())
    # The graph writes to the addresses that it was captured with.
    assert {name: buffer.data_ptr() for name, buffer in network.named_buffers()} == buffers
    assert network.state_dict().keys() == before.keys()
    assert "forward" not in vars(network)
    assert copy.deepcopy(network).state_dict().keys() == before.keys()
    assert not any(parameter.grad is not None for parameter in network.parameters())


def test_a_network_in_eval_mode_is_called_as_it_is(network: nn.Module, captures: Captures) -> None:
    inferer = GraphInferer(amp=True)
    assert torch.equal(inferer(batch(), network.eval()), network(batch()))
    assert captures.num_captures == 0
    inferer(batch(), network.train())
    averaged = copy.deepcopy(network).eval()
    assert torch.equal(inferer(batch(), averaged), averaged(batch()))
    assert torch.equal(inferer(batch(), network.eval()), network(batch()))
    assert captures.num_replays == 1


def test_another_shape_and_another_network_are_called_without_the_graph(network: nn.Module, captures: Captures) -> None:
    inferer = GraphInferer()
    other = copy.deepcopy(network).train()
    inferer(batch(), network.train())
    for module, images in ((network, batch(3)), (other, batch())):
        expected = copy.deepcopy(module)(images)
        assert torch.equal(inferer(images, module), expected)
    assert captures.num_captures == 1
    assert captures.num_replays == 1


def test_an_answer_is_not_overwritten_by_the_next(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    static = torch.zeros(4, 2)
    replay = lambda inputs: static.copy_(inputs[:, :2, 0, 0])  # noqa: E731
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda *_, **__: replay)
    inferer = GraphInferer()
    first = inferer(batch(), network.train())
    inferer(batch() + 1, network)
    assert torch.equal(first, batch()[:, :2, 0, 0])


@pytest.mark.parametrize("size", [4, 3])
def test_under_autocast_the_passes_are_bf16_and_the_answer_float32(
    network: nn.Module, captures: Captures, size: int
) -> None:
    inferer = GraphInferer(amp=True)
    inferer(batch(), network.train())
    found = []
    last = network.members[0].fc
    last.register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
    answer = inferer(batch(size), network)
    assert (found, answer.dtype) == ([torch.bfloat16], torch.float32)


def test_a_network_that_draws_random_numbers_is_refused(captures: Captures) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(2 * 16 * 12, 2)).train()
    with pytest.raises(ValueError, match="classifier_backbone must draw no random numbers .* with options/cuda_graph"):
        GraphInferer()(batch(), network)


def test_parameters_without_use_are_no_obstacle(captures: Captures) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2 * 16 * 12, 2)).train()
    network[1].unused = nn.Parameter(torch.ones(3))
    GraphInferer()(batch(), network).sum().backward()
    assert network[1].unused.grad is None


def test_one_overlay_is_the_switch() -> None:
    plain, graphed = (
        Invocation(tuple(config_files("train_classifier", *overlays))).merged()["train"]
        for overlays in ((), ("options/cuda_graph",))
    )
    assert plain["inferer"] == {"_target_": "SimpleInferer"}
    assert graphed["inferer"]["_target_"] == "scripts.training.cuda_graphs.graph_inferer"
    assert {key for key in plain["trainer"] if graphed["trainer"][key] != plain["trainer"][key]} == {"amp"}
    assert type(graph_inferer(True, "cuda:1", False)) is GraphInferer


@pytest.mark.parametrize(
    ("compiled", "device", "message"),
    [
        (False, "cpu", "device must be a CUDA device with options/cuda_graph, got cpu"),
        (True, "cuda", "classifier_compile must be False with options/cuda_graph, got True"),
    ],
)
def test_an_impossible_graph_is_refused_by_name(compiled: bool, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph_inferer(False, device, compiled)


def test_a_backbone_that_draws_random_numbers_is_refused_before_it_is_on_a_gpu() -> None:
    refuse_random_network(FoldEnsemble("resnet10_thin", in_channels=2), (2, 16, 12))
    with pytest.raises(ValueError, match="classifier_backbone must draw no random numbers"):
        refuse_random_network(FoldEnsemble("efficientnet-b0", in_channels=2), (2, 32, 32))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "bf16"])
def test_steps_by_graph_on_a_gpu_are_those_without(network: nn.Module, amp: bool) -> None:
    ends = []
    for inferer in (GraphInferer(amp), None):
        trained = copy.deepcopy(network).cuda().train()
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.01)
        for step in range(3):
            optimizer.zero_grad(set_to_none=True)
            images = (batch() + step).cuda()
            if inferer is None:
                with torch.autocast("cuda", torch.bfloat16, enabled=amp):
                    logits = trained(images).float()
            else:
                logits = inferer(images, trained)
            logits.square().mean().backward()
            optimizer.step()
        ends.append(trained.state_dict())
    for name, value in ends[0].items():
        assert torch.allclose(value.float(), ends[1][name].float(), rtol=0.05 if amp else 1e-3, atol=1e-3), name


@pytest.mark.gpu
@needs_cuda
def test_a_step_on_a_gpu_waits_for_nothing(network: nn.Module, tmp_path: Path) -> None:
    items = []
    for index in range(8):
        write_image(tmp_path / f"{index}.nii.gz", draw(index % 2, 2, (16, 12), np.random.RandomState(index)))
        items.append({"image": str(tmp_path / f"{index}.nii.gz"), "label": index % 2})
    trained = network.cuda()
    trainer = SupervisedTrainer(
        device="cuda",
        max_epochs=1,
        train_data_loader=training_batches(LabeledImages(items, image_form(2), "cuda"), 2, 8),
        network=trained,
        optimizer=torch.optim.AdamW(trained.parameters()),
        loss_function=ClassFocalLoss(),
        inferer=GraphInferer(),
        optim_set_to_none=True,
        train_handlers=[StopOnNonFinite()],
        decollate=False,
    )
    # The first step captures and moves what moves once; the last is followed by the end of the epoch.
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: torch.cuda.set_sync_debug_mode("error"))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: torch.cuda.set_sync_debug_mode("default"))
    try:
        trainer.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.iteration == 4
