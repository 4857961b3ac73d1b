"""Table II: what is timed, what is said of it, and that the fast way gives the plain way's answers."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jcs_ct.checkpoints import CheckpointInfo, load_models, save_checkpoint
from jcs_ct.cli import app
from jcs_ct.engine import Execution, ReadyClassifier, ReadySegmenter, classify_slices
from jcs_ct.engine.execution import is_installed
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.speed import speed_tables
from jcs_ct.evaluation.speed.plain_way import eager_map
from jcs_ct.evaluation.speed.study_timing import (
    STAGES,
    TimedNetworks,
    TimedStudy,
    eager_method,
    engine_method,
    largest_differences,
    phantom_study,
    untrained_networks,
)
from jcs_ct.evaluation.speed.timing_rounds import (
    TimedWay,
    interleaved,
    matmul_gflops,
    measuring,
    network_gflop,
    spread_cells,
)
from jcs_ct.models.classifier import ClassifierConfig
from jcs_ct.models.presets import build_classifier, build_segmenter
from jcs_ct.models.res2net import Res2NetConfig
from jcs_ct.models.segmenter import CombinationConfig, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.progress import silent

FP32 = Execution(device="cpu", precision="fp32", batch_size=3)
PREPROCESSOR = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
TRUNK = Res2NetConfig(
    in_channels=1, stem_channels=(4, 4, 8), planes=(8, 8, 16, 16), blocks=(1, 1, 1, 1), base_width=32
)
ENCODER = VGGConfig(in_channels=1, channels=(8, 8, 8, 8, 16), convs=(1, 1, 1, 1, 1), norm="batch", conv_bias=False)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    classifier = build_classifier(ClassifierConfig(TRUNK))
    joint = CombinationConfig(backbone=TRUNK, conv_bias=False)
    segmenter = build_segmenter(SegmenterConfig(encoder=ENCODER, norm="batch", combination=joint))
    for network in (classifier, segmenter):  # statistics of their own, so that BatchNorm does something
        network(torch.randn(4, 1, 64, 64))
    return TimedNetworks(
        "tiny",
        ReadyClassifier(classifier.eval(), PREPROCESSOR, "compact", "0" * 64, "tiny"),
        ReadySegmenter(segmenter.eval(), PREPROCESSOR, "compact", "1" * 64, "tiny"),
    )


@pytest.fixture(scope="module")
def study():
    hu = np.random.default_rng(1).normal(-600, 300, (4, 72, 80)).astype(np.int16)
    return TimedStudy(hu, (0, 1, 2, 3, 0))


def test_fp32_with_nothing_skipped_is_the_plain_answer(networks, study):
    differences = largest_differences(networks, study, FP32, slices=4)
    assert set(differences) == {"logits", "classify", "map", "segment"}
    assert all(0 <= difference < 1e-4 for difference in differences.values())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_the_networks_in_the_box_give_the_plain_answer(backend):
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed (optional)")
    models = load_models("compact")
    networks = TimedNetworks("compact", models.classifier, models.segmenter)
    differences = largest_differences(networks, phantom_study(2, size=256), replace(FP32, backend=backend), slices=2)
    assert all(0 <= difference < 1e-4 for difference in differences.values())


def test_the_closed_form_is_the_map_of_a_backward_pass(networks, study):
    ready = networks.classifier
    item = classify_slices(ready, study.hu, [2], execution=FP32)[0]
    closed = ready.preprocessor.restore(item.activation, item.region, (72, 80))
    backward = eager_map(ready.network, ready, study.hu[2])
    assert backward.max() > 0.5
    np.testing.assert_allclose(closed, backward, atol=1e-4)


def test_every_slice_passes_every_stage_of_both_ways(networks, study):
    seen = []
    ours = engine_method(networks, study, FP32, progress=lambda what, done, total: seen.append((what, done, total)))
    plain = eager_method(
        networks,
        study,
        device=torch.device("cpu"),
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    for method in (ours, plain):
        for stage in method.stages.values():
            stage()
    for what in ("jcs: classify", "jcs: segment", "eager: classify", "eager: map", "eager: segment"):
        assert (f"tiny: {what}", 5, 5) in seen


def test_every_method_runs_once_before_the_first_round(networks, study, monkeypatch):
    ran = []

    def fake(kind, stages):
        def method(one, study, *_given, **_named):
            found = {stage: lambda stage=stage: ran.append((kind, stage, len(study.indices))) for stage in stages}
            return TimedWay(f"{kind}", found)

        return method

    for name, stages in (("engine_method", STAGES), ("eager_method", STAGES), ("peer_method", ("segment",))):
        monkeypatch.setattr(speed_tables, name, fake(name, stages))
    speed_tables.evaluate_speed([networks], study, slices=5, execution=FP32, rounds=1, peer=True, progress=silent)
    few = [kind for kind, _, slices in ran if slices == FP32.batch_size]
    assert few == ["engine_method"] * 3 + ["eager_method"] * 3 + ["peer_method"]
    assert [slices for _, _, slices in ran] == [3] * 7 + [5] * 7


def test_rounds_are_interleaved_and_begin_with_another_method_each():
    order = []
    methods = [TimedWay(name, {"run": lambda name=name: order.append(name)}) for name in "abc"]
    found = interleaved(methods, rounds=3)
    assert "".join(order) == "abcbcacab"
    assert {name: len(stages["run"]) for name, stages in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_impossible_measurements_are_refused():
    with pytest.raises(ValueError, match="at least 1 round is needed, got 0"):
        interleaved([], rounds=0)
    with pytest.raises(ValueError, match="methods need names of their own, got a, a"):
        interleaved([TimedWay("a"), TimedWay("a")], rounds=1)
    with pytest.raises(ConfigError, match="no preset 'compact' to draw weights for; known: paper, official"):
        untrained_networks("compact")


def test_what_is_measured_is_the_clock_the_processor_and_the_memory():
    with measuring() as found:
        held = np.ones(30_000_000)  # 240 MB
        total = sum(range(300_000))
    (measured,) = found
    assert total > 0
    assert held.nbytes == 240_000_000
    assert measured.cpu_seconds > 0
    assert measured.seconds > 0
    assert measured.peak_memory_mb > 229


def test_spread_is_the_median_between_the_extremes():
    assert spread_cells("x", [3.0, 1.0, 8.0], scale=2.0) == {"x": 6.0, "x_low": 2.0, "x_high": 16.0}


def test_work_is_counted_in_multiplications_and_additions():
    convolution = torch.nn.Conv2d(2, 3, 3, padding=1)
    assert network_gflop(convolution, torch.zeros(1, 2, 8, 8)) == pytest.approx(2 * 2 * 3 * 9 * 64 / 1e9)
    assert matmul_gflops(size=64, repeats=1) > 0


def read_rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_writes_the_table_and_says_what_was_scaled(networks, tmp_path):
    for ready, name in ((networks.classifier, "classifier"), (networks.segmenter, "segmenter")):
        info = CheckpointInfo(name, "compact", ready.network.config.to_dict(), PREPROCESSOR)
        if name == "classifier":
            info = replace(info, operating_point=OperatingPoint(0.5, 1))
        save_checkpoint(tmp_path / "models" / f"{name}.safetensors", ready.network, info)
    out = tmp_path / "speed"
    options = ["--measured", "2", "--slices", "6", "--rounds", "2", "--precision", "fp32", "--device", "cpu"]
    result = CliRunner().invoke(
        app, ["evaluate", "speed", "-o", str(out), "--models", str(tmp_path / "models"), *options, "--json"]
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["outcome"], document["page"]) == ("done", str(out / "index.html"))
    assert Path(document["evaluation"]).is_file()
    assert document["tables"]["table_ii"][0].keys() >= {"method", "infected_s"}
    assert "2 slices were measured; the times of 6 are scaled linearly" in result.output
    rows = {row["method"]: row for row in read_rows(out / "table_ii.csv")}
    ours, eager, paper = rows["models: jcs"], rows["models: eager"], rows["JCS on an RTX 2080 Ti"]
    assert float(paper["infected_s"]) == 22.0
    assert paper["origin"] == "paper, private data"
    for row in (ours, eager):
        low, middle, high = (float(row[f"infected_s{end}"]) for end in ("_low", "", "_high"))
        assert 0 < low <= middle <= high
        assert float(row["uninfected_s"]) < middle
    assert float(eager["infected_ratio"]) == 1.0
    assert float(ours["segment_difference"]) < 1e-4
    facts = json.loads((out / "evaluation.json").read_text())
    assert facts["facts"]["machine"]["torch_threads"] >= 1
    measured = read_rows(out / "rounds.csv")
    assert len(measured) == 2 * 3 * 2
    ours_whole = [
        3
        * sum(float(row["seconds"]) for row in measured if row["method"] == "models: jcs" and row["round"] == number)
        for number in "12"
    ]
    assert float(ours["infected_s_low"]) == pytest.approx(min(ours_whole))
    assert (out / "table_ii.svg").is_file()
    assert (out / "table_ii.png").is_file()
