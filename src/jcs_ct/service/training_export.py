"""Corrected studies as training data: what readers painted goes back into the networks."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.data.sources.dicom_studies import FoundStudies, find_studies, read_salt
from jcs_ct.data.sources.study_labels import read_study_labels
from jcs_ct.errors import ConfigError
from jcs_ct.files import copy_file, prepare_output_folder, refuse_filled, replacing, staged_folder, write_text
from jcs_ct.jobs import Ledger, ResultFolders
from jcs_ct.reporting.dicom_results import SEG_NAME
from jcs_ct.service.database import JOBS, PATIENTS_SALT, RECORD, ServiceDatabase, require_record
from jcs_ct.service.studies import Studies, StudyRecord

_MANIFEST, _SALT = "manifest.csv", "studies.salt"


@dataclass(frozen=True)
class ExportedStudies:
    """What was exported.

    Args:
        manifest: The table, a row a study.
        studies: How many studies have a correction and are DICOM.
        left_out: Corrected studies that are no DICOM, whose sent files are gone, or whose lesions are in no
            Segmentation.
        refused: What the maker of manifests cannot use, a line each.
    """

    manifest: Path
    studies: int
    left_out: int
    refused: tuple[str, ...]


def export_corrected(folder: Path, output: Path) -> ExportedStudies:
    """Write the newest correction of every study, with its images, as a manifest of studies; all of it, or nothing.

    Of a series that was sent twice the newer correction is taken.
    ``output/studies/`` holds copies of the images, ``output/masks/`` of the readers' Segmentations; ``labels.csv``
    says what is said of each, ``manifest.csv`` is the table with patients under pseudonyms (key in ``studies.salt``),
    the same in every export of a page: else a patient of two exports would be two, trained on and judged.
    A study whose correction holds no lesion is labelled uninfected.

    Args:
        folder: Of a page; it may be running.
        output: Must be new or empty.

    Raises:
        NotFoundError: ``folder`` is not a page's.
        ConfigError: no corrected study, none that can be read as a series, or ``output`` holds something.
        OutputError: the folder cannot be written.
    """
    require_record(folder)
    refuse_filled(output)
    with staged_folder(output, last=_MANIFEST) as staging:
        database = ServiceDatabase(folder / RECORD)
        try:
            with Ledger(folder / JOBS) as ledger:
                studies = Studies(database, ledger, ResultFolders(folder / "results"), folder)
                lines, left_out = _lay_out(database, studies, staging)
        finally:
            database.close()
        if not lines:
            raise ConfigError(f"no DICOM study in {folder} was corrected; correct one on the page first")
        with replacing(staging / _SALT, private=True) as temporary:
            temporary.write_bytes(_own_salt(read_salt(folder / PATIENTS_SALT)))
        found = _find(staging, lines)
        found.manifest.write(staging / _MANIFEST)
    return ExportedStudies(output / _MANIFEST, len(lines), left_out, found.refused)


def _own_salt(salt: bytes) -> bytes:
    """The key of exports, which always follows from the page's own and does not give it away."""
    return hmac.new(salt, b"training export", hashlib.sha256).hexdigest().encode() + b"\n"


def _find(staging: Path, lines: Sequence[tuple[str, int, str]]) -> FoundStudies:
    """The laid out studies as a manifest, with the table that says what is said of each beside them."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("folder", "label", "mask"))
    writer.writerows(lines)
    write_text(staging / "labels.csv", table.getvalue())
    labels = read_study_labels(staging / "labels.csv", staging / "studies")
    found = find_studies(staging / "studies", salt=read_salt(staging / _SALT), labels=labels)
    if not found.manifest.rows:
        raise ConfigError("\n  ".join(["none of the corrected studies can be used:", *found.refused]))
    return found


def _lay_out(database: ServiceDatabase, studies: Studies, output: Path) -> tuple[list[tuple[str, int, str]], int]:
    """Images and masks of every corrected study; lines of the table, and how many studies cannot be used."""
    newest = database.rows(
        "SELECT study_id, max(version) AS version, moment, facts FROM corrections GROUP BY study_id "
        "ORDER BY moment DESC"  # SQLite takes moment and facts from the row of the newest version
    )
    lines: list[tuple[str, int, str]] = []
    left_out, seen = 0, set()
    for row in newest:
        record = studies.find(row["study_id"])
        if record is None:  # deleted
            continue
        sent = _images(studies, record)
        job = studies.ledger.job(record.job_id)
        if sent is None or job is None or job.result.get("kind") != "dicom":
            left_out += 1
            continue
        if job.result["identifier"] in seen:  # the same series was sent twice: the newest correction counts
            continue
        seen.add(job.result["identifier"])
        seg = studies.corrections(record.study_id) / f"{row['version']:04d}" / SEG_NAME
        if json.loads(row["facts"]).get("lesion_count") and not seg.is_file():
            left_out += 1
            continue
        _copy_tree(sent, output / "studies" / record.study_id)
        mask = ""
        if seg.is_file():
            mask = f"masks/{record.study_id}.seg.dcm"
            prepare_output_folder(output / "masks")
            copy_file(seg, output / mask)
        lines.append((record.study_id, int(bool(mask)), mask))
    return lines, left_out


def _images(studies: Studies, record: StudyRecord) -> Path | None:
    sent = studies.sent(record.study_id)
    unpacked = sent.with_name(f"{sent.name}-unpacked")
    return next((place for place in (unpacked, sent) if place.is_dir()), None)


def _copy_tree(source: Path, target: Path) -> None:
    """Every file below ``source``, at the same place below ``target``."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / path.relative_to(source)
        prepare_output_folder(place.parent)
        copy_file(path, place)
