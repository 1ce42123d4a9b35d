from __future__ import annotations

import json
import logging

import jsonschema
import pytest
import torch
from monai.bundle import BundleWorkflow, ConfigParser

from bundle.metadata import generator_format
from tests.helpers import ROOT, config_files

METADATA = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
TENSOR = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
# MONAI's own, from the address in the metadata.
SCHEMA = ROOT / "bundle" / "meta_schema_20240725.json"


def test_the_metadata_fits_the_schema_of_the_zoo():
    assert METADATA["schema"].endswith(f"/{SCHEMA.name}")
    jsonschema.validate(METADATA, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_the_version_is_the_newest_of_the_changelog():
    assert next(iter(METADATA["changelog"])) == METADATA["version"]


@pytest.mark.parametrize("network", ["network_data_format", "generator_data_format"])
def test_every_tensor_is_described(network):
    for direction in ("inputs", "outputs"):
        for tensor in METADATA[network][direction].values():
            assert set(tensor) >= TENSOR


def test_a_latent_generator_is_described_by_its_latents():
    config = ConfigParser.load_config_files(config_files("generate", "options/latent"))
    config |= {"patch_size": [48, 64], "autoencoder_unshuffle": 2, "autoencoder_channels": [8, 8]}
    described = generator_format(METADATA["generator_data_format"], {**config, "autoencoder_latent_channels": 3})
    for tensor in (described["inputs"]["x"], described["outputs"]["pred"]):
        assert tensor["spatial_shape"] == [12, 16]
        assert list(tensor["channel_def"].values()) == ["latent 0", "latent 1", "latent 2"]


def test_image_goes_in_and_pred_comes_out_in_the_shape_described():
    files = config_files("patches", "inference")
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser["classifier_backbone"] = "resnet10_thin"
    network = parser.get_parsed_content("network_def").eval()
    image = METADATA["network_data_format"]["inputs"]["image"]
    pred = METADATA["network_data_format"]["outputs"]["pred"]
    with torch.no_grad():
        out = network(torch.zeros(1, image["num_channels"], *image["spatial_shape"]))
    assert list(out.shape) == pred["spatial_shape"]
    assert str(out.dtype) == f"torch.{pred['dtype']}"
    assert list(parser["modalities"]) == list(image["channel_def"].values())
    assert list(parser["classes"]) == list(pred["channel_def"].values())


def test_the_logging_file_is_accepted_by_monai():
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:

        class Workflow(BundleWorkflow):
            initialize = run = finalize = get_bundle_root = _get_property = _set_property = lambda *_, **__: None

        Workflow(logging_file=str(ROOT / "configs" / "logging.conf"))
        assert logging.getLogger().level == logging.INFO
    finally:
        logging.getLogger().handlers, logging.getLogger().level = handlers, level


def test_no_weights_are_promised_that_are_not_there():
    assert "simulated" in METADATA["data_source"]
    assert METADATA["eval_metrics"] == {}
