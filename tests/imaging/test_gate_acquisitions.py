"""Two acquisitions or reconstructions in one series are told at any shift, regular series never refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate import examine
from jcs_ct.imaging.headers import CT_SOP_CLASSES, SliceHeader

STEPS_MM = (0.5, 0.625, 0.75, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0)


def header(z, number, **values):
    """One slice at height ``z``; positions are all that matters here."""
    return SliceHeader(
        **{
            "file_index": number,
            "instance_number": number + 1,
            "position": (-150.0, -150.0, z),
            "modality": "CT",
            "sop_class": min(CT_SOP_CLASSES),
            "transfer_syntax": "1.2.840.10008.1.2.1",
            "rows": 8,
            "columns": 8,
            "bits_allocated": 16,
            "bits_stored": 12,
            "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            "pixel_spacing": (0.7, 0.7),
            "slope": 1.0,
            "intercept": -1024.0,
            "pixel_bytes": 128,
            "acquisition_number": 1,
            "acquisition_time": 43_200 + 0.1 * number,
            "content_time": 43_260 + 0.3 * number,
            **values,
        }
    )


def series(count, step_mm, *, shift_mm=0.0, decimals=3, **values):
    return [header(round(-step_mm * n - shift_mm, decimals), n, **values) for n in range(count)]


def codes(headers):
    return {finding.code for finding in examine(headers).refusals(lenient=False)}


#: What a second acquisition says otherwise than the first, beside its positions.
WITNESSES = {
    "acquisition number": {"acquisition_number": 2},
    "acquisition time": {"acquisition_time": 43_290.0},
    "content time": {"content_time": 43_900.0},
    "trigger time": {"trigger_time": 700.0},
    "temporal position": {"temporal_position": 2},
    "contrast agent": {"contrast": "another"},
    "slice thickness": {"slice_thickness": 5.0},
    "tube voltage": {"kvp": 80.0},
    "kernel": {"kernel": "Br64"},
}
STATED = {"trigger_time": 300.0, "temporal_position": 1, "slice_thickness": 1.0, "kvp": 120.0, "kernel": "Br40"}


@pytest.mark.parametrize("witness", WITNESSES)
@settings(deadline=None, max_examples=25)
@given(st.sampled_from(STEPS_MM), st.floats(0.02, 0.98), st.integers(5, 60))
def test_interleaved_acquisitions_never_pass(witness, step_mm, share, count):
    second = series(count, step_mm, shift_mm=share * step_mm, **{**STATED, **WITNESSES[witness]})
    assert codes([*series(count, step_mm, **STATED), *second]), (step_mm, share, count)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(STEPS_MM), st.floats(0.02, 0.98), st.integers(6, 60))
def test_positions_alone_tell_all_but_half_a_step(step_mm, share, count):
    stack = series(count, step_mm) + series(count, step_mm, shift_mm=share * step_mm)
    stack = [replace(one, instance_number=None, acquisition_time=None, content_time=None) for one in stack]
    # Positions that are all whole tenths may be rounded: steps of 0.2 and 0.3 mm are then no less likely 0.25 each.
    tenths = all(abs(10 * one - round(10 * one)) < 1e-3 for header in stack for one in header.position)
    if abs(share - 0.5) > 0.01 + 0.003 / step_mm and not (tenths and abs(share - 0.5) * step_mm < 0.053):
        assert codes(stack) <= {GateCode.MIXED_SERIES, GateCode.MIXED_SPACING, GateCode.DUPLICATE_POSITION}
        assert codes(stack)


def test_a_shift_of_almost_half_a_step_is_told_with_its_steps():
    stack = series(40, 1.25) + series(40, 1.25, shift_mm=0.6)
    stack = [replace(one, instance_number=None, acquisition_time=None, content_time=None) for one in stack]
    (finding,) = examine(stack).refusals(lenient=False)
    assert finding.message.startswith(
        "steps between slices alternate between 0.600 and 0.650 mm: 2 series interleave"
    )


def test_numbers_that_go_on_in_the_second_series_are_a_witness():
    second = [replace(one, instance_number=41 + number) for number, one in enumerate(series(40, 2.0, shift_mm=1.0))]
    (finding,) = examine([*series(40, 2.0), *second]).refusals(lenient=False)
    assert "instance numbers jump to and fro along the stack" in finding.message


def test_three_phases_interleave():
    phases = [series(20, 3.0, shift_mm=shift, temporal_position=shift) for shift in (0, 1, 2)]
    assert codes([one for phase in phases for one in phase]) == {GateCode.MIXED_SERIES}


@settings(deadline=None, max_examples=150)
@example(step_mm=0.5, count=30, decimals=1, style="whole seconds", seed=4)
@example(step_mm=0.5, count=57, decimals=1, style="shuffled", seed=30)
@example(step_mm=0.5, count=57, decimals=1, style="shuffled", seed=607)
@given(
    st.sampled_from(STEPS_MM),
    st.integers(5, 200),
    st.integers(1, 4),
    st.sampled_from(("helical", "blocks", "one number a slice", "shuffled", "bare", "whole seconds")),
    st.integers(0, 2**32 - 1),
)
def test_regular_series_are_never_refused(step_mm, count, decimals, style, seed):
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(count)
    headers = []
    for number, one in enumerate(series(count, step_mm, shift_mm=rng.uniform(-300, 300), decimals=decimals)):
        changes = {
            "helical": {},
            "blocks": {"acquisition_number": 1 + 3 * number // count, "content_time": 43_260.0 + rng.uniform(0, 3)},
            "one number a slice": {"acquisition_number": number + 1, "content_time": 43_260.0 + number // 4},
            "shuffled": {"instance_number": int(shuffled[number]), "content_time": 43_260.0 + rng.uniform(0, 60)},
            "bare": {"instance_number": None, "acquisition_time": None, "content_time": None},
            "whole seconds": {"acquisition_time": 43_200.0, "content_time": 43_260.0 + rng.integers(0, 9)},
        }[style]
        headers.append(replace(one, **changes))
    assert codes(headers) == set()


def test_acquisitions_behind_one_another_are_noted():
    headers = [replace(one, acquisition_number=1 + number // 50) for number, one in enumerate(series(100, 2.0))]
    examination = examine(headers)
    assert [finding.code for finding in examination.findings] == ["SEVERAL_ACQUISITIONS"]
    assert examination.is_measurable
