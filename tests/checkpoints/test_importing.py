"""Published files in, checkpoints out: strict key by key, and every wrong file says what is wrong."""

import os
import pickle
import random
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from jcs_ct.checkpoints import (
    PUBLISHED,
    CheckpointInfo,
    import_weights,
    load_checkpoint,
    read_info,
    save_checkpoint,
    write_imported,
)
from jcs_ct.checkpoints.foreign_files import read_foreign
from jcs_ct.checkpoints.format import read_network
from jcs_ct.checkpoints.weights_facts import describe_weights
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.models.presets import build_classifier, classifier_preset
from jcs_ct.models.res2net import Res2Net
from jcs_ct.models.vgg import VGGEncoder
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

pytestmark = pytest.mark.usefixtures("one_thread")

#: Where torchvision's `features` has its convolutions.
VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def torchvision_shapes(*, with_norm: bool) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for number, position in enumerate(VGG16_BN if with_norm else VGG16):
        before, width = WIDTHS[number], WIDTHS[number + 1]
        shapes[f"features.{position}.weight"] = [width, before, 3, 3]
        shapes[f"features.{position}.bias"] = [width]
        if with_norm:
            for kind in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"features.{position + 1}.{kind}"] = [width]
            shapes[f"features.{position + 1}.num_batches_tracked"] = []
    # The heads are left out whatever their size; these are small.
    return {**shapes, "classifier.0.weight": [4, 2], "classifier.0.bias": [4]}


@pytest.mark.parametrize("name", ["official-segmentation", "official-joint", "official-classifier"])
def test_every_published_name_has_its_place(name, published_shapes):
    published = PUBLISHED[name]
    expected = {there: tuple(shape) for there, shape in published_shapes[name].items()}
    counters = {there: shape for there, shape in expected.items() if there.endswith("num_batches_tracked")}
    assert {**published.expected, **counters} == expected
    assert set(published.counters) == set(counters)
    assert len(set(published.names.values())) == len(published.names)


@pytest.mark.parametrize("with_norm", [True, False])
def test_torchvision_names_have_their_place(with_norm):
    published = PUBLISHED["torchvision-vgg16_bn" if with_norm else "torchvision-vgg16"]
    shapes = torchvision_shapes(with_norm=with_norm)
    assert dict(published.expected) == {
        name: tuple(shape)
        for name, shape in shapes.items()
        if name.startswith("features.") and not name.endswith("num_batches_tracked")
    }


def test_timm_names_are_the_published_trunks(published_shapes):
    trunk = {name: tuple(shape) for name, shape in published_shapes["official-classifier"].items()}
    del trunk["fc.weight"]
    assert dict(PUBLISHED["timm-res2net101d"].expected) == trunk


def test_an_encoder_comes_through_a_checkpoint_as_it_was(seeded_state, tmp_path):
    """vgg16 of torchvision, computed here layer by layer from its own names."""
    state = seeded_state(torchvision_shapes(with_norm=False))
    save_file(state, tmp_path / "vgg16.safetensors")
    imported = import_weights(tmp_path / "vgg16.safetensors", "torchvision-vgg16")
    write_imported(imported, tmp_path / "encoder.safetensors")
    with pytest.raises(
        CheckpointError, match=r"encoder\.safetensors holds the encoder, a part of a network that training"
    ):
        load_checkpoint(tmp_path / "encoder.safetensors")
    _, encoder = read_network(tmp_path / "encoder.safetensors")
    assert isinstance(encoder, VGGEncoder)
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        got = encoder(x)[-1]
        for position in range(30):  # up to the ReLU of conv5_3; what is no convolution here is a ReLU or a pool
            if position in VGG16:
                x = torch.conv2d(
                    x, state[f"features.{position}.weight"], state[f"features.{position}.bias"], padding=1
                )
            elif position - 1 in VGG16:
                x = x.relu()
            else:
                x = torch.max_pool2d(x, 2)
    assert float(x.std()) > 1e-3
    assert torch.equal(got, x)
    assert set(imported.left_out) == {"classifier.0.weight", "classifier.0.bias"}


def test_a_trunk_drops_its_head_and_gets_its_counters(published_shapes, seeded_state, tmp_path):
    shapes = {**published_shapes["official-classifier"], "fc.weight": [10, 2048], "fc.bias": [10]}
    state = {f"module.{name}": value for name, value in seeded_state(shapes).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "v1b.pth")
    imported = import_weights(tmp_path / "v1b.pth", "timm-res2net101d")
    assert isinstance(imported.network, Res2Net)
    assert imported.left_out == ("fc.weight", "fc.bias")
    assert imported.counters_added == 172
    assert imported.info.provenance["wrapped_in"] == "state_dict"
    assert imported.info.provenance["data_parallel_prefix"] is True
    assert int(imported.network.bn1.num_batches_tracked) == 0
    assert torch.equal(imported.network.conv1[0].weight, state["module.conv1.0.weight"])


def test_counters_of_frozen_norms_are_left_out_and_stray_ones_are_not(published_shapes, seeded_state, tmp_path):
    shapes = published_shapes["official-segmentation"]
    state = seeded_state({name: [1] if len(shape) > 1 else shape for name, shape in shapes.items()})
    state["vgg16.conv1_1.bn.num_batches_tracked"] = torch.tensor(3)
    state["vgg16.conv9_9.bn.num_batches_tracked"] = torch.tensor(3)
    torch.save(state, tmp_path / "s.pth")
    with pytest.raises(CheckpointError, match=r"unexpected \(1\): vgg16\.conv9_9\.bn\.num_batches_tracked\n"):
        import_weights(tmp_path / "s.pth", "official-segmentation")


@pytest.fixture(scope="module")
def classifier_file(published_shapes, seeded_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "classifier.pth"
    torch.save(seeded_state(published_shapes["official-classifier"]), path)
    return path


def test_the_official_classifier_brings_its_preprocessing_and_its_rule(classifier_file, tmp_path):
    write_imported(import_weights(classifier_file, "official-classifier"), tmp_path / "c.safetensors")
    info = read_info(tmp_path / "c.safetensors")
    assert (info.task, info.preset) == ("classifier", "official")
    assert info.operating_point == OperatingPoint(slice_probability=0.5, positive_slice_threshold=18)
    assert info.preprocessor == SlicePreprocessor(
        size=224, centre_share=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert info.provenance["file"] == "classifier.pth"
    facts = describe_weights(tmp_path / "c.safetensors")
    assert (facts["kind"], facts["entries"], facts["dtypes"]) == ("jcs-ct checkpoint", 861, {"float32": 861})


def test_another_networks_file_names_the_format_that_fits(classifier_file):
    with pytest.raises(CheckpointError) as caught:
        import_weights(classifier_file, "official-segmentation")
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        f"{classifier_file}: not official-segmentation (the JCS authors' segmentation branch, trained alone):"
    )
    assert lines[1].startswith("  missing (218): vgg16.conv1_1.conv.weight, vgg16.conv1_1.conv.bias, ")
    assert lines[2].startswith("  unexpected (861): conv1.0.weight, conv1.1.weight, ")
    assert lines[3] == "  it fits official-classifier, every key: use --as official-classifier"


def test_a_foreign_file_is_described_with_the_format_that_fits(classifier_file):
    facts = describe_weights(classifier_file)
    assert facts["kind"] == "foreign weights"
    assert facts["best_fit"]["format"] == "official-classifier"
    assert facts["best_fit"]["missing"] == facts["best_fit"]["unexpected"] == facts["best_fit"]["mis_shaped"] == []


def test_single_wrong_keys_are_listed_by_kind(classifier_file, tmp_path):
    state = torch.load(classifier_file, weights_only=True)
    state["fc.bias"] = torch.zeros(2)
    state["fc.weight"] = torch.zeros(3, 2048)
    del state["bn1.bias"]
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(CheckpointError) as caught:
        import_weights(tmp_path / "c.pth", "official-classifier")
    assert str(caught.value).splitlines()[1:] == [
        "  missing (1): bn1.bias",
        "  unexpected (1): fc.bias",
        "  mis-shaped (1): fc.weight is (3, 2048), expected (2, 2048)",
        "  no other format fits better; 859 of 861 keys are right",
    ]


def test_values_that_give_no_finite_logit_are_refused(classifier_file, tmp_path):
    state = torch.load(classifier_file, weights_only=True)
    state["bn1.running_var"][:3] = 0
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(CheckpointError) as caught:
        import_weights(tmp_path / "c.pth", "official-classifier")
    assert str(caught.value).splitlines()[1:] == [
        "  fc.weight has values that are not finite",
        "  bn1.running_var has 3 variance(s) that are not above 0 (eps is 0)",
    ]


class Payload:
    """Unpickled by a careless reader, it leaves a file."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("protocol", [2, 4, None])
def test_code_in_a_pickle_is_not_run(protocol, tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "evil.pth"
    content = {"state_dict": Payload(str(trace))}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(
        CheckpointError, match=r"evil\.pth: it holds objects other than tensors, .* that is never done \("
    ):
        import_weights(path, "official-joint")
    with pytest.raises(CheckpointError, match="objects other than tensors"):
        describe_weights(path)
    with pytest.raises(CheckpointError, match=r"not a readable safetensors file"):
        load_checkpoint(path)
    assert not trace.exists()


def test_truncated_files_say_so(tmp_path):
    save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "zip.pth")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in (tmp_path / "a.safetensors", tmp_path / "zip.pth", tmp_path / "old.pth"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(CheckpointError, match=f"{re.escape(str(path))}: .* it may be truncated, fetch it again"):
            import_weights(path, "official-joint")


@pytest.mark.parametrize("zipped", [True, False])
def test_changed_bytes_never_end_in_anything_but_tensors_or_a_checkpoint_error(zipped, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": {"a.b": torch.zeros(3, 4)}}, path, _use_new_zipfile_serialization=zipped)
    good, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(good[: generator.randrange(len(good) // 2, len(good) + 1)])
        changed[generator.randrange(len(changed))] = generator.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            read_foreign(path)
        except CheckpointError:
            refused += 1
    assert refused > 30


def test_what_is_no_state_dict_is_named(tmp_path):
    torch.save({"epoch": 3, "net": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"expected a state dict .*; got a mapping with the keys epoch, net$"):
        import_weights(tmp_path / "a.pth", "official-joint")
    torch.save([torch.zeros(2)], tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"got list$"):
        import_weights(tmp_path / "b.pth", "official-joint")
    torch.save({"a": torch.zeros(2)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="no key of it is known to any format"):
        import_weights(tmp_path / "c.pth", "official-joint")
    with pytest.raises(CheckpointError, match=r"d\.pth: no such weights file"):
        import_weights(tmp_path / "d.pth", "official-joint")


def test_an_unknown_format_and_an_own_checkpoint_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no published format 'vgg'; known: official-segmentation, official-joint"):
        import_weights(tmp_path / "a.pth", "vgg")
    config = classifier_preset("compact")
    info = CheckpointInfo("classifier", "compact", config.to_dict(), SlicePreprocessor())
    save_checkpoint(tmp_path / "own.safetensors", build_classifier(config), info)
    with pytest.raises(CheckpointError, match="already a checkpoint of jcs-ct, it needs no import"):
        import_weights(tmp_path / "own.safetensors", "official-classifier")
    assert len(load_file(tmp_path / "own.safetensors")) == 284


def test_a_checkpoint_of_an_unknown_task_asks_for_an_update(tmp_path):
    config = classifier_preset("compact")
    info = CheckpointInfo("detector", "compact", config.to_dict(), SlicePreprocessor())
    save_checkpoint(tmp_path / "own.safetensors", build_classifier(config), info)
    with pytest.raises(CheckpointError, match="its task 'detector' is none of classifier, segmenter, trunk, encoder"):
        load_checkpoint(tmp_path / "own.safetensors")
