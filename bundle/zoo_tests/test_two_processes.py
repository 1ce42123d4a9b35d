"""Test of the bundle under two processes: the classifier's gradients are averaged over them."""

from __future__ import annotations

import os
import socket
import sys
import unittest
from pathlib import Path

import torch
import torch.distributed as dist
from monai.bundle import ConfigParser
from torch.nn.parallel import DistributedDataParallel

NAME = "brats_mri_grade_classification"
ROOT = next(path for path in (Path("models", NAME).resolve(), Path(__file__).resolve().parents[1]) if path.is_dir())


def train_one_step(rank: int, world_size: int, port: int) -> None:
    """Do one backward pass on other images in each process, and compare the gradients.

    Raises:
        AssertionError: if the processes end with other gradients.
    """
    sys.path.insert(0, str(ROOT))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / "configs" / "train.json")))
    inputs = ConfigParser.load_config_file(str(ROOT / "configs" / "metadata.json"))["network_data_format"]["inputs"]
    torch.manual_seed(0)
    network = DistributedDataParallel(parser.get_parsed_content("network_def"))
    loss_function = parser.get_parsed_content("train#loss_function")
    torch.manual_seed(rank)
    images = torch.rand(4, inputs["image"]["num_channels"], *inputs["image"]["spatial_shape"]) * 2 - 1
    loss_function(network(images), torch.tensor([0, 1, 0, 1])).backward()
    norm = torch.stack([weight.grad.norm() for weight in network.parameters() if weight.grad is not None]).norm()
    norms = [torch.zeros_like(norm) for _ in range(world_size)]
    dist.all_gather(norms, norm)
    assert norm > 0, "there must be a gradient"
    assert torch.equal(norms[0], norms[1]), f"gradients must be averaged, got norms {norms}"
    dist.destroy_process_group()


class TestDistributed(unittest.TestCase):
    """The classifier in two processes."""

    def test_gradients_are_averaged(self) -> None:
        """Both processes end with the same gradients."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torch.multiprocessing.spawn(train_one_step, args=(2, port), nprocs=2)


if __name__ == "__main__":
    unittest.main()
