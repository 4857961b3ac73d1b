"""Everything around the lungs: skin, fat, muscle, bones, arms and the table."""

from __future__ import annotations

import numpy as np

from jcs_ct.phantom.grid import Plane, SliceGrid, SmoothField, coverage, paint, paint_ellipse, stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.surfaces import Surfaces

AIR_HU = -1000.0
FAT_HU = -102.0
CORTEX_HU = 620.0
MARROW_HU = 170.0
CARTILAGE_HU = 110.0


class TorsoTexture:
    """Random fields of fat planes, marrow and clothes."""

    def __init__(self, seed: int) -> None:
        self._planes = SmoothField(stream(seed, 6, 0), (17.0, 6.0, 25.0))
        self._marrow = SmoothField(stream(seed, 6, 1), 1.6)
        self._folds = SmoothField(stream(seed, 6, 2), (26.0, 26.0, 40.0), size=32)

    def fat_planes(self, grid: SliceGrid, z_mm: float) -> Plane:
        """1 on the fat planes between muscles, 0 in them."""
        field = self._planes.plane(grid, z_mm) * np.float32(4.5)
        lines: Plane = np.exp(-field * field)
        return lines

    def marrow(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Trabecular unevenness, SD 1."""
        return self._marrow.plane(grid, z_mm)

    def folds(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Slow waves of clothes and of the fat's thickness, SD 1."""
        return self._folds.plane(grid, z_mm)


def paint_torso(hu: Plane, patient: Patient, surfaces: Surfaces, texture: TorsoTexture, *, arms_up: bool) -> None:
    """Paint table, body, muscles and bones over air, in place. What lies inside the chest wall comes later."""
    grid, z = surfaces.grid, surfaces.z_mm
    body = patient.body_distance(grid.x, grid.y, np.float32(z))
    folds = texture.folds(grid, z)
    _paint_table(hu, patient, grid)
    _paint_clothes(hu, patient, grid, body, folds)
    inside = coverage(body, grid.pixel_mm)
    paint(hu, inside, FAT_HU)
    skin = np.clip(1 - np.abs(body - 1) / np.float32(0.8 + 0.5 * grid.pixel_mm), 0, 1)
    paint(hu, skin, 5.0)
    _paint_muscle(hu, patient, surfaces, body, folds, texture)
    if not arms_up:
        _paint_arms(hu, patient, grid)
    _paint_ribs(hu, patient, surfaces)
    _paint_shoulder_girdle(hu, patient, surfaces, body)
    _paint_sternum(hu, patient, grid, z)


def paint_spine(hu: Plane, patient: Patient, grid: SliceGrid, z_mm: float, texture: TorsoTexture) -> None:
    """Vertebra (or disc), canal, arch and processes, in place."""
    y = float(patient.spine_y(np.float32(z_mm)))
    pitch = 23.0
    phase = (z_mm / pitch + patient.spine_phase) % 1.0
    is_disc = phase < 0.2
    arch = phase > 0.3
    size = 1.0 + 0.22 * float(patient.level(z_mm))
    width, depth = 15.5 * size, 12.5 * size
    if arch:
        for side in (-1, 1):
            paint_ellipse(hu, grid, (side * 13 * size, y + 17), (4.0, 8.0), 420.0)
            paint_ellipse(hu, grid, (side * 24, y + 25), (12, 4.2), 380.0, angle=side * 0.5)
            paint_ellipse(hu, grid, (side * 23, y + 25), (9, 2.4), 200.0, angle=side * 0.5)
            paint_ellipse(hu, grid, (side * 9, y + 29), (9, 3.0), 430.0, angle=-side * 0.55)
    paint_ellipse(hu, grid, (0, y + 40 - 6 * phase), (2.8, 11), 420.0 if phase > 0.15 else 150.0)
    if is_disc:
        paint_ellipse(hu, grid, (0, y), (width, depth), 85.0)
    else:
        edge = 0.0 if 0.3 < phase < 0.9 else 140.0
        paint_ellipse(hu, grid, (0, y), (width, depth), 480.0)
        box = grid.box(-width, width, y - depth, y + depth)
        marrow = np.float32(MARROW_HU + edge) + 45 * texture.marrow(grid.crop(box), z_mm)
        part = grid.crop(box)
        inner = 1 - np.sqrt((part.x / (width - 1.6)) ** 2 + ((part.y - y) / (depth - 1.6)) ** 2)
        paint(hu[box], coverage(inner * np.float32(depth), grid.pixel_mm), marrow.astype(np.float32))
    paint_ellipse(hu, grid, (0, y + depth + 8), (9.5, 7.5), -20.0)
    paint_ellipse(hu, grid, (0, y + depth + 8), (6.0, 4.5), 38.0)


def _paint_table(hu: Plane, patient: Patient, grid: SliceGrid) -> None:
    top = patient.back_y() + patient.table_gap
    bow = np.float32(top + 16) - grid.x * grid.x / np.float32(1500)
    foam = coverage(grid.y - np.float32(patient.back_y() + 0.5), 1.5) * coverage(bow - grid.y, 1.5)
    paint(hu, foam * np.float32(0.9), -940.0)
    for shift, thick, value in ((0.0, 1.3, -80.0), (34.0, 1.0, -250.0)):
        shell = np.float32(thick) - np.abs(grid.y - bow - np.float32(shift))
        paint(hu, coverage(shell, grid.pixel_mm), value)


def _paint_clothes(hu: Plane, patient: Patient, grid: SliceGrid, body: Plane, folds: Plane) -> None:
    off = (body + 5 + 4.5 * folds) / np.float32(1.0)
    front = np.clip(-(grid.y - np.float32(0.6 * patient.chest_half_depth)) / 20, 0, 1)
    sheet = np.exp(-off * off) * front * (body < 1)
    paint(hu, sheet.astype(np.float32), -880.0)


def _paint_muscle(
    hu: Plane, patient: Patient, surfaces: Surfaces, body: Plane, folds: Plane, texture: TorsoTexture
) -> None:
    grid, level = surfaces.grid, float(patient.level(surfaces.z_mm))
    front = np.clip(-grid.y / 45, 0, 1) * np.float32(np.exp(-(((level - 0.22) / 0.2) ** 2)))
    sides = np.clip(grid.y / 50, 0, 1) * np.float32(np.exp(-(((level - 0.3) / 0.25) ** 2)))
    thick = np.float32(patient.wall) + 7 * front + 9 * sides
    muscle = surfaces.wall + thick
    shoulder = body - np.float32(0.6 * patient.fat + 4) - 2.5 * folds - np.float32(90 * max(level - 0.06, 0))
    muscle = np.minimum(np.maximum(muscle, shoulder), body - 4)
    share = coverage(muscle, 1.5 * grid.pixel_mm)
    planes = texture.fat_planes(grid, surfaces.z_mm) * np.clip(-surfaces.wall / 8, 0, 1)
    paint(hu, share * (1 - np.float32(0.35) * planes), patient.muscle_hu)
    spine_y = float(patient.spine_y(np.float32(surfaces.z_mm)))
    for side in (-1, 1):
        paint_ellipse(
            hu, grid, (side * 27, spine_y + 42), (22, 13), patient.muscle_hu - 8, angle=side * 0.15, edge_mm=2.0
        )


def _paint_arms(hu: Plane, patient: Patient, grid: SliceGrid) -> None:
    for side in (-1, 1):
        x = side * (patient.chest_half_width + patient.wall + patient.fat + 62)
        paint_ellipse(hu, grid, (x, 12), (40, 46), FAT_HU)
        paint_ellipse(hu, grid, (x, 12), (33, 39), patient.muscle_hu)
        paint_ellipse(hu, grid, (x, 14), (12, 12), 950.0)
        paint_ellipse(hu, grid, (x, 14), (7.5, 7.5), -20.0)


def _ring_angle(patient: Patient, surfaces: Surfaces, rows: np.ndarray, columns: np.ndarray) -> Plane:
    """0 at the spine, 1 at the sternum, for pixels given by index."""
    grid = surfaces.grid
    centre = float(patient.cage_centre_y(patient.level(surfaces.z_mm)))
    x = grid.x_mm[columns] / np.float32(patient.chest_half_width)
    y = (grid.y_mm[rows] - np.float32(centre)) / np.float32(patient.chest_half_depth)
    angle: Plane = (np.arctan2(np.abs(x), y) / np.float32(np.pi)).astype(np.float32)
    return angle


def _paint_ribs(hu: Plane, patient: Patient, surfaces: Surfaces) -> None:
    """Twelve pairs that fall from the spine to the front; a slice cuts each as a slanted ellipse."""
    level = float(patient.level(surfaces.z_mm))
    if level < -0.05:
        return
    wall = surfaces.wall
    rows, columns = np.nonzero((wall < 1) & (wall > -14))
    angle = _ring_angle(patient, surfaces, rows, columns)
    # Height that the rib at this angle had at the spine; ribs fall more the further they run.
    height = np.float32(surfaces.z_mm) + np.float32(125) * angle**1.25
    turn = height / np.float32(patient.rib_pitch) + np.float32(patient.rib_phase)
    vertical = (turn - np.round(turn)) * np.float32(patient.rib_pitch)
    across = wall[rows, columns] + 6
    radius = np.sqrt((vertical / 5.8) ** 2 + (across / 3.9) ** 2)
    inside = (1 - radius) * np.float32(3.9)
    cartilage = np.clip((angle - np.float32(0.80)) * 25, 0, 1)
    value = hu[rows, columns]
    for shrink, bone in ((0.0, CORTEX_HU), (1.25, MARROW_HU)):
        share = coverage(inside - np.float32(shrink), max(surfaces.grid.pixel_mm, 0.3 * surfaces.thickness_mm))
        target = bone + (CARTILAGE_HU - bone) * cartilage
        value = value + share * (target - value) * (angle < 0.93)
    hu[rows, columns] = value


def _paint_shoulder_girdle(hu: Plane, patient: Patient, surfaces: Surfaces, body: Plane) -> None:
    level, grid = float(patient.level(surfaces.z_mm)), surfaces.grid
    if level > 0.5:
        return
    wall = surfaces.wall
    rows, columns = np.nonzero((wall < -11) & (wall > -46) & (body > 3))
    angle = _ring_angle(patient, surfaces, rows, columns)
    # The blade: a plate that leaves the chest wall sideways, shorter further down.
    start, end = 0.17 + 0.1 * max(level, 0), 0.47 - 0.42 * max(level - 0.1, 0)
    if end - start > 0.03:
        off = wall[rows, columns] + 17 + 34 * np.clip(angle - start, 0, 1)
        thick = 1.9 + 2.6 * np.exp(-(((angle - end) / 0.05) ** 2))
        inside = np.minimum(thick - np.abs(off), np.minimum(angle - start, end - angle) * 160).astype(np.float32)
        value = hu[rows, columns]
        for shrink, bone in ((0.0, CORTEX_HU), (1.5, 200.0)):
            share = coverage(inside - np.float32(shrink), grid.pixel_mm)
            value = value + share * (bone - value)
        hu[rows, columns] = value
    if level < 0.07:
        _paint_top(hu, patient, surfaces, level)


def _paint_top(hu: Plane, patient: Patient, surfaces: Surfaces, level: float) -> None:
    """Heads of the humeri and clavicles."""
    grid = surfaces.grid
    centre = float(patient.cage_centre_y(np.float32(level)))
    for side in (-1, 1):
        x = side * (patient.chest_half_width + 18)
        paint_ellipse(hu, grid, (x, centre - 8), (22, 23), CORTEX_HU)
        paint_ellipse(hu, grid, (x, centre - 8), (20, 21), 210.0)
        middle = (side * (38 - 250 * level), centre - 44 - 60 * max(-level, 0))
        paint_ellipse(hu, grid, middle, (24, 5.5), CORTEX_HU, angle=-side * 0.35)
        paint_ellipse(hu, grid, middle, (21, 3.2), 220.0, angle=-side * 0.35)


def _paint_sternum(hu: Plane, patient: Patient, grid: SliceGrid, z_mm: float) -> None:
    level = float(patient.level(z_mm))
    if not 0.09 < level < 0.74:
        return
    front = float(patient.cage_centre_y(np.float32(level))) - patient.half_depth_at(level)
    half_width = 25 - 40 * (level - 0.09) if level < 0.25 else 15.0
    if level > 0.62:
        half_width = 10.0
    paint_ellipse(hu, grid, (0, front - 7.5), (half_width, 5.8), 380.0)
    paint_ellipse(hu, grid, (0, front - 7.5), (half_width - 1.4, 4.5), 120.0)
