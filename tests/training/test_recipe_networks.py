import numpy as np
import pytest
import torch

from jcs_ct.checkpoints import load_checkpoint
from jcs_ct.checkpoints.format import as_stored
from jcs_ct.errors import ConfigError
from jcs_ct.models.comparison.unet import UNet
from jcs_ct.training.classifier_task import recipe_classifier
from jcs_ct.training.recipe import Recipe, changed
from jcs_ct.training.segmenter_task import recipe_segmenter
from jcs_ct.training.training_run import train
from jcs_ct.training.training_tasks import make_task

TINY = {
    "task": "segmenter",
    "preprocessing": {"size": 64, "channels": 1, "mean": [0.45], "std": [0.3]},
    "optimiser": {"name": "adamw", "learning_rate": 1e-3, "gradient_clip": 1.0},
    "steps": 2,
    "batch_size": 2,
    "validate_every": 2,
}
SMALL = {"in_channels": 1, "width": 1 / 32}


def tiny(preset, **more) -> Recipe:
    size = 128 if "poolnet" in preset else 64
    preprocessing = TINY["preprocessing"] | {"size": size}
    return Recipe.model_validate(TINY | {"preset": preset, "network": SMALL, "preprocessing": preprocessing} | more)


def test_a_change_of_a_preset_reaches_nested_fields():
    network, config = recipe_segmenter(
        Recipe(task="segmenter", preset="compact", network={"enhanced_features": False, "encoder": {"norm": "none"}})
    )
    assert config["enhanced_features"] is False
    assert network.config.encoder.norm == "none"
    assert network.config.encoder.in_channels == 1
    trunk = {"backbone": {"blocks": [1, 1, 1, 1]}}
    assert recipe_classifier(Recipe(task="classifier", preset="compact", network=trunk)).config.backbone.blocks == (
        1,
        1,
        1,
        1,
    )


def test_unknown_fields_and_presets_are_named():
    with pytest.raises(ConfigError, match=r"network\.a\.x; there are y"):
        changed({"a": {"y": 1}}, {"a": {"x": 1}})
    with pytest.raises(ConfigError, match=r"unknown field\(s\) network.breadth; there are .*width"):
        recipe_segmenter(Recipe(task="segmenter", preset="unet", network={"breadth": 2}))
    with pytest.raises(ConfigError, match=r"unknown preset 'vnet' for a segmenter; known: .*unet"):
        recipe_segmenter(Recipe(task="segmenter", preset="vnet"))
    with pytest.raises(ConfigError, match="network: width must be above 0"):
        recipe_segmenter(Recipe(task="segmenter", preset="unet", network={"width": 0}))


@pytest.mark.parametrize(
    ("preset", "change", "problem"),
    [
        ("unet", {"network": {"width": 1 / 32}}, r"\(N, 3, H, W\), got \(1, 1, 64, 64\).*preprocessing.channels"),
        ("compact", {"network": {"encoder": {"in_channels": 3}}}, r"\(N, 3, H, W\)"),
        ("poolnet-resnet50-scratch", {"preprocessing": TINY["preprocessing"]}, "at least 128x128 pixels, got 64x64"),
    ],
)
def test_slices_that_do_not_fit_the_network_are_refused_before_the_run(preset, change, problem):
    with pytest.raises(ConfigError, match=problem):
        make_task(tiny(preset, **change))
    with pytest.raises(ConfigError, match="do not fit the preset 'paper'"):
        make_task(Recipe(task="classifier", preset="paper", preprocessing={"channels": 1, "mean": [0], "std": [1]}))


def test_looking_whether_slices_fit_changes_nothing_of_a_network():
    task = make_task(tiny("unet"))
    assert all(module.training for module in task.network.modules())
    alone = make_task(tiny("unet", seed=0)).network.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn, _ = recipe_segmenter(tiny("unet"))
    for name, value in drawn.state_dict().items():
        assert torch.equal(value, alone[name]), name


@pytest.mark.parametrize("preset", ["unet", "dss-vgg16-scratch", "poolnet-resnet50-scratch", "egnet-vgg16-scratch"])
def test_comparison_networks_train_and_come_back_from_disk(preset, drawn_slices, tmp_path):
    recipe = tiny(preset)
    state = train(make_task(recipe), recipe, drawn_slices, tmp_path)
    ready = load_checkpoint(tmp_path / "last.safetensors")
    trained, stored = as_stored(state.network.state_dict()), ready.network.state_dict()
    assert stored.keys() == trained.keys()
    for name, weight in stored.items():
        assert torch.equal(weight, trained[name].to(weight.dtype)), name
    image = torch.zeros(1, 1, recipe.preprocessing.size, recipe.preprocessing.size)
    state.network.load_state_dict(stored)
    state.network.eval()
    with torch.no_grad():
        np.testing.assert_allclose(ready.network.predict(image), state.network.predict(image), atol=1e-5)
    assert isinstance(ready.network, UNet) == (preset == "unet")


@pytest.mark.parametrize("preset", ["dss-vgg16-scratch", "poolnet-vgg16-scratch", "egnet-resnet50-scratch"])
def test_the_published_losses_train_too(preset, drawn_slices, tmp_path):
    recipe = tiny(preset, loss="published", batch_size=2, accumulate=2, steps=1)
    assert train(make_task(recipe), recipe, drawn_slices, tmp_path).step == 1


def test_there_is_no_published_loss_for_the_others():
    with pytest.raises(ConfigError, match="DSS, PoolNet and EGNet only"):
        make_task(tiny("unet", loss="published"))
