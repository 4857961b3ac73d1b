"""Names of patients: those that several data sets use, mostly for other people, and those written in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from jcs_ct.data.manifest.rows import Manifest, ManifestRow

_SHOWN = 5


def shared_name_notes(manifests: Mapping[str, Iterable[ManifestRow]]) -> list[str]:
    """One note on all patients whose name stands in several sources; none where there is none.

    Args:
        manifests: Rows by what stands for a source where they state none.
    """
    sources: dict[str, set[str]] = defaultdict(set)
    for named, rows in manifests.items():
        for row in rows:
            sources[row.patient].add(row.source or named)
    shared = [
        f"{patient!r} ({', '.join(sorted(found))})" for patient, found in sorted(sources.items()) if len(found) > 1
    ]
    if not shared:
        return []
    more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
    return [
        f"{len(shared)} patient(s) of one name in several sources: {', '.join(shared[:_SHOWN])}{more}; splits and "
        "folds take each for one patient. Where they are different people: jcs data join --prefix-source"
    ]


def alike_name_notes(rows: Iterable[ManifestRow]) -> list[str]:
    """One note on patients of a source in different splits or folds whose names are written differently at most.

    As ``007`` and ``7`` or ``7.0`` of a spreadsheet, or one word in other case, blanks or Unicode form.
    """
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        found[row.source, _plain(row.unit)][row.unit].add(f"{row.split} {row.fold}")
    parted = [
        " and ".join(repr(name) for name in sorted(names))
        for names in found.values()
        if len(names) > 1 and len(set().union(*names.values())) > 1
    ]
    if not parted:
        return []
    more = f" and {len(parted) - _SHOWN} more" if len(parted) > _SHOWN else ""
    return [
        f"patients whose names differ only in how they are written stand in several splits or folds: "
        f"{', '.join(sorted(parted)[:_SHOWN])}{more}. If each is one person, it is trained on and judged: give it "
        "one name and deal anew (jcs data split)"
    ]


def _plain(name: str) -> str:
    """A name without what spreadsheets change: leading zeros, ``.0``, blanks, case, Unicode form."""
    text = "".join(unicodedata.normalize("NFKC", name).casefold().split())
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"^(\d+)\.0$", r"\1", text))


def prefix_sources(manifest: Manifest, *, otherwise: str) -> Manifest:
    """Patients named ``source/patient``, so that those of other data sets are others; groups of one source likewise.

    Args:
        manifest: Before it is joined with others.
        otherwise: Stands for the source where a row states none.
    """
    of_group: dict[str, set[str]] = defaultdict(set)
    for row in manifest:
        of_group[row.group].add(row.source or otherwise)

    def prefixed(row: ManifestRow) -> ManifestRow:
        source = row.source or otherwise
        keeps_group = not row.group or len(of_group[row.group]) > 1
        group = row.group if keeps_group else f"{source}/{row.group}"
        return replace(row, patient=f"{source}/{row.patient}", group=group)

    return Manifest(tuple(prefixed(row) for row in manifest))
