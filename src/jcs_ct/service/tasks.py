"""What the page has done in a study's process: reading with files for the viewer, and measuring a correction.

Everything that touches a reader's files runs here, never in the server.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import ConfigError, DamagedFileError, JCSError
from jcs_ct.files import prepare_output_folder, read_own_json, replacing, write_text
from jcs_ct.imaging.elements import to_text
from jcs_ct.imaging.identifiers import read_elements
from jcs_ct.jobs.study_reading import ReadingRequest, read_as_requested, reading_facts, reading_key
from jcs_ct.service.bringing import bring_in
from jcs_ct.service.listed_studies import open_pacs
from jcs_ct.service.settings import READ_AGAIN, PacsAddress
from jcs_ct.service.viewer_grid import LARGE_VOXELS, ViewerGrid, halved_in_plane

if TYPE_CHECKING:
    from jcs_ct.imaging import Study
    from jcs_ct.imaging.study import QualityFlag
    from jcs_ct.progress import Progress
    from jcs_ct.reading.diagnosis import Diagnosis

READ_FOR_PAGE = "jcs_ct.service.tasks:read_for_page"
MEASURE_CORRECTION = "jcs_ct.service.tasks:measure_correction"
DESCRIBE_MODELS = "jcs_ct.service.tasks:describe_models"
SEND_RESULTS = "jcs_ct.service.tasks:send_results"

VIEWER = "viewer"
GRID, CT, ACTIVATION, LESIONS, LESION_IDS, DENSITIES = (
    "grid.json",
    "ct.nii.gz",
    "activation.nii.gz",
    "lesions.nii.gz",
    "lesion_ids.nii.gz",
    "densities.nii.gz",
)
#: Lesions are told apart up to this one; the list is sorted by size.
_MOST_IDS = 255
#: Where the viewer shows each lesion: lesion_id -> (x, y, z) of its centroid.
PLACES = "lesion_places.json"
STATE = "state"
#: Before what is said of the lesions that a correction took the place of.
_BEFORE = "before the correction: "


def describe_models(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Load the networks; hashes of weights and operating point for the keys of jobs.

    Returns:
        ``weights``, ``operating_point``, and ``validation``: what `jcs calibrate` kept of the validation patients.
    """
    from jcs_ct.checkpoints import load_models, model_path, read_info

    key = reading_key("any", load_models(arguments["models"]))
    provenance = read_info(model_path(arguments["models"], "classifier")).provenance
    validation = provenance.get("slice_scores_on_validation", [])
    return {"weights": key.weights, "operating_point": key.operating_point, "validation": validation}


def read_for_page(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Read a study that was sent, and write what the viewer needs beside its report.

    Args:
        arguments: ``study`` (folder of what was sent), ``output``, ``models``, ``salt`` (file with the secret that
            pseudonyms follow from), ``free_bytes`` (what must stay free on the disk), and ``source`` (see
            :func:`bring_in`) where nothing was sent.
        progress: Called as the work goes on.
    """
    from jcs_ct.data.sources.dicom_studies import read_salt

    output = Path(arguments["output"])
    if arguments["source"] is not None:
        bring_in(arguments["source"], Path(arguments["study"]), progress)
    progress("unpack", 0, 1)
    source = _unpacked(Path(arguments["study"]), free_bytes=arguments["free_bytes"])
    request = ReadingRequest(str(source), str(output), models=arguments["models"], dicom_where_possible=True)
    study, diagnosis, paths = read_as_requested(request, progress)
    progress("viewer", 0, 1)
    _write_state(output, diagnosis)
    _write_viewer(output, study, diagnosis)
    progress("viewer", 1, 1)
    patient = _whose(study, read_salt(Path(arguments["salt"])))
    return {**reading_facts(study, diagnosis, paths), "kind": study.kind, **patient}


def _whose(study: Study, salt: bytes) -> dict[str, str]:
    """``patient_key`` and ``birth_key``: Patient ID and birth date under a keyed hash; ``sex`` and ``study_date``.

    Each is empty where the study does not say.
    """
    from jcs_ct.data.sources.dicom_studies import pseudonym

    names = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate")
    header: Any = read_elements(study.paths[:1], names)[0] if study.kind == "dicom" else {}
    patient, issuer, born, sex, date = (to_text(header.get(name)) for name in names)
    return {
        "patient_key": pseudonym(salt, f"{issuer}|{patient}") if patient else "",
        "birth_key": pseudonym(salt, f"born|{born}") if born else "",
        "sex": sex,
        "study_date": date,
    }


def send_results(arguments: Mapping[str, Any], progress: Progress) -> dict[str, int]:
    """Store the DICOM results of a reading or a correction in the PACS; sending them twice changes nothing.

    Args:
        arguments: ``results`` (folder), ``url``, ``ca_bundle``.
        progress: Called as the work goes on.

    Returns:
        ``stored``, how many of them were ``present`` before, and how many the PACS warns that it ``changed``.
    """
    from jcs_ct.reporting.dicom_results import in_storing_order

    progress("send", 0, 1)
    paths = in_storing_order(sorted(Path(arguments["results"]).rglob("*.dcm")))
    with closing(open_pacs(PacsAddress(arguments["url"], arguments["ca_bundle"]))) as web:
        receipt = web.store(paths)
    return {"stored": receipt.stored, "present": receipt.present, "changed": receipt.warned}


def measure_correction(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Take a reader's mask over: lesions and burden anew, and the results that carry them.

    Args:
        arguments: ``study``, ``results`` (of the reading), ``parent`` (folder of the version that was corrected, or
            of the reading), ``mask`` (gzip of the viewer's bytes), ``output``, ``reader``, ``version``.
        progress: Called as the work goes on.
    """
    from jcs_ct.imaging import open_study
    from jcs_ct.service.stored_diagnosis import load_diagnosis

    progress("read", 0, 1)
    study = open_study(_unpacked(Path(arguments["study"])))
    results, output = Path(arguments["results"]), Path(arguments["output"])
    grid = _grid(results)
    parent = load_diagnosis(Path(arguments["parent"]) / STATE)
    painted = read_painted(Path(arguments["mask"]), grid)
    progress("measure", 0, 1)
    corrected = corrected_diagnosis(study, parent, grid.paint(painted, parent.lesion_labels > 0))
    progress("report", 0, 1)
    prepare_output_folder(output)
    _write_state(output, corrected)
    _write_correction(output, study, corrected, grid, arguments["reader"], int(arguments["version"]))
    burden = corrected.burden
    return {
        "lesion_count": len(corrected.lesions),
        "opacification_volume_ml": burden.opacification_volume_ml if burden else None,
        "percent_opacity": burden.percent_opacity if burden else None,
        "percent_ground_glass": burden.percent_ground_glass if burden else None,
        "percent_consolidation": burden.percent_consolidation if burden else None,
        "voxel_count": int(np.count_nonzero(corrected.lesion_labels)),
        "changed_voxel_count": int(np.count_nonzero((corrected.lesion_labels > 0) != (parent.lesion_labels > 0))),
    }


def read_painted(path: Path, grid: ViewerGrid) -> NDArray[np.bool_]:
    """A mask as the browser sends it: gzip of one byte a voxel, x fastest.

    Raises:
        ConfigError: it is damaged, or not of this grid.
    """
    expected = int(np.prod(grid.shape))
    try:
        with gzip.open(path) as stream:
            content = stream.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"the painted mask is damaged ({type(error).__name__}); save again") from error
    if len(content) != expected:
        raise ConfigError(f"the painted mask has {len(content)} voxels or more, the study's viewer {expected}")
    return np.frombuffer(content, dtype=np.uint8).reshape(grid.shape, order="F") > 0


def corrected_diagnosis(study: Study, parent: Diagnosis, mask: NDArray[np.bool_]) -> Diagnosis:
    """A diagnosis with a reader's lesions: every lesion counts, however small; the verdict stays the networks'."""
    from jcs_ct.reading.lesion_findings import measure_findings

    found = measure_findings(mask, study.volume, parent.lung_labels, least_volume_ml=0.0, least_voxels=1)
    return replace(
        parent,
        flags=tuple(_said_of_networks(flag) for flag in parent.flags),
        segmented=True,
        lesion_labels=found.labels,
        lesions=found.lesions,
        density_labels=found.densities,
        burden=found.burden,
    )


def _said_of_networks(flag: QualityFlag) -> QualityFlag:
    """A flag that counts slices with a lesion counts the networks' own: the verdict stays theirs."""
    if flag.code != "NETWORKS_DISAGREE" or flag.message.startswith(_BEFORE):
        return flag
    return replace(flag, message=_BEFORE + flag.message)


def _unpacked(sent: Path, *, free_bytes: int = 0) -> Path:
    """The study's files; of a lone archive what is in it, unpacked once beside it, or nothing of it."""
    from jcs_ct.imaging.neutral_names import neutral_paths
    from jcs_ct.imaging.study_files import find_files
    from jcs_ct.imaging.unpacking import ArchiveLimits, unpack

    files = find_files(sent)
    if len(files.archives) != 1 or files.dicom or files.nifti or files.pictures:
        return sent
    place = sent.with_name(f"{sent.name}-unpacked")
    if not place.is_dir():
        staged = prepare_output_folder(place.with_name(f"{place.name}.part"))
        shutil.rmtree(staged)
        numbered, named = prepare_output_folder(staged / "numbered"), prepare_output_folder(staged / "named")
        try:
            names = unpack(files.archives[0], numbered, ArchiveLimits(free_bytes=free_bytes))
        except JCSError:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        places = neutral_paths([str(name) for name in names.values()])
        for folder in {kept.parent for kept in places}:
            prepare_output_folder(named / folder)
        for path, kept in zip(names, places, strict=True):
            path.rename(named / kept)
        named.rename(place)
        shutil.rmtree(staged)
    return place


def _write_state(output: Path, diagnosis: Diagnosis) -> None:
    from jcs_ct.service.stored_diagnosis import store_diagnosis

    store_diagnosis(prepare_output_folder(output / STATE), diagnosis)


def _write_viewer(output: Path, study: Study, diagnosis: Diagnosis) -> None:
    viewer = prepare_output_folder(output / VIEWER)
    shown = (diagnosis.lung_labels > 0) | (diagnosis.lesion_labels > 0)
    grid = ViewerGrid.around(study.volume, shown)
    del shown
    write_text(viewer / GRID, json.dumps(grid.to_dict()) + "\n")
    hu = study.volume.hu
    whole = hu if hu.dtype == np.int16 else np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
    _write_volume(viewer / CT, grid.to_viewer(whole, labels=False), np.asarray(grid.affine))
    activation = grid.to_viewer(diagnosis.activation, labels=True).astype(np.float32)
    levels = np.rint(np.clip(activation, 0.0, 1.0) * 255.0).astype(np.uint8)
    _write_volume(viewer / ACTIVATION, *halved_in_plane(levels, np.asarray(grid.affine)))
    _write_labels(viewer, diagnosis, grid)


def _write_labels(viewer: Path, diagnosis: Diagnosis, grid: ViewerGrid) -> None:
    mask = (diagnosis.lesion_labels > 0).astype(np.uint8)
    affine = np.asarray(grid.affine)
    _write_volume(viewer / LESIONS, grid.to_viewer(mask, labels=True), affine)
    ids = np.where(diagnosis.lesion_labels <= _MOST_IDS, diagnosis.lesion_labels, 0).astype(np.uint8)
    _write_volume(viewer / LESION_IDS, *halved_in_plane(grid.to_viewer(ids, labels=True), affine))
    places = {str(lesion.lesion_id): grid.place_of(lesion.centroid_index) for lesion in diagnosis.lesions}
    write_text(viewer / PLACES, json.dumps(places) + "\n")
    densities = mask * 0 if diagnosis.density_labels is None else diagnosis.density_labels
    shown = grid.to_viewer(densities, labels=True)
    # The viewer draws overlays of large studies with half the columns and rows: no more of them is sent.
    drawn = (shown, affine) if shown.size <= LARGE_VOXELS else halved_in_plane(shown, affine)
    _write_volume(viewer / DENSITIES, *drawn)


def _write_volume(path: Path, array: NDArray[Any], affine: NDArray[Any]) -> None:
    new_image: Any = nibabel.Nifti1Image  # nibabel's own annotations are partial
    image = new_image(np.asfortranarray(array), affine)
    image.header.set_slope_inter(1.0, 0.0)
    with replacing(path) as temporary:
        nibabel.save(image, temporary)


def _grid(results: Path) -> ViewerGrid:
    path = results / VIEWER / GRID
    try:
        return ViewerGrid.from_dict(read_own_json(path, instead=READ_AGAIN))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, f"it is no grid ({type(error).__name__})", instead=READ_AGAIN) from error


def _write_correction(
    output: Path, study: Study, corrected: Diagnosis, grid: ViewerGrid, reader: str, version: int
) -> None:
    from jcs_ct.errors import StudyError
    from jcs_ct.imaging.nifti_writing import write_label_volume
    from jcs_ct.reporting.dicom_identity import Correction
    from jcs_ct.reporting.dicom_results import require_dicom_source, write_dicom_results
    from jcs_ct.reporting.report_json import report_dict

    labels = study.on_source_grid(corrected.lesion_labels)
    write_label_volume(output / "lesions.nii.gz", labels, study.source_affine, description="jcs-ct corrected lesions")
    report = {**report_dict(study, corrected), "correction": {"reader": reader, "version": version}}
    write_text(output / "report.json", json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    _write_labels(prepare_output_folder(output / VIEWER), corrected, grid)
    try:
        require_dicom_source(study)
    except (ConfigError, StudyError):
        return  # a study that is no DICOM, or has no positions, has no DICOM results either
    write_dicom_results(study, corrected, output, kinds=("seg", "sr"), correction=Correction(reader, version))
