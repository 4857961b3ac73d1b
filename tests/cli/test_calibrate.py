"""`jcs calibrate`, and that `--threshold` means there what it means in `jcs diagnose`."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jcs_ct.checkpoints import load_checkpoint, read_info, save_checkpoint
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.experiments import operating_point_choice


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    rows = []
    for number in range(4):
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20:30] = 255 * (number % 2)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
        Image.fromarray(mask).save(folder / f"{number}-mask.png")
        rows.append(
            ManifestRow(folder / f"{number}.png", f"p{number}", number % 2, folder / f"{number}-mask.png", "val")
        )
    Manifest(tuple(rows)).write(folder / "slices.csv")
    return folder / "slices.csv"


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ((), (25, 1.0, pytest.approx(1 / 6))),
        (("--threshold", 12), (12, None, None)),
        (("--threshold", 12, "--reference-spacing-mm", 5), (12, 5.0, pytest.approx(1 / 6))),
        (("--reference-spacing-mm", 2), (25, 2.0, pytest.approx(1 / 6))),
    ],
)
def test_a_threshold_is_taken_as_it_is_unless_its_spacing_is_said(jcs, random_models, slices, tmp_path, asked, rule):
    given = ("--classifier", random_models / "classifier.safetensors")
    given += ("--segmenter", random_models / "segmenter.safetensors", "-m", slices, "-o", tmp_path)
    done = jcs("calibrate", *given, *asked, "--least-specificity", 0, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["validation_patients"] == {"slice": 4, "lesion": 2}
    stored = told["operating_point"]
    found = (stored["positive_slice_threshold"], stored["reference_spacing_mm"], stored["small_study_share"])
    assert found == rule
    told = [json.loads(line) for line in done.stderr.splitlines()]
    ended = [(line["stage"], line["done"]) for line in told if line["done"] == line["total"]]
    assert ended[-2:] == [("classifier", 4), ("segmenter", 2)]
    infos = [read_info(tmp_path / f"{task}.safetensors") for task in ("classifier", "segmenter")]
    assert {info.operating_point.positive_slice_threshold for info in infos} == {rule[0]}


@pytest.mark.parametrize("sensitivity", [0.2857142857142857, 0.5])
def test_figures_are_rounded_and_a_low_sensitivity_is_warned_of(
    jcs, random_models, slices, tmp_path, monkeypatch, sensitivity
):
    figures = {"sensitivity": sensitivity, "specificity": 1.0}
    monkeypatch.setattr(operating_point_choice, "choose_slice_probability", lambda *_, **__: (0.45, figures))
    given = ("--classifier", random_models / "classifier.safetensors")
    given += ("--segmenter", random_models / "segmenter.safetensors", "-m", slices, "-o", tmp_path)
    done = jcs("calibrate", *given, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"slice, on validation: sensitivity {sensitivity:.3f}, specificity 1.000 (4 patients)\n" in done.stdout
    assert "small study share: 0.1667\n" in done.stdout
    warned = "warning: the classifier finds 29% of the infected validation slices" in done.stderr
    assert warned == (sensitivity < 0.5)


@pytest.mark.parametrize("specificity", [0.2, 0.9499999999999998])
def test_a_specificity_that_no_cut_keeps_is_warned_of(jcs, random_models, slices, tmp_path, monkeypatch, specificity):
    figures = {"sensitivity": 1.0, "specificity": specificity}
    monkeypatch.setattr(operating_point_choice, "choose_slice_probability", lambda *_, **__: (0.02, figures))
    given = ("--classifier", random_models / "classifier.safetensors")
    given += ("--segmenter", random_models / "segmenter.safetensors", "-m", slices, "-o", tmp_path)
    done = jcs("calibrate", *given, "--device", "cpu")
    assert done.exit_code == 0, done.output
    warned = "warning: no cut keeps 95% specificity: the most specific one has 20%" in done.stderr
    assert warned == (specificity < 0.5)


@pytest.mark.parametrize("dice", [0.021, 0.3])
def test_a_useless_segmenter_is_warned_of(jcs, random_models, slices, tmp_path, monkeypatch, dice):
    monkeypatch.setattr(operating_point_choice, "choose_lesion_probability", lambda *_: (0.2, {"dice": dice}))
    given = ("--classifier", random_models / "classifier.safetensors")
    given += ("--segmenter", random_models / "segmenter.safetensors", "-m", slices, "-o", tmp_path)
    done = jcs("calibrate", *given, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"lesion, on validation: dice {dice:.3f} (2 patients)\n" in done.stdout
    warned = "warning: the segmenter's mean Dice on the validation slices with lesions is 0.021" in done.stderr
    assert warned == (dice < 0.3)


def test_networks_that_may_have_seen_the_validation_slices_are_warned_of(jcs, random_models, slices, tmp_path):
    ours = read_manifest(slices).sha256
    behind = {
        "manifest_sha256": ours,
        "ancestor_manifests": {"classifier": "of all", "operating point": "chosen before"},
    }
    given, segmenter = ("--classifier", random_models / "classifier.safetensors"), tmp_path / "joint.safetensors"
    path = random_models / "segmenter.safetensors"
    info = replace(read_info(path), provenance=behind)
    save_checkpoint(segmenter, load_checkpoint(path).network, info)
    given += ("--segmenter", segmenter, "-m", slices, "-o", tmp_path / "out", "--device", "cpu", "--json")
    done = jcs("calibrate", *given)
    assert done.exit_code == 0, done.output
    said = "was trained with another manifest: whether it has seen these slices is not known"
    assert json.loads(done.stdout)["warnings"][:2] == [f"classifier {said}", f"the classifier of segmenter {said}"]
    kept = read_info(tmp_path / "out" / "segmenter.safetensors").provenance["ancestor_manifests"]
    assert kept == {"classifier": "of all", "operating point": ours}


def test_models_that_are_there_are_replaced_together_and_when_asked_only(jcs, random_models, slices, tmp_path):
    (tmp_path / "segmenter.safetensors").write_bytes(b"of another day")
    given = ("--classifier", random_models / "classifier.safetensors", "--device", "cpu")
    given += ("--segmenter", random_models / "segmenter.safetensors", "-m", slices, "-o", tmp_path)
    refused = jcs("calibrate", *given)
    said = f"{tmp_path / 'segmenter.safetensors'} is there already; name another place, or give --overwrite"
    assert str(refused.exception) == said
    assert [path.name for path in tmp_path.iterdir()] == ["segmenter.safetensors"]
    assert (tmp_path / "segmenter.safetensors").read_bytes() == b"of another day"
    assert jcs("calibrate", *given, "--overwrite").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier.safetensors", "segmenter.safetensors"]
    assert read_info(tmp_path / "segmenter.safetensors").task == "segmenter"


def test_networks_in_each_others_place_are_refused(jcs, random_models, slices, tmp_path):
    given = ("--classifier", random_models / "segmenter.safetensors")
    given += ("--segmenter", random_models / "classifier.safetensors", "-m", slices, "-o", tmp_path / "out")
    done = jcs("calibrate", *given)
    assert "segmenter.safetensors holds a segmenter; give a classifier" in str(done.exception)
    assert not (tmp_path / "out").exists()
