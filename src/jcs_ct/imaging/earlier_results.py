"""Results of an earlier reading among the files of a study or a cohort: they are none of its images."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

#: The record of a run, written last: it names every result beside it.
RUN_RECORD = "run.json"
_MOST_BYTES = 1 << 22
#: What results and the folders of some of them are called.
_RESULT = re.compile(
    r"(run|report)\.json|report\.html|report\.pdf\.dcm|(lesions|densities|activation)\.nii\.gz|overlay|"
    r"(lesions\.seg|activation\.pm|findings\.sr|slice-\d{4}\.sc)\.dcm"
)


def is_result_name(name: str) -> bool:
    """Whether a file or folder is called as one that a reading writes."""
    return _RESULT.fullmatch(name) is not None


def earlier_results(folder: Path) -> frozenset[Path]:
    """Files in and below ``folder`` that the record of an earlier run there names, and that have their size still.

    A record that is none of jcs-ct's, or damaged, names nothing.
    """
    record = folder / RUN_RECORD
    try:
        if not record.is_file() or record.stat().st_size > _MOST_BYTES:
            return frozenset()
        content = json.loads(record.read_bytes())
        if content["software"]["name"] != "jcs-ct":
            return frozenset()
        named = {PurePosixPath(one["file"]): one["byte_count"] for one in content["outputs"]}
    except (OSError, ValueError, LookupError, TypeError):
        return frozenset()
    below = {folder / name: size for name, size in named.items() if not name.is_absolute() and ".." not in name.parts}
    return frozenset({record, *(path for path, size in below.items() if _has_size(path, size))})


def _has_size(path: Path, size: Any) -> bool:
    try:
        return bool(path.stat().st_size == size)
    except OSError:
        return False
