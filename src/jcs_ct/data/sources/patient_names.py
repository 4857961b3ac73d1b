"""Whose slice a file is, told from its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from jcs_ct.errors import ConfigError

#: Of a slice's name: whose it is, and its number; and as a pattern of a path.
_NUMBERED = re.compile(r"(.+?)[-_. ]+\d+$")
_NUMBERED_PATTERN = "([^/]+?)[-_. ]+[0-9]+[.]"
_SHOWN = 3


def compile_patient_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression whose first group is the patient.

    Raises:
        ConfigError: it is none, or has no group.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the patient pattern {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise ConfigError(f"the patient pattern {pattern!r} needs a group in round brackets, as in '(c[0-9]+)_'")
    return compiled


def patient_in(path: str, pattern: re.Pattern[str]) -> str:
    """The patient that a path names; empty where the pattern is not found."""
    found = pattern.search(path)
    return "" if found is None else (found.group(1) or "")


def suggested_pattern(names: Iterable[PurePath]) -> str:
    """The patient pattern that files' names suggest, with the patients that it finds; empty where there is none.

    Every name must end in a number; what stands before it must be shared by some names and not by all.
    """
    names = list(names)
    found = [_NUMBERED.match(name.stem) for name in names]
    patients = sorted({match[1] for match in found if match is not None})
    if not names or None in found or len(patients) in (1, len(names)):
        return ""
    shown = ", ".join(patients[:_SHOWN]) + (", ..." if len(patients) > _SHOWN else "")
    return (
        f"if what stands before a name's last number is the patient ({len(patients)} of them: {shown}), "
        f"--patient-pattern '{_NUMBERED_PATTERN}'"
    )
