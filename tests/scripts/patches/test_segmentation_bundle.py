"""A zoo bundle loaded from its folder: its parts, the order of its channels, its weights, its result."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import SegResNet

from scripts.patches.segmentation_bundle import load_segmentation_bundle, read_result
from scripts.volumes.mask_codes import CONVENTIONS
from tests import zoo_bundle
from tests.tiny_subjects import AFFINE, MODALITIES, SHAPE, make_images
from tests.zoo_bundle import POINTWISE, SEGRESNET, answering, write_bundle, write_metadata


def load(folder, **options):
    return load_segmentation_bundle(str(folder), MODALITIES, **options)


@pytest.fixture
def files(tmp_path):
    """Paths of four images in the order of the bundle's channels."""
    images = make_images()
    paths = [tmp_path / f"{modality}.nii" for modality in zoo_bundle.MODALITIES]
    for path in paths:
        nib.save(nib.Nifti1Image(images[path.stem].astype(np.float32), AFFINE), path)
    return [str(path) for path in paths]


def test_its_own_network_gives_what_the_network_gives_by_hand(tmp_path, files):
    segmenter = load(write_bundle(tmp_path / "zoo"), roi_size=[40, 40, 24])
    network = SegResNet(**{key: value for key, value in SEGRESNET.items() if key != "_target_"}).eval()
    network.load_state_dict(torch.load(tmp_path / "zoo/models/model.pt", weights_only=True))
    volumes = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in files])
    for volume in volumes:
        brain = volume != 0
        volume[brain] = (volume[brain] - volume[brain].mean()) / volume[brain].std()
    pad = [(0, 0), (0, 0), (3, 4), (1, 1)]  # to the window
    with torch.no_grad():
        logits = network(torch.as_tensor(np.pad(volumes, pad))[None])[0, :, :, 3:-4, 1:-1].numpy()
    core, whole, enhancing = np.abs(logits) > 1e-3, logits[1] > 0, logits[2] > 0
    expected = np.select([enhancing, logits[0] > 0, whole], [4, 1, 2])
    sure = core.all(axis=0)  # not where rounding decides
    found = segmenter(files)
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert found.shape == SHAPE
    assert not (tmp_path / "zoo" / "eval").exists(), "the bundle must not save files of its own"


def test_the_order_of_channels_is_that_of_the_metadata(tmp_path):
    bundle = write_bundle(tmp_path, POINTWISE)
    assert load(bundle).modalities == ["t1c", "t1n", "t2w", "t2f"]
    write_metadata(tmp_path, {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"})
    assert load(bundle).modalities == ["t2f", "t1n", "t1c", "t2w"]


@pytest.mark.parametrize("channels", [{}, {"0": "image"}, {"0": "T1", "1": "T1n", "2": "T2", "3": "FLAIR"}])
def test_channels_that_are_not_named_are_never_guessed(tmp_path, channels):
    write_bundle(tmp_path, POINTWISE)
    write_metadata(tmp_path, channels)
    with pytest.raises(ValueError, match="must name the modality of each input channel once"):
        load(tmp_path)


def test_a_network_of_another_number_of_channels_is_refused(tmp_path):
    bundle = write_bundle(tmp_path, {**SEGRESNET, "in_channels": 3})
    with pytest.raises(ValueError, match="must have in_channels 4, one for each of t1c, t1n, t2w, t2f"):
        load(bundle)


@pytest.mark.parametrize("name", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_without_a_file_the_command_that_gets_it_is_told(tmp_path, name):
    bundle = write_bundle(tmp_path, POINTWISE)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist; .*monai.bundle download --name brats_mri_seg"):
        load(bundle)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {f"module.{key}": value for key, value in answering(0).items()},
        {**answering(0), "weight": torch.zeros(2, 4, 1, 1, 1)},
    ],
    ids=["empty", "prefix", "shape"],
)
def test_weights_of_another_network_are_refused_and_not_left_random(tmp_path, state):
    bundle = write_bundle(tmp_path, POINTWISE, state)
    with pytest.raises(ValueError, match=r"model\.pt must be weights of the network_def beside it"):
        load(bundle)


def test_weights_that_would_have_to_be_unpickled_or_are_cut_short_are_refused(tmp_path):
    bundle = write_bundle(tmp_path, POINTWISE, {"weight": torch.nn.Conv3d(1, 1, 1)})
    with pytest.raises(
        ValueError, match=r"model\.pt must be a file of tensors .*got UnpicklingError: Unsupported global"
    ):
        load(bundle)
    path = tmp_path / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.pt must be a file of tensors that torch.save wrote"):
        load(bundle)


def test_weights_that_lie_under_the_name_of_the_model_are_the_same_weights(tmp_path):
    load(write_bundle(tmp_path, POINTWISE, {"model": answering(1)}))
    assert load(tmp_path).network.weight[0, 1].item() == 1


def test_a_config_without_a_part_is_refused(tmp_path):
    bundle = write_bundle(tmp_path, POINTWISE)
    path = tmp_path / "configs" / "inference.json"
    config = json.loads(path.read_text())
    del config["postprocessing"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="got no postprocessing"):
        load(bundle)


def test_the_codes_of_one_channel_are_the_mask():
    codes = np.array([[[0, 1], [2, 4]]])
    np.testing.assert_array_equal(read_result(codes[None], CONVENTIONS["brats_2017"]), codes)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (np.full((1, 2, 2, 2), 3), r"must be one channel of the codes \[0, 1, 2, 4\], got 1 with \[3"),
        (np.zeros((3, 2, 2, 2)), "must be one channel of the codes .* got 3 with"),
        (np.full((1, 2, 2, 2), 0.5), r"must be one channel of the codes .* got 1 with \[0\.5"),
    ],
)
def test_another_result_is_refused(pred, message):
    with pytest.raises(ValueError, match=message):
        read_result(pred, CONVENTIONS["brats_2017"])
