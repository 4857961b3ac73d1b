"""Whose slice a file is, told from its name."""

from __future__ import annotations

import re

from jcs_ct.errors import ConfigError


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
