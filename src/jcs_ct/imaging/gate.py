"""The geometry gate: pure checks of header facts, before any pixel is decoded and any network runs.

Every check returns findings with numbers; all of a series' findings are reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jcs_ct.imaging.gate_content import (
    check_localizer,
    check_modality,
    check_one_series,
    check_origin,
    check_rescale,
    check_size,
    check_syntax,
    check_whole,
)
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_geometry import (
    check_axial,
    check_centres,
    check_count,
    check_coverage,
    check_orientation,
    check_pixel_spacing,
    check_positions,
    check_steps,
    check_tilt,
)
from jcs_ct.imaging.headers import SliceHeader
from jcs_ct.imaging.stack import Stack, stack_slices


@dataclass(frozen=True, eq=False)
class Examination:
    """A series as the gate sees it.

    Args:
        order: Indices of the headers from the most superior slice down.
        stack: Geometry of the ordered slices, or None when positions are missing or contradictory.
        findings: In order of weight: the first refusal names the study's code.
    """

    order: tuple[int, ...]
    stack: Stack | None
    findings: tuple[Finding, ...]

    def refusals(self, *, lenient: bool) -> tuple[Finding, ...]:
        """The findings that refuse the series."""
        severities = {Severity.REFUSED} if lenient else {Severity.REFUSED, Severity.GEOMETRY}
        return tuple(finding for finding in self.findings if finding.severity in severities)

    @property
    def is_measurable(self) -> bool:
        """Whether lengths and volumes may be stated."""
        return self.stack is not None and not any(f.severity is Severity.GEOMETRY for f in self.findings)


def examine(headers: Sequence[SliceHeader]) -> Examination:
    """Run every check on the slices of one series.

    Args:
        headers: At least one, in any order.
    """
    identity = [*check_modality(headers), *check_localizer(headers), *check_whole(headers)]
    if any(finding.severity is Severity.REFUSED for finding in identity):
        return Examination(tuple(range(len(headers))), None, tuple(identity))
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
        *check_rescale(ordered),
        *placed,
        *check_one_series(ordered),
    ]
    if stack is not None:
        findings += [
            *check_pixel_spacing(ordered),
            *check_axial(stack),
            *check_orientation(ordered, stack),
            *check_tilt(ordered, stack),
        ]
        findings += [*check_steps(stack), *check_centres(stack), *check_coverage(ordered, stack)]
    findings += [*check_count(ordered), *check_origin(ordered)]
    weight = [Severity.REFUSED, Severity.GEOMETRY, Severity.NOTE]
    findings.sort(key=lambda finding: weight.index(finding.severity))
    return Examination(tuple(order), stack, tuple(findings))
