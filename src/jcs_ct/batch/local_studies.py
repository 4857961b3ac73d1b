"""Studies in a folder tree, told apart by their headers: folders may hold several, and a study several folders.

Headers are read thousands of files at a time in one decoding child. What is kept of a study in between is a row and
the folders it lies in, about a kilobyte: memory grows with the studies of a cohort, not with their images.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jcs_ct.batch.cohort_manifest import FoundStudy, Kind
from jcs_ct.errors import ConfigError, GateCode, NotFoundError, StudyError
from jcs_ct.imaging.earlier_results import earlier_results
from jcs_ct.imaging.gate_geometry import MINIMUM_SLICES
from jcs_ct.imaging.headers import identity_hash
from jcs_ct.imaging.nifti_heads import read_nifti_head
from jcs_ct.imaging.series import DicomSeries, DicomSurvey, survey_dicom
from jcs_ct.imaging.series_choice import choose_series, refuse
from jcs_ct.imaging.study_files import FileKind, file_kind, natural_key
from jcs_ct.jobs import FailureCode

logger = logging.getLogger(__name__)

_MASK_MESSAGE = (
    f"the volume holds whole numbers of 8 bits, labels and no HU: a mask rather than a CT ({GateCode.NO_HU})"
)
#: DICOM files whose headers are read at once.
FILES_AT_ONCE = 2000
#: A folder with this file holds results of a batch, not studies.
OWN_FOLDER = "batch.json"


@dataclass(frozen=True)
class Gate:
    """How strictly headers are judged; see ``open_study``."""

    lenient: bool = False
    allow_deflated: bool = False


def find_in_folder(
    root: Path,
    gate: Gate | None = None,
    *,
    files_at_once: int = FILES_AT_ONCE,
    has_pixels: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[FoundStudy]:
    """Every study below ``root``, once each, in the order of their places.

    DICOM files are studies by their Study Instance UID. A folder of at least five pictures without DICOM beside them
    is a study, and so is every NIfTI volume and every archive. Hidden folders, linked folders, the output of a batch
    and results of earlier readings are left out.

    Args:
        root: Folder, or one file.
        gate: How strictly headers are judged.
        files_at_once: DICOM files whose headers are read at once.
        has_pixels: Whether the files hold their pixels, by which a study whose images were replaced is another one.
        progress: Called with the number of files seen.

    Raises:
        ConfigError: nothing is there, or it may not be read.
    """
    if not root.exists():
        raise NotFoundError(f"{root} does not exist; give the folder that holds the studies")
    search = _Search(root.absolute(), gate or Gate(), files_at_once, has_pixels, progress or (lambda seen: None))
    try:
        return search.run()
    except OSError as error:
        raise ConfigError(f"{root} cannot be read: {error.strerror or type(error).__name__}") from error


def study_of_files(
    files: Sequence[Path], where: Path, gate: Gate, *, series: str = "", has_pixels: bool = True
) -> FoundStudy:
    """What the gate says of DICOM files that are taken for one study."""
    survey = survey_dicom(files, allow_deflated=gate.allow_deflated, digest_pixels=has_pixels)
    return row_of_survey(survey, where, gate, series)


@dataclass(eq=False)
class _Known:
    """A study as far as it was seen: its row, and where its files lie."""

    row: FoundStudy
    chunks: int = 0
    files: dict[Path, list[str]] = field(default_factory=dict)


@dataclass(eq=False)
class _Search:
    root: Path
    gate: Gate
    files_at_once: int
    has_pixels: bool
    progress: Callable[[int], None]
    _known: dict[str, _Known] = field(default_factory=dict)
    _owners: dict[Path, set[str]] = field(default_factory=dict)
    _suspects: dict[Path, list[Path]] = field(default_factory=dict)
    _seen: int = 0

    def run(self) -> list[FoundStudy]:
        singles: list[FoundStudy] = []
        waiting: list[Path] = []
        for folder, files in _walk(self.root):
            kinds = [(path, file_kind(path)) for path in files]
            dicom = [path for path, kind in kinds if kind is FileKind.DICOM]
            found = _singles(self.root, folder, kinds, has_dicom=bool(dicom))
            for one in found:
                self._own(Path(one.where) if Path(one.where).is_dir() else folder, one.study)
            singles += found
            waiting += dicom
            self._seen += len(files)
            self.progress(self._seen)
            while len(waiting) >= self.files_at_once:
                self._take(waiting[: self.files_at_once])
                del waiting[: self.files_at_once]
        if waiting:
            self._take(waiting)
        found = [*(self._settled(key, one) for key, one in self._known.items()), *self._unreadable(), *singles]
        return sorted(found, key=lambda one: (natural_key(Path(one.where)), one.study))

    def _take(self, files: list[Path]) -> None:
        survey = survey_dicom(files, allow_deflated=self.gate.allow_deflated, digest_pixels=self.has_pixels)
        studies: dict[str, list[DicomSeries]] = {}
        for one in survey.series:
            studies.setdefault(_study_key(one), []).append(one)
        covered: set[int] = set()
        for key, series in studies.items():
            indices = {header.file_index for one in series for header in one.headers}
            covered |= indices
            mine = replace(survey, series=tuple(series), damaged=())
            known = self._known.setdefault(key, _Known(row_of_survey(mine, self.root, self.gate)))
            known.chunks += 1
            for index in sorted(indices):
                known.files.setdefault(files[index].parent, []).append(files[index].name)
            for folder in {files[index].parent for index in indices}:
                self._own(folder, key)
        if survey.damaged:
            for index, path in enumerate(files):
                if index not in covered:
                    self._suspects.setdefault(path.parent, []).append(path)
        self._forget_names([self._known[key] for key in studies], going_on=files[-1].parent)

    def _own(self, folder: Path, key: str) -> None:
        """Note a study in a folder and all above it; more than two need not be told apart."""
        while True:
            owners = self._owners.setdefault(folder, set())
            if len(owners) < 2:
                owners.add(key)
            if folder == self.root or folder == folder.parent:
                return
            folder = folder.parent

    def _forget_names(self, touched: Sequence[_Known], *, going_on: Path) -> None:
        """Names are kept only where a folder holds files of several studies; elsewhere its own files are all."""
        for known in touched:
            for folder in known.files:
                if folder != going_on and len(self._owners[folder]) == 1 and known.chunks == 1:
                    known.files[folder] = []

    def _settled(self, key: str, known: _Known) -> FoundStudy:
        where = Path(os.path.commonpath(known.files))
        suspects = [path for folder in known.files for path in self._suspects.get(folder, [])]
        row = known.row
        if known.chunks > 1 or suspects:
            files = [*self._files(known), *suspects]
            row = study_of_files(sorted(files), where, self.gate, has_pixels=self.has_pixels)
        if self._owners[where] == {key}:
            return replace(row, where=str(where))
        names = tuple(str(path.relative_to(where)) for path in sorted(self._files(known)))
        return replace(row, where=str(where), files=names)

    def _files(self, known: _Known) -> list[Path]:
        """All files of a study: by name, or all DICOM files of a folder that is its own."""
        found = []
        for folder, names in known.files.items():
            if not names:
                names = [path.name for path in _own_files(folder) if file_kind(path) is FileKind.DICOM]
                suspects = {path.name for path in self._suspects.get(folder, [])}
                names = [name for name in names if name not in suspects]
            found += [folder / name for name in names]
        return found

    def _unreadable(self) -> Iterator[FoundStudy]:
        """Folders whose DICOM files no header could be read of."""
        for folder, paths in self._suspects.items():
            if folder not in self._owners:
                row = study_of_files(paths, folder, self.gate, has_pixels=self.has_pixels)
                yield replace(row, where=str(folder))


def _study_key(series: DicomSeries) -> str:
    first = series.headers[0]
    return identity_hash(first.patient_key, first.study_key) if first.study_key else series.identifier


def row_of_survey(survey: DicomSurvey, where: Path, gate: Gate, wanted: str = "") -> FoundStudy:
    """A study as its headers show it; refused where the gate does."""
    code = message = ""
    chosen = survey.series[0] if survey.series else None
    try:
        chosen = choose_series(survey, wanted or None, lenient=gate.lenient)
        if survey.damaged and not gate.lenient:
            raise refuse(survey.damaged[:3])
    except StudyError as error:
        code, message = str(error.code), str(error)
    except ConfigError as error:
        code, message = str(FailureCode.BAD_SETTING), str(error)
    headers = () if chosen is None else chosen.headers
    scanner = " ".join(part for part in (headers[0].manufacturer, headers[0].model) if part) if headers else ""
    paths = {survey.files[header.file_index] for one in survey.series for header in one.headers}
    return FoundStudy(
        study=_fingerprint(survey, where),
        kind=Kind.DICOM,
        where=str(where),
        series=wanted,
        slice_count=len(headers),
        byte_count=sum(path.stat().st_size for path in paths),
        scanner=scanner,
        code=code,
        message=message,
    )


def _fingerprint(survey: DicomSurvey, where: Path) -> str:
    """Hash over the study and every image of it, whatever its file is called and wherever it lies.

    A study that grew, or whose headers or pixels are no longer what they were, is another one to be read.
    """
    images = sorted(repr(replace(header, file_index=0)) for one in survey.series for header in one.headers)
    keys = sorted({_study_key(one) for one in survey.series}) or [str(where)]
    return hashlib.sha256("\n".join([*keys, *images]).encode()).hexdigest()[:32]


def _singles(
    root: Path, folder: Path, kinds: Sequence[tuple[Path, FileKind]], *, has_dicom: bool
) -> list[FoundStudy]:
    """Studies that are no DICOM files: volumes, archives, a folder of pictures."""
    found = [single_study(path, root) for path, kind in kinds if kind in (FileKind.NIFTI, FileKind.ARCHIVE)]
    pictures = [path for path, kind in kinds if kind is FileKind.PICTURE]
    if len(pictures) >= MINIMUM_SLICES and not found and not has_dicom:
        found.append(single_study(folder, root, pictures))
    return found


def single_study(where: Path, root: Path, files: Sequence[Path] = ()) -> FoundStudy:
    """A study that is known by its place below ``root``, and by the size and time of its files.

    The head of a NIfTI volume tells its slices, and whether it is a mask: that is refused (NO_HU), not read.
    """
    states = [path.stat() for path in files or [where]]
    place = str(where.relative_to(root)) if where.is_relative_to(root) else str(where)
    facts = [f"{state.st_size} {state.st_mtime_ns}" for state in states]
    head = None if files else read_nifti_head(where)
    is_mask = head is not None and head.is_labels
    return FoundStudy(
        study=hashlib.sha256("\n".join([place, *facts]).encode()).hexdigest()[:32],
        kind=Kind.SINGLE,
        where=str(where),
        slice_count=len(files) if head is None else head.shape[2],
        byte_count=sum(state.st_size for state in states),
        code=str(GateCode.NO_HU) if is_mask else "",
        message=_MASK_MESSAGE if is_mask else "",
    )


def _own_files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_file())


def _walk(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders with their own files, in name order; links to folders and results of earlier readings are left out."""
    if root.is_file():
        yield root.parent, [root]
        return
    results: set[Path] = set()
    for folder, names, files in os.walk(root):
        if OWN_FOLDER in files:
            names.clear()
            continue
        names[:] = sorted(name for name in names if not name.startswith(".") and name.lower() != "__macosx")
        results |= earlier_results(Path(folder))
        paths = [Path(folder, name) for name in sorted(files) if not name.startswith(".")]
        yield Path(folder), [path for path in paths if path not in results and path.is_file()]
