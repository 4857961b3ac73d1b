"""A folder of DICOM studies -> a manifest with a row for every study: its best series, by the package's own rule."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, split_problems
from jcs_ct.data.sources.referring_segmentations import ReferringSegmentations, read_segmentations
from jcs_ct.data.sources.study_labels import StudyLabel, StudyLabels, unmatched
from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.files import replacing
from jcs_ct.imaging.series import DicomSeries, DicomSurvey, survey_dicom
from jcs_ct.imaging.series_choice import choose_series, refuse
from jcs_ct.imaging.study_files import FileKind, file_kind, find_files
from jcs_ct.progress import CountProgress

#: Shortest salt that is accepted: less can be tried out.
LEAST_SALT = 16


@dataclass(frozen=True)
class FoundStudies:
    """What a folder holds.

    Args:
        manifest: A row a study.
        refused: One line for every study that the gate refuses: where, and why.
        lines_unused: Lines of the table of labels that belong to no study.
        lesion_kinds: What the segments of the Segmentations are of that were taken as masks.
    """

    manifest: Manifest
    refused: tuple[str, ...]
    lines_unused: int = 0
    lesion_kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmentationRule:
    """Which Segmentations among the studies are their lesion masks.

    Args:
        segment_type: Regular expression found in the type of the segments that are lesion, or in their label where
            segments of one type have several; None takes all, where they are of one kind.
    """

    segment_type: str | None = None


@dataclass(frozen=True)
class _Place:
    """One series and where its files lie."""

    series: DicomSeries
    folder: Path
    survey: DicomSurvey


def read_salt(path: Path) -> bytes:
    """The secret that pseudonyms follow from; made, for the owner's eyes only, where there is none.

    Raises:
        ConfigError: it cannot be read, or is shorter than :data:`LEAST_SALT` bytes.
        OutputError: it cannot be written.
    """
    if not path.exists():
        with replacing(path, private=True) as temporary:
            temporary.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    try:
        salt = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the salt {path}: {error.strerror}") from error
    if len(salt) < LEAST_SALT:
        raise ConfigError(
            f"the salt {path} must have at least {LEAST_SALT} bytes, it has {len(salt)}; make it longer"
        )
    return salt


def pseudonym(salt: bytes, *keys: str) -> str:
    """A patient's name in manifests: the first of ``keys`` that is there under a keyed hash (HMAC-SHA256).

    Without the salt nobody can try out patient numbers until one fits, as with a bare hash.
    """
    key = next((one for one in keys if one), "")
    return "p" + hmac.new(salt, key.encode(), hashlib.sha256).hexdigest()[:16]


def find_studies(
    folder: Path,
    *,
    salt: bytes,
    labels: StudyLabels | None = None,
    segmentations: SegmentationRule | None = None,
    seed: int = 0,
    progress: CountProgress | None = None,
) -> FoundStudies:
    """Read the headers of everything below ``folder`` and choose one series of every study.

    Scanner, age, sex and thickness come from the headers. A patient without an id is named after the study. Splits
    are the table's where it gives them, else 70/15/15 by patient.

    Args:
        folder: Its subfolders are looked at one by one, each with everything below it; no pixels are decoded.
        salt: For :func:`pseudonym`.
        labels: Table of labels, or None.
        segmentations: Take the Segmentation that refers to a study's series as its mask where the table names none;
            the study is then labelled infected where the table gives no label.
        seed: Of the split.
        progress: Called with (subfolders done, total).

    Raises:
        ConfigError: no DICOM files, a table of which no line fits, a patient whom it puts into two splits, or
            Segmentations of several types, or of none that is wanted.
        StudyError: a Segmentation cannot be read (UNREADABLE).
    """
    places, refused = _survey(folder, progress)
    places, masks = _masks_apart(places, segmentations)
    studies: dict[tuple[str, str], list[_Place]] = defaultdict(list)
    for place in places:
        first = place.series.headers[0]
        studies[first.patient_key, first.study_key or place.series.identifier].append(place)
    if not studies and not refused:
        raise ConfigError(f"no DICOM files below {folder}; give the folder that holds the studies")
    rows: list[ManifestRow] = []
    used: list[StudyLabel] = []
    for (patient_key, study_key), found in studies.items():
        where = _shown(found[0].folder, folder)
        try:
            chosen = _choose(found, folder)
        except StudyError as error:
            refused.append(f"{where}: {error}")
            continue
        line = labels.of(patient_key=patient_key, study_key=study_key, path=chosen.folder) if labels else None
        if line is not None:
            used.append(line)
        line = line or StudyLabel("")
        referring = masks.of({header.series_key for header in chosen.series.headers}) if line.mask is None else ()
        if len(referring) > 1:
            refused.append(f"{where}: {len(referring)} Segmentations refer to its series; name one in --labels")
            continue
        patient = pseudonym(salt, patient_key, study_key)
        rows.append(_row(chosen, patient, _with_mask(line, referring, masks), folder.resolve().name))
    if labels is not None and rows and not used:
        raise ConfigError(
            f"none of the {len(labels)} line(s) of the table of labels fits one of {len(rows)} studies by its column "
            f"{labels.key}; patient is the PatientID, study the Study Instance UID, folder a path below {folder}"
        )
    manifest = Manifest(_with_splits(rows, seed))
    unused = unmatched(labels, used) if labels is not None else 0
    return FoundStudies(manifest, tuple(refused), unused, tuple(sorted(masks.kinds)))


def _masks_apart(
    places: Sequence[_Place], rule: SegmentationRule | None
) -> tuple[list[_Place], ReferringSegmentations]:
    """The series that are none of Segmentations, and those that are, read; all as they are without a rule."""
    if rule is None:
        return list(places), ReferringSegmentations()
    kept: list[_Place] = []
    files: dict[Path, None] = {}
    for place in places:
        if all(header.modality == "SEG" for header in place.series.headers):
            files.update((place.survey.files[header.file_index], None) for header in place.series.headers)
        else:
            kept.append(place)
    return kept, read_segmentations(list(files), rule.segment_type)


def _with_mask(line: StudyLabel, referring: Sequence[Path], masks: ReferringSegmentations) -> StudyLabel:
    """A study's line with the Segmentation that refers to it; a mask says infected where the table says nothing."""
    if not referring:
        return line
    (mask,) = referring
    label = 1 if line.label is None else line.label
    lesion_labels = line.lesion_labels or masks.lesion_labels.get(mask, ())
    return replace(line, mask=mask, label=label, lesion_labels=lesion_labels)


def _survey(folder: Path, progress: CountProgress | None) -> tuple[list[_Place], list[str]]:
    """Every series below ``folder``, and what could not even be looked at."""
    parts = list(_parts(folder))
    places: list[_Place] = []
    refused: list[str] = []
    for done, (name, files) in enumerate(parts, start=1):
        try:
            paths = files if isinstance(files, list) else list(find_files(files).dicom)
        except StudyError as error:
            if error.code is not GateCode.NO_IMAGES:  # an empty folder is nothing to speak of
                refused.append(f"{name}: {error}")
            continue
        survey = survey_dicom(paths)
        places += [_Place(one, _folder_of(one, survey), survey) for one in survey.series]
        if survey.damaged and not survey.series:
            refused.append(f"{name}: {refuse(survey.damaged[:3])}")
        if progress is not None:
            progress(done, len(parts))
    return places, refused


def _parts(folder: Path) -> Iterator[tuple[str, Path | list[Path]]]:
    """What is read at once: every subfolder, and the DICOM files that lie in ``folder`` itself."""
    try:
        inside = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
        own = [one for one in inside if one.is_file() and file_kind(one) is FileKind.DICOM]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror or type(error).__name__}") from error
    if own:
        yield ".", own
    yield from ((one.name, one) for one in inside if one.is_dir() and not one.is_symlink())


def _folder_of(series: DicomSeries, survey: DicomSurvey) -> Path:
    """The deepest folder that holds all files of a series."""
    return Path(os.path.commonpath([survey.files[header.file_index].parent for header in series.headers]))


def _choose(found: Sequence[_Place], root: Path) -> _Place:
    """The best series of a study.

    Raises:
        StudyError: the gate refuses all, none is obviously best, or its folder has files that cannot be read.
    """
    distinct = {place.series.identifier: place.series for place in found}
    series = sorted(distinct.values(), key=lambda one: (*one.rank(), one.identifier))
    chosen = choose_series(DicomSurvey((), tuple(series)), None, lenient=False)
    places = [place for place in found if place.series.identifier == chosen.identifier]
    if len(places) > 1:
        listed = ", ".join(_shown(place.folder, root) for place in places)
        raise StudyError(GateCode.MIXED_SERIES, f"files of one series lie in several folders ({listed}); keep one")
    place = places[0]
    if place.survey.damaged:
        damaged = survey_dicom(find_files(place.folder).dicom).damaged
        if damaged:
            raise refuse(damaged[:3])
    return place


def _row(place: _Place, patient: str, line: StudyLabel, source: str) -> ManifestRow:
    first = place.series.headers[0]
    return ManifestRow(
        path=place.folder,
        patient=patient,
        label=line.label,
        mask=line.mask,
        split=line.split,
        source=source,
        scanner=" ".join(part for part in (first.manufacturer, first.model) if part),
        age=first.age_years,
        sex=first.sex,
        thickness_mm=first.slice_thickness,
        series=place.series.identifier,
        lesion_labels=() if line.mask is None else line.lesion_labels,
    )


def _with_splits(rows: Sequence[ManifestRow], seed: int) -> tuple[ManifestRow, ...]:
    """Splits that the table gives hold for all studies of a patient; the others are drawn."""
    given = {row.patient: row.split for row in rows if row.split}
    problems = split_problems(row for row in rows if row.split)
    if problems:
        raise ConfigError("\n  ".join(["the table of labels cannot be used:", *problems]))
    drawn = assign_splits(rows, val=0.15, test=0.15, seed=seed)
    return tuple(replace(row, split=given.get(row.patient, row.split)) for row in drawn)


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
