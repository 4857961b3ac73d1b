"""Folding BatchNorm leaves the logits."""

import pytest
import torch
from torch import nn

from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.folding import fold_batch_norm
from jcs_ct.models.layers import FrozenBatchNorm2d
from jcs_ct.models.res2net import Res2NetConfig
from jcs_ct.models.segmenter import CombinationConfig, Segmenter, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = (8, 8, 16, 16, 16)


def trunk(norm: str, eps: float) -> Res2NetConfig:
    return Res2NetConfig(stem_channels=(4, 4, 8), planes=(8, 8, 8, 8), blocks=(2, 1, 1, 1), norm=norm, norm_eps=eps)


def networks() -> dict[str, nn.Module]:
    combination = CombinationConfig(backbone=trunk("frozen", 0.0), resize="down", squeeze_excitation=False)
    return {
        "classifier, batch": Classifier(ClassifierConfig(trunk("batch", 1e-5))),
        "classifier, frozen": Classifier(ClassifierConfig(trunk("frozen", 0.0), head_bias=False)),
        "segmenter, as compact": Segmenter(
            SegmenterConfig(VGGConfig(channels=CHANNELS, norm="batch", conv_bias=False), norm="batch")
        ),
        "segmenter, as official-joint": Segmenter(
            SegmenterConfig(
                VGGConfig(channels=CHANNELS, norm="frozen", norm_eps=0.0, pool_before_block5=False),
                combination,
                fusion_se_hidden_is_one=True,
                fusion_reduce=True,
                convolve_top=True,
            )
        ),
    }


def draw_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for name in ("weight", "running_var"):
                getattr(module, name).data.uniform_(0.5, 1.5)
            for name in ("bias", "running_mean"):
                getattr(module, name).data.normal_(0, 0.2)


@pytest.mark.parametrize("name", list(networks()))
@torch.no_grad()
def test_logits_stay_and_no_batch_norm_is_left(name):
    torch.manual_seed(0)
    network = networks()[name].eval()
    draw_statistics(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    image = torch.randn(2, 3, 64, 64)
    got, expected = folded(image), network(image)
    pairs = [(got, expected)] if isinstance(got, torch.Tensor) else list(zip(got, expected, strict=True))
    assert max(float((one - other).abs().max()) for one, other in pairs) < 1e-4
    assert all(float(other.std()) > 1e-3 for _, other in pairs)
    assert not any(isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d) for module in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_network_in_training_is_folded_by_its_running_statistics():
    torch.manual_seed(0)
    network = networks()["classifier, batch"].train()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        folded = fold_batch_norm(network)
        assert network.training
        assert not folded.training
        assert torch.allclose(folded(image), network.eval()(image), atol=1e-4)
