"""Who is scanned: the random shape of one phantom patient and the surfaces of the chest.

Coordinates are patient millimetres: x to the left, y posterior, z superior; the origin is the middle of the chest
at half the lungs' height. ``level`` is the height as a share of the lungs: 0 at the apex, 1 at the lowest recess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from jcs_ct.phantom.grid import Coordinate, Plane, smooth_max, smooth_step, stream

# Half width and half depth of the inner chest wall by level, as shares of their largest values.
_LEVELS = (-0.30, -0.06, 0.0, 0.05, 0.12, 0.22, 0.35, 0.5, 0.7, 1.0, 1.4)
_WIDTH = PchipInterpolator(_LEVELS, (0.40, 0.42, 0.50, 0.62, 0.745, 0.86, 0.945, 0.985, 1.0, 0.99, 0.95))
_DEPTH = PchipInterpolator(_LEVELS, (0.30, 0.32, 0.38, 0.50, 0.64, 0.79, 0.90, 0.97, 1.0, 1.0, 0.96))
# Half width of the mediastinum between the lungs and of the lung-bearing part of the cage at the apex.
_MEDIASTINUM = PchipInterpolator(_LEVELS, (60.0, 44.0, 34.0, 30.0, 30.0, 30.0, 29.0, 27.0, 26.0, 24.0, 24.0))
_SHOULDER = PchipInterpolator(_LEVELS, (0.55, 0.50, 0.46, 0.40, 0.30, 0.17, 0.07, 0.02, 0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Patient:
    """Shape of one phantom patient; lengths in mm, values in HU.

    Every field is drawn by :meth:`draw`; the surfaces are methods that take coordinates of any shape that
    broadcasts.
    """

    seed: int
    lung_height: float
    chest_half_width: float
    chest_half_depth: float
    squareness: float
    wall: float
    fat: float
    breast: float
    heart: tuple[float, float, float]
    heart_half_axes: tuple[float, float, float]
    heart_angle: float
    right_dome: float
    left_dome: float
    arch_radius: float
    aorta_radius: float
    trachea_radius: float
    lung_hu: float
    gravity_hu_per_mm: float
    apex_to_base_hu: float
    muscle_hu: float
    rib_pitch: float
    rib_phase: float
    spine_phase: float
    table_gap: float

    @classmethod
    def draw(cls, seed: int) -> Patient:
        """The patient of a seed."""
        g = stream(seed, 0)
        width, depth = g.uniform(107, 132), g.uniform(75, 92)
        size = g.uniform(0.78, 1.03)
        return cls(
            seed=seed,
            lung_height=g.uniform(205, 275),
            chest_half_width=width,
            chest_half_depth=depth,
            squareness=g.uniform(2.15, 2.6),
            wall=g.uniform(11, 17),
            fat=float(np.clip(g.gamma(4.0, 3.0), 4, 32)),
            breast=g.uniform(12, 34) if g.random() < 0.5 else 0.0,
            heart=(g.uniform(14, 27), -g.uniform(0.18, 0.34) * depth, g.uniform(0.62, 0.70)),
            heart_half_axes=(60 * size, 45 * size, 62 * size),
            heart_angle=np.deg2rad(g.uniform(25, 45)),
            right_dome=g.uniform(0.66, 0.76),
            left_dome=g.uniform(0.71, 0.82),
            arch_radius=g.uniform(24, 30),
            aorta_radius=g.uniform(10.5, 14.5),
            trachea_radius=g.uniform(7.2, 10.0),
            lung_hu=g.normal(-893, 10),
            gravity_hu_per_mm=g.uniform(0.15, 0.42),
            apex_to_base_hu=g.uniform(0, 24),
            muscle_hu=g.uniform(48, 60),
            rib_pitch=g.uniform(23, 29),
            rib_phase=g.uniform(0, 1),
            spine_phase=g.uniform(0, 1),
            table_gap=g.uniform(2, 7),
        )

    def level(self, z: Coordinate) -> Plane:
        """Height z in mm -> 0 at the apex, 1 at the lowest recess."""
        level: Plane = np.asarray(0.5 - np.asarray(z) / self.lung_height, dtype=np.float32)
        return level

    def z_mm(self, level: float) -> float:
        """The inverse of :meth:`level`."""
        return (0.5 - level) * self.lung_height

    def _half_axes(self, level: Coordinate) -> tuple[Plane, Plane]:
        width = (_WIDTH(level) * self.chest_half_width).astype(np.float32)
        depth = (_DEPTH(level) * self.chest_half_depth).astype(np.float32)
        return width, depth

    def half_depth_at(self, level: float) -> float:
        """Half depth in mm of the inner chest wall at a level."""
        return float(_DEPTH(level)) * self.chest_half_depth

    def cage_centre_y(self, level: Coordinate) -> Plane:
        """y of the chest's axis: the narrow apex lies behind the middle."""
        centre: Plane = (0.42 * (1 - _DEPTH(level)) * self.chest_half_depth).astype(np.float32)
        return centre

    def wall_distance(self, x: Plane, y: Plane, z: Coordinate) -> Plane:
        """Distance in mm to the inner chest wall, positive inside it; grows further inwards."""
        level = self.level(z)
        width, depth = self._half_axes(level)
        dy = y - self.cage_centre_y(level)
        # The lungs reach further back beside the spine than over it.
        gutter = np.exp(-(((np.abs(x) - 0.50 * width) / (0.30 * width)) ** 2)) * np.clip(dy / depth, 0, 1)
        dy = dy - 13 * gutter * np.clip((level - 0.03) / np.float32(0.25), 0, 1)
        power = np.float32(self.squareness)
        norm = (np.abs(x / width) ** power + np.abs(dy / depth) ** power) ** (1 / power) + np.float32(1e-4)
        radius = np.sqrt(x * x + dy * dy)
        distance: Plane = radius / norm - radius
        return distance

    def spine_y(self, z: Coordinate) -> Plane:
        """y of the centre of the vertebral bodies."""
        level = self.level(z)
        y: Plane = self.cage_centre_y(level) + (_DEPTH(level) * self.chest_half_depth).astype(np.float32) - 34
        return y

    def mediastinum_distance(self, x: Plane, y: Plane, z: Coordinate) -> Plane:
        """Signed distance in mm to what lies between the lungs, positive inside it."""
        level = self.level(z)
        spine_y = self.spine_y(z)
        front = self.cage_centre_y(level) - (_DEPTH(level) * self.chest_half_depth).astype(np.float32)
        depth = (y - front) / (spine_y - front)
        # Thin where the lungs meet in front, widest at the great vessels, narrow again before the spine.
        profile = 0.10 + 0.90 * np.exp(-(((depth - 0.62) / 0.30) ** 2))
        upper = np.clip((0.32 - level) / 0.2, 0, 1)
        half_width = (_MEDIASTINUM(level) * (profile + upper * np.clip(0.75 - profile, 0, 1))).astype(np.float32)
        band = half_width - np.abs(x - np.float32(3.0))
        # Close to the vertebral body, then out to the heads of the ribs.
        spine_width = 18 + 21 * smooth_step((y - spine_y + 2) / 24)
        spine = np.minimum(spine_width - np.abs(x), y - spine_y + 17)
        spine = np.maximum(spine, 20 - np.hypot(x, y - spine_y))
        union = smooth_max(band, spine.astype(np.float32), 10)
        union = smooth_max(union, self.heart_distance(x, y, z), 8)
        aorta = self.aorta_radius + 2.5 - np.hypot(x - self.descending_x(z), y - self.descending_y(z))
        below_arch = np.where(level > 0.27, aorta, np.float32(-99)).astype(np.float32)
        return smooth_max(union, below_arch, 6)

    def descending_x(self, z: Coordinate) -> Plane:
        """x of the descending aorta: left of the spine, nearer the middle further down."""
        x: Plane = np.asarray(24 - 12 * np.clip(self.level(z) - 0.4, 0, 1), dtype=np.float32)
        return x

    def descending_y(self, z: Coordinate) -> Plane:
        """y of the descending aorta."""
        return self.spine_y(z) - np.float32(19)

    def heart_distance(self, x: Plane, y: Plane, z: Coordinate) -> Plane:
        """Signed distance in mm to the pericardium, positive inside it."""
        centre_x, centre_y, level = self.heart
        a, b, c = self.heart_half_axes
        dz = np.asarray(z - self.z_mm(level), dtype=np.float32)
        cos, sin = np.float32(np.cos(self.heart_angle)), np.float32(np.sin(self.heart_angle))
        # The apex of the heart points left, forward and down.
        dx, dy = x - np.float32(centre_x) + 0.28 * dz, y - np.float32(centre_y) - 0.12 * dz
        along, across = dx * cos - dy * sin, dx * sin + dy * cos
        norm = np.sqrt((along / a) ** 2 + (across / b) ** 2 + (dz / c) ** 2) + np.float32(1e-4)
        distance: Plane = ((1 - norm) * np.float32(b)).astype(np.float32)
        return distance

    def diaphragm_z(self, x: Plane, y: Plane) -> Plane:
        """Height in mm of the diaphragm's upper surface."""
        half_width = self.chest_half_width
        right = self._dome(x, y, -0.50 * half_width, self.right_dome)
        left = self._dome(x, y, 0.52 * half_width, self.left_dome)
        blend = np.clip(x / 30 + 0.5, 0, 1)
        surface: Plane = (right * (1 - blend) + left * blend).astype(np.float32)
        return surface

    def _dome(self, x: Plane, y: Plane, centre_x: float, top_level: float) -> Plane:
        fall = (1.02 - top_level) * self.lung_height
        dx = (x - centre_x) / (0.58 * self.chest_half_width)
        behind = y + 0.12 * self.chest_half_depth
        dy = behind / (np.where(behind > 0, 0.98, 1.25) * self.chest_half_depth)
        radius = dx * dx * np.where(dx * centre_x > 0, 1.0, 0.35) + dy * dy
        dome: Plane = np.asarray(self.z_mm(top_level) - fall * radius**1.25, dtype=np.float32)
        return dome

    def apex_z(self, x: Plane, y: Plane) -> Plane:
        """Height in mm of the pleural domes over the apices."""
        across = (np.abs(x) - 47) / 30
        along = (y - self.cage_centre_y(np.float32(0.03)) - 4) / 30
        radius = across * across + along * along
        dome: Plane = np.asarray(self.z_mm(0.0) - 11 * radius / (1 + 0.22 * radius), dtype=np.float32)
        return dome

    def lung_depth(self, x: Plane, y: Plane, z: Coordinate) -> Plane:
        """Distance in mm to the pleura, positive inside a lung (a close approximation)."""
        depth = sideways_depth(self.wall_distance(x, y, z), self.mediastinum_distance(x, y, z))
        above = (z - self.diaphragm_z(x, y)) * np.float32(0.6)
        apex = (self.apex_z(x, y) - z) * np.float32(0.8)
        result: Plane = np.minimum(np.minimum(depth, above), apex).astype(np.float32)
        return result

    def costal_depth(self, x: Plane, y: Plane, z: Coordinate) -> Plane:
        """Distance in mm to the pleura of ribs, diaphragm and apex; the mediastinum does not count."""
        above = (z - self.diaphragm_z(x, y)) * np.float32(0.6)
        apex = (self.apex_z(x, y) - z) * np.float32(0.8)
        result: Plane = np.minimum(np.minimum(self.wall_distance(x, y, z), above), apex).astype(np.float32)
        return result

    def parenchyma_hu(self, y: Plane, z: Coordinate) -> Plane:
        """HU of healthy lung: denser towards the back (supine gravity) and the base."""
        base = self.lung_hu + self.gravity_hu_per_mm * y + self.apex_to_base_hu * (self.level(z) - 0.5)
        hu: Plane = np.asarray(base, dtype=np.float32)
        return hu

    def body_distance(self, x: Plane, y: Plane, z: Coordinate) -> Plane:
        """Signed distance in mm to the skin, positive inside the body."""
        level = self.level(z)
        width, depth = self._half_axes(np.maximum(level, np.float32(0.3)))
        shoulder = (_SHOULDER(level) * self.chest_half_width * 1.35).astype(np.float32)
        pad = self.wall + self.fat + 9
        half_width, half_depth = width + pad + 8 + shoulder, depth + pad - 2 - 0.10 * shoulder
        dy = y - np.float32(3)
        norm = (np.abs(x / half_width) ** 2.5 + np.abs(dy / half_depth) ** 2.5) ** 0.4 + np.float32(1e-4)
        radius = np.sqrt(x * x + dy * dy)
        distance = (radius / norm - radius) * np.float32(0.92)
        if self.breast:
            apart = 0.55 * self.chest_half_width
            bump = np.exp(-(((x - apart) / 42) ** 2)) + np.exp(-(((x + apart) / 42) ** 2))
            bump = bump * np.exp(-(((level - 0.52) / 0.2) ** 2))
            distance = distance + np.float32(self.breast) * bump * (y < 0) * np.clip(-y / 60, 0, 1)
        back = np.float32(self.back_y()) - y
        result: Plane = -smooth_max(-distance, -back, 26)
        return result

    def back_y(self) -> float:
        """y of the table's surface, on which the back lies flat."""
        return self.chest_half_depth + self.wall + 0.6 * self.fat + 12


def sideways_depth(wall: Plane, mediastinum: Plane) -> Plane:
    """Distance in mm to the pleura within a slice, from the distances to chest wall and mediastinum.

    The pleura turns round the corners between the two.
    """
    return -smooth_max(-wall, mediastinum, 16)
