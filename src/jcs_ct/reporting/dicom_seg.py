"""Lesions as a DICOM Segmentation, BINARY (PS3.3 A.51): one segment a lesion, only frames that hold one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from jcs_ct import __version__
from jcs_ct.reporting.dicom_common import (
    CATEGORY,
    CORRECTED_BY_READER,
    LUNG,
    OPACITY,
    SIDES,
    equipment,
    model_facts,
    series_description,
)
from jcs_ct.reporting.dicom_identity import Correction, ResultIdentity
from jcs_ct.reporting.dicom_source import SourceSeries

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reading.lesions import Lesion

SERIES_NUMBER = 9101


def tracking_id(lesion: Lesion) -> str:
    """Name of a lesion, the same in the segmentation and in the structured report."""
    return f"Opacity {lesion.lesion_id}"


def build_segmentation(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, correction: Correction | None = None
) -> Segmentation | None:
    """The lesions as one SEG; segment number is lesion_id. Lesions that a person corrected are SEMIAUTOMATIC.

    Returns:
        None when there is no lesion: a segmentation without frames is not allowed.
    """
    if not diagnosis.lesions:
        return None
    _check_labels(diagnosis)
    return lesion_segmentation(
        source,
        diagnosis.lesion_labels,
        [_describe(lesion, diagnosis, identity, correction) for lesion in diagnosis.lesions],
        identity,
        content_description="Pulmonary opacities found by jcs-ct"
        if correction is None
        else f"Pulmonary opacities corrected by a reader, version {correction.version}",
        content_creator_name=None if correction is None else correction.reader,
        series_description=series_description("lesions"),
        **equipment(diagnosis),
    )


def lesion_segmentation(
    source: SourceSeries,
    labels: NDArray[np.unsignedinteger[Any]],
    segments: Sequence[SegmentDescription],
    identity: ResultIdentity,
    **attributes: Any,
) -> Segmentation:
    """A BINARY Segmentation of the source's images that hold a segment.

    Args:
        source: The images.
        labels: (slices, rows, columns) on the volume's grid, not empty; segment numbers, 0 where there is none.
        segments: What each number stands for.
        identity: The object's and its series' identifiers.
        **attributes: Of highdicom's ``Segmentation``: descriptions and equipment.
    """
    labels = source.on_grid(labels)
    slices = [int(index) for index in np.flatnonzero(labels.any(axis=(1, 2)))]
    segmentation = Segmentation(
        source_images=source.images_of(slices),
        pixel_array=_copied(labels, slices),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=identity.uid("series", "seg"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "seg"),
        instance_number=1,
        plane_positions=source.plane_positions(slices),
        content_label="LESIONS",
        **attributes,
    )
    source.restore_references(segmentation, slices)
    return segmentation


def _copied(labels: NDArray[np.unsignedinteger[Any]], slices: Sequence[int]) -> NDArray[np.unsignedinteger[Any]]:
    """Those slices, in the smallest type that holds their numbers: of a long study the copy is large."""
    copy = np.empty((len(slices), *labels.shape[1:]), dtype=np.min_scalar_type(labels.max()))
    for plane, index in zip(copy, slices, strict=True):
        plane[...] = labels[index]
    return copy


def _check_labels(diagnosis: Diagnosis) -> None:
    stated = sorted(lesion.lesion_id for lesion in diagnosis.lesions)
    if stated != list(range(1, len(stated) + 1)) or int(diagnosis.lesion_labels.max()) != len(stated):
        raise ValueError(
            f"lesion ids must be 1..{len(stated)}, the values of lesion_labels; got {stated[:5]}... and labels up to "
            f"{int(diagnosis.lesion_labels.max())}"
        )


def _describe(
    lesion: Lesion, diagnosis: Diagnosis, identity: ResultIdentity, correction: Correction | None
) -> SegmentDescription:
    return SegmentDescription(
        segment_number=lesion.lesion_id,
        segment_label=tracking_id(lesion),
        segmented_property_category=CATEGORY,
        segmented_property_type=OPACITY,
        algorithm_type="AUTOMATIC" if correction is None else "SEMIAUTOMATIC",
        algorithm_identification=_outlined_by(diagnosis, correction),
        tracking_uid=identity.uid("lesion", str(lesion.lesion_id)),
        tracking_id=tracking_id(lesion),
        anatomic_regions=[_region(lesion)],
    )


def _outlined_by(diagnosis: Diagnosis, correction: Correction | None) -> AlgorithmIdentificationSequence:
    if correction is not None:
        return AlgorithmIdentificationSequence(
            name=CORRECTED_BY_READER,
            family=codes.DCM.ManualProcessing,
            version=__version__,
            parameters={"correction_version": str(correction.version)},
        )
    name, sha256 = model_facts(diagnosis, "segmenter")
    return AlgorithmIdentificationSequence(
        name=f"jcs-ct segmenter {name}"[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=__version__,
        parameters={"sha256": sha256} if sha256 else None,
    )


def _region(lesion: Lesion) -> CodedConcept:
    region = CodedConcept.from_code(LUNG)
    if lesion.side in SIDES:
        region.AnatomicRegionModifierSequence = [CodedConcept.from_code(SIDES[lesion.side])]
    return region
