"""Sizes, strides and configs of every preset; built without storage, so that nothing is computed."""

import json
import math

import pytest
import torch

from jcs_ct.choices import ComparedNetwork
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.comparison import COMPARISONS
from jcs_ct.models.presets import CLASSIFIERS, SEGMENTERS, classifier_preset, segmenter_preset
from jcs_ct.models.segmenter import Segmenter, SegmenterConfig

#: Preset -> parameters, state-dict entries. The official ones are the published networks' own.
SEGMENTER_SIZES = {
    "paper": (42_693_693, 152),
    "paper-joint": (94_030_277, 1_274),
    "official": (42_501_423, 218),
    "official-joint": (117_717_811, 1_183),
    "compact": (1_944_244, 292),
    "compact-joint": (4_032_058, 654),
}
CLASSIFIER_SIZES = {"paper": (43_181_016, 1_033), "official": (43_061_828, 861), "compact": (1_667_330, 284)}
#: Preset -> strides of the six maps that the decoder gets.
STRIDES = {
    "paper": (1, 2, 4, 8, 16, 32),
    "paper-joint": (1, 2, 4, 8, 16, 32),
    "official": (1, 2, 4, 8, 8, 16),
    "official-joint": (2, 4, 8, 16, 32, 16),
    "compact": (1, 2, 4, 8, 16, 32),
    "compact-joint": (1, 2, 4, 8, 16, 32),
}


def size_of(network: torch.nn.Module) -> tuple[int, int]:
    return sum(parameter.numel() for parameter in network.parameters()), len(network.state_dict())


def test_what_help_offers_to_compare_is_what_there_is():
    alone = {name for name, config in SEGMENTERS.items() if not config.joint}
    assert {one.value for one in ComparedNetwork} == alone | set(COMPARISONS)


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_segmenters_have_their_sizes(name):
    with torch.device("meta"):
        assert size_of(Segmenter(segmenter_preset(name))) == SEGMENTER_SIZES[name]


@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_classifiers_have_their_sizes(name):
    with torch.device("meta"):
        assert size_of(Classifier(classifier_preset(name))) == CLASSIFIER_SIZES[name]


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_the_decoder_gets_maps_of_the_stated_strides(name):
    config = segmenter_preset(name)
    with torch.device("meta"):
        network = Segmenter(config).eval()
        image = torch.empty(1, config.encoder.in_channels, 256, 256)
    seen: list[int] = []
    network.decoder.register_forward_pre_hook(
        lambda _, inputs: seen.extend(256 // feature.shape[-1] for feature in [*inputs[0], inputs[1]])
    )
    outputs = network(image)
    assert tuple(seen) == config.strides == STRIDES[name]
    assert [tuple(output.shape) for output in outputs] == [(1, 1, 256, 256)] * 5


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_segmenter_configs_survive_json(name):
    config = segmenter_preset(name)
    assert SegmenterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_classifier_configs_survive_json(name):
    config = classifier_preset(name)
    assert ClassifierConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        ClassifierConfig.from_dict({**CLASSIFIERS["paper"].to_dict(), "depth": 101})


def test_unknown_presets_list_the_known_ones():
    with pytest.raises(KeyError, match=r"no segmenter preset 'tiny'; known: paper, paper-joint, official"):
        segmenter_preset("tiny")
    with pytest.raises(KeyError, match=r"no classifier preset 'tiny'; known: paper, official, compact"):
        classifier_preset("tiny")


def test_attention_reduces_as_stated():
    """A quarter everywhere in the paper's; a single unit in the published AFF, a quarter in its GAM."""
    with torch.device("meta"):
        paper, official = Segmenter(SEGMENTERS["paper-joint"]), Segmenter(SEGMENTERS["official"])
    hidden = {
        name: module.linear1.out_features / module.linear1.in_features
        for name, module in paper.named_modules()
        if hasattr(module, "linear1")
    }
    assert len(hidden) == 2 + 2 * 5 + 5
    assert all(math.isclose(share, 0.25) for share in hidden.values())
    assert {stage.se1.linear1.out_features for stage in official.decoder.stages} == {1}
    assert {stage.se2.linear1.out_features for stage in official.decoder.stages} == {1}
    assert official.efm.gam5.se.linear1.out_features == 256


def test_atrous_rates_are_the_papers():
    with torch.device("meta"):
        network = Segmenter(SEGMENTERS["paper"])
    rates = [[conv.dilation[0] for conv in module.atrous] for module in (network.efm.gam5, network.efm.gam6)]
    assert rates == [[1, 3, 6, 9], [1, 2, 3, 4]]
