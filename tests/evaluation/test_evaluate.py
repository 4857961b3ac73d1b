"""The commands on tiny networks: what is judged, what is tuned where, and what they say of slices that were seen."""

import csv
import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.checkpoints import CheckpointInfo, load_classifier, save_checkpoint
from jcs_ct.cli import app, main
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.explanations.judged_maps import judge_maps
from jcs_ct.evaluation.explanations.map_scores import case_map, randomised, score_explanations
from jcs_ct.experiments.judged_slices import Case, CaseSet
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.classifier_task import recipe_classifier
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.segmenter_task import recipe_segmenter

PREPROCESSOR = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
TRUNK = {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "base_width": 32}
ENCODER = {"channels": [4, 4, 4, 4, 8], "convs": [1, 1, 1, 1, 1]}


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = []
    y, x = np.mgrid[0:64, 0:64]
    for number in range(18):
        infected = number % 3 != 2
        lesion = ((x - 20 - number) ** 2 + (y - 30) ** 2 < 90) & infected
        scan = np.random.default_rng(number).integers(0, 60, (16, 16)).repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray((30 + 120 * lesion + scan).astype(np.uint8)).save(folder / f"{number}.png")
        Image.fromarray((255 * lesion).astype(np.uint8)).save(folder / f"{number}-mask.png")
        split = ("train", "val", "test")[number // 6]
        mask = folder / f"{number}-mask.png" if infected else None
        rows.append(ManifestRow(folder / f"{number}.png", f"p{number // 3}", int(infected), mask, split, sex="f"))
    Manifest(tuple(rows)).write(folder / "slices.csv")
    return folder


@pytest.fixture(scope="module")
def models(data):
    torch.manual_seed(0)
    classifier = recipe_classifier(Recipe(task="classifier", preset="compact", network={"backbone": TRUNK}))
    segmenter, config = recipe_segmenter(Recipe(task="segmenter", preset="compact", network={"encoder": ENCODER}))
    folder = data / "models"
    provenance = {"manifest_sha256": read_manifest(data / "slices.csv").sha256}
    info = CheckpointInfo("classifier", "compact", classifier.config.to_dict(), PREPROCESSOR, OperatingPoint(0.5, 1))
    info = replace(info, provenance=provenance)
    save_checkpoint(folder / "classifier.safetensors", classifier, info)
    point = OperatingPoint(lesion_probability=0.3)
    info = CheckpointInfo("segmenter", "compact", config, PREPROCESSOR, point)
    save_checkpoint(folder / "segmenter.safetensors", segmenter, info)
    return folder


def test_segmentation_judges_the_test_split_at_the_stored_cut(data, models, tmp_path):
    done = run(
        "evaluate", "segmentation", models / "segmenter.safetensors", "-m", data / "slices.csv", "-o", tmp_path,
        "--draws", 50,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "evaluation.json").read_text())
    rows = content["tables"]["scores"]["rows"]
    assert (rows[0]["n_images"], rows[0]["n_patients"], rows[0]["n_without_lesion"]) == (6, 2, 2)
    assert rows[0]["dice_percent_low"] is None
    assert "none for fewer than 5 patients" in content["tables"]["scores"]["notes"][0]
    assert "probability of at least 0.3" in content["tables"]["scores"]["notes"][1]
    assert "2 of 6 slices have no lesion. A prediction of zeros" in content["tables"]["scores"]["notes"][3]
    assert [row["dice_percent"] for row in rows if row["method"] in ("joint", "JCS")] == [78.5, 78.5]
    assert content["warnings"] == [
        "the split 'test' has 2 patients; infected slices come from 2, uninfected from 2; figures of so few patients "
        "say little",
        "segmenter was trained with another manifest: whether it has seen these slices is not known",
    ]
    assert len(list((tmp_path / "predictions/segmenter").glob("*.png"))) == 6
    assert content["tables"]["subgroups"]["rows"][0]["suppressed"] == "fewer than 5 patients"


def test_patients_of_a_manifest_at_the_stored_operating_point(data, models, tmp_path):
    options = ("--models", models, "-m", data / "slices.csv", "-o", tmp_path, "--draws", 50)
    done = run("evaluate", "patients", *options)
    assert done.exit_code == 0, done.output
    assert "slices: 6/6 in " in done.stderr
    content = json.loads((tmp_path / "evaluation.json").read_text())
    unknown = "segmenter was trained with another manifest: whether it has seen these slices is not known"
    assert [said for said in content["warnings"] if "say little" not in said] == [unknown]
    assert content["facts"]["positive_slice_threshold"] == 1
    assert [row["threshold"] for row in content["tables"]["table_iv"]["rows"] if row["in_use"]] == [1.0]
    assert "meant for whole studies" in content["tables"]["table_iv"]["notes"][2]
    done = run("evaluate", "patients", *options, "--split", "train")
    seen = "the split 'train' was looked at in training: these figures are not of unseen slices"
    assert f"note: {seen}\n" in done.stderr
    refused = run("evaluate", "patients", "-o", tmp_path)
    assert isinstance(refused.exception, ConfigError)


def test_whole_studies_are_judged_with_the_flags_they_are_reported_with(random_models, tmp_path):
    write_dicom(make_phantom(PhantomConfig(slices=10, size=96, lesions=4, seed=5)), tmp_path / "phantom")
    (tmp_path / "empty").mkdir()
    (tmp_path / "studies.csv").write_text("study,label,ward\nphantom/dicom,1,w\nempty,0,w\n")
    out = tmp_path / "out"
    done = run("evaluate", "patients", "--studies", tmp_path / "studies.csv", "--models", random_models, "-o", out)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("note: columns that are not read: ward\n") == 1
    tables = json.loads((out / "evaluation.json").read_text())["tables"]
    everything, *_ = tables["flags"]["rows"]
    counted = ("true_positive", "false_negative", "false_positive", "true_negative", "withheld")
    assert sum(everything[key] for key in counted) == 1
    assert any("1 of 2 studies were refused by the gate" in note for note in tables["table_iv"]["notes"])


def test_explanations_tune_on_training_slices_and_judge_the_test_split(data, models, tmp_path):
    classifier = models / "classifier.safetensors"
    done = run(
        "evaluate", "explanations", f"a={classifier}", f"b={classifier}", "-m", data / "slices.csv", "-o", tmp_path,
        "--steps", 2, "--draws", 50,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "explanations.csv").read_text().splitlines()))
    assert [(row["method"], row["n_images"], row["n_tuning"]) for row in rows] == [("a", "4", "4"), ("b", "4", "4")]
    assert float(rows[0]["iou_percent"]) <= 100
    assert 0 < float(rows[0]["iou_ceiling_percent"]) <= 100
    (warning,) = json.loads((tmp_path / "evaluation.json").read_text())["warnings"]
    assert "has 2 patients; infected slices come from 2, uninfected from 2" in warning
    assert (tmp_path / "figure-9.svg").is_file()


@pytest.mark.parametrize("missing", ["test", "train"])
def test_explanations_name_the_split_that_has_no_lesion(data, missing):
    rows = tuple(row for row in read_manifest(data / "slices.csv") if row.split != missing)
    with pytest.raises(ConfigError, match=f"the split {missing} has no slice with a lesion mask"):
        judge_maps(
            [], Manifest(rows), "test", title="x", variant="paper", perturbation_steps=0, execution=Execution()
        )


def test_a_map_lies_on_the_slice_and_its_randomised_twin_differs(data, models):
    ready = load_classifier(models / "classifier.safetensors")
    case = Case("0", data / "0.png", data / "0-mask.png", "p0")
    found = case_map(ready, case, variant="paper", execution=Execution())
    assert found.fine.shape == (64, 64)
    twin = randomised(ready, seed=1)
    assert not torch.equal(twin.network.head.weight, ready.network.head.weight)
    with pytest.raises(ConfigError, match="tuned on training slices with a lesion mask, and there are none"):
        score_explanations(ready, CaseSet("x", (case,)), [], name="a")


@pytest.mark.parametrize(
    ("command", "given", "asked"),
    [
        ("explanations", "segmenter", "classifier"),
        ("shortcuts", "segmenter", "classifier"),
        ("segmentation", "classifier", "segmenter"),
    ],
)
def test_a_network_of_the_other_kind_is_refused(data, models, tmp_path, command, given, asked):
    done = run("evaluate", command, models / f"{given}.safetensors", "-m", data / "slices.csv", "-o", tmp_path)
    assert f"{given}.safetensors holds a {given}; give a {asked}" in str(done.exception)


def test_checkpoints_that_share_a_name_are_refused(data, models, tmp_path):
    path = models / "segmenter.safetensors"
    done = run("evaluate", "segmentation", path, path, "-m", data / "slices.csv", "-o", tmp_path)
    assert "need names of their own, got segmenter, segmenter" in str(done.exception)
    given = (f"net 1={path}", f"net_1={path}")
    done = run("evaluate", "segmentation", *given, "-m", data / "slices.csv", "-o", tmp_path)
    assert "names that make one folder, give them names of their own: 'net 1' and 'net_1'" in str(done.exception)


def _interrupt(*_given, **_named):
    signal.raise_signal(signal.SIGINT)


def test_what_lies_beside_a_page_is_put_in_place_with_it(data, models, perfect, ct100_like, tmp_path, monkeypatch):
    monkeypatch.setattr("jcs_ct.evaluation.pages.page.save_figure", _interrupt)
    judged = ["evaluate", "classifier", models / "classifier.safetensors", "-m", data / "slices.csv", "--draws", 5]
    compared = ["compare", perfect, "-r", ct100_like, "--cut-by-folds", "perfect", "--draws", 5]
    for number, command in enumerate((judged, compared)):
        out = tmp_path / f"out-{number}"
        monkeypatch.setattr("sys.argv", ["jcs", *map(str, command), "-o", str(out)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 130
        assert not out.exists()


@pytest.mark.parametrize(
    "stage",
    [
        "jcs_ct.evaluation.segmentation.judged_segmenters.predict_cases",
        "jcs_ct.evaluation.segmentation.judged_segmenters.evaluate_predictions",
        "jcs_ct.evaluation.segmentation.judged_segmenters.write_predictions",
        "jcs_ct.evaluation.pages.page.save_figure",
        "jcs_ct.evaluation.pages.page._html",
    ],
)
def test_ctrl_c_in_a_stage_leaves_the_earlier_evaluation(data, models, tmp_path, monkeypatch, capsys, stage):
    (tmp_path / "index.html").write_text("an earlier page")
    (tmp_path / "scores.csv").write_text("an earlier table")
    monkeypatch.setattr(stage, _interrupt)
    table, weights = data / "slices.csv", models / "segmenter.safetensors"
    options = ["jcs", "evaluate", "segmentation", weights, "-m", table, "-o", tmp_path, "--draws", 5, "--json"]
    monkeypatch.setattr("sys.argv", [str(option) for option in options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert f"the earlier evaluation in {tmp_path} is as it was" in error["message"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "index.html": "an earlier page",
        "scores.csv": "an earlier table",
    }
