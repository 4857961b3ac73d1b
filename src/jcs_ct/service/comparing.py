"""Other studies of the same patient, and how much the burden changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jcs_ct.jobs import State
from jcs_ct.service.studies import Studies, StudyRecord
from jcs_ct.service.users import User

#: What is compared: name in the report's burden, what a reader is told it is, unit.
_MEASURES = (
    ("percent_opacity", "Opacity", "% of lung"),
    ("opacification_volume_ml", "Volume of opacities", "ml"),
    ("percent_ground_glass", "Ground glass", "% of lung"),
    ("percent_consolidation", "Consolidation", "% of lung"),
    ("lung_volume_ml", "Volume of the lungs", "ml"),
)


class StudyOrder(StrEnum):
    """When another study was made, as seen from the one it is compared with; by the dates that both state."""

    EARLIER = "earlier"
    LATER = "later"
    SAME_DAY = "same day"
    UNKNOWN = "order not known"


@dataclass(frozen=True)
class OtherStudy:
    """Another study of the same patient that was read and that the reader may see.

    Args:
        study_id, label, added_at: As in the worklist.
        study_date: YYYYMMDD, as the images state it, or empty.
        order: When it was made.
        same_reading: Whether both were read by the same networks, operating point and version.
        facts: What the worklist shows of it.
    """

    study_id: str
    label: str
    added_at: float
    study_date: str
    order: StudyOrder
    same_reading: bool
    facts: Mapping[str, Any]


def other_studies(studies: Studies, user: User, record: StudyRecord) -> list[OtherStudy]:
    """Other studies of the patient, the newest first, undated ones last; empty where the images name no patient.

    Studies of one Patient ID that state two birth dates or sexes are of two patients: many anonymised ones share one.
    """
    mine = studies.job(record)
    key = mine.result.get("patient_key", "")
    if not key:
        return []
    found = []
    for other in studies.visible(user):
        job = studies.ledger.job(other.job_id)
        if other.study_id == record.study_id or job is None or job.state is not State.DONE:
            continue
        if job.result.get("patient_key", "") == key and not _contradict(job.result, mine.result):
            date = _stated_date(job.result)
            found.append(
                OtherStudy(
                    other.study_id,
                    other.label,
                    other.added_at,
                    date,
                    _order(date, _stated_date(mine.result)),
                    job.key.reading_id == mine.key.reading_id,
                    job.result,
                )
            )
    return sorted(found, key=lambda one: (one.study_date, one.added_at), reverse=True)


def _contradict(facts: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether both studies state the patient's birth date or sex, and differently; older readings kept neither."""
    stated = ((facts.get(name, ""), others.get(name, "")) for name in ("birth_key", "sex"))
    return any(one and other and one != other for one, other in stated)


def _stated_date(facts: Mapping[str, Any]) -> str:
    """YYYYMMDD (PS3.5 6.2, DA), or empty where the images state none that is one."""
    date = str(facts.get("study_date", ""))
    return date if len(date) == 8 and date.isdecimal() else ""


def _order(date: str, mine: str) -> StudyOrder:
    if not date or not mine:
        return StudyOrder.UNKNOWN
    if date == mine:
        return StudyOrder.SAME_DAY
    return StudyOrder.EARLIER if date < mine else StudyOrder.LATER


def burden_change(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two reports side by side, measure by measure.

    Args:
        first, second: ``report.json`` of each; the earlier one first, where that is known.

    Returns:
        ``name``, ``unit``, ``first``, ``second`` and ``change`` (the second less the first, None where one was not
        measured). Lesions that were not segmented because the patient rule is negative count as not measured, never
        as zero.
    """
    before, after = first["burden"] or {}, second["burden"] or {}
    rows = [_row(title, unit, before.get(name), after.get(name)) for name, title, unit in _MEASURES]
    share = [_share(report["verdict"]) for report in (first, second)]
    return [*rows, _row("Infected slices", "% of lung slices", *share)]


def _share(verdict: Mapping[str, Any]) -> float | None:
    count = verdict["lung_slice_count"]
    return 100.0 * verdict["positive_slice_count"] / count if count else None


def _row(title: str, unit: str, before: float | None, after: float | None) -> dict[str, Any]:
    change = None if before is None or after is None else after - before
    return {"name": title, "unit": unit, "first": before, "second": after, "change": change}
