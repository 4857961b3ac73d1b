"""How much the burden changed between two studies of a patient."""

from __future__ import annotations

import pytest

from jcs_ct.service.comparing import burden_change


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


def test_change_is_this_study_less_the_earlier_one():
    rows = {row["name"]: row for row in burden_change(report(), report(percent_opacity=12.5, count=20, lungs=50))}
    assert rows["Opacity"] == {"name": "Opacity", "unit": "% of lung", "earlier": 20.0, "now": 12.5, "change": -7.5}
    assert rows["Infected slices"]["change"] == pytest.approx(40.0 - 25.0)
    assert rows["Volume of the lungs"]["change"] == 0.0


def test_what_was_not_measured_has_no_change():
    unsegmented = {**report(), "burden": None}
    rows = {row["name"]: row for row in burden_change(unsegmented, report(opacification_volume_ml=None))}
    assert (rows["Opacity"]["earlier"], rows["Opacity"]["now"], rows["Opacity"]["change"]) == (None, 20.0, None)
    assert rows["Volume of opacities"]["change"] is None
    assert rows["Infected slices"]["change"] == 0.0
