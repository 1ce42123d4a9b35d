from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import resnet10, resnet18, resnet50
from PIL import Image
from scipy.linalg import sqrtm

from scripts.classifier.networks import FoldEnsemble
from scripts.image_quality import inception
from scripts.image_quality.channel_encoder import ChannelEncoder
from scripts.image_quality.distances import frechet_distance
from scripts.image_quality.feature_networks import NetworkChoice, classifier_network, inception_networks
from scripts.image_quality.inception import InceptionV3
from scripts.image_quality.volume_networks import load_volume_network
from scripts.provenance.foreign_images import read_foreign
from scripts.provenance.record import hash_subject, write_provenance
from scripts.volumes.picture_files import RGB
from tests.helpers import image_form

MODALITIES = ("t1n", "t1c", "t2w", "t2f")


def draw(count=3, channels=4, size=(12, 14), seed=0):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(InceptionV3().state_dict(), path)
    return path


def save_classifier(folder, synthetic=(), backbone="resnet10_thin", subjects=("S0",), **settings):
    torch.manual_seed(1)
    network = FoldEnsemble(backbone, 1, **settings)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "model.pt")
    write_provenance(
        folder / "model.pt",
        cohorts=["A"],
        subjects=list(subjects),
        simulated=True,
        fold=0,
        synthetic=synthetic,
        setup="ddpm" if synthetic else "real",
    )
    return str(folder / "model.pt"), network.eval()


def test_inception_sees_each_modality_then_the_triplet_then_the_colors(weights_path):
    images = draw()
    encoder = ChannelEncoder(images)
    grey, triplet, encoded = inception_networks(weights_path, MODALITIES, encoder)
    reference = inception.load_inception(weights_path)
    expected, logits = reference(images[:, [2, 2, 2]])
    views = grey.extract(images, batch_size=2)
    assert [view.features.shape for view in views] == [(3, 2048)] * 4
    torch.testing.assert_close(views[2].features, expected.double())
    torch.testing.assert_close(views[2].logits, logits.double())
    (seen,) = triplet.extract(images)
    torch.testing.assert_close(seen.features, reference(images[:, [1, 2, 3]])[0].double())
    assert (grey.encoder_sha256, encoded.encoder_sha256) == (None, encoder.sha256())
    (seen,) = encoded.extract(images)
    torch.testing.assert_close(seen.features, reference(encoder(images))[0].double())


def test_weights_that_are_not_the_published_ones_are_not_called_so(weights_path, monkeypatch):
    digest = inception.sha256_file(weights_path)
    networks = inception_networks(weights_path, MODALITIES)
    assert [network.name for network in networks] == [
        f"Inception-v3 with weights {digest[:8]}, one modality at a time",
        f"Inception-v3 with weights {digest[:8]}, (t1c, t2w, t2f)",
    ]
    assert not any(network.published for network in networks)
    monkeypatch.setattr(inception, "PUBLISHED_SHA256_PREFIX", digest[:8])
    (network,) = inception_networks(weights_path, ["t1n"])
    assert (network.published, network.name) == (True, "Inception-v3, one modality at a time")


def write_pictures(folder, count, seed):
    """Write PNGs that are no mirror image and no transpose of themselves, and return them as (N, H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 120, 20)[:, None, None] + np.linspace(0, 60, 26)[None, :, None]
    pixels = np.clip(ramp + random.uniform(0, 75, (count, 20, 26, 3)) * (1 + seed), 0, 255).astype(np.uint8)
    folder.mkdir()
    for index, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"{index:02d}.png")
    return pixels


def test_the_fid_of_two_folders_of_pictures_is_that_of_pytorch_fid(weights_path, tmp_path):
    """pytorch-fid: PNG to [0, 1], bilinear to 299 x 299, 2 x - 1, features; then means, np.cov and scipy's root."""
    (network,) = inception_networks(weights_path, RGB)
    assert network.name.endswith(", RGB")
    reference, own, expected = inception.load_inception(weights_path), [], []
    for seed, folder in enumerate((tmp_path / "first", tmp_path / "second")):
        pixels = write_pictures(folder, 8, seed)
        (seen,) = network.extract(read_foreign(folder).images / 127.5 - 1)
        resized = F.interpolate(torch.from_numpy(pixels).movedim(-1, 1) / 255, (299, 299), mode="bilinear")
        with torch.no_grad():
            features = reference(2 * resized - 1)[0].double()
        torch.testing.assert_close(seen.features, features, atol=1e-4, rtol=1e-4)
        own.append(seen.features)
        expected.append(features.numpy())
    # The five features that vary most: with fewer images than features no root of scipy is exact.
    kept = np.argsort(expected[0].var(axis=0))[-5:].copy()
    statistics = [(features[:, kept].mean(axis=0), np.cov(features[:, kept], rowvar=False)) for features in expected]
    (first_mean, first), (second_mean, second) = statistics
    fid = np.sum((first_mean - second_mean) ** 2) + np.trace(first + second - 2 * sqrtm(first @ second).real)
    stored = [torch.from_numpy(features[:, kept]) for features in expected]
    assert frechet_distance(*stored) == pytest.approx(fid, rel=1e-6)
    assert frechet_distance(*(features[:, kept] for features in own)) == pytest.approx(fid, rel=1e-3)


def test_images_of_one_channel_have_no_encoder_and_say_why(weights_path):
    networks, left_out = choice(form=image_form(1, (8, 8)), inception_path=str(weights_path)).load(draw(channels=1))
    assert [network.name.split(", ", 1)[1] for network in networks] == ["one modality at a time"]
    assert left_out[0]["reason"] == "to 3 colors it needs as many channels, these images have 1"


def test_volumes_are_refused_by_inception(weights_path):
    (network,) = inception_networks(weights_path, ["t1n"])
    with pytest.raises(ValueError, match="images must be 2D for Inception-v3"):
        network.extract(draw(1, 1, (8, 8, 8)))


@pytest.mark.parametrize(
    ("backbone", "size", "length"),
    [("resnet10_thin", (16, 18), 64), ("densenet121", (40, 40), 1024), ("resnet10_thin", (12, 10, 14), 64)],
    ids=["resnet", "densenet", "3d"],
)
def test_a_classifiers_features_are_what_its_last_layer_reads(tmp_path, backbone, size, length):
    settings = {"spatial_dims": len(size), "in_channels": 4, "num_classes": 2, "stem_stride": 2}
    path, reference = save_classifier(tmp_path, backbone=backbone, **settings)
    network = classifier_network(path, backbone, 2, image_form(4, size))
    (view,) = network.extract(draw(3, 4, size), batch_size=2)
    last = [module for module in reference.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert view.features.shape == (3, length)
    with torch.no_grad():
        torch.testing.assert_close(last(view.features.float()), reference(draw(3, 4, size)), rtol=1e-4, atol=1e-5)
    assert network.name == f"{backbone} trained on the fold's real images"
    assert network.known_subjects == {hash_subject("S0")}
    assert not network.published


def test_a_classifier_of_synthetic_images_is_refused(tmp_path):
    path, _ = save_classifier(tmp_path, synthetic=["0" * 64])
    with pytest.raises(ValueError, match="must be trained on real images only, got setup 'ddpm'"):
        classifier_network(path, "resnet10_thin", 2, image_form())


def test_weights_of_another_backbone_are_refused(tmp_path):
    path, _ = save_classifier(tmp_path)
    with pytest.raises(ValueError, match="weights of another backbone"):
        classifier_network(path, "resnet18", 2, image_form())


def choice(**changes):
    settings = {"inception_path": None, "classifier_path": None, "backbone": "resnet10_thin"}
    return NetworkChoice(**{**settings, "stem_stride": 2, "form": image_form(4, (8, 8)), **changes})


def test_without_weights_the_networks_are_left_out_with_the_way_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    networks, left_out = choice().load(draw())
    assert networks == []
    assert "put pt_inception-2015-12-05-6726825d.pth" in left_out[0]["reason"]
    assert left_out[1]["reason"] == "no classifier_path was given"
    assert choice().inputs() == [None, None]
    volumes = choice(form=image_form(4, (8, 8, 8))).load(draw())[1]
    assert "measure_volume_network_path" in volumes[1]["reason"]


def test_a_missing_file_that_was_asked_for_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; put pt_inception"):
        choice(inception_path=str(tmp_path / "nothing.pth")).load(draw())


def test_weights_in_the_cache_of_torch_are_used(weights_path, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir()
    cached.symlink_to(weights_path)
    networks, _ = choice().load(draw())
    assert [network.name.split(", ", 1)[1] for network in networks] == [
        "one modality at a time",
        "(t1c, t2w, t2f)",
        "4 to 3 encoder",
    ]
    assert choice().inputs() == [str(cached), None]


def test_volumes_are_seen_in_the_middle_slices_of_three_planes(weights_path):
    volumes = draw(2, 1, (8, 9, 10))
    networks, left_out = choice(
        form=image_form(1, (8, 9, 10)), inception_path=str(weights_path), with_encoder=False
    ).load(volumes)
    assert [network.name.split(", ")[-1] for network in networks] == [
        "middle sagittal slices",
        "middle coronal slices",
        "middle axial slices",
    ]
    (pictures,) = inception_networks(weights_path, ["t1n"])
    (of_slices,), (expected,) = networks[1].extract(volumes), pictures.extract(volumes[:, :, :, 4])
    torch.testing.assert_close(of_slices.features, expected.features)


@pytest.fixture
def medicalnet(tmp_path):
    """A file of MedicalNet's layout, with random weights."""
    torch.manual_seed(0)
    state = resnet10(spatial_dims=3, n_input_channels=1, feed_forward=False, bias_downsample=False).state_dict()
    named = {f"module.{name}": value for name, value in state.items()}
    path = tmp_path / "resnet_10.pth"
    torch.save({"state_dict": {**named, "module.conv_seg.0.weight": torch.ones(1)}}, path)
    return str(path), state


def med3d(state, images):
    """The ResNet of ten layers of MedicalNet's models/resnet.py."""

    def normalize(name, x):
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    x = F.conv3d(images, state["conv1.weight"], stride=2, padding=3)
    x = F.max_pool3d(normalize("bn1", x).relu(), kernel_size=3, stride=2, padding=1)
    for layer, stride, dilation in ((1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 1, 4)):
        block, residual = f"layer{layer}.0", x
        if layer > 1:
            residual = F.conv3d(x, state[f"{block}.downsample.0.weight"], stride=stride)
            residual = normalize(f"{block}.downsample.1", residual)
        first = F.conv3d(x, state[f"{block}.conv1.weight"], stride=stride, dilation=dilation, padding=dilation)
        first = normalize(f"{block}.bn1", first).relu()
        second = F.conv3d(first, state[f"{block}.conv2.weight"], dilation=dilation, padding=dilation)
        x = (normalize(f"{block}.bn2", second) + residual).relu()
    return x.mean((2, 3, 4))


def test_a_3d_network_from_a_file_sees_one_channel_at_a_time_under_its_name(medicalnet):
    path, state = medicalnet
    volumes = draw(3, 2, (16, 18, 20))
    volumes[:, :, :4] = -1
    networks, _ = choice(form=image_form(2, (16, 18, 20)), volume_network_path=path).load(volumes)
    network = networks[-1]
    assert network.name.startswith("3D Med3D ResNet10 with weights ")
    assert not network.published
    views = network.extract(volumes, batch_size=2)
    brain = volumes[:, 1, 4:].flatten(1)
    standardized = torch.zeros(3, 1, 16, 18, 20)
    scaled = (brain - brain.mean(1, keepdim=True)) / brain.std(1, correction=0, keepdim=True)
    standardized[:, 0, 4:] = scaled.view(3, 12, 18, 20)
    with torch.no_grad():
        torch.testing.assert_close(views[1].features.float(), med3d(state, standardized), rtol=1e-3, atol=1e-4)


def test_weights_of_monais_own_resnet_run_in_it_and_say_so(medicalnet, tmp_path):
    network = resnet10(spatial_dims=3, n_input_channels=1, feed_forward=False, bias_downsample=False)
    network.load_state_dict(medicalnet[1])
    torch.save(network.state_dict(), tmp_path / "monai.pt")
    loaded, form = load_volume_network(tmp_path / "monai.pt", 10)
    assert form == "MONAI ResNet"
    images = draw(2, 1, (16, 18, 20))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network.eval()(images))


@pytest.mark.parametrize("depth", [18, 50])
def test_the_last_layers_of_med3d_keep_their_sides(depth, tmp_path):
    build = {18: resnet18, 50: resnet50}[depth]
    shortcut = "A" if depth == 18 else "B"
    network = build(
        spatial_dims=3, n_input_channels=1, feed_forward=False, shortcut_type=shortcut, bias_downsample=False
    )
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "weights.pth")
    loaded, _ = load_volume_network(tmp_path / "weights.pth", depth)
    sides = []
    loaded.layer4.register_forward_hook(lambda module, inputs, output: sides.append(tuple(output.shape[2:])))
    loaded(torch.zeros(1, 1, 16, 24, 32))
    assert sides == [(2, 3, 4)]


def test_3d_weights_of_another_network_and_of_pictures_are_refused(medicalnet):
    path, _ = medicalnet
    volumes = image_form(1, (8, 8, 8))
    with pytest.raises(ValueError, match="must hold weights of a 3D ResNet18 with one channel, got"):
        choice(form=volumes, volume_network_path=path, volume_network_depth=18).load(draw(1, 1, (8, 8, 8)))
    with pytest.raises(ValueError, match="must be null for images of 2 axes"):
        choice(volume_network_path=path)
    with pytest.raises(ValueError, match="must be one of 10, 18, 34"):
        choice(form=volumes, volume_network_depth=11)
