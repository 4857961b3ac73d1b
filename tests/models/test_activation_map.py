"""The closed form against autograd, and its own gradient in double precision."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.models.activation_map import activation_map_from_features, normalise_map
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.res2net import Res2NetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ClassifierConfig(
    Res2NetConfig(in_channels=1, stem_channels=(4, 4, 8), planes=(8, 8, 8, 8), blocks=(1, 2, 1, 1), base_width=32)
)


def small_classifier(seed: int, dtype: torch.dtype = torch.float64) -> Classifier:
    """A head whose rows pull both ways, so that neither variant's map is empty for either class."""
    torch.manual_seed(seed)
    network = Classifier(SMALL).to(dtype).eval()
    with torch.no_grad():
        for row, phase in enumerate((0, 1)):
            network.head.weight[row] = torch.where(torch.arange(32) % 2 == phase, 1.0, -0.3) * (0.5 + torch.rand(32))
    return network


def by_autograd(network: Classifier, images: Tensor, target: int, variant: str) -> Tensor:
    """Eq. 1-2 as printed: a backward pass to the features, then the mean over pixels."""
    features = network.features(images)[-1].detach().requires_grad_()
    logits = network.head_logits(features)
    score = torch.softmax(logits, dim=1) if variant == "paper" else logits
    (gradient,) = torch.autograd.grad(score[:, target].sum(), features)
    weighted = gradient.mean(dim=(2, 3), keepdim=True) * features
    summed = F.relu(weighted).sum(1, keepdim=True) if variant == "paper" else F.relu(weighted.sum(1, keepdim=True))
    return summed.detach()


@pytest.mark.parametrize("variant", ["paper", "grad_cam"])
@pytest.mark.parametrize("target", [0, 1])
def test_the_closed_form_is_autograds(variant, target):
    network = small_classifier(0)
    images = torch.rand(3, 1, 96, 64, dtype=torch.float64)
    got = network.activation_map(images, target, variant=variant).detach()
    expected = by_autograd(network, images, target, variant)
    assert got.shape == (3, 1, 3, 2)
    assert float(expected.max()) > 0
    assert float(((got - expected).abs() / expected.abs().max()).max()) < 1e-10


@pytest.mark.parametrize("variant", ["paper", "grad_cam"])
def test_the_closed_form_is_autograds_in_single_precision(variant):
    network = small_classifier(1, torch.float32)
    images = torch.rand(2, 1, 64, 64)
    got = network.activation_map(images, 1, variant=variant).detach()
    assert float((got - by_autograd(network, images, 1, variant)).abs().max()) < 1e-5


def test_it_stays_exact_where_the_network_is_sure():
    """p is 1 in single precision there; its complement, and so the map, is not 0."""
    features, weight = torch.rand(1, 32, 2, 2), torch.randn(2, 32)
    logits = torch.tensor([[-12.0, 12.0]])
    got = activation_map_from_features(features, logits, weight, 1)
    exact = activation_map_from_features(features.double(), logits.double(), weight.double(), 1)
    assert float(((got - exact).abs() / exact).max()) < 1e-4


def test_every_slice_may_have_its_own_target():
    network = small_classifier(0, torch.float32)
    images = torch.rand(2, 1, 64, 64)
    both = network.activation_map(images, torch.tensor([0, 1]))
    assert torch.equal(both[0], network.activation_map(images, 0)[0])
    assert torch.equal(both[1], network.activation_map(images, 1)[1])


@pytest.mark.parametrize("variant", ["paper", "grad_cam"])
def test_its_gradient_with_respect_to_the_weights_is_right(variant):
    """gradcheck compares with finite differences: the head's and a convolution's weights, through the map."""
    network = small_classifier(0)
    images = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    names = ("head.weight", "backbone.layer4.0.conv3.weight")
    values = tuple(network.get_parameter(name).detach().clone()[:, :2].requires_grad_() for name in names)

    def mapped(*changed: Tensor) -> Tensor:
        whole = {
            name: torch.cat([part, network.get_parameter(name).detach()[:, 2:]], dim=1)
            for name, part in zip(names, changed, strict=True)
        }
        stages = torch.func.functional_call(
            network.backbone,
            {"layer4.0.conv3.weight": whole["backbone.layer4.0.conv3.weight"]},
            (images,),
        )
        logits = F.linear(stages[-1].mean(dim=(2, 3)), whole["head.weight"], network.head.bias)
        return activation_map_from_features(stages[-1], logits, whole["head.weight"], 1, variant=variant)

    assert float(mapped(*values).detach().max()) > 0
    assert torch.autograd.gradcheck(mapped, values, eps=1e-6, atol=1e-6)


def test_it_trains_the_weights():
    network = small_classifier(0, torch.float32).train()
    network.activation_map(torch.rand(2, 1, 64, 64), 1).mean().backward()
    assert all(
        float(network.get_parameter(name).grad.abs().max()) > 0 for name in ("head.weight", "backbone.conv1.0.weight")
    )


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant must be one of paper, grad_cam, got 'cam'"):
        activation_map_from_features(torch.rand(1, 2, 3, 3), torch.rand(1, 2), torch.rand(2, 2), 1, variant="cam")


def test_normalised_maps_lie_between_0_and_1():
    maps = torch.stack([torch.arange(6.0).reshape(1, 2, 3), torch.full((1, 2, 3), 4.0)])
    normalised = normalise_map(maps)
    assert normalised[0].flatten().tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert normalised[1].abs().max() == 0


@pytest.mark.parametrize("gap", [10.0, 30.0, 60.0, -30.0])
def test_a_network_that_is_sure_keeps_its_map(gap):
    generator = torch.Generator().manual_seed(0)
    features, weight = torch.rand(1, 6, 5, 4, generator=generator), torch.randn(2, 6, generator=generator)
    unsure, sure = torch.zeros(1, 2), torch.tensor([[0.0, gap]])
    expected = normalise_map(activation_map_from_features(features, unsure, weight, 1))
    raw = activation_map_from_features(features, sure.requires_grad_(), weight, 1)
    found = normalise_map(raw)
    assert float(found.detach().max()) == 1.0
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    assert sure.grad is not None
    assert torch.isfinite(sure.grad).all()


@pytest.mark.parametrize("value", [0.0, 1e-38, 0.3, 4e7])
def test_a_constant_map_is_empty_whatever_its_value(value):
    plane = torch.full((1, 1, 3, 3), value)
    assert float(normalise_map(plane).abs().max()) == 0.0
    rounded = plane * (1.0 + 1e-7 * torch.arange(9).reshape(1, 1, 3, 3) / 9.0)
    assert float(normalise_map(rounded).abs().max()) == 0.0
