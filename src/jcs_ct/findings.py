"""Lesions, burden and zones: from masks on the study's grid to numbers a radiologist can check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SliceLesion:
    """One lesion on one slice: the fields of Fig. 6, by the paper's names, in pixels of that slice.

    ``position_x`` is the centroid's column and ``position_y`` its row; (x0, y0) the box's upper left corner.
    """

    slice_index: int
    lesion_id: int
    area_pixel: int
    position_x: float
    position_y: float
    x0: int
    y0: int
    width: int
    height: int


@dataclass(frozen=True)
class Lesion:
    """One 3-D connected component (26-neighbourhood) of the lesion mask.

    Args:
        lesion_id: 1 is the largest; also its value in ``lesions.nii.gz``.
        voxel_count: Number of voxels.
        volume_ml: None when the geometry is not known (as every mm figure).
        slice_first, slice_last: Slice range, both included.
        centroid_index: (slice, row, column).
        centroid_lps_mm: LPS position of the centroid.
        side: Patient's ``left`` or ``right``, by the lung that holds most of it.
        third: ``upper``, ``middle`` or ``lower`` third of that lung's height.
        mean_hu: None when HU were assumed from grey levels.
        extent_mm: Bounding box in mm along (slices, rows, columns).
        slices: Per-slice fields.
    """

    lesion_id: int
    voxel_count: int
    volume_ml: float | None
    slice_first: int
    slice_last: int
    centroid_index: tuple[float, float, float]
    centroid_lps_mm: tuple[float, float, float] | None
    side: str
    third: str
    mean_hu: float | None
    extent_mm: tuple[float, float, float] | None
    slices: tuple[SliceLesion, ...]


@dataclass(frozen=True)
class Zone:
    """Burden of one zone (side x third); zonal, not lobar."""

    side: str
    third: str
    lung_voxels: int
    opacity_voxels: int
    percent_opacity: float | None


@dataclass(frozen=True)
class Burden:
    """How much lung the opacifications take.

    Args:
        lung_volume_ml, opacification_volume_ml: None when the geometry is not known.
        percent_opacity: PO, opacified voxels as % of lung voxels; None without lung.
        percent_high_opacity: PHO, lesion voxels above ``high_opacity_cut_hu`` as % of lung; None when HU are assumed.
        hu_bin_edges, hu_counts: Histogram of HU inside the lungs.
        zones: Six zones, right upper ... left lower.
    """

    lung_volume_ml: float | None
    opacification_volume_ml: float | None
    percent_opacity: float | None
    percent_high_opacity: float | None
    high_opacity_cut_hu: float
    hu_bin_edges: tuple[float, ...]
    hu_counts: tuple[int, ...]
    zones: tuple[Zone, ...]
