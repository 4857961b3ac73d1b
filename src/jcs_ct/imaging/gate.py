"""The geometry gate: pure checks of header facts, before any pixel is decoded and any network runs.

Every check returns findings with numbers; all of a series' findings are reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jcs_ct.axes import AS_STORED, AxisTurn
from jcs_ct.imaging.gate_acquisitions import check_acquisitions, check_alternating_steps, note_acquisitions
from jcs_ct.imaging.gate_axes import check_axes, check_patient_position, check_stored_plane
from jcs_ct.imaging.gate_content import (
    check_concatenation,
    check_frames,
    check_localizer,
    check_modality,
    check_one_series,
    check_origin,
    check_rescale,
    check_size,
    check_syntax,
    check_whole,
)
from jcs_ct.imaging.gate_finding import Finding, Severity, refusing
from jcs_ct.imaging.gate_geometry import (
    check_centres,
    check_count,
    check_coverage,
    check_orientation,
    check_pixel_spacing,
    check_positions,
    check_sparse,
    check_steps,
    check_tilt,
)
from jcs_ct.imaging.headers import SliceHeader
from jcs_ct.imaging.stack import Stack, slice_axes, stack_slices, usual_orientation


@dataclass(frozen=True, eq=False)
class Examination:
    """A series as the gate sees it.

    Args:
        order: Indices of the headers from the most superior slice down.
        stack: Geometry of the ordered slices, or None when positions are missing or contradictory.
        turn: From the ordered slices to the patient's axes; None when no orientation is stated.
        findings: In order of weight: the first refusal names the study's code.
    """

    order: tuple[int, ...]
    stack: Stack | None
    turn: AxisTurn | None
    findings: tuple[Finding, ...]

    def refusals(self, *, lenient: bool) -> tuple[Finding, ...]:
        """The findings that refuse the series."""
        return refusing(self.findings, lenient=lenient)

    def joined_by(self, findings: Sequence[Finding]) -> Examination:
        """The same with what the voxels say."""
        return replace(self, findings=(*self.findings, *findings))

    @property
    def is_measurable(self) -> bool:
        """Whether lengths and volumes may be stated."""
        return self.stack is not None and not any(f.severity is Severity.GEOMETRY for f in self.findings)


def examine(headers: Sequence[SliceHeader]) -> Examination:
    """Run every check on the slices of one series.

    Args:
        headers: At least one, in any order.
    """
    identity = [*check_modality(headers), *check_localizer(headers), *check_whole(headers), *check_frames(headers)]
    if any(finding.severity is Severity.REFUSED for finding in identity):
        return Examination(tuple(range(len(headers))), None, None, tuple(identity))
    placed = check_positions(headers)
    if placed:
        order = sorted(range(len(headers)), key=lambda i: (headers[i].instance_number or 0, headers[i].file_index))
        stack = None
    else:
        stack = stack_slices(headers)
        order = list(stack.order)
    ordered = [headers[index] for index in order]
    findings = [
        *identity,
        *check_syntax(ordered),
        *check_size(ordered),
        *check_concatenation(ordered),
        *check_rescale(ordered),
        *placed,
        *check_one_series(ordered),
        *check_acquisitions(ordered),
    ]
    turn, found = _turn(ordered, stack)
    findings += found
    if stack is not None:
        findings += [
            *check_pixel_spacing(ordered),
            *check_orientation(ordered, stack),
            *check_tilt(ordered, stack),
            *(check_steps(stack) or check_alternating_steps(ordered, stack)),
            *check_centres(stack),
            *check_sparse(ordered, stack),
        ]
    findings += note_acquisitions(ordered)
    findings += _check_extent(ordered, stack, turn or AS_STORED)
    findings += [*check_origin(ordered), *check_patient_position(ordered)]
    if turn is not None:
        findings += check_stored_plane(turn, stack, findings)
    weight = [Severity.REFUSED, Severity.GEOMETRY, Severity.NOTE]
    findings.sort(key=lambda finding: weight.index(finding.severity))
    return Examination(tuple(order), stack, turn, tuple(findings))


def _check_extent(ordered: Sequence[SliceHeader], stack: Stack | None, turn: AxisTurn) -> list[Finding]:
    """How many axial slices there are, and how far they and the stored ones reach."""
    counts = (len(ordered), ordered[0].rows, ordered[0].columns)
    slice_axis = turn.order[0]
    findings = check_count(min(counts[0], counts[slice_axis]))
    if stack is None or stack.affine is None:
        return findings
    steps_mm = np.linalg.norm(stack.axes, axis=0)
    findings += check_coverage(counts[slice_axis], float(steps_mm[slice_axis]))
    if slice_axis != 0:
        findings += check_coverage(counts[0], float(steps_mm[0]), way="across")
    return findings


def _turn(ordered: Sequence[SliceHeader], stack: Stack | None) -> tuple[AxisTurn | None, list[Finding]]:
    """The turn to the patient's axes, from the directions alone where nothing else is known."""
    if stack is not None:
        return check_axes(stack.axes)
    usual = usual_orientation(ordered)
    if usual is None:
        return None, []
    turn, findings = check_axes(slice_axes(usual[0], usual[1]))
    return turn, [finding for finding in findings if finding.severity is not Severity.NOTE]
