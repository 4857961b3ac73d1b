import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import ReadyClassifier
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.classifier.perturbations import PERTURBATIONS, SlicePlane, slice_plane
from jcs_ct.evaluation.classifier.shortcut_tables import evaluate_shortcuts, shortcut_table
from jcs_ct.evaluation.classifier.shortcuts import ShortcutResult, manifest_planes, measure_shortcuts, spread_slices
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.models.classifier import Classifier
from jcs_ct.preprocessing import LUNG_WINDOW, OUTSIDE_HU, SlicePreprocessor, Window

BY_KEY = {one.key: one for one in PERTURBATIONS}
STAYING = [one for one in PERTURBATIONS if one.should_stay]


def thorax(lesion_hu: float | None = None, *, side: int = 128) -> np.ndarray:
    """A slice in HU: a body with two lungs on a table, and with ``lesion_hu`` a lesion in the first lung."""
    y, x = np.mgrid[0:side, 0:side] * (128 / side)
    hu = np.full((side, side), -1000.0, dtype=np.float32)
    hu[((x - 64) / 56) ** 2 + ((y - 60) / 46) ** 2 < 1] = 40
    for centre in (40, 88):
        hu[((x - centre) / 17) ** 2 + ((y - 60) / 32) ** 2 < 1] = -850
    hu[(y > 112) & (y < 116)] = 200
    if lesion_hu is not None:
        hu[(x - 40) ** 2 + (y - 66) ** 2 < 64] = lesion_hu
    return hu


PLAIN = SlicePreprocessor(size=64, channels=1, mean=(0.0,), std=(1.0,))


class MeanOf(Classifier):
    """A classifier whose probability rises with the mean of a part of its input: it looks at nothing else."""

    def __init__(self, rows: slice, columns: slice, *, centre: float, gain: float = 40.0) -> None:
        nn.Module.__init__(self)
        self.rows, self.columns = rows, columns
        self.config = (rows, columns)  # two networks of equal weights are told apart by it
        self.dropout, self.head = nn.Identity(), nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-gain / 2], [gain / 2]]))
            self.head.bias.copy_(torch.tensor([gain / 2, -gain / 2]) * centre)

    def features(self, x):
        return [x[:, :, self.rows, self.columns].mean(dim=(2, 3), keepdim=True)]


def ready(network: nn.Module, preprocessor: SlicePreprocessor = PLAIN) -> ReadyClassifier:
    return ReadyClassifier(network.eval(), preprocessor, "test", "", "test")


#: Looks at the lung that has the lesion, and at the picture's upper left corner.
HONEST = ready(MeanOf(slice(28, 39), slice(16, 25), centre=0.5))
CHEATING = ready(MeanOf(slice(0, 4), slice(0, 4), centre=0.5))


def planes(*slices: np.ndarray) -> tuple[list[SlicePlane], Manifest]:
    """With the first half labelled infected."""
    rows = tuple(
        ManifestRow(f"{n}.png", f"p{n}", int(n < len(slices) / 2), source="drawn") for n in range(len(slices))
    )
    return [slice_plane(hu, seed=n) for n, hu in enumerate(slices)], Manifest(rows)


def test_changes_leave_the_slice_itself_alone_and_stay_in_shape():
    plane = slice_plane(thorax(-300.0), seed=0)
    before = plane.hu.copy()
    assert plane.lungs is not None
    for one in PERTURBATIONS:
        changed = one.apply(plane)
        assert changed.shape == before.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert np.array_equal(changed, one.apply(plane))
    assert np.array_equal(plane.hu, before)


def test_what_each_change_takes_away():
    plane = slice_plane(thorax(-300.0), seed=0)
    outside = BY_KEY["outside_body"].apply(plane)
    assert (outside[112:116, 2:8] == OUTSIDE_HU).all()
    assert np.array_equal(outside[40:80, 20:108], plane.hu[40:80, 20:108])
    blank = BY_KEY["no_lungs"].apply(plane)
    assert np.unique(blank[plane.lungs]).tolist() == [-850.0]
    assert np.array_equal(blank[~plane.lungs], plane.hu[~plane.lungs])
    only = BY_KEY["only_lungs"].apply(plane)
    assert np.array_equal(only[plane.lungs], plane.hu[plane.lungs])
    assert set(np.unique(only[~plane.lungs])) == {40.0, float(OUTSIDE_HU)}
    narrow = BY_KEY["width_narrow"].apply(plane)
    # -850 HU is a third of the way up the lung window, and lower in a narrower one.
    assert LUNG_WINDOW(narrow)[60, 88] == pytest.approx((-850 + 600) / 1200 + 0.5, abs=1e-3)


def test_one_lung_alone_is_not_both():
    half = thorax()
    half[:, 64:] = np.where(half[:, 64:] < -800, 40, half[:, 64:])
    assert slice_plane(half, seed=0).lungs is None


def test_a_slice_without_lungs_has_none():
    assert slice_plane(np.where(thorax() > -900, 40.0, -1000.0), seed=0).lungs is None


def test_a_classifier_that_reads_the_lung_is_told_from_one_that_reads_the_corner():
    corner = thorax()
    corner[:16, :16] = 200
    slices = [thorax(-100.0), thorax(-120.0), thorax(), corner]
    found, manifest = planes(*slices)
    honest = measure_shortcuts(HONEST, found, manifest, name="honest", cut=0.5)
    assert (honest.unchanged >= 0.5).tolist() == [True, True, False, False]
    assert (honest.changed["no_lungs"] < 0.5).all()
    assert np.abs(honest.changed["outside_body"] - honest.unchanged).max() < 1e-3
    assert (honest.changed["only_lungs"] >= 0.5).tolist() == [True, True, False, False]
    cheating = measure_shortcuts(CHEATING, found, manifest, name="cheating", cut=0.5)
    assert cheating.unchanged[3] > 0.9
    assert cheating.changed["outside_body"][3] < 0.1
    assert cheating.changed["no_lungs"].tolist() == pytest.approx(cheating.unchanged.tolist())
    table = shortcut_table([honest, cheating], Resampling(draws=30))
    rows = {(row["method"], row["change"]): row for row in table.rows}
    blank = rows["honest", "lungs blanked"]
    assert (blank["expected"], blank["n_flips"], blank["sensitivity_percent"]) == ("fall", 2, 0.0)
    assert rows["cheating", "outside the body blanked"]["flips_percent"] == 25.0
    assert rows["cheating", "outside the body blanked"]["max_absolute_change"] > 0.9
    assert rows["honest", "unchanged"]["auc"] == 1.0


def test_slices_without_lungs_count_for_changes_of_lungs_only_where_they_have_them():
    found, manifest = planes(thorax(-100.0), np.where(thorax() > -900, 40.0, -1000.0))
    result = measure_shortcuts(HONEST, found, manifest, name="x", cut=0.5)
    assert np.isnan(result.changed["no_lungs"]).tolist() == [False, True]
    assert not np.isnan(result.changed["text_added"]).any()
    rows = {row["change"]: row for row in shortcut_table([result], Resampling(draws=10)).rows}
    assert (rows["lungs blanked"]["n"], rows["text burned in"]["n"]) == (1, 2)
    page = evaluate_shortcuts([result], found, manifest, title="x", resampling=Resampling(draws=10))
    assert list(page.figures) == ["shortcuts"]


def test_a_network_of_another_window_is_refused():
    found, manifest = planes(thorax(), thorax())
    other = ready(HONEST.network, SlicePreprocessor(size=64, window=Window(40, 400)))
    with pytest.raises(ConfigError, match=r"level 40, width 400 HU; .* the lung window \(-600, 1500\)"):
        measure_shortcuts(other, found, manifest, name="x", cut=0.5)


def test_the_limit_is_shared_out_evenly_over_sources_and_labels():
    rows = [ManifestRow(f"a{n}", f"a{n}", 1, source="a") for n in range(50)]
    rows += [ManifestRow(f"b{n}", f"b{n}", 0, source="b") for n in range(3)]
    rows += [ManifestRow(f"c{n}", f"c{n}", 0, source="a") for n in range(50)]
    chosen = spread_slices(Manifest((*rows, ManifestRow("u", "u", None))), 13)
    assert len(chosen) == 13
    assert sum(row.source == "b" for row in chosen) == 3
    assert sum(row.label == 1 for row in chosen) == 5
    assert len(spread_slices(Manifest(tuple(rows)), 1000)) == 103
    with pytest.raises(ConfigError, match="no labelled slice"):
        spread_slices(Manifest((ManifestRow("u", "u", None),)), 5)


def test_a_result_of_one_class_has_no_auc():
    result = ShortcutResult("x", 0.5, np.array([True]), ("p",), np.array([0.9]), {"text_added": np.array([0.4])})
    first, second = shortcut_table([result], Resampling(draws=10)).rows
    assert "auc" not in first
    assert (second["n_flips"], second["mean_change"]) == (1, pytest.approx(-0.5))


def test_the_command_judges_a_manifest(random_models, tmp_path):
    rows = []
    for number in range(4):
        grey = LUNG_WINDOW(thorax(-200.0 if number < 2 else None)) * 255
        grey[-1] = 0  # rows of one grey at the lower edge are taken for a half-written picture
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(ManifestRow(tmp_path / f"{number}.png", f"p{number}", int(number < 2), None, "test", "drawn"))
    Manifest(tuple(rows)).write(tmp_path / "slices.csv")
    given = (random_models / "classifier.safetensors", "-m", tmp_path / "slices.csv", "--draws", 20)
    for command, table in (("shortcuts", "shortcuts"), ("classifier", "sources")):
        out = tmp_path / command
        done = CliRunner().invoke(app, [str(part) for part in ("evaluate", command, *given, "-o", out)])
        assert done.exit_code == 0, done.output
        assert "was trained with another manifest" in done.output
        content = json.loads((out / "evaluation.json").read_text())
        assert content["tables"][table]["rows"]
    assert len((tmp_path / "classifier/scores/classifier.csv").read_text().splitlines()) == 5
    assert len(manifest_planes(Manifest(tuple(rows)))) == 4
