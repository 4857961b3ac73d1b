"""Lists, features and annotations as COVID-CS has them: written from slices, read back, trained from."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint
from jcs_ct.cli import app
from jcs_ct.data.augmentation.augment import Augmentation
from jcs_ct.data.covid_cs.feature_dataset import FeatureDataset
from jcs_ct.data.covid_cs.feature_lists import read_list
from jcs_ct.data.covid_cs.feature_writing import write_feature_set
from jcs_ct.data.covid_cs.lesion_annotations import LesionAnnotation, annotate, read_annotations
from jcs_ct.data.covid_cs.release_checks import check_annotations, check_list
from jcs_ct.data.datasets import prepare_slice
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import ReadyClassifier, ReadySegmenter
from jcs_ct.errors import ConfigError
from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.paper_losses import deep_supervision_loss

pytestmark = pytest.mark.usefixtures("one_thread")

PREPROCESSOR = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Manifest:
    """Three drawn slices, two of one patient with a lesion, one of another without."""
    folder = tmp_path_factory.mktemp("slices")
    generator = np.random.default_rng(0)
    rows = []
    for number in range(3):
        mask = np.zeros((64, 64), np.uint8)
        mask[10 + number : 20, 40:52] = 255 * (number < 2)
        grey = np.clip(generator.normal(120, 20, (64, 64)) + mask / 4, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}-mask.png")
        patient, infected = ("a", 1) if number < 2 else ("b", 0)
        mask_path = folder / f"{number}-mask.png" if infected else None
        rows.append(
            ManifestRow(folder / f"{number}.png", patient, infected, mask_path, "train" if infected else "val")
        )
    return Manifest(tuple(rows))


@pytest.fixture(scope="module")
def segmenter() -> ReadySegmenter:
    torch.manual_seed(0)
    network = build_segmenter(segmenter_preset("compact-joint")).eval()
    return ReadySegmenter(network, PREPROCESSOR, "compact-joint", "", "s")


def test_features_of_slices_train_and_test_a_network(slices, segmenter, tmp_path):
    records = write_feature_set(slices, segmenter, tmp_path)
    assert [record["split"] for record in records] == ["train", "train", "val"]
    assert all(record["saturated"] == 0 for record in records)
    listed = read_list(tmp_path / "train.txt")
    assert [one.features.name for one in listed] == ["000000.mat", "000001.mat"]
    batch = FeatureDataset(listed).batch([0, 1])
    assert batch.labels.tolist() == [[0, 1], [0, 1]]
    assert batch.has_mask.tolist() == [True, True]
    prepared = [prepare_slice(row, PREPROCESSOR) for row in slices.rows[:2]]
    assert torch.equal(batch.masks, torch.stack([mask.float() for _, mask in prepared]))
    images = PREPROCESSOR.normalise(torch.stack([grey.float() / 255 for grey, _ in prepared]))
    with torch.inference_mode():
        difference = segmenter.network.predict(batch.images) - segmenter.network.predict(images)
    assert 0 < float(difference.abs().max()) < 0.05
    network = build_segmenter(segmenter_preset("compact-joint"))
    deep_supervision_loss(network(batch.images), batch.masks).backward()
    assert float(network.get_parameter("decoder.stages.0.transition2.conv.weight").grad.abs().max()) > 0
    assert network.get_parameter("encoder.conv1_1.conv.weight").grad is None, "the first stage is skipped"


def test_half_size_is_a_quarter_of_the_pixels_and_full_masks_fit(slices, segmenter, tmp_path):
    write_feature_set(slices, segmenter, tmp_path / "half", half_size=True)
    write_feature_set(slices, segmenter, tmp_path / "full")
    (one, *_) = read_list(tmp_path / "half" / "train.txt")
    (full, *_) = read_list(tmp_path / "full" / "train.txt")
    batch = FeatureDataset([one]).batch([0])
    assert batch.images.vgg_feats.shape == (1, 16, 32, 32)
    assert batch.masks.shape == (1, 1, 32, 32)
    mixed = tmp_path / "mixed.txt"
    mixed.write_text(f"{one.features} {full.mask}\n")
    assert torch.equal(FeatureDataset(read_list(mixed)).batch([0]).masks, batch.masks)
    with pytest.raises(ConfigError, match=r"a batch needs slices of one size, got \[\(32, 32\), \(64, 64\)\]"):
        FeatureDataset([one, full]).batch([0, 1])


def test_flips_turn_features_and_masks_together(slices, segmenter, tmp_path):
    write_feature_set(slices, segmenter, tmp_path)
    dataset = FeatureDataset(read_list(tmp_path / "train.txt"))
    plain = dataset.batch([0] * 8)
    drawn = dataset.batch([0] * 8, augmentation=Augmentation(), generator=np.random.default_rng(0))
    turned = [not torch.equal(one, other) for one, other in zip(plain.masks, drawn.masks, strict=True)]
    assert 0 < sum(turned) < 8
    for index, flip in enumerate(turned):
        for one, other in zip((*plain.images, plain.masks), (*drawn.images, drawn.masks), strict=True):
            assert torch.equal(one[index].flip(-1) if flip else one[index], other[index])
    upright = Augmentation(flip_left_right=0.0, flip_up_down=1.0)
    upside_down = dataset.batch([0] * 3, augmentation=upright, generator=np.random.default_rng(0), share=(1, 2))
    assert torch.equal(upside_down.masks, plain.masks[:1].flip(-2))


def test_a_classifiers_features_carry_labels(slices, tmp_path):
    torch.manual_seed(0)
    network = build_classifier(classifier_preset("compact")).eval()
    write_feature_set(slices, ReadyClassifier(network, PREPROCESSOR, "compact", "", "c"), tmp_path)
    assert (tmp_path / "val.txt").read_text() == "features/000002.mat 0\n"
    batch = FeatureDataset(read_list(tmp_path / "val.txt")).batch([0])
    assert batch.labels.tolist() == [[1, 0]]
    assert batch.has_mask.tolist() == [True]
    assert network(batch.images).shape == (1, 2)


def test_lists_of_another_form_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# comment\na.mat a.png\n\nb.mat\nc.mat c.png d.png\n")
    with pytest.raises(
        ConfigError, match=r"(?s)has 2 problem\(s\):.*line 4: expected .* got 1 word.*line 5: .* got 3"
    ):
        read_list(path)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="it has no lines"):
        read_list(path)
    with pytest.raises(ConfigError, match=r"cannot read the list .*: No such file"):
        read_list(tmp_path / "none.txt")


def test_every_problem_of_a_list_is_reported_at_once(slices, segmenter, tmp_path):
    write_feature_set(slices, segmenter, tmp_path)
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "small.png")
    path = tmp_path / "bad.txt"
    path.write_text(
        "features/000000.mat small.png\nfeatures/none.mat masks/000000.png\nfeatures/000001.mat none.png\n"
    )
    with pytest.raises(ConfigError) as caught:
        check_list(path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("bad.txt has 3 problem(s):")
    assert "small.png: the mask has 10x10 pixels, the features' slice 64x64" in lines[1]
    assert "none.mat: no such feature file" in lines[2]
    assert "none.png: no such file" in lines[3]


MASK = np.zeros((20, 30), bool)
MASK[2:6, 3:8] = True
MASK[12, 20:25] = True
MASK[13, 25] = True
LESIONS = (LesionAnnotation(20, "left", "up", 3, 2, 5, 4), LesionAnnotation(6, "right", "down", 20, 12, 6, 2))


def test_lesions_are_measured_as_they_are_annotated():
    assert annotate(MASK) == LESIONS
    assert annotate(np.zeros((5, 5), bool)) == ()


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_annotations_are_read_in_both_forms(suffix, tmp_path):
    path = tmp_path / f"annotations{suffix}"
    records = [vars(lesion) for lesion in LESIONS]
    if suffix == ".json":
        path.write_text(json.dumps({"a.png": records}))
    else:
        lines = [",".join(["image", *records[0]]), *(",".join(map(str, ["a.png", *r.values()])) for r in records)]
        path.write_text("\n".join(lines))
    assert read_annotations(path) == {"a.png": LESIONS}


def test_impossible_annotations_are_listed(tmp_path):
    path = tmp_path / "a.json"
    good = vars(LESIONS[0])
    bad = [{**good, "position_x": "middle"}, {**good, "area_pixel": 21}, {"area_pixel": 3}]
    path.write_text(json.dumps({"a.png": bad}))
    with pytest.raises(ConfigError) as caught:
        read_annotations(path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("have 3 problem(s):")
    assert "lesion 1: position_x must be left or right" in lines[1]
    assert "lesion 2: area_pixel must be above 0 and fit the box of 5x4, got 21" in lines[2]
    assert "lesion 3: lacks 'position_x'" in lines[3]
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="not annotations of the form image -> list of lesions"):
        read_annotations(path)


def test_annotations_are_held_against_masks(slices, segmenter, tmp_path):
    write_feature_set(slices, segmenter, tmp_path)
    path = tmp_path / "annotations.json"
    box = {"position_x": "right", "position_y": "up", "x0": 40, "y0": 10, "width": 12, "height": 10}
    path.write_text(json.dumps({"000000.png": [{"area_pixel": 120, **box}]}))
    check_annotations(tmp_path / "train.txt", path)
    path.write_text(json.dumps({"000000.png": [{"area_pixel": 99, **box}], "x.png": [{"area_pixel": 99, **box}]}))
    with pytest.raises(
        ConfigError, match=r"(?s)annotated areas \[99\], the mask has \[120\].*x\.png: annotated, but"
    ):
        check_annotations(tmp_path / "train.txt", path)


def test_the_commands_write_and_check(slices, segmenter, tmp_path):
    manifest, checkpoint = tmp_path / "slices.csv", tmp_path / "s.safetensors"
    slices.write(manifest)
    config = segmenter_preset("compact-joint")
    info = CheckpointInfo("segmenter", "compact-joint", config.to_dict(), PREPROCESSOR)
    save_checkpoint(checkpoint, segmenter.network, info)
    runner = CliRunner()
    done = runner.invoke(app, ["features", "write", str(manifest), "--network", str(checkpoint), "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "3 slices" in done.output
    assert "values above 12.75 were cut in 0 of them" in done.output
    done = runner.invoke(app, ["features", "check", str(tmp_path / "train.txt")])
    assert done.output.splitlines() == ["2 slices of 64x64 pixels", "values cut at 255: 0"]
    done = runner.invoke(app, ["features", "check", str(tmp_path / "train.txt"), "--json"])
    assert [record["lesions"] for record in json.loads(done.output)] == [1, 1]
