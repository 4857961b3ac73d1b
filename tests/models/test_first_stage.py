"""Every network starts after its first stage as it does from slices."""

import pytest
import torch

from jcs_ct.models.classifier import Classifier
from jcs_ct.models.first_stage import FirstStage
from jcs_ct.models.presets import classifier_preset, segmenter_preset
from jcs_ct.models.segmenter import Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(segmenter_preset("compact-joint")).eval()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(classifier_preset("compact")).eval()


@torch.no_grad()
def test_a_segmenter_from_features_is_one_from_slices(segmenter):
    slices = torch.rand(2, 1, 64, 80)
    first = segmenter.first_stage(slices)
    assert (first.vgg_feats.shape, first.res2net_feats.shape) == ((2, 16, 64, 80), (2, 24, 32, 40))
    for got, expected in zip(segmenter(first), segmenter(slices), strict=True):
        assert float((got - expected).abs().max()) <= 1e-5
    assert float((segmenter.predict(first) - segmenter.predict(slices)).abs().max()) <= 1e-5
    assert torch.equal(segmenter.predict(slices), torch.sigmoid(segmenter(slices)[0]))


@torch.no_grad()
def test_a_classifier_from_features_is_one_from_slices(classifier):
    slices = torch.rand(2, 1, 64, 64)
    first = classifier.first_stage(slices)
    assert first.vgg_feats is None
    assert float((classifier(first) - classifier(slices)).abs().max()) <= 1e-5
    for variant in ("paper", "grad_cam"):
        got = classifier.activation_map(first, 1, variant=variant)
        assert float((got - classifier.activation_map(slices, 1, variant=variant)).abs().max()) <= 1e-5


@pytest.mark.parametrize("name", ["official", "official-joint", "paper", "paper-joint"])
def test_the_published_features_have_their_shapes(name):
    with torch.device("meta"):
        first = Segmenter(segmenter_preset(name)).first_stage(torch.empty(1, 3, 512, 512))
    assert first.vgg_feats.shape == (1, 64, 512, 512)
    assert (None if first.res2net_feats is None else first.res2net_feats.shape) == (
        (1, 64, 256, 256) if name.endswith("joint") else None
    )


def test_classification_features_are_64_by_112_by_112():
    with torch.device("meta"):
        first = Classifier(classifier_preset("official")).first_stage(torch.empty(1, 3, 224, 224))
    assert first.res2net_feats.shape == (1, 64, 112, 112)


def test_features_that_do_not_fit_are_refused(segmenter, classifier):
    vgg, res2net = torch.zeros(1, 16, 64, 64), torch.zeros(1, 24, 32, 32)
    with pytest.raises(ValueError, match="the joint network needs res2net_feats beside vgg_feats"):
        segmenter(FirstStage(vgg, None))
    with pytest.raises(ValueError, match="a segmenter needs vgg_feats"):
        segmenter(FirstStage(None, res2net))
    with pytest.raises(ValueError, match=r"expected vgg_feats as \(N, 16, H, W\), got \(1, 64, 64, 64\)"):
        segmenter(FirstStage(torch.zeros(1, 64, 64, 64), res2net))
    with pytest.raises(ValueError, match="res2net_feats must be half of vgg_feats' 64x64, got 20x20"):
        segmenter(FirstStage(vgg, torch.zeros(1, 24, 20, 20)))
    with pytest.raises(ValueError, match="a classifier needs res2net_feats"):
        classifier(FirstStage(vgg, None))


def test_slices_that_do_not_fit_are_refused(segmenter):
    with pytest.raises(ValueError, match=r"expected slices as \(N, 1, H, W\), got \(1, 3, 64, 64\)"):
        segmenter(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="slices must be at least 32x32 pixels, got 16x64; resize"):
        segmenter(torch.zeros(1, 1, 16, 64))
