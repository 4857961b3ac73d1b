import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import stats

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.page import write_evaluation
from jcs_ct.evaluation.patients.cohort import (
    Cohort,
    PatientReading,
    ReportedVerdict,
    cohort_of_manifest,
    read_study_list,
    refuse_repeated_studies,
)
from jcs_ct.evaluation.patients.cohort_tables import (
    auc_table,
    calibration_table,
    evaluate_cohort,
    flag_table,
    rates_at,
    subgroup_rates,
    sweep_tables,
    table_iv,
)
from jcs_ct.experiments.operating_point_choice import SliceScores
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.operating_point import OperatingPoint, Verdict
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom, write_nifti

FEW = Resampling(draws=50)


def reading(
    infected: bool, count: int, *, of: int = 60, spacing: float | None = None, sex: str = "f"
) -> PatientReading:
    probabilities = np.where(np.arange(of) < count, 0.9, 0.1)
    return PatientReading(infected, probabilities, spacing, None, {"sex": sex})


def cohort(*patients: PatientReading, reference: float | None = None) -> Cohort:
    return Cohort("test", patients, OperatingPoint(0.5, 25, reference, small_study_share=None))


COHORT = cohort(
    *(reading(True, count, sex="m") for count in (60, 40, 26, 25)),
    *(reading(False, count) for count in (0, 10, 22, 30)),
)


def test_table_iv_counts_more_slices_than_the_threshold():
    rows = {(row["threshold"], row["origin"]): row for row in table_iv(COHORT).rows}
    measured = rows[25.0, "measured here"]
    # 25 infected slices are not more than 25; 30 are.
    assert measured["sensitivity_percent"] == 75.0
    assert measured["specificity_percent"] == 75.0
    assert measured["in_use"] is True
    assert (measured["n_infected"], measured["n_uninfected"]) == (4, 4)
    assert rows[30.0, "measured here"]["specificity_percent"] == 100.0
    assert rows[25.0, "paper, private data"]["sensitivity_percent"] == 95.0
    assert measured["sensitivity_percent_low"] < 75.0 < measured["sensitivity_percent_high"]


def test_wrong_verdicts_are_counted_by_what_warned_of_them():
    told = [
        (True, Verdict.POSITIVE, ()),
        (True, Verdict.NEGATIVE, ("NETWORKS_DISAGREE", "NOISY")),
        (True, Verdict.NEGATIVE, ("NOISY",)),
        (False, Verdict.POSITIVE, ("NEAR_THRESHOLD",)),
        (False, Verdict.NEGATIVE, ()),
        (False, Verdict.WITHHELD, ("NOISY",)),
    ]
    patients = [
        replace(reading(infected, 1), reported=ReportedVerdict(verdict, frozenset(flags)))
        for infected, verdict, flags in told
    ]
    counted = ("true_positive", "false_negative", "false_positive", "true_negative", "withheld")
    rows = {row["flag"]: [row[key] for key in counted] for row in flag_table(cohort(*patients)).rows}
    assert rows == {
        "all studies": [1, 2, 1, 1, 1],
        "none that doubts the verdict": [1, 1, 0, 1, 1],
        "NEAR_THRESHOLD": [0, 0, 1, 0, 0],
        "NETWORKS_DISAGREE": [0, 1, 0, 0, 0],
        "NOISY": [0, 2, 0, 0, 1],
    }
    assert flag_table(COHORT) is None, "slices are no studies"


def test_the_threshold_follows_the_spacing_of_a_study():
    # More than 25 slices 1 mm apart are more than 12 (25 / 2, to even) slices 2 mm apart.
    scaled = cohort(reading(True, 13, spacing=2.0), reading(False, 12, spacing=2.0), reference=1.0)
    assert scaled.verdicts_at(25) == (Verdict.POSITIVE, Verdict.NEGATIVE)
    assert scaled.scores()["count"].tolist() == [26.0, 24.0]
    assert cohort(reading(True, 13, spacing=2.0)).verdicts_at(25) == (Verdict.NEGATIVE,)


def test_a_small_study_is_judged_by_the_share_of_its_slices():
    # More than 10 of 60 slices with lung, one in six, take the place of more than 25.
    point = OperatingPoint(0.5, 25, None)
    small = Cohort("test", (reading(True, 11), reading(False, 10)), point)
    assert small.verdicts_at(25) == (Verdict.POSITIVE, Verdict.NEGATIVE)


def test_the_sweep_and_table_iv_judge_by_one_rule():
    """Studies of 60 slices with 12 infected are positive by their share, whatever the count asks for."""
    patients = (*[reading(True, 12)] * 6, *[reading(False, 0)] * 6)
    mixed = Cohort("test", patients, OperatingPoint(0.5, 25, None))
    in_use = next(row for row in table_iv(mixed).rows if row["in_use"])
    count, _ = sweep_tables(mixed)
    assert in_use["sensitivity_percent"] == 100.0
    assert [row["sensitivity_percent"] for row in count.rows] == [100.0, 100.0]
    assert any("share of their slices" in note for note in count.notes)


def test_between_two_swept_counts_no_verdict_changes():
    """Slices 0.625 mm apart: counts scaled to 1 mm are no whole numbers."""
    patients = [
        reading(n > 5, (6, 8, 10, 5, 9, 7, 34, 38, 33, 36, 35, 37)[n], of=200, spacing=0.625) for n in range(12)
    ]
    swept = cohort(*patients, reference=1.0)
    rows = {int(row["threshold"]): row for row in sweep_tables(swept)[0].rows}
    for threshold in range(30):
        rates, _ = rates_at(swept, threshold)
        row = rows[max(count for count in rows if count <= threshold)]
        assert row["sensitivity_percent"] == 100 * rates.sensitivity.value, threshold
        assert row["specificity_percent"] == 100 * rates.specificity.value, threshold


def test_a_withheld_verdict_counts_in_neither_rate():
    few = PatientReading(False, np.full(4, 0.9))
    patients = (reading(True, 60), reading(False, 0), few, replace(few, infected=True))
    judged = Cohort("test", patients, OperatingPoint(0.5, 25, None))
    assert judged.verdicts_at(25)[2:] == (Verdict.WITHHELD, Verdict.WITHHELD)
    for row in (next(row for row in table_iv(judged).rows if row["in_use"]), sweep_tables(judged)[0].rows[-1]):
        assert (row["n_infected"], row["n_uninfected"], row["n_withheld"]) == (1, 1, 2)
        assert row["specificity_percent"] == 100.0


def test_patients_of_one_group_are_resampled_together():
    alone = tuple(reading(bool(n % 2), 10 + 3 * (n % 5)) for n in range(40))
    grouped = tuple(replace(patient, unit=f"group {n // 4}") for n, patient in enumerate(alone))
    assert len(set(cohort(*alone).units.tolist())) == 40
    assert cohort(*grouped).units.tolist() == sorted(cohort(*grouped).units.tolist())
    assert len(set(cohort(*grouped).units.tolist())) == 10


def test_sweeps_and_areas_are_of_patients():
    count, fraction = sweep_tables(COHORT)
    assert [row["threshold"] for row in count.rows] == [0.0, 10.0, 22.0, 25.0, 26.0, 30.0, 40.0, 60.0]
    assert fraction.rows[-1]["sensitivity_percent"] == 0.0
    areas = {row["score"]: row for row in auc_table(COHORT, FEW).rows}
    assert areas["count"]["auc"] == pytest.approx(14 / 16)
    assert areas["count"]["auc_low"] is None, "of four patients a class"
    more = cohort(*COHORT.patients, reading(True, 50), reading(False, 5))
    (area, *_) = auc_table(more, FEW).rows
    assert area["auc_low"] <= area["auc"] <= area["auc_high"]


def test_sweeps_have_no_impossible_threshold_and_say_what_they_count():
    few = cohort(reading(True, 40, spacing=6.0), reading(False, 50, spacing=6.0), reference=1.0)
    count, fraction = sweep_tables(few)
    assert [row["threshold"] for row in fraction.rows] == pytest.approx([0.0, 40 / 60, 50 / 60])
    assert [row["threshold"] for row in count.rows] == [0.0, 240.0, 300.0]
    assert count.columns[0].title == "infected slices, scaled to 1 mm, above"
    assert sweep_tables(COHORT)[0].columns[0].title == "infected slices above"


def test_calibration_is_of_patients_and_of_slices_with_a_truth():
    (row,) = calibration_table(COHORT, FEW).rows
    assert (row["level"], row["n"]) == ("patients", 8)
    assert 0 < row["calibration_error_by_chance"] < row["expected_calibration_error"]
    assert "expected_calibration_error_low" not in row, "a bootstrap's errors are larger than the sample's own"
    known = Cohort(
        "x",
        tuple(
            PatientReading(bool(n % 2), np.array([0.2, 0.7]), None, np.array([False, bool(n % 2)])) for n in range(6)
        ),
        OperatingPoint(),
    )
    patients, slices = calibration_table(known, FEW).rows
    assert patients["brier"] == pytest.approx((0.45**2 + 0.55**2) / 2)
    assert slices["n"] == 12
    assert slices["brier"] == pytest.approx((2 * 0.04 + 0.49 + 0.09) / 4)


def test_small_subgroups_are_suppressed():
    table = subgroup_rates(cohort(*(reading(True, 60) for _ in range(5)), reading(False, 0, sex="m")))
    assert table is not None
    female, male = table.rows
    assert female["sensitivity_percent"] == 100.0
    assert "specificity_percent" not in female
    assert male == {"grouping": "sex", "group": "m", "suppressed": "fewer than 5 patients"}


def test_several_studies_of_a_patient_neither_narrow_an_interval_nor_make_a_subgroup():
    """Ten follow-ups of two patients say what two patients say; Wilson's interval of 2 of 2 begins at 34.2 %."""
    twice = cohort(*(replace(reading(True, 60), unit=f"patient {n % 2}") for n in range(10)))
    (in_use,) = (row for row in table_iv(twice).rows if row.get("in_use"))
    expected = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    assert in_use["sensitivity_percent_low"] == pytest.approx(100 * expected.low)
    assert in_use["n_infected"] == 10
    assert any(note.startswith("10 verdicts on 2 patients") for note in table_iv(twice).notes)
    assert all(row["sensitivity_percent_low"] < 35 for table in sweep_tables(twice) for row in table.rows)
    assert subgroup_rates(twice).rows == ({"grouping": "sex", "group": "f", "suppressed": "fewer than 5 patients"},)
    assert (auc_table(twice, FEW).rows[0]["n"], auc_table(twice, FEW).rows[0]["n_patients"]) == (10, 2)
    assert not any("verdicts on" in note for note in table_iv(COHORT).notes)


def test_a_study_without_lung_has_no_score(tmp_path):
    """It would score 0, and be right where its patient is uninfected."""
    empty = [PatientReading(infected, np.zeros(0)) for infected in (True, False, False)]
    point = OperatingPoint(0.5, 25, None)
    judged = Cohort("test", (*COHORT.patients, *empty), point)
    plain = Cohort("test", COHORT.patients, point)
    assert [row["auc"] for row in auc_table(judged, FEW).rows] == [row["auc"] for row in auc_table(plain, FEW).rows]
    assert calibration_table(judged, FEW).rows == calibration_table(plain, FEW).rows
    assert "3 without a slice that shows lung have no score and are left out." in auc_table(judged, FEW).notes
    (first, *_) = sweep_tables(judged)[1].rows
    assert (first["n_infected"], first["n_uninfected"], first["n_withheld"]) == (4, 4, 3)
    write_evaluation(tmp_path, evaluate_cohort(Cohort("test", tuple(empty), point), resampling=FEW))
    (none, *_) = json.loads((tmp_path / "evaluation.json").read_text())["tables"]["auc"]["rows"]
    assert (none["auc"], none["n"]) == (None, 0)


def test_the_page_of_a_cohort_with_one_class(tmp_path):
    write_evaluation(tmp_path, evaluate_cohort(cohort(reading(True, 30), reading(True, 3)), resampling=FEW))
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["tables"]["auc"]["rows"][0]["n_undefined_draws"] == 50
    assert "roc" not in content["figures"]
    assert (tmp_path / "reliability.svg").is_file()


def test_a_list_of_studies_says_all_that_is_wrong(tmp_path):
    (tmp_path / "a").mkdir()
    path = tmp_path / "studies.csv"
    path.write_text("study,label,sex\na,1,f\nb,1,f\na,yes,\n")
    with pytest.raises(ConfigError, match=r"(?s)line 3: no study at b.*line 4: label must be 0 or 1, got 'yes'"):
        read_study_list(path)
    path.write_text("study,label,sex\na,1,f\n")
    (row,) = read_study_list(path).rows
    assert (row.infected, row.subgroups) == (True, {"sex": "f"})
    with pytest.raises(ConfigError, match="no patient with a label"):
        cohort()


def test_a_study_stands_once_in_a_list_however_its_path_is_written(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    path = tmp_path / "studies.csv"
    path.write_text("study,label\na,1\n./a/,0\nlink,1\n")
    with pytest.raises(ConfigError, match=r"(?s)line 3: the study at \./a/ is that of line 2; .*line 4: .* line 2;"):
        read_study_list(path)


def test_one_scan_under_two_names_is_refused(tmp_path):
    phantom = make_phantom(PhantomConfig(slices=10, size=64, seed=5))
    write_dicom(phantom, tmp_path / "one")
    shutil.copytree(tmp_path / "one/dicom", tmp_path / "copy")
    write_nifti(phantom, tmp_path / "volume")
    write_dicom(make_phantom(PhantomConfig(slices=10, size=64, seed=6)), tmp_path / "other")
    path = tmp_path / "studies.csv"
    path.write_text("study,label\none/dicom,1\ncopy,1\nother/dicom,0\nvolume/ct.nii.gz,0\n")
    listed = read_study_list(path).rows
    with pytest.raises(ConfigError, match=r"twice.*\n  line 3: .*copy is that of line 2, .*\n  line 5: .* line 2, "):
        refuse_repeated_studies(listed)
    refuse_repeated_studies([listed[0], listed[2]])


def test_studies_of_a_patient_or_a_group_are_resampled_together(tmp_path):
    for name in "abcdef":
        (tmp_path / name).mkdir()
    path = tmp_path / "studies.csv"
    path.write_text(
        "study,label,patient,source,group,ward\na,1,1,x,,w\nb,0,1,x,,w\nc,0,1,y,,w\nd,1,2,x,g,w\ne,1,3,x,g,w\nf,0,,,,w\n"
    )
    listed = read_study_list(path)
    assert listed.unread_columns == ("ward",)
    readings = [replace(reading(row.infected, 3), unit=row.unit) for row in listed.rows]
    a, b, c, d, e, f = cohort(*readings).units
    assert (a, d) == (b, e)
    assert len({a, c, d, f}) == 4
    path.write_text("study,label,patient,group\na,1,1,g\nb,0,1,\nc,0,,\nd,0,,g\n")
    with pytest.raises(
        ConfigError, match=r"used:\n  line 3: its patient is in the group '', in line 2 in 'g'; give one$"
    ):
        read_study_list(path)


def test_one_name_in_two_sources_is_two_patients(monkeypatch):
    rows = [
        ManifestRow(Path("a.png"), "001", 1, source="a", scanner="A"),
        ManifestRow(Path("b.png"), "001", 0, source="b", scanner="B"),
        ManifestRow(Path("c.png"), "001", 0, source="b", scanner="C"),
    ]
    infected = np.array([row.label == 1 for row in rows])
    said = SliceScores(np.array([0.9, 0.1, 0.2]), infected, ("a", "b", "b"), ("001",) * 3)
    monkeypatch.setattr("jcs_ct.evaluation.patients.cohort.score_slices", lambda *_, **__: said)
    found = cohort_of_manifest(Mock(), OperatingPoint(), Manifest(tuple(rows)), execution=Execution(), title="x")
    assert found.truth.tolist() == [True, False]
    assert [one.subgroups["scanner"] for one in found.patients] == ["A", "several"]
    assert found.units.tolist() == [0, 0], "perhaps one person after all"


def test_a_patient_whose_open_slices_may_be_infected_is_not_called_uninfected(monkeypatch):
    labels = {"open": (0, None), "infected": (1, None), "well": (0, 0)}
    rows = [ManifestRow(Path(f"{p}{n}.png"), p, label) for p, both in labels.items() for n, label in enumerate(both)]

    def said(_, manifest, **__) -> SliceScores:
        infected = np.array([row.label == 1 for row in manifest])
        return SliceScores(infected * 0.9, infected, ("",) * len(infected), tuple(row.patient for row in manifest))

    monkeypatch.setattr("jcs_ct.evaluation.patients.cohort.score_slices", said)
    found = cohort_of_manifest(Mock(), OperatingPoint(), Manifest(tuple(rows)), execution=Execution(), title="x")
    assert found.truth.tolist() == [True, False]
    assert [len(one.probabilities) for one in found.patients] == [1, 2]
    assert found.notes[1].startswith("1 patient(s) without an infected slice have slices without a label")
    assert found.notes[2] == "Slices without a label of 1 infected patient(s) do not count."


def test_equal_scans_have_equal_counts_whatever_their_spacings_are_rounded_to():
    scans = cohort(*(reading(True, 13, spacing=spacing) for spacing in (2.0, 2.0 + 2e-7)), reference=1.0)
    assert scans.scores()["count"].tolist() == [26.0, 26.0]


def test_a_list_of_studies_is_read_as_spreadsheets_write_it(tmp_path):
    (tmp_path / "ä").mkdir()
    path = tmp_path / "studies.csv"
    path.write_text("Study;Label\nä;1\n", encoding="utf-16")
    assert [row.infected for row in read_study_list(path).rows] == [True]
    path.write_bytes("study,label\nä,1\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"list of studies .* is no CSV in UTF-8 .*; save it as CSV \(UTF-8\)"):
        read_study_list(path)
