"""Parameters and multiply-accumulates of the comparison networks, as measured on their authors' public code."""

import pytest
import torch

from jcs_ct.models.comparison import build_comparison, comparison_preset
from jcs_ct.models.comparison.counting import count_macs, count_parameters
from jcs_ct.models.comparison.stored import comparison_from_dict, comparison_to_dict, is_comparison
from jcs_ct.models.presets import SEGMENTERS, build_segmenter

# Preset: (million parameters, GMACs for 3 x 512 x 512).
PUBLISHED = {
    "unet": (31.04, 192.7),
    "unet-bilinear": (17.26, 159.9),
    "dss-vgg16": (62.24, 251.4),
    "poolnet-resnet50": (68.3, 194.1),
    "poolnet-vgg16": (52.5, 254.8),
    "egnet-resnet50": (111.7, 619.4),
    "egnet-vgg16": (108.1, 627.2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_comparison_networks_are_as_large_as_published(name):
    parameters, macs = PUBLISHED[name]
    with torch.device("meta"):
        network = build_comparison(name)
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, rel=0.01)
    assert count_macs(network, (1, 3, 512, 512)) / 1e9 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"), [("official", 42.5, 243.0), ("official-joint", 117.7, 250.8)]
)
def test_our_official_segmenters_are_as_large_as_published(name, parameters, macs):
    with torch.device("meta"):
        network = build_segmenter(SEGMENTERS[name])
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, rel=0.01)
    assert count_macs(network, (1, 3, 512, 512)) / 1e9 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_stored_config_says_which_network_it_is_of(name):
    config = comparison_preset(name)
    stored = comparison_to_dict(config)
    assert is_comparison(stored)
    assert comparison_from_dict(stored) == config
    assert not is_comparison(SEGMENTERS["paper"].to_dict())
