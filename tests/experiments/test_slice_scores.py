from dataclasses import replace

import numpy as np
import pytest

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.classifier.judged_classifiers import judge_classifiers
from jcs_ct.evaluation.classifier.slice_discrimination import (
    evaluate_scores,
    matched,
    run_table,
    score_cells,
    source_table,
)
from jcs_ct.experiments.slice_scores import ScoredSlices, joined, patient_hash, read_scores, write_scores
from jcs_ct.metrics.bootstrap import Resampling

FEW = Resampling(draws=60)


def scored(name="ours", *, sources=("a", "a", "a", "a", "b", "b"), labels=(1, 1, 0, 0, 1, 1), run="fold0"):
    n = len(labels)
    return ScoredSlices(
        name,
        tuple(f"s{number}" for number in range(n)),
        tuple(f"p{number // 2}" for number in range(n)),
        sources,
        np.array(labels, dtype=bool),
        np.array((0.9, 0.4, 0.6, 0.1, 0.8, 0.2))[:n],
        np.full(n, 0.5),
        (run,) * n,
    )


def test_scores_survive_their_file_to_the_last_digit(tmp_path):
    scores = scored()
    precise = scores.probability / 3
    scores = ScoredSlices("ours", *(getattr(scores, f) for f in ("slices", "patients", "sources", "infected")),
                          precise, scores.cuts, scores.runs)  # fmt: skip
    write_scores(tmp_path / "ours.csv", scores)
    again = read_scores(tmp_path / "ours.csv")
    assert again.name == "ours"
    assert again.probability.tolist() == precise.tolist()
    for field in ("slices", "patients", "sources", "runs"):
        assert getattr(again, field) == getattr(scores, field)
    assert again.infected.tolist() == scores.infected.tolist()


def test_a_table_of_scores_says_all_that_is_wrong(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("slice,patient,source,label,run,probability,cut\na,p,s,2,,0.5,0.5\nb,p,s,1,,nan,1.5\n")
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*line 2: label.*line 3: probability.*'nan'.*line 3: cut"):
        read_scores(path)
    path.write_text("slice,label\na,1\n")
    with pytest.raises(ConfigError, match=r"lack rows or the column\(s\) patient, source, run, probability, cut"):
        read_scores(path)
    with pytest.raises(ConfigError, match="cannot read the table of scores"):
        read_scores(tmp_path / "none.csv")


def test_a_slice_that_stands_in_two_lines_of_scores_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "slice,patient,source,label,run,probability,cut\na,p,s,1,,0.5,0.5\nb,p,s,1,,0.5,0.5\na,q,s,0,,0,0.5\n"
    )
    with pytest.raises(ConfigError, match=r"1 problem.*\n.*line 4: the slice 'a' is that of line 2; give each"):
        read_scores(path)


def test_a_page_of_tables_alone_is_called_by_them(tmp_path):
    write_scores(tmp_path / "ours.csv", scored())
    (tmp_path / "a.png").touch()
    manifest = Manifest((ManifestRow(tmp_path / "a.png", "p", 1),))
    page, _ = judge_classifiers(
        [("ours", tmp_path / "ours.csv")], manifest, "test", title="slices", execution=Execution(), resampling=FEW
    )
    assert page.title == "Slices: ours.csv"


def test_a_source_of_one_class_says_so_instead_of_a_number():
    of_a, of_b, everything = source_table([scored()], FEW).rows
    assert (of_a["source"], of_a["auc"], of_a["sensitivity_percent"]) == ("a", 0.75, 50.0)
    assert (of_a["auc_low"], of_a["auc_high"]) == (None, None), "too few patients for an interval"
    assert "one_class" not in of_a
    assert "auc" not in of_b
    assert "specificity_percent" not in of_b
    assert (of_b["one_class"], of_b["sensitivity_percent"], of_b["n_patients"]) == ("infected only", 50.0, 1)
    assert (everything["source"], everything["n_infected"], everything["n_uninfected"]) == ("all sources", 4, 2)


def test_five_patients_of_a_class_have_an_interval_and_four_have_none():
    names = [f"{number}" for number in range(9)]
    truth, probability = np.array([True] * 5 + [False] * 4), np.linspace(0.9, 0.1, 9)
    scores = ScoredSlices(
        "m", tuple(names), tuple(names), ("a",) * 9, truth, probability, np.full(9, 0.65), ("",) * 9
    )
    cells = score_cells(scores, FEW)
    assert cells["sensitivity_percent_low"] < cells["sensitivity_percent"] < cells["sensitivity_percent_high"]
    assert (cells["specificity_percent_low"], cells["auc_low"]) == (None, None)


def test_no_slices_are_no_figures():
    assert score_cells(scored().where(np.zeros(6, dtype=bool)), FEW) == {
        "n_infected": 0,
        "n_uninfected": 0,
        "n_patients": 0,
        "one_class": "no slices",
    }


def test_folds_are_scored_apart_and_their_mean_is_stated():
    inverted = scored(run="fold1")
    inverted = ScoredSlices("ours", inverted.slices, inverted.patients, inverted.sources, inverted.infected,
                            1 - inverted.probability, inverted.cuts, inverted.runs)  # fmt: skip
    table = run_table(joined("ours", [scored(), inverted]), FEW)
    areas = [row["auc"] for row in table.rows]
    assert [row["run"] for row in table.rows] == ["fold0", "fold1"]
    assert areas[0] == pytest.approx(1 - areas[1])
    assert "Mean AUC of the 2 folds that define one: 0.500" in table.notes[0]


def test_methods_are_compared_on_the_slices_both_have():
    first, second = scored("first"), scored("second").where(np.arange(6) != 3)
    one, other = matched(first, second)
    assert one.slices == other.slices == ("s0", "s1", "s2", "s4", "s5")
    page = evaluate_scores([first, scored("second")], title="x", facts={}, resampling=FEW)
    (row,) = next(table for table in page.tables if table.name == "differences").rows
    assert (row["method"], row["auc_difference"], row["n"]) == ("second", 0.0, 6)
    assert set(page.figures) == {"roc-1", "roc-2"}


@pytest.mark.parametrize(
    ("sources", "patients", "same"),
    [
        (("a",) * 4 + ("b",) * 2, ("q0", "q0", "q1", "q1", "q2", "q2"), True),  # other hashes, the same patients
        (("",) * 6, ("g", "g", "g", "g", "p2", "p2"), True),  # two patients grouped since
        (("c",) * 6, ("p0", "p0", "p1", "p1", "p2", "p2"), False),
        (("",) * 6, ("q0", "q1", "q1", "q2", "q2", "q0"), False),
    ],
)
def test_slices_that_are_only_named_alike_are_not_compared(sources, patients, same):
    """Two data sets both have an s0, and by chance the labels agree."""
    first, second = scored("first"), replace(scored("second"), sources=sources, patients=patients)
    if same:
        assert len(matched(first, second)[0]) == 6
        return
    with pytest.raises(ConfigError, match="name 6 slices alike, of other sources or patients"):
        matched(first, second)


def test_a_patient_is_a_hash_in_files():
    assert patient_hash("Jane Doe") == patient_hash("Jane Doe") != patient_hash("Jane Roe")
    assert "Jane" not in patient_hash("Jane Doe")


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="rows"):
        ScoredSlices("x", ("a",), ("p",), ("s",), np.zeros(2, dtype=bool), np.zeros(1), np.zeros(1), ("",))
