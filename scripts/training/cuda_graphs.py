"""Training steps of a classifier as CUDA graphs: its kernels are launched at once instead of one by one.

No GPU has measured this module: its tests on a CPU replace the capture, those on a GPU were never run. It is reached by
`configs/options/cuda_graph.yaml` alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

RANDOM_NETWORK = (
    "classifier_backbone must draw no random numbers (dropout, stochastic depth) with options/cuda_graph, got one that"
    " does; choose another, or leave that overlay out"
)


def graph_inferer(amp: bool, device: torch.device | str, compile_network: bool) -> GraphInferer:
    """Make the inferer of `configs/options/cuda_graph.yaml`, the one place that switches graphs on.

    Args:
        amp: train in bf16 under autocast; the trainer's own `amp` must be off.
        device: where the network trains.
        compile_network: whether the trainer compiles the network.

    Raises:
        ValueError: if the network is compiled, too, or does not train on CUDA.
    """
    refuse_impossible_graph(device, compile_network)
    return GraphInferer(amp)


def refuse_impossible_graph(device: torch.device | str, compile_network: bool) -> None:
    """Refuse graphs of a compiled network, or of one that does not train on CUDA; see `graph_inferer`."""
    if compile_network:
        raise ValueError(
            "classifier_compile must be False with options/cuda_graph, got True: compiling captures graphs itself;"
            " leave one of them out"
        )
    if torch.device(device).type != "cuda":
        raise ValueError(
            f"device must be a CUDA device with options/cuda_graph, got {device}; leave that overlay out, or train on a"
            " GPU"
        )


def check_turns(folds_together: int, compile_network: bool) -> None:
    """Refuse compiled networks that would train in turns.

    Args:
        folds_together: classifiers that a worker of a study trains in turns, >= 1.
        compile_network: `classifier_compile`.

    Raises:
        ValueError: with the way out.
    """
    if folds_together < 1:
        raise ValueError(f"folds_together must be >= 1, got {folds_together!r}")
    if compile_network and folds_together > 1:
        raise ValueError(
            f"folds_together must be 1 with classifier_compile, got {folds_together}: compiled networks share CUDA"
            " graphs, which are made for one stream; lay options/cuda_graph over the setups instead"
        )


def refuse_random_network(network: nn.Module, shape: Sequence[int]) -> None:
    """Refuse a graph of a network that draws random numbers in training, by one pass on the CPU.

    All graphs read their seed from one place on the GPU: beside another training they would disturb each other.

    Args:
        network: not yet on a GPU.
        shape: of an image, channels first.

    Raises:
        ValueError: if it draws.
    """
    network.train()
    before = torch.get_rng_state()
    with torch.no_grad():
        network(torch.zeros(2, *shape))
    if not torch.equal(before, torch.get_rng_state()):
        raise ValueError(RANDOM_NETWORK)


class GraphInferer(SimpleInferer):
    """Call a network in training by a CUDA graph of its forward and backward pass, captured at the first batch.

    The network stays what it is: its state dict, its copies and its eval mode know nothing of the graph. A network in
    eval mode, another network and a batch of another shape are called as they are. The network must not move
    afterwards, and its weights change in place only, as optimizers and `load_state_dict` change them.

    Args:
        amp: run the training passes in bf16 under autocast; no scaler of gradients is needed in bf16.
    """

    def __init__(self, amp: bool = False) -> None:
        super().__init__()
        self.amp = amp
        self._network: nn.Module | None = None
        self._shape: torch.Size | None = None
        self._graphed: Callable[[Tensor], Tensor] | None = None

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the network's answer to a batch.

        Args:
            inputs: shape (B, C, *spatial).
            network: the first one in training mode is captured.
            args: passed on; a call with any is not captured.
            kwargs: likewise.

        Returns:
            What the network returns; in training mode as float32, also under autocast.

        Raises:
            ValueError: if the network draws random numbers; see `capture`.
        """
        if args or kwargs or not (isinstance(network, nn.Module) and network.training):
            return super().__call__(inputs, network, *args, **kwargs)
        if self._graphed is None:
            self._graphed = capture(TrainingPass(network, self.amp), inputs)
            self._network, self._shape = network, inputs.shape
        if network is self._network and inputs.shape == self._shape:
            # The graph writes each answer over the one before.
            return self._graphed(inputs).clone()
        return TrainingPass(network, self.amp)(inputs)


class TrainingPass(nn.Module):
    """A network as it is called in training. Capturing replaces `forward`: of this module, not of the network.

    Args:
        network: from (B, C, *spatial) to logits.
        amp: under autocast, in bf16.
    """

    def __init__(self, network: nn.Module, amp: bool) -> None:
        super().__init__()
        self.network = network
        self.amp = amp

    def forward(self, inputs: Tensor) -> Tensor:
        """Return float32 logits, so that the loss outside autocast is computed in float32."""
        # A graph replays the casts of the weights with the rest: a cache of casts would outlive an optimizer step.
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.amp, cache_enabled=False):
            logits: Tensor = self.network(inputs)
        return logits.float()


def capture(training_pass: TrainingPass, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """Capture forward and backward of a network as CUDA graphs, and leave the network as it was.

    `torch.cuda.make_graphed_callables` first trains on the batch without changing weights: BatchNorm's statistics are
    put back, in place, since the graph knows their addresses.

    Args:
        training_pass: around a network in training mode.
        inputs: a batch, whose shape all later ones have; it is copied.

    Returns:
        Callable of such batches that autograd knows; each answer is written over the one before.

    Raises:
        ValueError: if the network draws random numbers.
    """
    buffers = [(buffer, buffer.clone()) for buffer in training_pass.buffers()]
    before, sample = _random_states(inputs.device), inputs.clone()
    with own_capture_stream(inputs.device):
        # Autograd adds a gradient up on the stream where the place for it was made: this one, not that of the warm-up.
        trained = [parameter for parameter in training_pass.parameters() if parameter.requires_grad]
        places = [torch.autograd.graph.get_gradient_edge(parameter) for parameter in trained]
        # Some networks have parameters that they do not use, MONAI's ViT for one.
        graphed: Callable[[Tensor], Tensor] = torch.cuda.make_graphed_callables(
            training_pass, (sample,), allow_unused_input=True
        )
        del places
    if not all(torch.equal(old, new) for old, new in zip(before, _random_states(inputs.device), strict=True)):
        raise ValueError(RANDOM_NETWORK)
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
    return graphed


@contextlib.contextmanager
def own_capture_stream(device: torch.device) -> Iterator[None]:
    """Let graphs be captured on the current CUDA stream, or on a new one if that is the default, which cannot be.

    By default torch captures all graphs of a process on one stream. But cuBLAS has one workspace a stream, which graphs
    that are replayed side by side must not share, and gradients that belong to one stream need not wait for another. A
    training on the default stream, alone in its process, does wait for each gradient: right, and a little slower.
    """
    if device.type != "cuda":
        yield
        return
    current = torch.cuda.current_stream(device)
    before = torch.cuda.graph.default_capture_stream
    is_default = current == torch.cuda.default_stream(device)
    own = torch.cuda.Stream(device) if is_default else current
    torch.cuda.graph.default_capture_stream = own
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        torch.cuda.graph.default_capture_stream = before


def _random_states(device: torch.device) -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]
