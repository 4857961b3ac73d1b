"""Small studies and diagnoses built by hand: the reports' tests need no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from jcs_ct.imaging.study import QualityFlag, Study
from jcs_ct.operating_point import OperatingPoint, Verdict
from jcs_ct.reading.burden import Burden
from jcs_ct.reading.lesions import Lesion, SliceLesion
from jcs_ct.reading.zones import Zone
from jcs_ct.volume import CTVolume

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

SHAPE = (12, 40, 48)

#: Supine axial, slice 0 most superior: slices run down (-z), rows to posterior, columns to left.
AXIAL = np.array([[0, 0, 0.8, -20.0], [0, 0.7, 0, -30.0], [-2.0, 0, 0, 90.0], [0, 0, 0, 1.0]])

StudyFactory = Callable[..., Study]
DiagnosisFactory = Callable[..., "Diagnosis"]


@pytest.fixture
def make_study() -> StudyFactory:
    def make(
        *,
        shape: tuple[int, int, int] = SHAPE,
        affine: Any = AXIAL,
        hu_is_assumed: bool = False,
        acquisition: dict[str, str | float] | None = None,
    ) -> Study:
        hu = np.full(shape, 40, dtype=np.int16)
        hu[:, 4:-4, 4:-4] = -850
        return Study(
            volume=CTVolume(hu, affine, hu_is_assumed, axes_are_assumed=affine is None),
            identifier="0123456789abcdef",
            kind="dicom",
            paths=tuple(Path(f"DOE_JOHN/{index}.dcm") for index in range(shape[0])),
            acquisition={"manufacturer": "ACME", "kvp": 120.0} if acquisition is None else acquisition,
        )

    return make


@pytest.fixture
def make_diagnosis() -> DiagnosisFactory:
    from jcs_ct.reading.diagnosis import Diagnosis, SlicePrediction  # loads torch: only where it is needed

    def make(
        study: Study,
        *,
        positive: bool = True,
        segmented: bool | None = None,
        boxes: Sequence[tuple[slice, slice, slice]] = (np.s_[3:8, 10:18, 8:20], np.s_[5:7, 20:24, 30:36]),
        flags: Sequence[QualityFlag] = (),
    ) -> Diagnosis:
        shape = study.volume.shape
        segmented = positive if segmented is None else segmented
        labels = np.zeros(shape, dtype=np.uint16)
        for number, box in enumerate(boxes if segmented else (), start=1):
            labels[box] = number
        infected = [positive and 2 <= index < shape[0] - 2 for index in range(shape[0])]
        activation = np.zeros(shape, dtype=np.float16)
        activation[np.array(infected)] = np.linspace(0, 0.9, shape[2], dtype=np.float16)
        return Diagnosis(
            verdict=Verdict.POSITIVE if positive else Verdict.NEGATIVE,
            positive_slice_count=sum(infected),
            positive_slice_threshold=3,
            lung_slice_count=shape[0] - 1,
            positive_fraction=sum(infected) / max(1, shape[0] - 1),
            slices=tuple(
                SlicePrediction(index, 0.9 if flag else 0.1, flag, index > 0) for index, flag in enumerate(infected)
            ),
            segmented=segmented,
            activation=activation,
            lung_labels=np.ones(shape, dtype=np.uint8),
            lesion_labels=labels,
            lesions=tuple(_lesion(study, labels, number) for number in range(1, int(labels.max()) + 1)),
            burden=_burden(study, labels) if segmented else None,
            operating_point=OperatingPoint(0.5, 3, 2.0, 0.5),
            flags=tuple(flags),
            timings_s={"lungs": 0.25, "classify": 1.5},
            models={"classifier": {"name": "compact", "preset": "compact", "sha256": "ab" * 32}},
        )

    return make


def _lesion(study: Study, labels: Any, number: int) -> Lesion:
    volume = study.volume
    voxels = np.argwhere(labels == number)
    centre = tuple(float(value) for value in voxels.mean(axis=0))
    extent = np.ptp(voxels, axis=0) + 1
    return Lesion(
        lesion_id=number,
        voxel_count=len(voxels),
        volume_ml=None if volume.voxel_ml is None else len(voxels) * volume.voxel_ml,
        slice_first=int(voxels[:, 0].min()),
        slice_last=int(voxels[:, 0].max()),
        centroid_index=(centre[0], centre[1], centre[2]),
        centroid_lps_mm=volume.to_lps_mm((centre[0], centre[1], centre[2])),
        side="right" if centre[2] < labels.shape[2] / 2 else "left",
        third="middle",
        mean_hu=None if volume.hu_is_assumed else float(volume.hu[labels == number].mean()),
        extent_mm=None
        if volume.spacing_mm is None
        else tuple(float(count * step) for count, step in zip(extent, volume.spacing_mm, strict=True)),
        slices=tuple(_slice_lesion(labels, number, int(index)) for index in np.unique(voxels[:, 0])),
    )


def _slice_lesion(labels: Any, number: int, index: int) -> SliceLesion:
    mask = labels[index] == number
    rows, columns = ndimage.find_objects(mask.astype(int))[0]
    row, column = ndimage.center_of_mass(mask)
    return SliceLesion(
        slice_index=index,
        lesion_id=number,
        area_pixel=int(mask.sum()),
        position_x=float(column),
        position_y=float(row),
        x0=columns.start,
        y0=rows.start,
        width=columns.stop - columns.start,
        height=rows.stop - rows.start,
    )


def _burden(study: Study, labels: Any) -> Burden:
    volume = study.volume
    opacity = int((labels > 0).sum())
    edges = np.arange(-1000, 101, 25)
    counts, _ = np.histogram(volume.hu, edges)
    zones = [Zone(side, third, 100, 5, 5.0) for side in ("right", "left") for third in ("upper", "middle", "lower")]
    zones[-1] = Zone("left", "lower", 0, 0, None)
    return Burden(
        lung_volume_ml=None if volume.voxel_ml is None else labels.size * volume.voxel_ml,
        opacification_volume_ml=None if volume.voxel_ml is None else opacity * volume.voxel_ml,
        percent_opacity=100 * opacity / labels.size,
        percent_high_opacity=None if volume.hu_is_assumed else 0.5,
        high_opacity_cut_hu=-200.0,
        percent_ground_glass=0.75,
        percent_consolidation=0.5,
        hu_bin_edges=tuple(float(edge) for edge in edges),
        hu_counts=tuple(int(count) for count in counts),
        zones=tuple(zones),
    )
