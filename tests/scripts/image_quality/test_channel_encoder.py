from __future__ import annotations

import pytest
import torch

from scripts.image_quality.channel_encoder import ChannelEncoder


def draw(count=6, channels=4, size=(7, 9), seed=0):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=random)
    return torch.einsum("bchw,kc->bkhw", torch.rand(count, channels, *size, generator=random), mixing).tanh()


def reconstruction_error(colors, images):
    """Squared error of the best linear decoder of the colors."""
    pixels = images.movedim(1, -1).reshape(-1, images.shape[1]).double()
    inputs = colors.movedim(1, -1).reshape(-1, colors.shape[1]).double()
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, pixels).solution
    return float((inputs @ solution - pixels).square().mean())


def test_no_other_linear_encoder_reconstructs_the_training_images_better():
    images = draw()
    own = reconstruction_error(ChannelEncoder(images)(images), images)
    random = torch.Generator().manual_seed(1)
    for _ in range(50):
        other = torch.einsum("bchw,kc->bkhw", images, torch.randn(3, 4, generator=random))
        assert own <= reconstruction_error(other, images) + 1e-12


def test_an_autoencoder_trained_by_steps_reaches_the_same_error_from_above():
    images = draw()
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Conv2d(4, 3, 1), torch.nn.Conv2d(3, 4, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.03)
    for _ in range(600):
        optimizer.zero_grad()
        loss = (decoder(encoder(images)) - images).square().mean()
        loss.backward()
        optimizer.step()
    own = reconstruction_error(ChannelEncoder(images)(images), images)
    assert own <= float(loss.detach()) + 1e-9
    assert own == pytest.approx(float(loss.detach()), rel=0.1, abs=1e-5)


def test_the_training_images_fill_the_range_of_inception():
    images = draw()
    colors = ChannelEncoder(images)(images)
    assert colors.shape == (6, 3, 7, 9)
    torch.testing.assert_close(colors.amin(dim=(0, 2, 3)), -torch.ones(3))
    torch.testing.assert_close(colors.amax(dim=(0, 2, 3)), torch.ones(3))


def test_the_hash_is_that_of_the_training_images_alone():
    assert ChannelEncoder(draw()).sha256() == ChannelEncoder(draw()).sha256()
    assert ChannelEncoder(draw()).sha256() != ChannelEncoder(draw(seed=5)).sha256()


def test_two_modalities_have_no_three_colors():
    with pytest.raises(ValueError, match="at least 3 channels for an encoder, got 2; set measure_encoder: false"):
        ChannelEncoder(draw(channels=2))


def test_constant_images_are_refused():
    with pytest.raises(ValueError, match="images must vary in three directions"):
        ChannelEncoder(torch.full((2, 4, 5, 5), -1.0))
