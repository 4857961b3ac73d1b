"""The surfaces of a patient on one slice: distances that everything else is painted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jcs_ct.phantom.grid import Plane, SliceGrid, coverage
from jcs_ct.phantom.patient import Patient, sideways_depth


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Signed distances in mm on a slice, all (rows, columns) and positive inside.

    Args:
        grid: Pixel centres.
        z_mm: Height of the slice.
        thickness_mm: Slice thickness; borders that run along the slice are as soft as it is thick.
        wall: To the inner chest wall.
        mediastinum: To what lies between the lungs.
        above_diaphragm: Height over the diaphragm.
        depth: To the pleura, from inside a lung.
        costal: To the pleura of ribs, diaphragm and apex only.
        lung: Share of the voxel that is lung, 0 to 1.
    """

    grid: SliceGrid
    z_mm: float
    thickness_mm: float
    wall: Plane
    mediastinum: Plane
    above_diaphragm: Plane
    depth: Plane
    costal: Plane
    lung: Plane

    @classmethod
    def of(cls, patient: Patient, grid: SliceGrid, z_mm: float, thickness_mm: float) -> Surfaces:
        """The surfaces of a patient on a slice."""
        z = np.float32(z_mm)
        wall = patient.wall_distance(grid.x, grid.y, z)
        mediastinum = patient.mediastinum_distance(grid.x, grid.y, z)
        above = z - patient.diaphragm_z(grid.x, grid.y)
        below_apex = patient.apex_z(grid.x, grid.y) - z
        sideways = sideways_depth(wall, mediastinum)
        ends = np.minimum(above * np.float32(0.6), below_apex * np.float32(0.8))
        along = max(thickness_mm, grid.pixel_mm)
        # Walls are a little oblique and the heart beats: their border is softer than a pixel.
        across = grid.pixel_mm + 0.3 * thickness_mm
        lung = coverage(sideways, across) * coverage(above, along) * coverage(below_apex, along)
        return cls(
            grid,
            float(z_mm),
            thickness_mm,
            wall,
            mediastinum,
            above,
            np.minimum(sideways, ends),
            np.minimum(wall, ends),
            lung,
        )

    def crop(self, box: tuple[slice, slice]) -> Surfaces:
        """The surfaces on a part of the slice."""
        planes = (self.wall, self.mediastinum, self.above_diaphragm, self.depth, self.costal, self.lung)
        return Surfaces(self.grid.crop(box), self.z_mm, self.thickness_mm, *(plane[box] for plane in planes))
