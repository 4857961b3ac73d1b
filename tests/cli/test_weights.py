"""`jcs weights`: what it prints, and what it refuses."""

import json

import pytest
import torch
from typer.testing import CliRunner

from jcs_ct.checkpoints import CheckpointInfo, import_weights, save_checkpoint
from jcs_ct.cli import app
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.models.presets import build_classifier, classifier_preset
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

pytestmark = pytest.mark.usefixtures("one_thread")


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def test_show_says_what_a_checkpoint_is(tmp_path):
    config = classifier_preset("compact")
    point = OperatingPoint(slice_probability=0.4, positive_slice_threshold=25)
    info = CheckpointInfo("classifier", "compact", config.to_dict(), SlicePreprocessor(), point, {"data": "drawn"})
    save_checkpoint(tmp_path / "c.safetensors", build_classifier(config), info)
    lines = invoke("show", tmp_path / "c.safetensors").output.splitlines()
    assert lines[0].startswith("jcs-ct checkpoint, 284 entries (")
    assert lines[2:] == [
        "network             classifier of the preset compact",
        "input               224 x 224, 3 channel(s)",
        "operating point     slice >= 0.4, patient > 25 slices",
        "data                drawn",
    ]
    facts = json.loads(invoke("show", tmp_path / "c.safetensors", "--json").output)
    assert facts["shapes"]["head.weight"] == [2, 512]


def test_show_counts_what_is_wrong_with_a_foreign_file(tmp_path):
    torch.save({"module.fc.weight": torch.zeros(2, 2048)}, tmp_path / "x.pth")
    output = invoke("show", tmp_path / "x.pth").output
    assert "fits best           official-classifier (the JCS authors' classifier): 860 missing" in output
    assert "prefix              module. (DataParallel)" in output


@pytest.mark.slow
def test_import_writes_a_checkpoint_and_says_what_it_left_out(published_shapes, seeded_state, tmp_path):
    shapes = {**published_shapes["official-classifier"], "fc.weight": [1000, 2048], "fc.bias": [1000]}
    torch.save(seeded_state(shapes), tmp_path / "v1b.pth")
    output = tmp_path / "trunk.safetensors"
    done = invoke("import", tmp_path / "v1b.pth", "--as", "timm-res2net101d", "-o", output, "--json")
    facts = json.loads(done.output)
    assert (facts["task"], facts["entries"], facts["left_out"]) == ("trunk", 1032, ["fc.weight", "fc.bias"])
    assert "task" in json.loads(invoke("show", output, "--json").output)
    before = output.read_bytes()
    again = ("import", tmp_path / "v1b.pth", "--as", "timm-res2net101d", "-o", output)
    assert "is there already; name another place, or give --overwrite" in str(invoke(*again).exception)
    assert output.read_bytes() == before
    assert invoke(*again, "--overwrite").exit_code == 0


def test_import_refuses_before_it_writes(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pth")
    done = invoke("import", tmp_path / "x.pth", "--as", "official-joint", "-o", tmp_path / "out.pth")
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == "--output must end in .safetensors, got 'out.pth'"
    done = invoke("import", tmp_path / "x.pth", "--as", "official-joint", "-o", tmp_path / "out.safetensors")
    assert isinstance(done.exception, CheckpointError)
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(CheckpointError, match="missing"):
        import_weights(tmp_path / "x.pth", "official-joint")
