"""The series that results refer to: headers of the source files, cleaned to what the standard's syntax allows.

Real series carry identifiers that are no UIDs (GUIDs, empty values) and dates that are no dates. Nothing of that
may reach a result object, so references are built from a whitelist of attributes, each checked against its value
representation; what had to be replaced is counted in :attr:`SourceSeries.replaced`.
"""

from __future__ import annotations

import copy
import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from highdicom import PlanePositionSequence
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from jcs_ct.axes import AxisTurn
from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging.elements import has_controls
from jcs_ct.imaging.identifiers import read_elements
from jcs_ct.imaging.study import Study
from jcs_ct.reporting.dicom_geometry import SeriesGeometry, read_geometry
from jcs_ct.reporting.dicom_identity import derived_uid
from jcs_ct.volume import slices_with

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

logger = logging.getLogger(__name__)

_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_OPTIONAL = (
    "IssuerOfPatientID",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
)
_READ = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "BurnedInAnnotation",
    *_REQUIRED,
    *_OPTIONAL,
)

#: What stands for bytes that are no letters of the character set that the header states.
_UNDECODED = "\N{REPLACEMENT CHARACTER}"
_MULTIFRAME_ONLY = ("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def conforming_uid(text: str, *fallback: str) -> str:
    """``text`` where it is a UID (PS3.5 9.1), else one made from it.

    A GUID takes its ``2.25.`` form, any other text a UID derived from it, an empty one a UID derived from
    ``fallback``; always the same for the same arguments.
    """
    text = text.strip(" \0")
    if not text:
        return derived_uid(*fallback)
    if UID(text, validation_mode=pydicom_config.IGNORE).is_valid:
        return text
    try:
        return f"2.25.{uuid.UUID(text).int}"
    except ValueError:
        return derived_uid(text)


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """Clean references to the images of one series, in the order of the study's source grid.

    ``slice_index`` and ``slices`` of its methods count the slices of that grid.

    Args:
        images: One data set a source file: one a slice (single-frame), or the multi-frame ones that hold the slices;
            headers without pixels, each with the identifiers of its own series.
        geometry: Where the slices lie.
        turn: From the source's grid to the volume's.
        replaced: How often each attribute had a value outside the standard's syntax and was replaced or left empty.
    """

    images: tuple[Dataset, ...]
    geometry: SeriesGeometry
    turn: AxisTurn
    replaced: Mapping[str, int]

    def on_grid(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of an array on the volume's grid, (slices, rows, columns), as it lies on the source's grid."""
        return self.turn.inverse.turned(array)

    @property
    def is_axial(self) -> bool:
        """Whether the source's slices are those of the volume, in the same order."""
        return self.turn.order[0] == 0 and not self.turn.flips[0]

    def mapped_slices(self, diagnosis: Diagnosis) -> list[int]:
        """Slices of the source from the first with infection to the last, and every one between.

        Where the source's slices are not the volume's, those with part of a map count as infected.
        """
        if self.is_axial:
            shown = [prediction.slice_index for prediction in diagnosis.slices if prediction.infected]
        else:
            shown = slices_with(self.on_grid(diagnosis.activation)).tolist()
        return list(range(min(shown), max(shown) + 1)) if shown else []

    @property
    def first(self) -> Dataset:
        """The image from which patient and study attributes are copied."""
        return self.images[0]

    @property
    def burned_in_annotation(self) -> str:
        """Burned In Annotation (PS3.3 C.7.6.1.1.1) of results that show the pixels: YES where that of an image is."""
        return "YES" if any(image.get("BurnedInAnnotation") == "YES" for image in self.images) else "NO"

    @property
    def series_uid(self) -> str:
        """The source's Series Instance UID, as results refer to it."""
        return str(self.first.SeriesInstanceUID)

    @property
    def is_scattered(self) -> bool:
        """Whether the slices lie in several series or several multi-frame files."""
        several = len(self.images) > 1
        return several and (
            self.geometry.is_multiframe or len({str(one.SeriesInstanceUID) for one in self.images}) > 1
        )

    def images_of(self, slices: Sequence[int]) -> list[Dataset]:
        """Images that hold these slices, as highdicom wants them: of one series, with one multi-frame file at most.

        Of a scattered source they are stand-ins, one a slice, that :meth:`restore_references` makes originals again.
        """
        if self.is_scattered:
            return [self._stand_in(index) for index in slices]
        return [self.first] if self.geometry.is_multiframe else [self.images[index] for index in slices]

    def _stand_in(self, slice_index: int) -> Dataset:
        stand_in = Dataset()
        # Copies: setting an attribute changes the element that two data sets would share.
        stand_in.update({one.tag: copy.copy(one) for one in self.first if one.keyword not in _MULTIFRAME_ONLY})
        stand_in.file_meta = self.first.file_meta
        stand_in.SOPClassUID = CTImageStorage
        stand_in.SOPInstanceUID = self._stand_in_uid(slice_index)
        stand_in.update(_measures(self.geometry))
        stand_in.ImageOrientationPatient = list(self.geometry.orientation)
        stand_in.ImagePositionPatient = self.geometry.positions_mm[slice_index].tolist()
        return stand_in

    def _stand_in_uid(self, slice_index: int) -> str:
        _, instance, frames = self.reference(slice_index)
        return derived_uid("stand-in", instance, str(frames))

    def restore_references(self, result: Dataset, slices: Sequence[int]) -> None:
        """Let a result refer to the originals of the stand-ins it was made from, in place.

        Every frame refers to its image, and frame, in each Source Image Sequence (PS3.3 C.7.6.16.2.6); the result as
        a whole to the files, series by series (Common Instance Reference, PS3.3 C.12.2).
        """
        if not self.is_scattered:
            return
        originals = {self._stand_in_uid(index): self.reference(index) for index in slices}
        items = {
            id(item): item  # frames of one slice, as of two lesions in it, share theirs
            for groups in result.PerFrameFunctionalGroupsSequence
            for derivation in groups.DerivationImageSequence
            for item in derivation.SourceImageSequence
        }
        for item in items.values():
            _refer(item, *originals[str(item.ReferencedSOPInstanceUID)])
        files = [self.images[number] for number in sorted({self.geometry.file_numbers[index] for index in slices})]
        by_series: dict[str, list[Dataset]] = {}
        for image in files:
            by_series.setdefault(str(image.SeriesInstanceUID), []).append(image)
        result.SourceImageSequence = [
            _refer(Dataset(), str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in files
        ]
        result.ReferencedSeriesSequence = [_series_reference(uid, images) for uid, images in by_series.items()]

    def plane_positions(self, slices: Sequence[int]) -> list[PlanePositionSequence] | None:
        """Positions of frames of a multi-frame source; None for single-frame images, which carry their own."""
        if not self.geometry.is_multiframe or self.is_scattered:
            return None
        positions = self.geometry.positions_mm
        return [PlanePositionSequence("PATIENT", image_position=positions[index].tolist()) for index in slices]

    def reference(self, slice_index: int) -> tuple[str, str, list[int] | None]:
        """SOP Class UID, SOP Instance UID and frame numbers (None for a single-frame image) of a slice."""
        image = self.images[self.geometry.file_numbers[slice_index]]
        frames = [self.geometry.frame_numbers[slice_index]] if self.geometry.is_multiframe else None
        return str(image.SOPClassUID), str(image.SOPInstanceUID), frames


def _refer(item: Dataset, sop_class: str, instance: str, frames: list[int] | None = None) -> Dataset:
    """Let an item refer to an image, and to frames of it."""
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    if frames:
        item.ReferencedFrameNumber = frames
    return item


def _series_reference(series_uid: str, images: Sequence[Dataset]) -> Dataset:
    reference = Dataset()
    reference.SeriesInstanceUID = series_uid
    reference.ReferencedInstanceSequence = [
        _refer(Dataset(), str(image.SOPClassUID), str(image.SOPInstanceUID)) for image in images
    ]
    return reference


def read_source_series(study: Study) -> SourceSeries:
    """Read the headers of a study's source files and prove that they lie on the volume's grid.

    Raises:
        ConfigError: the study was not read from DICOM files, or its volume is not on the grid of its source files.
        StudyError: a source file cannot be read any more (UNREADABLE) or states no position (NO_POSITION).
    """
    if study.kind != "dicom":
        raise ConfigError(
            f"DICOM results need a DICOM study (they copy its patient and refer to its images); this study "
            f"was read from {study.kind!r}: leave DICOM results out, or give the DICOM series"
        )
    with pydicom_config.disable_value_validation():
        headers = _read_headers(study)
        geometry = read_geometry(study, headers)
        replaced: Counter[str] = Counter()
        images = _clean_images(study.identifier, geometry, headers, replaced)
    if replaced:
        logger.info(
            "source series %s: values outside DICOM's syntax were replaced in the results: %s",
            study.identifier,
            ", ".join(f"{keyword} x{count}" for keyword, count in sorted(replaced.items())),
        )
    return SourceSeries(images, geometry, study.turn, replaced)


def _read_headers(study: Study) -> list[Dataset]:
    try:
        return read_elements(list(dict.fromkeys(study.paths)), _READ)
    except StudyError as error:
        if error.code is not GateCode.NO_IMAGES:
            raise
        raise ConfigError(
            "DICOM results refer to the source images, and this study's source is no DICOM file: unpack an archive "
            "and give the folder, or leave DICOM results out"
        ) from error


def _clean_images(
    seed: str, geometry: SeriesGeometry, headers: Sequence[Dataset], replaced: Counter[str]
) -> tuple[Dataset, ...]:
    common = _clean_patient_and_study(headers[0], replaced)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(common, keyword, _clean_uid(headers[0], keyword, replaced, seed))
    series = {_text(header, "SeriesInstanceUID"): header for header in headers}
    series_uids = {text: _clean_uid(one, "SeriesInstanceUID", replaced, seed) for text, one in series.items()}
    stated = Counter(_text(header, "SOPInstanceUID") for header in headers)
    images = []
    for index, header in enumerate(headers):
        image = Dataset()
        image.update(common)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SeriesInstanceUID = series_uids[_text(header, "SeriesInstanceUID")]
        image.SOPClassUID = _text(header, "SOPClassUID") or CTImageStorage
        if stated[_text(header, "SOPInstanceUID")] > 1:  # one identifier for several images identifies none of them
            header.SOPInstanceUID = ""
        image.SOPInstanceUID = _clean_uid(header, "SOPInstanceUID", replaced, seed, str(index))
        image.Modality = "CT"
        image.InstanceNumber = index + 1
        if _text(header, "BurnedInAnnotation").upper() == "YES":
            image.BurnedInAnnotation = "YES"
        image.Rows, image.Columns = int(header.Rows), int(header.Columns)
        _place(image, geometry, index)
        images.append(image)
    return tuple(images)


def _place(image: Dataset, geometry: SeriesGeometry, index: int) -> None:
    """State the image's geometry: at its root, or in functional groups when it is multi-frame."""
    measures, orientation = _measures(geometry), Dataset()
    orientation.ImageOrientationPatient = list(geometry.orientation)
    if not geometry.is_multiframe:
        image.update(measures)
        image.update(orientation)
        image.ImagePositionPatient = geometry.positions_mm[index].tolist()
        return
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    frames: dict[int, Dataset] = {}
    for file, number, position in zip(
        geometry.file_numbers, geometry.frame_numbers, geometry.positions_mm, strict=True
    ):
        if file == index:
            plane, frames[number] = Dataset(), Dataset()
            plane.ImagePositionPatient = position.tolist()
            frames[number].PlanePositionSequence = [plane]
    image.NumberOfFrames = len(frames)
    image.PerFrameFunctionalGroupsSequence = [frames[number] for number in sorted(frames)]


def _measures(geometry: SeriesGeometry) -> Dataset:
    """Pixel Spacing, Slice Thickness and, where it is known, Spacing Between Slices."""
    measures = Dataset()
    measures.PixelSpacing = list(geometry.pixel_spacing_mm)
    measures.SliceThickness = geometry.slice_thickness_mm
    if geometry.slice_spacing_mm is not None:
        measures.SpacingBetweenSlices = geometry.slice_spacing_mm
    return measures


def _clean_patient_and_study(header: Dataset, replaced: Counter[str]) -> Dataset:
    clean = Dataset()
    clean.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _REQUIRED:
        setattr(clean, keyword, _clean_text(header, keyword, replaced))
    for keyword in _OPTIONAL:
        text = _clean_text(header, keyword, replaced)
        if text:
            setattr(clean, keyword, text)
    if clean.PatientSex not in ("", "M", "F", "O"):
        clean.PatientSex = ""
        replaced["PatientSex"] += 1
    return clean


def _clean_uid(header: Dataset, keyword: str, replaced: Counter[str], *fallback: str) -> str:
    text = _text(header, keyword)
    uid = conforming_uid(text, keyword, *fallback)
    if uid != text:
        replaced[keyword] += 1
    return uid


def _clean_text(header: Dataset, keyword: str, replaced: Counter[str]) -> str:
    """The attribute's text, or an empty one when its value representation does not allow it.

    Letters that are not of the Specific Character Set stay as what stands for them, and are counted.
    """
    text = _text(header, keyword)
    try:
        if isinstance(header.get(keyword), MultiValue) or has_controls(text):
            raise ValueError(f"{keyword} has several values or control characters")
        validate_value(dictionary_VR(keyword), text, pydicom_config.RAISE)
    except ValueError:
        replaced[keyword] += 1
        return ""
    if _UNDECODED in text:
        replaced[keyword] += 1
    return text


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip(" \0")
