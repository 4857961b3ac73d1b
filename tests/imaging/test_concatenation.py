"""An enhanced CT in several files: whole or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_content import check_concatenation
from jcs_ct.imaging.gate_finding import Severity
from jcs_ct.imaging.headers import SliceHeader


def parts(*frame_counts, total=None):
    """Headers of every frame of a concatenation, part by part."""
    headers, offset = [], 0
    for part, count in enumerate(frame_counts, start=1):
        one = SliceHeader(file_index=part - 1, frames=count, concatenation_key="c", concatenation_part=part)
        one = replace(one, concatenation_parts=total, frame_offset=offset)
        headers += [replace(one, frame=frame) for frame in range(1, count + 1)]
        offset += count
    return headers


def without(headers, part):
    return [one for one in headers if one.concatenation_part != part]


@pytest.mark.parametrize("total", [None, 3])
def test_a_whole_one_passes_in_any_order(total):
    findings = check_concatenation(parts(4, 4, 2, total=total)[::-1])
    assert [finding.severity for finding in findings] == ([Severity.NOTE] if total is None else [])
    assert check_concatenation([SliceHeader()]) == []


def test_a_last_part_that_may_be_missing_is_noted():
    (finding,) = check_concatenation(without(parts(4, 4, 2), 3))
    assert finding.severity is Severity.NOTE
    assert "does not say how many: 2 are here, and the last may be missing" in finding.message


@pytest.mark.parametrize(("part", "total"), [(1, None), (2, None), (1, 3), (2, 3), (3, 3)])
def test_a_missing_part_is_named(part, total):
    (finding,) = check_concatenation(without(parts(4, 4, 2, total=total), part))
    assert finding.code is GateCode.TRUNCATED
    assert f"an image in 3 parts lacks part {part};" in finding.message


def test_missing_frames_are_counted_where_parts_have_no_number():
    headers = [replace(one, concatenation_part=None) for one in without(parts(4, 3, 2), 2)]
    finding = check_concatenation(headers)[0]
    assert "lacks 3 frame(s) before its frame 7" in finding.message


def test_two_images_are_told_apart():
    other = [replace(one, concatenation_key="d", file_index=one.file_index + 3) for one in parts(4, 4, total=2)]
    assert check_concatenation([*parts(5, 5, 5, total=3), *other]) == []
