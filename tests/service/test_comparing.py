"""How much the burden changed between two studies of a patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from jcs_ct.jobs import JobKey, Ledger, ResultFolders
from jcs_ct.service.comparing import OtherStudy, StudyOrder, burden_change, other_studies
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.studies import Studies, StudyRecord
from jcs_ct.service.users import Role, User


def report(*, count: int = 10, lungs: int = 40, **burden: float | None) -> dict:
    measured = {
        "percent_opacity": 20.0,
        "opacification_volume_ml": 800.0,
        "percent_ground_glass": 15.0,
        "percent_consolidation": 5.0,
        "lung_volume_ml": 4000.0,
    }
    return {
        "burden": {**measured, **burden},
        "verdict": {"positive_slice_count": count, "lung_slice_count": lungs},
    }


def test_change_is_the_later_study_less_the_earlier_one():
    rows = {row["name"]: row for row in burden_change(report(), report(percent_opacity=12.5, count=20, lungs=50))}
    assert rows["Opacity"] == {"name": "Opacity", "unit": "% of lung", "first": 20.0, "second": 12.5, "change": -7.5}
    assert rows["Infected slices"]["change"] == pytest.approx(40.0 - 25.0)
    assert rows["Volume of the lungs"]["change"] == 0.0


def test_what_was_not_measured_has_no_change():
    unsegmented = {**report(), "burden": None}
    rows = {row["name"]: row for row in burden_change(unsegmented, report(opacification_volume_ml=None))}
    assert (rows["Opacity"]["first"], rows["Opacity"]["second"], rows["Opacity"]["change"]) == (None, 20.0, None)
    assert rows["Volume of opacities"]["change"] is None
    assert rows["Infected slices"]["change"] == 0.0


def others_of(tmp_path: Path, first: dict[str, str], second: dict[str, str]) -> list[OtherStudy]:
    """What stands beside the second of two studies that were read, by the facts kept of each."""
    jane = User("jane", Role.READER)

    def read(studies: Studies, facts: dict[str, str]) -> StudyRecord:
        def key(study_id: str) -> JobKey:
            return JobKey(study_id, "w", "o", "1")

        record = studies.queue(studies.record(jane, studies.new_id(), "Study", files=1, size=1, key=key), key)
        studies.ledger.finish(studies.ledger.claim(), result={"patient_key": "p", **facts})
        return record

    with ServiceDatabase(tmp_path / "service.sqlite") as database, Ledger(tmp_path / "jobs.sqlite") as ledger:
        studies = Studies(database, ledger, ResultFolders(tmp_path / "results"), tmp_path)
        read(studies, first)
        return other_studies(studies, jane, read(studies, second))


@pytest.mark.parametrize(
    ("date", "mine", "order"),
    [
        ("20240101", "20240102", StudyOrder.EARLIER),
        ("20240103", "20240102", StudyOrder.LATER),
        ("20240102", "20240102", StudyOrder.SAME_DAY),
        ("", "20240102", StudyOrder.UNKNOWN),
        ("20240103", "", StudyOrder.UNKNOWN),
        ("", "", StudyOrder.UNKNOWN),
        ("2024", "20240102", StudyOrder.UNKNOWN),
        ("unknown!", "20240102", StudyOrder.UNKNOWN),
    ],
)
def test_order_is_that_of_dates_that_both_state(tmp_path, date, mine, order):
    [other] = others_of(tmp_path, {"study_date": date}, {"study_date": mine})
    assert other.order is order


@pytest.mark.parametrize(
    ("first", "second", "is_shown"),
    [
        ({"birth_key": "a", "sex": "F"}, {"birth_key": "a", "sex": "F"}, True),
        ({"birth_key": "a", "sex": ""}, {"birth_key": "", "sex": "F"}, True),
        ({}, {"birth_key": "a", "sex": "F"}, True),
        ({"birth_key": "a", "sex": "F"}, {"birth_key": "b", "sex": "F"}, False),
        ({"birth_key": "", "sex": "F"}, {"birth_key": "", "sex": "M"}, False),
    ],
)
def test_one_patient_id_of_two_birth_dates_or_sexes_is_of_two_patients(tmp_path, first, second, is_shown):
    assert bool(others_of(tmp_path, first, second)) is is_shown
