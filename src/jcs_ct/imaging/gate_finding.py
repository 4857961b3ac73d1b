"""What a check of the gate says: code, numbers, what to do, and what it leads to."""

from __future__ import annotations

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


def count_of(number: int, total: int) -> str:
    """How messages count slices."""
    return f"all {total} slices" if number == total else f"{number} of {total} slices"
