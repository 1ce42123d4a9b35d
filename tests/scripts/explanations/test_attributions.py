"""Attributions of networks whose answer is known by formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from scripts.explanations.attributions import Attributor, answer_function, shares_of
from scripts.explanations.lime import superpixels

SHAPES = pytest.mark.parametrize("shape", [(20, 17), (12, 11, 10)], ids=["2d", "3d"])


class WeightedSum(nn.Module):
    """Class 1 of two has the weighted sum of what stands above the background as its log-odds."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, image):
        score = (self.weights * (image + 1)).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def head(shape, num_modalities=3, seed=0):
    """Return a noisy ellipsoid (C, *shape) in [-0.8, 0.9] on a background of -1."""
    random = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.9
    return torch.from_numpy(np.where(inside, random.uniform(-0.8, 0.9, (num_modalities, *shape)), -1)).float()


def one_modality(shape, chosen=1, num_modalities=3):
    weights = torch.zeros(num_modalities, *shape)
    weights[chosen] = 0.05
    return WeightedSum(weights).eval()


def feature_weights(network, image, segments):
    """Sum of weight x (intensity above background) in each superpixel of each modality, (C, S): LIME's true answer."""
    parts = (network.weights.detach() * (image + 1)).numpy()
    return np.array([[plane[segments == s].sum() for s in range(1, segments.max() + 1)] for plane in parts])


@SHAPES
def test_lime_recovers_the_weights_of_a_linear_network(shape):
    image, torch_random = head(shape), torch.Generator().manual_seed(1)
    network = WeightedSum(0.1 * torch.randn((3, *shape), generator=torch_random)).eval()
    attributor = Attributor(methods=["lime"], num_superpixels=12, num_samples=400)
    found = attributor(network, image, label=1)["lime"]

    segments = superpixels(image.numpy(), 12)
    expected = feature_weights(network, image, segments)
    values = np.array([[plane[segments == s][0] for s in range(1, segments.max() + 1)] for plane in found.values])
    clear = np.abs(expected) > 0.1 * np.abs(expected).max()
    assert (np.sign(values) == np.sign(expected))[clear].all()
    assert spearmanr(values.ravel(), expected.ravel()).statistic > 0.99
    assert values == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))
    assert found.fit > 0.99
    assert found.shares == pytest.approx(shares_of(np.abs(expected).sum(axis=1)), abs=0.02)


@SHAPES
@pytest.mark.parametrize("baseline", ["background", "mean"])
@pytest.mark.parametrize("method", ["lime", "occlusion"])
def test_a_network_that_reads_one_modality_gives_it_nearly_all(shape, baseline, method):
    weights = torch.zeros(3, *shape)
    weights[1] = 0.05 * torch.linspace(-1, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    attributor = Attributor([method], baseline=baseline, num_superpixels=20, num_samples=300, occlusion_size=4)
    found = attributor(WeightedSum(weights).eval(), head(shape), label=1)[method]
    assert found.values.shape == (3, *shape)
    assert found.shares[1] > 0.9
    assert sum(found.shares) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in found.shares)


@SHAPES
def test_windows_of_one_pixel_give_what_that_pixel_adds(shape):
    image = head(shape, seed=2)
    network = WeightedSum(torch.randn((3, *shape), generator=torch.Generator().manual_seed(3))).eval()
    found = Attributor(["occlusion"], occlusion_size=1)(network, image, label=1)["occlusion"]
    expected = (network.weights.detach() * (image + 1)).numpy()
    assert found.values == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("method", ["lime", "occlusion"])
def test_what_speaks_for_one_of_two_classes_speaks_against_the_other(method):
    network, image = one_modality((20, 17)), head((20, 17))
    attributor = Attributor([method], num_superpixels=10, num_samples=200, occlusion_size=4)
    one, zero = (attributor(network, image, label)[method].values for label in (1, 0))
    assert one == pytest.approx(-zero, abs=1e-4)
    assert one[1].max() > 0


def test_background_is_never_a_feature():
    image = head((20, 17))
    background = (image == -1).all(dim=0).numpy()
    segments = superpixels(image.numpy(), 12)
    found = Attributor(["lime"], num_superpixels=12, num_samples=100)(one_modality((20, 17)), image, 1)["lime"]
    assert (segments[background] == 0).all()
    assert sorted(np.unique(segments[~background])) == list(range(1, segments.max() + 1))
    assert (found.values[:, background] == 0).all()


def test_gradcam_has_one_map_and_no_shares():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    found = Attributor(["gradcam"])(network, head((20, 17)), 1)["gradcam"]
    assert (found.values.shape, found.shares, found.fit) == ((1, 20, 17), None, None)


@pytest.mark.parametrize("method", ["lime", "occlusion", "gradcam"])
def test_the_same_seed_gives_the_same_map_and_touches_no_random_state(method):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    attributor, image = Attributor([method], num_superpixels=8, num_samples=50), head((20, 17))
    first = attributor(network, image, 2)[method]
    state = torch.get_rng_state()
    again = attributor(network, image, 2)[method]
    assert np.array_equal(first.values, again.values)
    assert torch.equal(torch.get_rng_state(), state)
    if method == "lime":
        other = Attributor([method], num_superpixels=8, num_samples=50, seed=1)(network, image, 2)[method]
        assert not np.array_equal(first.values, other.values)


def test_log_odds_are_those_of_the_softmax():
    logits = torch.tensor([[0.3, -1.0, 2.0], [5.0, 0.0, 0.1]])
    answer = answer_function(nn.Identity(), 2)(logits)
    p = logits.softmax(dim=1)[:, 2]
    assert torch.allclose(answer, torch.log(p / (1 - p)), atol=1e-6)
    assert torch.allclose(answer_function(nn.Identity(), 2, "probability")(logits), p)


def test_shares_of_nothing_are_none():
    assert shares_of(np.zeros(4)) is None
    assert shares_of(np.array([1.0, 3.0])) == [0.25, 0.75]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ["shap"]}, "explain_methods must be of lime, occlusion, gradcam, got 'shap'"),
        ({"methods": []}, "got none"),
        ({"output": "logit"}, "explain_output must be of log_odds, probability, got 'logit'"),
        ({"baseline": "blur"}, "explain_baseline must be of background, mean, got 'blur'"),
        ({"num_samples": 0}, "lime_num_samples must be positive, got 0"),
    ],
)
def test_settings_that_are_not_understood_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Attributor(**values)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 20), "image must have 2 or 3 spatial dimensions, got shape"),
        (torch.full((3, 20, 17), -1.0), "image must show something, got background"),
    ],
)
def test_images_that_cannot_be_explained_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        Attributor(["occlusion"])(one_modality((20, 17)), image, 1)


def test_a_network_with_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        answer_function(nn.Identity(), 0)(torch.zeros(1, 1))


@SHAPES
def test_colors_are_covered_together_and_add_up(shape):
    image, random = head(shape), torch.Generator().manual_seed(1)
    network = WeightedSum(0.1 * torch.randn((3, *shape), generator=random)).eval()
    settings = {"num_superpixels": 12, "num_samples": 400, "occlusion_size": 4}
    attributor = Attributor(["lime", "occlusion"], **settings, channels_together=True)
    found = attributor(network, image, label=1)
    assert {name: one.values.shape for name, one in found.items()} == dict.fromkeys(found, (1, *shape))
    assert [one.shares for one in found.values()] == [None, None]
    assert set(attributor.no_shares) == {"lime", "occlusion"}
    segments = superpixels(image.numpy(), 12)
    expected = feature_weights(network, image, segments).sum(axis=0)
    values = np.array([found["lime"].values[0][segments == s][0] for s in range(1, segments.max() + 1)])
    assert values == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))
    assert found["lime"].fit > 0.99
    apart = Attributor(["occlusion"], **settings)(network, image, label=1)["occlusion"]
    assert found["occlusion"].values[0] == pytest.approx(apart.values.sum(axis=0), abs=1e-3)


def test_a_superpixel_of_colors_becomes_the_mean_of_each_color():
    image = head((20, 17))
    image[0, image[0] > -1] = 0.7  # the other colors vary: a mean over all colors would change this one
    weights = torch.zeros(3, 20, 17)
    weights[0] = 0.05
    settings = {"num_superpixels": 12, "num_samples": 200, "baseline": "mean", "channels_together": True}
    found = Attributor(["lime"], **settings)(WeightedSum(weights).eval(), image, label=1)["lime"]
    assert np.abs(found.values).max() < 1e-3
