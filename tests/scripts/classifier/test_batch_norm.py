"""BatchNorm over processes is PyTorch's over the whole batch; two processes are in test_processes.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from scripts.classifier.batch_norm import BatchNormOverProcesses, over_all_processes


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("spatial", [(5, 3), (4, 5, 3)], ids=["2d", "3d"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_in_one_process_is_normalized_as_by_pytorch(spatial, momentum, process_group):
    torch.manual_seed(0)
    kind = torch.nn.BatchNorm2d if len(spatial) == 2 else torch.nn.BatchNorm3d
    theirs = torch.nn.Sequential(kind(3, momentum=momentum))
    torch.nn.init.normal_(theirs[0].weight)
    ours = torch.nn.Sequential(kind(3, momentum=momentum))
    ours.load_state_dict(theirs.state_dict())
    parameters = list(ours.parameters())
    assert over_all_processes(ours) is ours
    assert isinstance(ours[0], BatchNormOverProcesses)
    assert all(new is old for new, old in zip(ours.parameters(), parameters, strict=True))
    for _ in range(2):
        images = (3 * torch.randn(4, 3, *spatial) + 7).requires_grad_()
        same = images.detach().clone().requires_grad_()
        weights = torch.randn_like(images)
        for network, batch in ((ours, images), (theirs, same)):
            (network(batch) * weights).sum().backward()
        torch.testing.assert_close(images.grad, same.grad, rtol=1e-4, atol=1e-5)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.eval()(same), theirs.eval()(same))
