"""Starting networks from weights: whole checkpoints, ImageNet parts, and `auto`."""

import hashlib
import urllib.error
import urllib.request
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint, start_from
from jcs_ct.checkpoints.fetching import ADDRESSES, fetch
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.presets import classifier_preset, segmenter_preset
from jcs_ct.models.res2net import Res2Net, Res2NetConfig
from jcs_ct.models.segmenter import CombinationConfig, Segmenter, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig, VGGEncoder
from jcs_ct.preprocessing import SlicePreprocessor

pytestmark = pytest.mark.usefixtures("one_thread")

ENCODER = VGGConfig(channels=(8, 8, 16, 16, 16), norm="batch")
TRUNK = Res2NetConfig(stem_channels=(4, 4, 8), planes=(8, 8, 8, 8), blocks=(1, 1, 1, 1))


@pytest.fixture
def saved(tmp_path):
    """Task, network, preset -> file."""

    def save(task: str, network: nn.Module, config: dict, preset: str = "small"):
        torch.manual_seed(3)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        path = tmp_path / f"{task}.safetensors"
        save_checkpoint(path, network, CheckpointInfo(task, preset, config, SlicePreprocessor()), half=False)
        return path

    return save


@pytest.fixture
def encoder_file(saved):
    torch.manual_seed(1)
    network = VGGEncoder(ENCODER)
    return saved("encoder", network, asdict(ENCODER)), network.eval()


def segmenter(encoder: VGGConfig, **fields) -> Segmenter:
    return Segmenter(SegmenterConfig(encoder, **fields)).eval()


@pytest.mark.parametrize("wanted", [{}, {"norm": "frozen", "norm_eps": 0.0}, {"norm": "none"}])
@torch.no_grad()
def test_an_encoder_computes_the_same_under_every_kind_of_norm(wanted, encoder_file):
    path, donor = encoder_file
    network = segmenter(replace(ENCODER, **wanted, pool_before_block5=False))
    head = network.side_heads[0].weight.clone()
    filled = start_from(network, path)
    image = torch.randn(1, 3, 32, 32)
    got, expected = network.encoder.first_block(image), donor.first_block(image)
    assert float(expected.std()) > 1e-3
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.allclose(network.encoder(image)[3], donor(image)[3], atol=1e-5)
    assert (filled.part, filled.origin) == ("encoder", "encoder.safetensors")
    assert torch.equal(network.side_heads[0].weight, head), "only the encoder is filled"


def test_an_encoder_without_norm_does_not_fill_one_with(saved):
    plain = replace(ENCODER, norm="none")
    path = saved("encoder", VGGEncoder(plain), asdict(plain))
    with pytest.raises(
        CheckpointError, match="its VGG-16 has no BatchNorm, this network's has; import torchvision-vg"
    ):
        start_from(segmenter(ENCODER), path)


@torch.no_grad()
def test_a_trunk_fills_a_classifier_and_a_joint_segmenter(saved):
    torch.manual_seed(1)
    donor = Res2Net(TRUNK)
    path = saved("trunk", donor, asdict(TRUNK))
    frozen = replace(TRUNK, norm="frozen", norm_eps=0.0)
    classifier = Classifier(ClassifierConfig(frozen)).eval()
    joint = segmenter(ENCODER, combination=CombinationConfig(backbone=TRUNK))
    image, donor = torch.randn(1, 3, 64, 64), donor.eval()
    for network in (classifier, joint):
        assert start_from(network, path).part == "trunk"
        assert torch.allclose(network.backbone(image)[-1], donor(image)[-1], atol=1e-4)


def test_a_whole_checkpoint_fills_a_network_of_its_config(saved):
    config = ClassifierConfig(TRUNK)
    donor = Classifier(config)
    path = saved("classifier", donor, config.to_dict())
    network = Classifier(config)
    assert start_from(network, path).part == "whole"
    assert all(torch.equal(value, donor.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_of_another_preset_says_where_it_differs(saved):
    config = ClassifierConfig(TRUNK)
    path = saved("classifier", Classifier(config), config.to_dict(), preset="paper")
    other = replace(config, backbone=replace(TRUNK, norm="frozen", norm_eps=0.0), head_bias=False)
    with pytest.raises(CheckpointError) as caught:
        start_from(Classifier(other), path)
    assert str(caught.value) == (
        f"{path}: a checkpoint of the preset 'paper', whose network is not this one; it differs in "
        "backbone.norm ('batch', here 'frozen'), backbone.norm_eps (1e-05, here 0.0), head_bias (True, here False); "
        "give one of the same preset"
    )


def test_files_without_a_place_are_refused(saved, encoder_file):
    config = ClassifierConfig(TRUNK)
    trunk = saved("trunk", Res2Net(TRUNK), asdict(TRUNK))
    classifier = saved("classifier", Classifier(config), config.to_dict())
    with pytest.raises(CheckpointError, match="holds a VGG encoder, and a classifier has none"):
        start_from(Classifier(config), encoder_file[0])
    with pytest.raises(CheckpointError, match="segmentation alone has no place for one"):
        start_from(segmenter(ENCODER), trunk)
    with pytest.raises(
        CheckpointError, match=r"holds a classifier, this network is a segmenter; a joint .*--classifier"
    ):
        start_from(segmenter(ENCODER), classifier)
    with pytest.raises(
        CheckpointError, match=r"its trunk is not this network's; it differs in planes \(\(8, 8, 8, 8\)"
    ):
        start_from(Classifier(ClassifierConfig(replace(TRUNK, planes=(8, 8, 8, 16)))), trunk)


def test_auto_needs_a_network_that_published_weights_fit():
    with pytest.raises(ConfigError, match="--pretrained auto: no published ImageNet weights fit this network"):
        start_from(Classifier(classifier_preset("compact")), "auto")
    with pytest.raises(ConfigError, match="--pretrained auto: no published ImageNet weights fit this network"):
        start_from(Segmenter(segmenter_preset("compact")), "auto")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (lambda: Classifier(classifier_preset("paper")), "timm-res2net101d"),
        (lambda: Segmenter(segmenter_preset("paper")), "torchvision-vgg16"),
        (lambda: Segmenter(segmenter_preset("official-joint")), "torchvision-vgg16_bn"),
    ],
)
def test_auto_without_a_network_says_what_to_do(network, name, cache, monkeypatch):
    def offline(address: str, timeout: float):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with torch.device("meta"):
        built = network()
    with pytest.raises(CheckpointError) as caught:
        start_from(built, "auto")
    assert str(caught.value) == (
        f"cannot download {ADDRESSES[name]} (Network is unreachable); without a network, fetch it elsewhere, "
        f"import it with `jcs weights import FILE --as {name} -o OUT.safetensors`, and give OUT.safetensors to "
        "--pretrained"
    )
    assert not list(cache.glob("*"))


def test_a_file_in_the_cache_is_used_and_its_hash_is_checked(cache, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("nothing is to be downloaded"))
    content = b"weights"
    beginning = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(ADDRESSES, "torchvision-vgg16", f"https://example.org/vgg16-{beginning}.pth")
    cache.mkdir()
    path = cache / f"vgg16-{beginning}.pth"
    path.write_bytes(content)
    assert fetch("torchvision-vgg16") == path
    path.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=rf"its SHA-256 begins with \w{{8}}, expected {beginning}; remove it"):
        fetch("torchvision-vgg16")
