"""int8 where the answer allows: groups of layers, what is judged, and which groups stay in fp32."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jcs_ct.engine import mixed_precision as module
from jcs_ct.engine.execution import is_installed
from jcs_ct.engine.exporting import export_network
from jcs_ct.engine.graphs import graph_of
from jcs_ct.engine.mixed_precision import JudgingSlices, mixed_precision
from jcs_ct.engine.onnx_graph import onnx_bytes
from jcs_ct.engine.quantisation import layer_groups
from jcs_ct.errors import BackendError

needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed (optional)")
needs_nncf = pytest.mark.skipif(not is_installed("int8"), reason="nncf is not installed (optional)")
IMAGES = np.zeros((3, 1, 2, 2), np.float32)


def test_a_classifier_is_judged_by_verdicts_in_each_source():
    judging = JudgingSlices(IMAGES, ("a", "a", "b"), cut=0.5)
    exact, found = np.array([0.4, 0.6, 0.5], "f4"), np.array([0.6, 0.7, 0.49], "f4")
    assert judging.changes(exact, found) == {"a": 0.5, "b": 1.0}
    assert judging.measure == "share of slice verdicts changed"


def test_a_segmenter_is_judged_by_mean_dice_in_each_source():
    masks = np.ones((3, 2, 2), bool)
    judging = JudgingSlices(IMAGES, ("a", "b", "b"), cut=0.4, masks=masks)
    exact, found = np.full((3, 2, 2), 0.4, "f4"), np.full((3, 2, 2), 0.4, "f4")
    found[1, 0] = 0.39
    assert judging.changes(exact, found) == pytest.approx({"a": 0.0, "b": (2 / 3 - 1) / 2})


def test_judging_slices_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 judging slices, 2 sources"):
        JudgingSlices(IMAGES, ("a", "b"), cut=0.5)
    with pytest.raises(ValueError, match=r"masks must be one a slice on its grid, got \(3, 4, 4\)"):
        JudgingSlices(IMAGES, ("a", "a", "b"), cut=0.5, masks=np.zeros((3, 4, 4), bool))


@needs_openvino
def test_groups_are_stages_and_blocks(tiny):
    classifier, segmenter = tiny("classifier"), tiny("segmenter")
    assert layer_groups(onnx_bytes(graph_of(classifier), classifier.input_shape)) == (
        "backbone/conv1", "backbone/layer1", "backbone/layer2", "backbone/layer3", "backbone/layer4", "head",
    )  # fmt: skip
    groups = layer_groups(onnx_bytes(graph_of(segmenter), segmenter.input_shape))
    assert {"conv1_1", "efm/gam5", "layer1", "combination.4", "decoder/stages.0", "side_heads.0"} <= set(groups)


@pytest.fixture
def stand_ins(monkeypatch):
    """Quantising is put in place of: an int8 group moves every probability by its own harm."""
    harm = {"a/1": 0.01, "b/1": 0.30, "c/1": 0.02, "d/1": 0.10}
    monkeypatch.setattr(module, "onnx_bytes", lambda graph, shape: b"")
    monkeypatch.setattr(module, "layer_groups", lambda onnx: tuple(harm))
    monkeypatch.setattr(module, "quantised_graph", lambda onnx, images, exact=(): frozenset(harm) - set(exact))
    monkeypatch.setattr(module.OpenVINOModel, "from_onnx", lambda onnx, precision: frozenset())
    monkeypatch.setattr(module.OpenVINOModel, "from_graph", lambda graph, precision: graph)
    monkeypatch.setattr(
        module,
        "probabilities_of",
        lambda model, task, images: np.full(len(images), 0.45 + sum(map(harm.get, model)), "f4"),
    )


def test_the_most_harmful_groups_go_back_to_fp32_until_the_limit_holds(stand_ins, tiny):
    judging = JudgingSlices(IMAGES, ("a", "a", "b"), cut=0.5)
    mixed = mixed_precision(tiny("classifier"), IMAGES, judging, largest_change=0.0)
    assert mixed.fp32_groups == ("b/1", "d/1")
    assert mixed.int8_groups == ("a/1", "c/1")
    assert mixed.graph == {"a/1", "c/1"}
    assert mixed.judged == {
        "measure": "share of slice verdicts changed",
        "limit": 0.0,
        "changes": {"a": 0.0, "b": 0.0},
        "slices": {"a": 2, "b": 1},
    }
    loose = mixed_precision(tiny("classifier"), IMAGES, judging, largest_change=1.0)
    assert (loose.fp32_groups, loose.judged["changes"]) == ((), {"a": 1.0, "b": 1.0})


def test_one_group_alone_is_calibrated_on_few_slices(stand_ins, tiny, monkeypatch):
    used = []

    def quantised(onnx, images, exact=()):
        used.append(len(images))
        return {"a/1", "b/1", "c/1", "d/1"} - set(exact)

    monkeypatch.setattr(module, "quantised_graph", quantised)
    judging = JudgingSlices(IMAGES, ("a", "a", "b"), cut=0.5)
    mixed_precision(tiny("classifier"), np.zeros((15, 1, 2, 2), np.float32), judging, largest_change=0.0)
    assert used == [15, 8, 8, 8, 8, 15, 15], "all groups; each alone; without the worst, and the two worst"


def test_a_limit_that_never_holds_is_an_error(stand_ins, tiny):
    judging = JudgingSlices(IMAGES, ("a", "a", "b"), cut=0.455)
    with pytest.raises(BackendError, match=r"int8 changes the classifier's answers .* by more than 0, however many"):
        mixed_precision(tiny("classifier"), IMAGES, judging, largest_change=0.0)


@needs_nncf
@pytest.mark.slow
def test_an_export_says_which_layers_stayed_in_fp32(tiny, hu, cache, tmp_path, monkeypatch):
    ready = tiny("classifier")
    images = np.stack([ready.preprocessor(plane)[0] for plane in hu])
    judging = JudgingSlices(images, ("a",) * 5, cut=0.5)
    changes = iter([{"a": 1.0}, {"a": 0.0}])
    monkeypatch.setattr(JudgingSlices, "changes", lambda *_: next(changes))
    exported = export_network(ready, tmp_path / "net.xml", "openvino", calibration=images, judging=judging)
    facts = json.loads((tmp_path / "net.json").read_text())["mixed_precision"]
    assert facts == exported.facts["mixed_precision"]
    assert len(facts["fp32_groups"]) == 1
    assert len(facts["int8_groups"]) == 5
    assert facts["judged"]["changes"] == {"a": 0.0}
    assert "i8" in (tmp_path / "net.xml").read_text()
    assert [path.name.split("-")[0] for path in cache.iterdir()] == ["classifier"]
