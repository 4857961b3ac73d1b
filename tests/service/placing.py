"""Where voxels of a SEG lie in the patient, read by pydicom and nothing of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread


def seg_places(path: Path) -> set[tuple[float, float, float]]:
    """LPS mm, to a tenth, of every voxel that any segment marks (PS3.3 C.7.6.2.1.1)."""
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    places = set()
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        holder = shared if "PlaneOrientationSequence" in shared else groups
        row, column = np.array(holder.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
        row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for r, c in np.argwhere(frame):
            places.add(tuple(np.round(first + row * column_mm * c + column * row_mm * r, 1) + 0.0))
    return places


def viewer_places(grid: dict, mask: np.ndarray) -> set[tuple[float, float, float]]:
    """LPS mm, to a tenth, of every voxel of a viewer's (x, y, z) mask, by the grid's affine."""
    to_lps = np.diag([-1.0, -1, 1, 1]) @ np.array(grid["affine"])
    places = (to_lps @ np.vstack([np.argwhere(mask).T, np.ones(np.count_nonzero(mask))]))[:3].T
    return {tuple(np.round(place, 1) + 0.0) for place in places}
