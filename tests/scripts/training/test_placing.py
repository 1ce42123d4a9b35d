"""A network in another memory layout, and what a device computes with."""

from __future__ import annotations

import torch

from scripts.training.placing import computes_bf16, place_network


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
