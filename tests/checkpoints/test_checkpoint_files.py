import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from jcs_ct.checkpoints import CheckpointInfo, load_checkpoint, load_models, read_info, save_checkpoint
from jcs_ct.errors import CheckpointError
from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

PREPROCESSOR = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,), body_crop=True)
POINT = OperatingPoint(0.4, 25, 1.0, 0.55)


def write_classifier(path, *, half=True, point=POINT):
    torch.manual_seed(0)
    config = classifier_preset("compact")
    network = build_classifier(config).eval()
    info = CheckpointInfo("classifier", "compact", config.to_dict(), PREPROCESSOR, point, {"data": "none"})
    save_checkpoint(path, network, info, half=half)
    return network


def test_a_network_comes_back_as_it_was(tmp_path):
    path = tmp_path / "c.safetensors"
    network = write_classifier(path, half=False)
    ready = load_checkpoint(path)
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ready.network(images), network(images))
    assert ready.preprocessor == PREPROCESSOR
    assert (ready.task, ready.preset) == ("classifier", "compact")
    assert read_info(path).operating_point == POINT
    assert read_info(path).provenance == {"data": "none"}


def test_half_precision_changes_logits_by_little(tmp_path):
    path = tmp_path / "c.safetensors"
    network = write_classifier(path)
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(load_checkpoint(path).network(images), network(images), atol=2e-2)


def test_models_need_an_operating_point(tmp_path):
    write_classifier(tmp_path / "classifier.safetensors", point=None)
    with pytest.raises(CheckpointError, match=r"no segmenter\.safetensors; make a folder of both networks"):
        load_models(tmp_path)
    (tmp_path / "segmenter.safetensors").write_bytes(b"")  # not looked into before the classifier is right
    with pytest.raises(CheckpointError, match="has no operating point; choose one on validation patients"):
        load_models(tmp_path)


def test_a_folder_of_models_loads(tmp_path):
    write_classifier(tmp_path / "classifier.safetensors")
    config = segmenter_preset("compact-joint")
    info = CheckpointInfo("segmenter", "compact-joint", config.to_dict(), PREPROCESSOR)
    save_checkpoint(tmp_path / "segmenter.safetensors", build_segmenter(config), info)
    models = load_models(tmp_path)
    assert models.operating_point == POINT
    assert models.segmenter.preset == "compact-joint"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"c\.safetensors: no such checkpoint"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_of_a_folder_the_checkpoints_in_it_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"is a folder.*; give a checkpoint \(\.safetensors\)"):
        load_checkpoint(tmp_path)
    for task in ("classifier", "segmenter"):
        (tmp_path / f"{task}.safetensors").touch()
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(tmp_path)
    files = " or ".join(str(tmp_path / f"{task}.safetensors") for task in ("classifier", "segmenter"))
    assert str(refused.value) == f"{tmp_path} is a folder, and a checkpoint is a file; give {files}"


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    write_classifier(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"not a readable safetensors file .* truncated"):
        load_checkpoint(path)


def test_a_foreign_file_is_pointed_to_the_importer(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not written by jcs-ct; see `jcs weights import"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_keys_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "c.safetensors"
    write_classifier(path)
    tensors = load_file(path)
    names = sorted(tensors)
    tensors["stray"] = tensors.pop(names[0])
    tensors[names[1]] = torch.zeros(3, 3, 3, 3, 3)
    info = read_info(path)
    metadata = {
        "format_version": 1,
        "task": info.task,
        "preset": info.preset,
        "config": info.config,
        "preprocessor": info.preprocessor.to_dict(),
        "operating_point": None,
        "provenance": {},
    }
    save_file(tensors, path, metadata={"jcs_ct": json.dumps(metadata)})
    with pytest.raises(CheckpointError, match=r"(?s)missing \(1\).*unexpected \(1\): stray.*mis-shaped \(1\)"):
        load_checkpoint(path)


def test_a_newer_format_asks_for_an_update(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={"jcs_ct": json.dumps({"format_version": 99})})
    with pytest.raises(CheckpointError, match="written in format 99, this version reads up to 1; update jcs-ct"):
        read_info(path)


def test_a_threshold_means_the_same_length_of_lung():
    point = OperatingPoint(positive_slice_threshold=25, reference_spacing_mm=1.0)
    assert [point.threshold_for(spacing) for spacing in (1.0, 2.0, 5.0, 100.0, None)] == [25, 12, 5, 1, 25]
    assert OperatingPoint(positive_slice_threshold=18).threshold_for(5.0) == 18


def test_shipped_weights_load_and_stay_small():
    models = load_models("compact")
    size = sum(
        parameter.numel()
        for ready in (models.classifier, models.segmenter)
        for parameter in ready.network.parameters()
    )
    assert size <= 8_000_000
    assert 0 < models.operating_point.slice_probability < 1
