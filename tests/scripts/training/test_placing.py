"""A network in another memory layout, and what a device computes with."""

from __future__ import annotations

import pytest
import torch

from scripts.training.placing import computes_bf16, has_wrong_bf16_gradient, place_network


def test_channels_last_gives_the_same_output():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3))
    image = torch.randn(1, 2, 5, 6)
    expected = network(image)
    torch.testing.assert_close(place_network(network, "cpu", channels_last=True)(image), expected)


def test_a_gpu_computes_bf16_and_a_cpu_where_it_has_instructions(monkeypatch):
    for is_there, is_supported, expected in ((False, False, True), (True, True, True), (True, False, False)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=is_there: answer)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=is_supported: answer)
        assert computes_bf16("cuda:0") is expected
    for capabilities, expected in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda answer=capabilities: answer, raising=False)
        assert computes_bf16(torch.device("cpu")) is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not computes_bf16("cpu")


def weight_gradients(sides: tuple[int, ...], stride: int, bf16: bool, times: int) -> list[torch.Tensor]:
    """Of one convolution, called again and again in memory that holds no numbers."""
    torch.manual_seed(0)
    convolution = (torch.nn.Conv2d, torch.nn.Conv3d)[len(sides) - 2](16, 8, 3, stride, padding=1)
    images, gradients = torch.randn(2, 16, *sides), []
    for _ in range(times):
        freed = [torch.full((2**power,), torch.nan) for power in range(6, 17) for _ in range(20)]
        del freed
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            convolution(images).float().square().sum().backward()
        gradients.append(convolution.weight.grad.clone())
    return gradients


@pytest.mark.skipif(not computes_bf16("cpu"), reason="needs a CPU with instructions for bf16")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "sides", [(3, 3, 3), (4, 2, 2), (4, 4, 4), (6, 4, 2), (8, 8, 8), (16, 6, 5), (2, 2), (2, 8), (4, 4), (16, 16)]
)
def test_gradients_in_bf16_are_those_of_float32_each_time_where_they_are_said_to_be_right(sides, stride):
    assert not has_wrong_bf16_gradient("cpu", sides)
    exact = weight_gradients(sides, stride, bf16=False, times=1)[0]
    first, *others = weight_gradients(sides, stride, bf16=True, times=5)
    assert torch.linalg.norm(first - exact) < 0.02 * torch.linalg.norm(exact)
    assert all(torch.equal(first, other) for other in others)


def test_two_voxels_along_the_first_axis_are_wrong_on_a_cpu_alone():
    assert has_wrong_bf16_gradient(torch.device("cpu"), [2, 4, 4])
    for device, sides in (("cuda:0", [2, 4, 4]), ("cpu", [4, 2, 2]), ("cpu", [1, 2, 2]), ("cpu", [2, 2])):
        assert not has_wrong_bf16_gradient(device, sides)
