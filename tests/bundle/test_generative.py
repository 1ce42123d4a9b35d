from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from bundle.generative import convert_state_dict, network_arguments

SIZES = {
    "spatial_dims": 2,
    "in_channels": 4,
    "out_channels": 4,
    "channels": (8, 16),
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "num_head_channels": 8,
    "norm_num_groups": 4,
}
AS_THEN = {"include_fc": False, "use_combined_linear": False}
CONDITIONED = {"with_conditioning": True, "cross_attention_dim": 6}


def as_saved_then(network: DiffusionModelUNet) -> dict[str, torch.Tensor]:
    """Names of monai-generative 0.2.3, with the layer that it built and never called."""
    old = {}
    for name, value in network.state_dict().items():
        named = name.replace(".attn.to_", ".to_").replace("postconv", "conv")
        named = named.replace(".out_proj.", ".to_out.0.") if "transformer_blocks" in name else named
        old[named] = value
        if ".attn.to_q." in name:
            old[named.replace("to_q", "proj_attn")] = torch.randn_like(value)
    return old


def predict(network: torch.nn.Module, context: torch.Tensor | None = None) -> torch.Tensor:
    torch.manual_seed(1)
    inputs = torch.randn(2, 4, 16, 8), torch.tensor([3, 700])
    with torch.no_grad():
        return network.eval()(*inputs, context=context)


def made(seed: int, **arguments: object) -> DiffusionModelUNet:
    torch.manual_seed(seed)
    network = DiffusionModelUNet(**SIZES, **arguments)
    for parameter in network.parameters():  # MONAI starts some layers at zero, which would hide them
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_a_prefix_of_data_parallel_is_told_and_no_other_size():
    network = made(0, **AS_THEN)
    old = {f"module.{name}": value for name, value in as_saved_then(network).items()}
    with pytest.raises(ValueError, match=r"all begin with 'module\.'") as error:
        convert_state_dict(old, network)
    assert "sizes of the checkpoint" not in str(error.value)


@pytest.mark.parametrize("arguments", [AS_THEN, CONDITIONED], ids=["self-attention", "conditioned"])
def test_an_old_checkpoint_predicts_as_it_did(arguments):
    network, other = made(0, **arguments), made(1, **arguments)
    old = as_saved_then(network)
    assert network_arguments(old) == (AS_THEN if arguments is AS_THEN else {})
    context = torch.randn(2, 1, 6) if arguments is CONDITIONED else None
    assert not torch.allclose(predict(other, context), predict(network, context))
    other.load_state_dict(convert_state_dict(old, other))
    assert torch.equal(predict(other, context), predict(network, context))


def test_it_agrees_with_monais_own_loader_and_leaves_the_checkpoint_alone():
    old = as_saved_then(made(0, **AS_THEN))
    names = list(old)
    ours, monais = made(1, **AS_THEN), made(2, **AS_THEN)
    ours.load_state_dict(convert_state_dict(old, ours))
    assert list(old) == names
    monais.load_old_state_dict(dict(old))
    assert torch.equal(predict(ours), predict(monais))


def test_a_network_with_a_layer_that_was_never_called_is_refused():
    with pytest.raises(ValueError, match="include_fc=False, use_combined_linear=False"):
        convert_state_dict(as_saved_then(made(0, **AS_THEN)), made(0, use_combined_linear=False))


def test_a_missing_an_unexpected_and_a_misshaped_weight_are_refused():
    network = made(0, **AS_THEN)
    old = as_saved_then(network)
    first = next(iter(old))
    with pytest.raises(ValueError, match=f"{first} is missing"):
        convert_state_dict({name: value for name, value in old.items() if name != first}, network)
    with pytest.raises(ValueError, match="decoder.weight is unexpected"):
        convert_state_dict({**old, "decoder.weight": old[first]}, network)
    with pytest.raises(ValueError, match=r"has shape \(1,\) instead of"):
        convert_state_dict({**old, first: torch.zeros(1)}, network)


def test_parity_with_monai_generative_itself():
    nets = pytest.importorskip("generative.networks.nets", reason="monai-generative is archived and optional")
    torch.manual_seed(0)
    sizes = {("num_channels" if name == "channels" else name): value for name, value in SIZES.items()}
    old = nets.DiffusionModelUNet(**sizes)
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network = DiffusionModelUNet(**SIZES, **network_arguments(old.state_dict()))
    network.load_state_dict(convert_state_dict(old.state_dict(), network))
    assert torch.allclose(predict(network), predict(old), atol=1e-6)
