"""What lies between and below the lungs: heart, great vessels, trachea, oesophagus, liver, spleen, stomach."""

from __future__ import annotations

import numpy as np

from jcs_ct.phantom.grid import Plane, SliceGrid, SmoothField, coverage, paint, paint_ellipse, stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.surfaces import Surfaces

FAT_HU = -95.0


class OrganTexture:
    """Random fields of mediastinal fat and of the borders of abdominal organs."""

    def __init__(self, seed: int) -> None:
        self._strands = SmoothField(stream(seed, 7, 0), (6.0, 6.0, 12.0))
        self._borders = SmoothField(stream(seed, 7, 1), 22.0, size=32)
        generator = stream(seed, 7, 2)
        self.stomach_gas = float(generator.uniform(-0.2, 0.7))
        self.blood_hu = float(generator.uniform(36, 50))
        self.liver_hu = float(generator.uniform(46, 66))

    def strands(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Small nodes and strands in fat, SD 1."""
        return self._strands.plane(grid, z_mm)

    def borders(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Slow waves, SD 1."""
        return self._borders.plane(grid, z_mm)


def paint_organs(hu: Plane, patient: Patient, surfaces: Surfaces, texture: OrganTexture) -> None:
    """Paint mediastinum and upper abdomen inside the chest wall, in place (the lungs are painted over them)."""
    grid, z = surfaces.grid, surfaces.z_mm
    inside = coverage(surfaces.wall, grid.pixel_mm)
    strands = texture.strands(grid, z)
    level = float(patient.level(z))
    # Below the diaphragm's rim everything inside the wall is abdomen; above it, fat of the mediastinum.
    fat = FAT_HU + 55 * np.clip(strands - np.float32(0.4), 0, 1.5)
    if level < 0.1:
        fat = fat + np.float32(90 * min((0.1 - level) * 12, 1))
    paint(hu, inside, fat.astype(np.float32))
    beside_spine = coverage(grid.y - patient.spine_y(z) - 2, 4.0) * inside * np.float32(0.85)
    paint(hu, beside_spine, patient.muscle_hu - 10)
    _paint_great_vessels(hu, patient, grid, z, texture.blood_hu)
    heart = patient.heart_distance(grid.x, grid.y, np.float32(z))
    if heart.max() > 0:
        paint(hu, coverage(heart - 2, 2.0), texture.blood_hu)
    abdomen = coverage(-surfaces.above_diaphragm - 3, max(surfaces.thickness_mm, 2.0)) * inside
    if abdomen.max() > 0:
        paint(hu, abdomen, _abdomen_hu(patient, surfaces, texture))
        muscle = np.clip(1 - np.abs(surfaces.above_diaphragm + 2.5) / 3, 0, 1) * inside
        paint(hu, muscle, patient.muscle_hu)
    _paint_aorta_and_oesophagus(hu, patient, grid, z, texture.blood_hu)


def paint_trachea(hu: Plane, patient: Patient, grid: SliceGrid, z_mm: float) -> None:
    """Trachea down to the carina, in place."""
    level = float(patient.level(z_mm))
    if level > 0.34:
        return
    spread = 1 + 0.5 * np.clip((level - 0.28) / 0.06, 0, 1)
    y = float(patient.spine_y(np.float32(z_mm))) - 29 - 14 * max(0.05 - level, 0)
    radius = patient.trachea_radius
    paint_ellipse(hu, grid, (2, y), (radius * spread + 1.6, radius + 1.6), 25.0)
    paint_ellipse(hu, grid, (2, y), (radius * spread, radius), -985.0)


def _abdomen_hu(patient: Patient, surfaces: Surfaces, texture: OrganTexture) -> Plane:
    grid, z = surfaces.grid, surfaces.z_mm
    waves = texture.borders(grid, z)
    hu = np.full(grid.shape, -100.0, dtype=np.float32)
    width = patient.chest_half_width
    # Spleen behind on the left, stomach in front of it, liver on the right and across the middle.
    spleen = ((grid.x - 0.66 * width) / 38) ** 2 + ((grid.y - 0.42 * patient.chest_half_depth) / 46) ** 2
    paint(hu, coverage(((1 - np.sqrt(spleen)) * 38 + 3 * waves).astype(np.float32), 1.5), 50.0)
    cx, cy = 0.40 * width, -0.10 * patient.chest_half_depth
    stomach = (1 - np.sqrt(((grid.x - cx) / 36) ** 2 + ((grid.y - cy) / 34) ** 2)) * 34 + 3 * waves
    paint(hu, coverage(stomach.astype(np.float32), 1.5), 42.0)
    lumen = coverage((stomach - 4).astype(np.float32), 1.5)
    gas = coverage((np.float32(cy - 20 + 34 * texture.stomach_gas) - grid.y), 1.5)
    paint(hu, lumen, 18 + 10 * texture.strands(grid, z))
    paint(hu, lumen * gas, -960.0)
    lobe = 26 * np.exp(-(((grid.y + 0.55 * patient.chest_half_depth) / 30) ** 2))
    edge = np.float32(14) + lobe + 9 * waves - grid.x - 0.25 * np.maximum(grid.y, 0)
    liver = np.minimum(edge, np.float32(0.78 * patient.chest_half_depth) - grid.y - 0.2 * grid.x)
    paint(hu, coverage(liver.astype(np.float32), 1.5), texture.liver_hu)
    return hu


def _paint_great_vessels(hu: Plane, patient: Patient, grid: SliceGrid, z_mm: float, blood: float) -> None:
    level = float(patient.level(z_mm))
    spine_y = float(patient.spine_y(np.float32(z_mm)))
    radius = patient.aorta_radius
    if level < 0.2:
        for x, y, r in ((-20, -38, 7.5), (-10, -46, 6.0), (14, -40, 5.0), (20, -30, 5.0), (18, -52, 6.5)):
            paint_ellipse(hu, grid, (x, spine_y + y), (r, 0.9 * r), blood, edge_mm=1.5)
    if 0.19 < level < 0.27:
        paint_ellipse(hu, grid, (8, spine_y - 40), (2.9 * radius, 1.05 * radius), blood, angle=0.95, edge_mm=1.5)
    if 0.18 < level < 0.5:
        paint_ellipse(hu, grid, (-22, spine_y - 50), (8, 9), blood, edge_mm=1.5)
    if 0.26 < level < 0.52:
        paint_ellipse(hu, grid, (-8, spine_y - 66), (radius + 3.5, radius + 3.5), blood, edge_mm=1.5)
    if 0.33 < level < 0.47:
        paint_ellipse(hu, grid, (18, spine_y - 62), (14, 15), blood, edge_mm=1.5)
        if level < 0.43:
            paint_ellipse(hu, grid, (-6, spine_y - 45), (32, 8), blood, angle=-0.1, edge_mm=1.5)
    if 0.44 < level < 0.56:
        paint_ellipse(hu, grid, (2, spine_y - 46), (28, 15), blood, edge_mm=1.5)


def _paint_aorta_and_oesophagus(hu: Plane, patient: Patient, grid: SliceGrid, z_mm: float, blood: float) -> None:
    level = float(patient.level(z_mm))
    spine_y = float(patient.spine_y(np.float32(z_mm)))
    paint_ellipse(hu, grid, (6, spine_y - 19.5), (7, 4.5), 34.0, edge_mm=1.5)
    paint_ellipse(hu, grid, (6, spine_y - 19.5), (1.8, 1.0), -400.0, edge_mm=1.5)
    if level > 0.25:
        z = np.float32(z_mm)
        centre = (float(patient.descending_x(z)), float(patient.descending_y(z)))
        paint_ellipse(hu, grid, centre, (patient.aorta_radius, patient.aorta_radius), blood, edge_mm=1.5)
