"""Findings that are not the disease: their mask stays empty, in positive and in negative phantoms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from jcs_ct.phantom.grid import Plane, SliceGrid, SmoothField, paint, paint_ellipse, smooth_step, stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.surfaces import Surfaces
from jcs_ct.phantom.trees import lung_points


class DistractorKind(StrEnum):
    """What looks like disease, or hides it, and is not an opacification of COVID-19."""

    NODULE = "nodule"
    DEPENDENT_ATELECTASIS = "dependent atelectasis"
    EFFUSION = "effusion"
    EMPHYSEMA = "emphysema"
    MOTION = "motion"


@dataclass(frozen=True)
class Distractor:
    """One distractor.

    Args:
        kind: What it is.
        side: -1 the right lung, 1 the left, 0 both.
        size_mm: Radius of a nodule, depth of atelectasis or effusion, shift of motion.
        strength: 0 to 1: density of atelectasis, extent of emphysema.
        centre_mm: (x, y, z) of a nodule; height of motion in z.
    """

    kind: DistractorKind
    side: int
    size_mm: float
    strength: float = 1.0
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


#: How often each kind occurs: in positive and in negative phantoms.
_CHANCES = {
    DistractorKind.NODULE: (0.3, 0.45),
    DistractorKind.DEPENDENT_ATELECTASIS: (0.35, 0.5),
    DistractorKind.EFFUSION: (0.08, 0.18),
    DistractorKind.EMPHYSEMA: (0.15, 0.25),
    DistractorKind.MOTION: (0.2, 0.25),
}


def draw_distractors(patient: Patient, *, negative: bool) -> tuple[Distractor, ...]:
    """The distractors of a patient."""
    generator = stream(patient.seed, 4)
    drawn: list[Distractor] = []
    for kind, chances in _CHANCES.items():
        happens = generator.random() < chances[int(negative)]
        made = _draw(patient, generator, kind)
        if happens:
            drawn.extend(made)
    return tuple(drawn)


def _draw(patient: Patient, g: np.random.Generator, kind: DistractorKind) -> list[Distractor]:
    if kind is DistractorKind.NODULE:
        return [_nodule(patient, g) for _ in range(int(g.integers(1, 4)))]
    if kind is DistractorKind.DEPENDENT_ATELECTASIS:
        return [Distractor(kind, 0, g.uniform(3, 8), g.uniform(0.3, 1))]
    if kind is DistractorKind.EFFUSION:
        sides = (-1, 1) if g.random() < 0.4 else (int(g.choice((-1, 1))),)
        return [Distractor(kind, side, g.uniform(8, 38)) for side in sides]
    if kind is DistractorKind.EMPHYSEMA:
        return [Distractor(kind, 0, 0.0, g.uniform(0.2, 1))]
    z = patient.z_mm(g.uniform(0.45, 0.85))
    return [Distractor(kind, 0, g.uniform(1.0, 3.0), g.uniform(0.3, 0.6), (0.0, 0.0, z))]


def _nodule(patient: Patient, g: np.random.Generator) -> Distractor:
    side = int(g.choice((-1, 1)))
    points = lung_points(patient, g, side, 14.0)
    x, y, z = points[int(g.integers(len(points)))]
    radius = float(np.clip(g.lognormal(np.log(3.6), 0.45), 1.8, 11))
    strength = 1.0 if g.random() < 0.85 else 3.0  # 3: calcified
    return Distractor(DistractorKind.NODULE, side, radius, strength, (float(x), float(y), float(z)))


class EmphysemaTexture:
    """Holes in the lung, larger and closer in the upper zones."""

    def __init__(self, seed: int) -> None:
        self._holes = SmoothField(stream(seed, 5, 0), 5.0)

    def paint(self, lung_hu: Plane, patient: Patient, grid: SliceGrid, z_mm: float, strength: float) -> None:
        """Darken the lung in place."""
        upper = float(np.clip(1.1 - patient.level(z_mm), 0.15, 1.0))
        share = smooth_step((self._holes.plane(grid, z_mm) - np.float32(1.9 - 1.1 * strength * upper)) * 2)
        paint(lung_hu, share * np.float32(0.9), -965.0)


def paint_atelectasis(lung_hu: Plane, patient: Patient, surfaces: Surfaces, one: Distractor, waves: Plane) -> None:
    """A thin dense layer along the dependent (posterior) pleura, in place; stronger towards the base."""
    grid = surfaces.grid
    behind = smooth_step((grid.y / np.float32(patient.chest_half_depth) - np.float32(0.45)) * 3)
    low = float(np.clip(0.25 + patient.level(surfaces.z_mm), 0, 1))
    layer = np.exp(-np.maximum(surfaces.depth, 0) / np.float32(one.size_mm * (0.4 + 0.6 * low)) * 1.6)
    share = np.clip(layer * behind * (1 + np.float32(0.3) * waves) * np.float32(one.strength * low), 0, 1)
    paint(lung_hu, share.astype(np.float32), -350.0)


def effusion_share(patient: Patient, surfaces: Surfaces, one: Distractor) -> Plane:
    """Share of each voxel of a lung that is pleural fluid: a crescent that rises along the posterior wall."""
    grid = surfaces.grid
    back = float(patient.cage_centre_y(patient.level(surfaces.z_mm))) + patient.chest_half_depth
    low = float(np.clip((patient.level(surfaces.z_mm) - 0.35) / 0.5, 0, 1))
    height = np.float32(one.size_mm * low)
    # The meniscus: fluid climbs at the wall.
    climb = np.float32(0.6 * one.size_mm * low) * np.exp(-np.maximum(surfaces.depth, 0) / 6)
    inside = grid.y - (np.float32(back) - height - climb)
    share = np.clip(inside / np.float32(1.5) + np.float32(0.5), 0, 1) * (grid.x * one.side > 0) * (height > 1)
    result: Plane = share.astype(np.float32)
    return result


def paint_nodule(lung_hu: Plane, grid: SliceGrid, z_mm: float, thickness_mm: float, one: Distractor) -> None:
    """A round nodule, cut by the slice, in place."""
    dz = abs(z_mm - one.centre_mm[2])
    if dz >= one.size_mm + 0.5 * thickness_mm:
        return
    radius = float(np.sqrt(max(one.size_mm**2 - max(dz - 0.25 * thickness_mm, 0) ** 2, 0.05)))
    hu = 35.0 if one.strength <= 1 else 320.0
    paint_ellipse(lung_hu, grid, one.centre_mm[:2], (radius, 0.88 * radius), hu, edge_mm=2 * grid.pixel_mm)
