"""Opacifications of COVID-19: where they sit, what shape they have, and how they look.

Ground glass, consolidation, crazy paving and bands; bilateral, peripheral, posterior and lower-zone preference
(the pattern that Fleischner and RSNA statements call typical).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from jcs_ct.phantom.grid import Plane, SliceGrid, SmoothField, paint, smooth_step, stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.trees import lung_points


class LesionKind(StrEnum):
    """The appearance of a lesion."""

    GROUND_GLASS = "ground glass"
    CONSOLIDATION = "consolidation"
    CRAZY_PAVING = "crazy paving"
    BAND = "band"


#: ``pleural_mm`` of a lesion that lies anywhere: further than any lung is deep.
ANYWHERE_MM = 1e4

_KINDS = tuple(LesionKind)
#: Levels that lesions prefer in turn, two lesions (one a side) at each.
_TURNS = (0.72, 0.48, 0.86, 0.30)
_KIND_SHARES = (0.50, 0.19, 0.19, 0.12)


@dataclass(frozen=True)
class LesionShape:
    """One lesion: an irregular ellipsoid that keeps to the pleura, or a curved plate (band).

    Args:
        lesion_id: From 1.
        kind: Appearance.
        centre_mm: (x, y, z).
        half_axes_mm: (x, y, z) before the border is made irregular.
        pleural_mm: How far the lesion reaches from the pleura; ``ANYWHERE_MM`` for one that does not keep to it.
        hu: Of its densest part.
        softness: Width of its border as a share of its half axes.
        ragged: Amplitude of its border's irregularity as a share of its half axes.
        normal: Unit normal of a band; unused otherwise.
    """

    lesion_id: int
    kind: LesionKind
    centre_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    pleural_mm: float
    hu: float
    softness: float
    ragged: float
    normal: tuple[float, float, float] = (0.0, 1.0, 0.0)

    @property
    def reach_mm(self) -> tuple[float, float, float]:
        """Half of the box that holds the lesion, (x, y, z)."""
        grow = 1 + 2.2 * self.ragged + 0.5 * self.softness
        a, b, c = self.half_axes_mm
        return a * grow, b * grow, c * grow


def draw_lesions(patient: Patient, count: int) -> tuple[LesionShape, ...]:
    """``count`` lesions for a patient, in both lungs when there are at least two."""
    generator = stream(patient.seed, 2)
    burden = generator.uniform(0.75, 1.25)
    dense = generator.uniform(0, 1)
    places = [_places(patient, generator, side) for side in (-1, 1)]
    first = int(generator.integers(2))
    return tuple(
        _draw_lesion(patient, generator, number + 1, places[(first + number) % 2], burden, dense)
        for number in range(count)
    )


def _places(patient: Patient, generator: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidate centres in one lung and the chance of each."""
    points = lung_points(patient, generator, side, 9.0)
    x, y, z = points.T.astype(np.float32)
    depth = patient.costal_depth(x, y, z)
    level = patient.level(z)
    behind = 1 / (1 + np.exp(-(y / patient.chest_half_depth - 0.05) * 4.5))
    low = 1 / (1 + np.exp(-(level - 0.48) * 6))
    chance = (np.exp(-depth / 9.0) + 0.03) * (0.12 + behind) * (0.22 + low) * (level > 0.06) * (level < 0.93)
    chance = chance.astype(np.float64)
    return points, chance / chance.sum()


def _draw_lesion(
    patient: Patient,
    generator: np.random.Generator,
    lesion_id: int,
    places: tuple[np.ndarray, np.ndarray],
    burden: float,
    dense: float,
) -> LesionShape:
    points, chance = places
    # Disease is patchy, not one heap: lesions take turns in height.
    level = patient.level(points[:, 2])
    chance = chance * np.exp(-(((level - _TURNS[(lesion_id - 1) // 2 % len(_TURNS)]) / 0.16) ** 2))
    chance = chance / chance.sum()
    centre = points[int(generator.choice(len(points), p=chance))]
    shares = np.array(_KIND_SHARES)
    shares[1] *= 0.4 + 1.2 * dense
    kind = _KINDS[int(generator.choice(len(_KINDS), p=shares / shares.sum()))]
    radius = float(np.clip(generator.lognormal(np.log(28 * burden), 0.36), 11, 55))
    ratio = generator.uniform(0.7, 1.35, 2)
    half_axes = (radius * ratio[0], radius * ratio[1], radius * generator.uniform(1.1, 1.8))
    pleural = generator.uniform(13, 36) if generator.random() < 0.8 else ANYWHERE_MM
    hu = {
        LesionKind.GROUND_GLASS: generator.uniform(-690, -500),
        LesionKind.CONSOLIDATION: generator.uniform(-60, 45),
        LesionKind.CRAZY_PAVING: generator.uniform(-640, -480),
        LesionKind.BAND: generator.uniform(-350, -60),
    }[kind]
    normal = (0.0, 1.0, 0.0)
    if kind is LesionKind.CONSOLIDATION:
        half_axes = (0.75 * half_axes[0], 0.75 * half_axes[1], 0.85 * half_axes[2])
    if kind is LesionKind.BAND:
        along = generator.uniform(18, 38)
        half_axes, pleural = (along, along, 0.7 * along), ANYWHERE_MM
        angle, tilt = generator.uniform(0, np.pi), generator.normal(0, 0.25)
        vector = np.array([np.cos(angle), np.sin(angle), tilt])
        vector /= np.linalg.norm(vector)
        normal = (float(vector[0]), float(vector[1]), float(vector[2]))
    return LesionShape(
        lesion_id=lesion_id,
        kind=kind,
        centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        half_axes_mm=(float(half_axes[0]), float(half_axes[1]), float(half_axes[2])),
        pleural_mm=float(pleural),
        hu=float(hu),
        softness=float(generator.uniform(0.35, 0.9) if kind is not LesionKind.CONSOLIDATION else 0.6),
        ragged=float(generator.uniform(0.14, 0.28)),
        normal=normal,
    )


class LesionTexture:
    """The random fields that make borders irregular, ground glass uneven and septa visible."""

    def __init__(self, seed: int) -> None:
        self._lobes = SmoothField(stream(seed, 3, 0), 10.0)
        self._border = SmoothField(stream(seed, 3, 1), 3.6)
        self._septa = (SmoothField(stream(seed, 3, 2), 4.2), SmoothField(stream(seed, 3, 3), 5.5))
        self._mottle = SmoothField(stream(seed, 3, 4), 2.2)

    def border(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Irregularity of borders, SD about 1."""
        field: Plane = 0.85 * self._lobes.plane(grid, z_mm) + 0.5 * self._border.plane(grid, z_mm)
        return field

    def bend(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Slow waves for bands, SD 1."""
        return self._lobes.plane(grid, z_mm)

    def mottle(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Fine unevenness, SD 1."""
        return self._mottle.plane(grid, z_mm)

    def septa(self, grid: SliceGrid, z_mm: float, width_mm: float = 0.9) -> Plane:
        """Thickened septa: 1 on the lines of an irregular polygonal network, 0 between them."""
        lines = np.zeros(grid.shape, dtype=np.float32)
        for field, scale in zip(self._septa, (4.2, 5.5), strict=True):
            # The field crosses 0 with a slope of about 1 / scale.
            distance = np.abs(field.plane(grid, z_mm)) * np.float32(scale / width_mm)
            lines = np.maximum(lines, np.exp(-distance * distance))
        return lines


def paint_lesions(
    lung_hu: Plane,
    labels: np.ndarray,
    shapes: tuple[LesionShape, ...],
    texture: LesionTexture,
    grid: SliceGrid,
    z_mm: float,
    depth: Plane,
) -> None:
    """Paint every lesion that crosses the slice, in place.

    Args:
        lung_hu: (rows, columns) HU of lung without vessels and airways.
        labels: (rows, columns) integers; gets the lesion's id where its share is at least one half.
        shapes: All lesions of the patient.
        texture: Random fields.
        grid: Pixel centres.
        z_mm: Height of the slice.
        depth: (rows, columns) distance to the pleura of ribs and diaphragm in mm, positive inside.
    """
    most = np.full(grid.shape, 0.5, dtype=np.float32)
    for shape in shapes:
        reach_x, reach_y, reach_z = shape.reach_mm
        if abs(z_mm - shape.centre_mm[2]) > reach_z:
            continue
        cx, cy = shape.centre_mm[:2]
        box = grid.box(cx - reach_x, cx + reach_x, cy - reach_y, cy + reach_y)
        part = grid.crop(box)
        if min(part.shape) < 2:
            continue
        if shape.kind is LesionKind.BAND:
            share = _band_share(shape, texture, part, z_mm)
        else:
            share = _mass_share(shape, texture, part, z_mm, depth[box])
        if share.max() <= 0:
            continue
        paint(lung_hu[box], share, _lesion_hu(shape, texture, part, z_mm, lung_hu[box], share))
        wins = (share >= most[box]) & (depth[box] > 0)
        labels[box][wins] = shape.lesion_id
        most[box] = np.maximum(most[box], share)


def _mass_share(shape: LesionShape, texture: LesionTexture, grid: SliceGrid, z_mm: float, depth: Plane) -> Plane:
    (cx, cy, cz), (a, b, c) = shape.centre_mm, shape.half_axes_mm
    across = ((grid.x - cx) / a) ** 2 + ((grid.y - cy) / b) ** 2 + ((z_mm - cz) / c) ** 2
    pleural = np.maximum(depth, 0) / np.float32(shape.pleural_mm)
    radius = np.sqrt(across + pleural * pleural)
    inside = (1 - radius) + np.float32(shape.ragged) * texture.border(grid, z_mm)
    return smooth_step((inside / np.float32(shape.softness) + np.float32(0.5)).astype(np.float32))


def _band_share(shape: LesionShape, texture: LesionTexture, grid: SliceGrid, z_mm: float) -> Plane:
    (cx, cy, cz), (a, b, c) = shape.centre_mm, shape.half_axes_mm
    dx, dy, dz = grid.x - np.float32(cx), grid.y - np.float32(cy), np.float32(z_mm - cz)
    n = shape.normal
    off = dx * np.float32(n[0]) + dy * np.float32(n[1]) + dz * np.float32(n[2])
    off = off + 2.5 * texture.bend(grid, z_mm)
    ends = 1 - np.sqrt((dx / a) ** 2 + (dy / b) ** 2 + (dz / c) ** 2)
    half_width = np.float32(1.2 + 4.5 * shape.ragged)
    inside = np.minimum(half_width - np.abs(off), ends * np.float32(a))
    return smooth_step((inside / np.float32(1.6) + np.float32(0.5)).astype(np.float32))


def _lesion_hu(
    shape: LesionShape, texture: LesionTexture, grid: SliceGrid, z_mm: float, under: Plane, share: Plane
) -> Plane:
    mottle = texture.mottle(grid, z_mm)
    if shape.kind is LesionKind.CONSOLIDATION:
        # A rim of ground glass around the dense core.
        core = smooth_step((share - np.float32(0.55)) * 3)
        hu: Plane = (np.float32(-520) + (shape.hu + 520) * core + 25 * mottle * (1 - core) + 8 * mottle).astype(
            np.float32
        )
    else:
        hu = (np.float32(shape.hu) + np.float32(38) * mottle).astype(np.float32)
    if shape.kind is LesionKind.CRAZY_PAVING:
        hu = hu + 260 * texture.septa(grid, z_mm)
    return np.maximum(hu, under)
