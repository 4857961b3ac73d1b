"""DICOM series: what lies in files, grouped by series and judged by the gate."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate import Examination, examine
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.headers import SliceHeader, identity_hash
from jcs_ct.imaging.sandbox import run_in_child
from jcs_ct.imaging.split_series import note_joined, split_scans
from jcs_ct.imaging.study import (
    QualityFlag,
)

logger = logging.getLogger(__name__)

#: Kernel names or parts of them that are reconstructed sharp, for lung and bone.
_SHARP_WORDS = ("LUNG", "BONE", "EDGE", "SHARP", "CHEST")
_SHARP_FROM = 50  # Siemens kernels: B50 and above, Br54, Bl57, D60...


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The slices of one series and what the gate thinks of them."""

    identifier: str
    headers: tuple[SliceHeader, ...]
    examination: Examination

    @property
    def ordered(self) -> tuple[SliceHeader, ...]:
        """Headers from the most superior slice down."""
        return tuple(self.headers[index] for index in self.examination.order)

    @property
    def is_axial(self) -> bool:
        """Whether the slices are stored as axial ones; taken so where no orientation is stated."""
        turn = self.examination.turn
        return turn is None or turn.order[0] == 0

    @property
    def is_ct(self) -> bool:
        """Whether these are slices of a CT, and no localizer."""
        codes = {finding.code for finding in self.examination.findings}
        return not codes & {GateCode.NOT_CT, GateCode.LOCALIZER}

    def rank(self) -> tuple[bool, bool, bool, int, float, int]:
        """Sorts the better series first, by the rule of ``series_choice``."""
        first, stack = self.headers[0], self.examination.stack
        faulty = any(finding.severity is Severity.GEOMETRY for finding in self.examination.findings)
        step = round(stack.step_mm, 2) if stack is not None and stack.step_mm else float("inf")
        return not self.is_axial, faulty, first.is_derived, -len(self.headers), step, -kernel_sharpness(first.kernel)


@dataclass(frozen=True, eq=False)
class DicomSurvey:
    """Everything DICOM that lies at a path: series by rank, files that could not be read."""

    files: tuple[Path, ...]
    series: tuple[DicomSeries, ...]
    damaged: tuple[Finding, ...] = ()
    notes: tuple[QualityFlag, ...] = field(default=())


def named_by_place(index: int, count: int) -> str:
    """How messages name a file: by its place, since names may hold a patient's."""
    return "the file" if count == 1 else f"file {index + 1} of {count} (in name order)"


def kernel_sharpness(kernel: str) -> int:
    """1 for a lung or bone kernel, else 0; vendors' names only."""
    name = kernel.upper()
    if any(word in name for word in _SHARP_WORDS) or re.fullmatch(r"FC[58]\d|Y[A-D]|[LDE]", name):
        return 1
    number = re.search(r"[A-Z](\d\d)", name)
    return int(number is not None and not name.startswith("FC") and int(number.group(1)) >= _SHARP_FROM)


def survey_dicom(files: Sequence[Path], *, allow_deflated: bool = False, digest_pixels: bool = False) -> DicomSurvey:
    """Read the headers of ``files`` in the decoding child and group them by series.

    Localizers that share the identity of an axial series form a series of their own. With ``digest_pixels`` every
    file is read to its end, and its headers have the digest.
    """
    items = [{"path": str(path.absolute()), "file_index": index} for index, path in enumerate(files)]
    outcomes = run_in_child("headers", items, {"allow_deflated": allow_deflated, "digest_pixels": digest_pixels})
    groups: dict[str, list[SliceHeader]] = {}
    damaged: list[Finding] = []
    for index, outcome in enumerate(outcomes):
        if outcome.code is not None:
            message = f"{named_by_place(index, len(files))}: {outcome.message}"
            damaged.append(Finding(outcome.code, message))
            continue
        for values in outcome.value:
            header = SliceHeader.from_dict(values)
            if _is_fragment(header):
                message = (
                    f"{named_by_place(index, len(files))} is cut off within its header; copy it again from its source"
                )
                damaged.append(Finding(GateCode.TRUNCATED, message))
                break
            kind = "localizer" if "LOCALIZER" in header.image_type else ""
            key = identity_hash(header.series_key, kind) if kind else header.series_key or identity_hash("no series")
            groups.setdefault(key, []).append(header)
    series = [*_joined(groups), *(DicomSeries(key, tuple(one), examine(one)) for key, one in groups.items())]
    series.sort(key=lambda one: (*one.rank(), one.identifier))
    logger.info("read %d DICOM files: %d series, %d files unreadable", len(files), len(series), len(damaged))
    return DicomSurvey(tuple(files), tuple(series), tuple(damaged))


def _is_fragment(header: SliceHeader) -> bool:
    """Whether a file ends before its header says which series it is of: anything may have been cut off."""
    return not header.series_key and not header.whole and header.pixel_bytes == 0


def _joined(groups: dict[str, list[SliceHeader]]) -> list[DicomSeries]:
    """The scans that were split over several series, whose parts leave ``groups``."""
    joined = []
    for keys in split_scans(groups):
        parts = [groups.pop(key) for key in keys]
        headers = tuple(header for part in parts for header in part)
        examination = examine(headers).joined_by([note_joined([len(part) for part in parts])])
        joined.append(DicomSeries(identity_hash(*sorted(keys)), headers, examination))
    return joined
