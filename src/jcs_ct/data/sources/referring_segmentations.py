"""DICOM Segmentations that lie among studies, by the series that they refer to."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.errors import ConfigError
from jcs_ct.imaging.elements import to_text
from jcs_ct.imaging.headers import identity_hash
from jcs_ct.imaging.identifiers import read_elements
from jcs_ct.imaging.segmentations import segment_kinds

_KEYWORDS = ("ReferencedSeriesSequence", "SegmentSequence")


@dataclass(frozen=True)
class ReferringSegmentations:
    """Which Segmentations are of which series.

    Args:
        by_series: Files by the :func:`identity_hash` of a series that they refer to.
        kinds: What the segments are of, and in how many files; those that were asked for.
        lesion_labels: Numbers of a file's segments, where they are of several kinds that were asked for.
    """

    by_series: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    lesion_labels: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)

    def of(self, series_keys: Collection[str]) -> tuple[Path, ...]:
        """The files that refer to any of these series."""
        return tuple(dict.fromkeys(path for key in series_keys for path in self.by_series.get(key, ())))


def read_segmentations(paths: Sequence[Path], wanted: str | None) -> ReferringSegmentations:
    """Read what Segmentations refer to and what their segments are (:func:`segment_kinds`).

    Args:
        paths: Segmentations.
        wanted: Regular expression that is found in the kind of the segments that are lesion; None where all are of
            one kind.

    Raises:
        ConfigError: no regular expression, several kinds and none wanted, or none of the wanted kind.
        StudyError: a file cannot be read (UNREADABLE).
    """
    by_series: dict[str, list[Path]] = defaultdict(list)
    kinds: Counter[str] = Counter()
    pattern = _compiled(wanted)
    headers = read_elements(paths, _KEYWORDS)
    numbered = [segment_kinds(header) for header in headers]
    found = [sorted(set(kinds_by_number.values())) for kinds_by_number in numbered]
    lesion_labels = {}
    for path, header, own, kinds_by_number in zip(paths, headers, found, numbered, strict=True):
        if not all(pattern.search(kind) for kind in own):
            continue
        kinds.update(own)
        if len(own) > 1:
            lesion_labels[path] = tuple(sorted(kinds_by_number))
        for item in header.get("ReferencedSeriesSequence") or []:
            by_series[identity_hash(to_text(item.get("SeriesInstanceUID")))].append(path)
    every = Counter(kind for own in found for kind in own)
    listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(every.items()))
    if paths and not kinds:
        raise ConfigError(
            f"no Segmentation is of the type {wanted!r} alone; there are: {listed}; name a mask and its "
            "lesion_labels in --labels"
        )
    if wanted is None and len(every) > 1:
        raise ConfigError(
            f"Segmentations of {len(every)} types refer to the studies: {listed}; say which are lesion, as "
            "--segment-type opacity"
        )
    return ReferringSegmentations({key: tuple(files) for key, files in by_series.items()}, dict(kinds), lesion_labels)


def _compiled(wanted: str | None) -> re.Pattern[str]:
    try:
        return re.compile(wanted or "", re.IGNORECASE)
    except re.error as error:
        raise ConfigError(f"--segment-type {wanted!r} is no regular expression: {error}") from error
