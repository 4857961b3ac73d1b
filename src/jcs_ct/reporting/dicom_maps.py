"""Activation maps as a DICOM Parametric Map, float32 (PS3.3 A.75): a frame a slice, first to last infected one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from jcs_ct.reporting.dicom_common import LUNG, equipment, series_description, write_dataset
from jcs_ct.reporting.dicom_identity import ResultIdentity
from jcs_ct.reporting.dicom_source import SourceSeries

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

SERIES_NUMBER = 9102


def build_parametric_map(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity
) -> ParametricMap | None:
    """The activation maps from the first infected slice to the last, on the source's slices, in [0, 1] without unit.

    Returns:
        None when no slice is infected: every map is 0 then.
    """
    slices = source.mapped_slices(diagnosis)
    if not slices:
        return None
    mapping = RealWorldValueMapping(
        lut_label="ACTIVATION",
        lut_explanation="Class activation times probability of infection",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ClassActivation,
    )
    parametric_map = ParametricMap(
        source_images=source.images_of(slices),
        pixel_array=np.ascontiguousarray(source.on_grid(diagnosis.activation)[slices], dtype=np.float32),
        series_instance_uid=identity.uid("series", "pm"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "pm"),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        plane_positions=source.plane_positions(slices),
        content_label="ACTIVATION",
        content_description="Where the slice classifier sees infection",
        series_description=series_description("activation"),
        **equipment(diagnosis),
    )
    source.restore_references(parametric_map, slices)
    _order_along_normal(parametric_map)
    parametric_map.BodyPartExamined = "CHEST"
    parametric_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_both_lungs()]
    return parametric_map


def _order_along_normal(parametric_map: ParametricMap) -> None:
    """Let frames, and their dimension index, run along the normal: the cross product of row and column direction.

    highdicom orders them against it. dcmqi 1.5.7, which 3D Slicer reads maps with, takes each frame for the next one
    along the normal, whatever its position: it would show the map upside down, and without the slices left out.
    """
    frames = list(parametric_map.PerFrameFunctionalGroupsSequence)
    cosines = parametric_map.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    normal = np.cross(np.asarray(cosines[:3], dtype=np.float64), np.asarray(cosines[3:], dtype=np.float64))
    positions = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
    order = np.argsort(np.asarray(positions, dtype=np.float64) @ normal)
    pixels = memoryview(parametric_map.FloatPixelData)
    size = len(pixels) // len(frames)
    # One copy, no more: a long study's map is larger than its CT.
    parametric_map.FloatPixelData = b"".join(pixels[index * size : (index + 1) * size] for index in order)
    parametric_map.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
    for number, index in enumerate(order, start=1):
        frames[index].FrameContentSequence[0].DimensionIndexValues = [number]


def _both_lungs() -> Dataset:
    """Frame Anatomy (PS3.3 C.7.6.16.2.8): optional for derived images, and dcmqi 1.5 reads no map without it."""
    anatomy = Dataset()
    anatomy.FrameLaterality = "B"
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(LUNG)]
    return anatomy


def write_parametric_map(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, path: Path
) -> Path | None:
    """Write :func:`build_parametric_map`'s object; None when no slice is infected."""
    parametric_map = build_parametric_map(source, diagnosis, identity)
    return None if parametric_map is None else write_dataset(parametric_map, path)
