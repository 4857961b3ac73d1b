import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.figures import AGREEMENT_COLOURS, agreement_picture
from jcs_ct.evaluation.pages.paired_methods import compare_methods, holm
from jcs_ct.evaluation.segmentation.lesion_comparison import MOST_PICTURE_ROWS, evaluate_predictions, failures
from jcs_ct.evaluation.segmentation.lesion_scores import MEASURES, score_method
from jcs_ct.evaluation.segmentation.lesion_tables import scores_table, subgroup_table
from jcs_ct.experiments.judged_slices import Case, CaseSet, ct100_cases
from jcs_ct.experiments.lesion_predictions import Predictions, read_predictions, write_predictions
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.metrics.overlap import Counts, dice_score

FEW = Resampling(draws=200)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_compare_writes_page_tables_and_figures(perfect, shifted, ct100_like, tmp_path):
    out = tmp_path / "out"
    done = run(
        "compare", f"truth={perfect}", shifted, "-r", ct100_like, "--protocol", "miniseg", "-o", out, "--draws", 200
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"scoring truth: (\d+)/\1 in .*\nscoring shifted: \1/\1 in ", done.stderr)
    rows = list(csv.DictReader((out / "miniseg.csv").read_text().splitlines()))
    assert float(rows[0]["dice_percent"]) == 100.0
    assert (rows[1]["method"], rows[1]["origin"]) == ("shifted", "measured here")
    assert (rows[2]["method"], rows[2]["dice_percent"], rows[2]["origin"]) == ("MiniSeg", "75.91", "published")
    content = json.loads((out / "evaluation.json").read_text())
    assert content["notice"].startswith("Research use only")
    page = (out / "index.html").read_text()
    assert "Research use only" in page
    assert 'class="foreign"' in page
    assert {path.suffix for path in out.glob("figure-11*")} == {".png", ".svg"}
    assert (out / "figure-10-qualitative.svg").is_file()
    assert (out / "figure-11-failures.svg").is_file()
    legend = (out / "figure-11-failures-agreement.svg").read_text()
    assert all(f"<!-- {meaning} -->" in legend for meaning in AGREEMENT_COLOURS)


def test_without_a_lesion_shares_are_not_0_and_what_is_100_is_said(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(path)
    cases = CaseSet("x", tuple(Case(path.stem, path, None, path.stem) for path in paths))
    empty = Predictions("empty", (np.zeros((8, 8), dtype=np.uint8),) * 3)
    tables = {table.name: table for table in evaluate_predictions([empty], cases, title="t", resampling=FEW).tables}
    assert tables["dice_shares"].rows[0] == {"method": "empty", "origin": "measured here", "n_images": 0}
    assert any("without a lesion are 100 and HD is 0 where nothing" in note for note in tables["scores"].notes)
    assert tables["scores"].rows[0]["dice_percent"] == 100.0


def test_agreement_has_a_colour_for_each_of_both_alone_and_neither():
    found, mask = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    both, too_much, missed = (to_rgb(AGREEMENT_COLOURS[name]) for name in ("both", "too much", "missed"))
    assert np.allclose(agreement_picture(found, mask), [[both, too_much, missed, (0, 0, 0)]])


def test_compare_scores_a_method_with_the_cut_of_the_other_folds_too(ct100_like, tmp_path):
    cases = ct100_cases(ct100_like)
    quiet = [np.where(case.read_mask(), 90, 40).astype(np.uint8) for case in cases]
    write_predictions(tmp_path / "quiet", [case.name for case in cases], quiet)
    out = tmp_path / "out"
    asked = ("compare", tmp_path / "quiet", "-r", ct100_like, "--protocol", "patient-safe", "-o", out, "--draws", 50)
    done = run(*asked, "--cut-by-folds", "quiet")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    dice = {row["method"]: float(row["dice_percent"]) for row in rows if row["origin"] == "measured here"}
    assert dice == {"quiet, own cut": 100.0, "quiet": 0.0}
    assert set(json.loads((out / "evaluation.json").read_text())["facts"]["cuts"]["quiet"]) == set(cases.folds)
    own = read_predictions(out / "quiet-own-cut", cases)
    assert all(((level >= 128) == case.read_mask()).all() for level, case in zip(own.levels, cases, strict=True))
    refused = run(*asked, "--cut-by-folds", "loud")
    assert refused.exit_code != 0
    assert str(refused.exception) == "no method is called loud; there are quiet"


def test_failures_are_the_worst_slices_of_every_method_by_turns(perfect, shifted, ct100_like):
    cases = ct100_cases(ct100_like)
    masks = [case.read_mask() for case in cases]
    scores = [score_method(read_predictions(f, cases), masks, cases, resampling=FEW) for f in (perfect, shifted)]
    worst_first = np.argsort(scores[1].per_image["dice_percent"].values, kind="stable").tolist()
    everything = range(len(cases))
    assert failures(scores[1:], everything) == worst_first[:MOST_PICTURE_ROWS]
    # The first method is right everywhere, so its slices come in their own order.
    assert failures(scores, everything)[:2] == [0, next(index for index in worst_first if index != 0)]


def test_a_difference_is_second_minus_first_with_its_interval(perfect, shifted, ct100_like):
    cases = ct100_cases(ct100_like)
    masks = [case.read_mask() for case in cases]
    scores = [score_method(read_predictions(f, cases), masks, cases, resampling=FEW) for f in (perfect, shifted)]
    dice = compare_methods(scores, cases, measures=MEASURES, resampling=FEW)[0]
    expected = np.mean(
        [100 * (float(dice_score(Counts.of(np.roll(mask, 2, axis=1), mask)).values) - 1) for mask in masks]
    )
    interval = dice.difference.interval
    assert interval.value == pytest.approx(expected)
    assert interval.low < expected < interval.high < 0
    assert dice.difference.n_groups == 9
    assert dice.difference.p_value < 0.05


def test_the_same_files_differ_in_nothing(perfect, ct100_like):
    cases = ct100_cases(ct100_like)
    masks = [case.read_mask() for case in cases]
    scores = [score_method(read_predictions(perfect, cases, name=n), masks, cases, resampling=FEW) for n in "ab"]
    for item in compare_methods(scores, cases, measures=MEASURES, resampling=FEW):
        assert (item.difference.interval.value, item.difference.p_value) == (0.0, 1.0)


def test_holm_steps_down_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_small_subgroups_are_suppressed(perfect, ct100_like):
    cases = ct100_cases(ct100_like)
    grouped = CaseSet(
        "x",
        tuple(
            Case(c.name, c.image, c.mask, c.patient, c.fold, {"sex": "f" if index < 2 else "m"})
            for index, c in enumerate(cases)
        ),
    )
    masks = [case.read_mask() for case in cases]
    table = subgroup_table([score_method(read_predictions(perfect, cases), masks, cases, resampling=FEW)], grouped)
    assert table is not None
    assert [row.get("dice_percent") for row in table.rows] == [None, 100.0]
    assert table.rows[0]["suppressed"] == "fewer than 5 patients"


def test_subgroups_resample_near_duplicates_as_a_whole(perfect, shifted, ct100_like):
    cases = ct100_cases(ct100_like)
    masks = [case.read_mask() for case in cases]
    found = {}
    for unit in ("", "near-duplicates"):
        grouped = CaseSet("x", tuple(replace(case, subgroups={"sex": "f"}, unit=unit) for case in cases))
        (half, whole) = (read_predictions(folder, grouped).levels for folder in (shifted, perfect))
        mixed = Predictions("mixed", (*half[:3], *whole[3:]))
        scored = score_method(mixed, masks, grouped, resampling=FEW)
        (found[unit],) = subgroup_table([scored], grouped, resampling=FEW).rows
    assert found[""]["dice_percent_low"] < found[""]["dice_percent_high"]
    assert found["near-duplicates"]["dice_percent_low"] is None
    assert found["near-duplicates"]["n_patients"] == found[""]["n_patients"]


def test_tables_count_patients_of_one_name_in_two_sources_as_two(perfect, ct100_like):
    cases = ct100_cases(ct100_like)
    alike = CaseSet(
        "x",
        tuple(
            replace(case, subgroups={"sex": "f"}, patient="1", source=f"source {index // 2}")
            for index, case in enumerate(cases)
        ),
    )
    masks = [case.read_mask() for case in alike]
    scored = score_method(read_predictions(perfect, alike), masks, alike, resampling=FEW)
    for table in (scores_table([scored], alike), subgroup_table([scored], alike, resampling=FEW)):
        assert table.rows[0]["n_patients"] == 5


def test_a_threshold_is_given_and_never_chosen(shifted, ct100_like):
    cases = ct100_cases(ct100_like)
    masks = [case.read_mask() for case in cases]
    read = read_predictions(shifted, cases)
    assert score_method(read, masks, cases, threshold=0.7, resampling=FEW).mean("dice_percent").value == 0.0


def test_names_must_tell_methods_apart(perfect, ct100_like):
    cases = ct100_cases(ct100_like)
    read = read_predictions(perfect, cases)
    with pytest.raises(ConfigError, match="names of their own"):
        evaluate_predictions([read, read], cases, title="x", resampling=FEW)


def test_wrong_predictions_end_with_exit_code_2(perfect, ct100_like, tmp_path):
    (perfect / "0001.png").unlink()
    done = run("compare", perfect, "-r", ct100_like, "-o", tmp_path / "out")
    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_miniseg_files_give_the_published_figures_through_the_command(shared_data, tmp_path):
    files = shared_data / "ct100/reference_predictions/miniseg"
    done = run("compare", files, "-r", shared_data / "ct100", "--protocol", "miniseg", "-o", tmp_path, "--json")
    tables = json.loads(done.stdout)["tables"]
    ours, published = tables["miniseg"][:2]
    for key in ("miou_percent", "sensitivity_percent", "specificity_percent", "dice_percent", "hausdorff_px"):
        assert round(ours[key], 2) == published[key]
    assert round(tables["scores"][0]["e_measure_adaptive_percent"], 1) == 93.2
    assert np.asarray(Image.open(tmp_path / "figure-11.png")).size > 0


@pytest.mark.slow
def test_our_own_published_predictions_give_the_figures_of_the_results_page(shared_data, tmp_path):
    docs = Path(__file__).parents[3] / "docs"
    first, second = docs / "predictions/ct100-miniseg", docs / "predictions/ct100-miniseg-2"
    volumes = docs / "predictions/ct100-volumes"
    names = ("mean of both runs", "first run", "second run", "with whole volumes", "mean of all three")
    files = (f"{first}+{second}", first, second, volumes, f"{volumes}+{first}+{second}")
    given = tuple(f"{name}={where}" for name, where in zip(names, files, strict=True))
    done = run("compare", *given, "-r", shared_data / "ct100", "--protocol", "miniseg", "-o", tmp_path, "--json")
    page = (docs / "results/ct100.md").read_text(encoding="utf-8")
    keys = ("miou_percent", "sensitivity_percent", "specificity_percent", "dice_percent", "hausdorff_px")
    rows = json.loads(done.stdout)["tables"]["miniseg"][: len(names)]
    assert [row["method"] for row in rows] == list(names)
    for row in rows:
        figures = " | ".join(f"{row[key]:.2f}" for key in keys)
        assert f"| here, {row['method']}, cut at 0.5 | {figures} |" in page
