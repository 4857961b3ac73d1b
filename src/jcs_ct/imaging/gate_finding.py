"""What a check of the gate says: code, numbers, what to do, and what it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from jcs_ct.errors import GateCode


class Severity(Enum):
    """What a finding leads to."""

    REFUSED = "refused"  #: refused in any case
    GEOMETRY = "geometry"  #: refused, unless lenient: then a flag, and every volume and length is withheld
    NOTE = "note"  #: a quality flag


@dataclass(frozen=True)
class Finding:
    """One thing the gate found: code, numbers, what to do."""

    code: GateCode | str
    message: str
    severity: Severity = Severity.GEOMETRY


def refusing(findings: Sequence[Finding], *, lenient: bool) -> tuple[Finding, ...]:
    """The findings that refuse a study."""
    severities = {Severity.REFUSED} if lenient else {Severity.REFUSED, Severity.GEOMETRY}
    return tuple(finding for finding in findings if finding.severity in severities)


def count_of(number: int, total: int) -> str:
    """How messages count slices."""
    return f"all {total} slices" if number == total else f"{number} of {total} slices"
