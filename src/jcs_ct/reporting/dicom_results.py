"""A Diagnosis as DICOM objects that a PACS stores beside the source series."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jcs_ct.errors import ConfigError
from jcs_ct.files import staged_folder
from jcs_ct.reporting.dicom_identity import Correction, ResultIdentity

if TYPE_CHECKING:
    from jcs_ct.imaging.identifiers import ObjectIdentifiers
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis

#: Every kind of result, in the order in which they are written.
KINDS = ("seg", "pm", "sr", "sc", "pdf")
SEG_NAME = "lesions.seg.dcm"
PM_NAME = "activation.pm.dcm"
SR_NAME = "findings.sr.dcm"
PDF_NAME = "report.pdf.dcm"
SC_FOLDER = "overlay"
REJECTION_NAME = "superseded.ko.dcm"
#: Names of each kind's files in a result folder.
RESULT_PATTERNS = {
    "seg": SEG_NAME,
    "pm": PM_NAME,
    "sr": SR_NAME,
    "pdf": PDF_NAME,
    "sc": f"{SC_FOLDER}/slice-*.sc.dcm",
}


def write_dicom_results(
    study: Study,
    diagnosis: Diagnosis,
    folder: Path,
    *,
    kinds: Sequence[str] = KINDS,
    correction: Correction | None = None,
    revision: str = "",
    supersedes: Sequence[ObjectIdentifiers] = (),
) -> tuple[Path, ...]:
    """Write the results of a study as DICOM objects, in files with fixed names.

    ========  =======================  ============================================================
    kind      file                     object
    ========  =======================  ============================================================
    ``seg``   ``lesions.seg.dcm``      Segmentation, BINARY; left out when there is no lesion
    ``pm``    ``activation.pm.dcm``    Parametric Map, float32; left out when no slice is infected
    ``sr``    ``findings.sr.dcm``      Comprehensive 3D SR, TID 1500; refers to the segmentation
    ``sc``    ``overlay/*.sc.dcm``     Secondary Capture series, RGB; infected slices, or a middle one
    ``pdf``   ``report.pdf.dcm``       Encapsulated PDF
    ========  =======================  ============================================================

    Files of an earlier result under the names of ``kinds`` are replaced or removed, and so is a rejection note, so
    that a folder holds one result set. New ones are written beside and moved in together: what fails leaves the
    earlier ones as they were.

    Args:
        study: A study that was read from DICOM; its source files are read again, headers only.
        diagnosis: Its findings.
        folder: Where to write; created when it is absent.
        kinds: Which results to write.
        correction: Who corrected the lesions; ``seg`` and ``sr`` then name the person as their observer.
        revision: What names the result set in place of its findings, where one reading of one state of a study can
            have one result set only, whoever makes it (a watcher's job).
        supersedes: Results stored earlier that these take the place of: the structured report names the earlier one
            as its predecessor, and ``superseded.ko.dcm``, a rejection note (IHE RAD IOCM), names all of them.

    Returns:
        The files written, in the order of :data:`KINDS`, a rejection note last.

    Raises:
        ConfigError: the study is not DICOM, or a kind is not known.
        StudyError: a source file is gone (UNREADABLE) or states no position (NO_POSITION).
        OutputError: the folder cannot be written or the disk is full.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ConfigError(f"DICOM results are {', '.join(KINDS)}; got {', '.join(unknown)}")
    # highdicom takes seconds to import, pydicom a part of one; a report without DICOM results does not wait for them.
    from pydicom.uid import Comprehensive3DSRStorage

    from jcs_ct.reporting import (
        dicom_common,
        dicom_maps,
        dicom_pdf,
        dicom_rejection,
        dicom_sc,
        dicom_seg,
        dicom_source,
        dicom_sr,
    )

    source = dicom_source.read_source_series(study)
    identity = ResultIdentity(revision) if revision else ResultIdentity.of(source.series_uid, diagnosis, correction)
    earlier = dicom_rejection.references(supersedes)
    written: list[Path | None] = []
    last = SR_NAME if "sr" in kinds else REJECTION_NAME
    stale = [REJECTION_NAME, *(RESULT_PATTERNS[kind] for kind in kinds)]
    with staged_folder(folder, last=last, stale=stale) as staging, names_kept_out_of_warnings():
        segmentation = (
            dicom_seg.build_segmentation(source, diagnosis, identity, correction)
            if {"seg", "sr"} & set(kinds)
            else None
        )
        if "seg" in kinds and segmentation is not None:
            written.append(dicom_common.write_dataset(segmentation, staging / SEG_NAME))
        if "pm" in kinds:
            written.append(dicom_maps.write_parametric_map(source, diagnosis, identity, staging / PM_NAME))
        if "sr" in kinds:
            predecessors = [one for one in earlier if one.SOPClassUID == Comprehensive3DSRStorage]
            report = dicom_sr.build_report(
                source, diagnosis, identity, segmentation, correction, predecessors=predecessors
            )
            written.append(dicom_common.write_dataset(report, staging / SR_NAME))
        if "sc" in kinds:
            written.extend(dicom_sc.write_overlays(study, source, diagnosis, identity, staging / SC_FOLDER))
        if "pdf" in kinds:
            written.append(dicom_pdf.write_encapsulated_pdf(study, source, diagnosis, identity, staging / PDF_NAME))
        if earlier:
            written.append(
                dicom_rejection.write_rejection(source, diagnosis, identity, earlier, staging / REJECTION_NAME)
            )
    return tuple(folder / path.relative_to(staging) for path in written if path is not None)


def in_storing_order(paths: Iterable[Path]) -> list[Path]:
    """Results as they are to be stored: structured reports last, so that where one lies what it refers to does."""
    return sorted(paths, key=lambda path: path.name.endswith(".sr.dcm"))


@contextmanager
def names_kept_out_of_warnings() -> Iterator[None]:
    """Silence highdicom's warning of a name without a caret: it prints the name, which is the source's and stays."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message='The string ".*" is unlikely to represent the intended person name')
        yield


def require_dicom_source(study: Study) -> None:
    """Raise now what :func:`write_dicom_results` would raise after the networks have run.

    Raises:
        ConfigError: the study was not read from DICOM files that results can refer to.
        StudyError: a source file is gone (UNREADABLE) or states no position (NO_POSITION).
    """
    from jcs_ct.reporting import dicom_source

    dicom_source.read_source_series(study)
