"""The vessels and airways of one patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jcs_ct.phantom.grid import stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.tree import Points, Tubes, grow_tree

_ARTERY_SPACING_MM = 13.5
_VEIN_SPACING_MM = 15.0


@dataclass(frozen=True, eq=False)
class LungTrees:
    """Vessels (arteries and veins together) and the airways' lumina."""

    vessels: Tubes
    airways: Tubes

    @classmethod
    def grow(cls, patient: Patient) -> LungTrees:
        """The trees of a patient, both lungs."""
        generator = stream(patient.seed, 1)
        vessels: list[Tubes] = []
        airways: list[Tubes] = []
        spine_y = float(patient.spine_y(patient.z_mm(0.42)))
        for side in (-1, 1):
            hilum = np.array([side * 36.0, spine_y - 34, patient.z_mm(0.42)])
            targets = lung_points(patient, generator, side, _ARTERY_SPACING_MM)
            vessels.append(grow_tree(generator, hilum, targets, tip_radius_mm=0.66, exponent=2.6))
            atrium = np.array([side * 30.0 + 6, spine_y - 46, patient.z_mm(0.52)])
            drained = lung_points(patient, generator, side, _VEIN_SPACING_MM)
            vessels.append(grow_tree(generator, atrium, drained, tip_radius_mm=0.62, exponent=2.6))
            beside = generator.permutation(targets)[: max(8, len(targets) // 6)] + np.array([0.0, 3.5, 1.5])
            entry = hilum + np.array([-side * 3.0, 9.0, 4.0])
            airways.append(grow_tree(generator, entry, beside, tip_radius_mm=0.85, exponent=3.0))
            airways.append(_main_bronchus(patient, entry))
        return cls(Tubes.joined(vessels), Tubes.joined(airways))


def _main_bronchus(patient: Patient, entry: Points) -> Tubes:
    carina = (2.0, float(patient.spine_y(patient.z_mm(0.34))) - 29, patient.z_mm(0.335))
    radius = patient.trachea_radius
    end = (float(entry[0]), float(entry[1]), float(entry[2]))
    return Tubes.polyline([carina, end], [0.75 * radius, 0.6 * radius])


def lung_points(patient: Patient, generator: np.random.Generator, side: int, spacing_mm: float) -> Points:
    """(n, 3) points in one lung, at least 2.5 mm under the pleura: a jittered lattice.

    Args:
        patient: Whose lung.
        generator: Moves the points off the lattice.
        side: -1 the right lung, 1 the left.
        spacing_mm: Of the lattice.
    """
    half = (patient.chest_half_width, patient.chest_half_depth, 0.5 * patient.lung_height)
    axes = [np.arange(-h, h + spacing_mm, spacing_mm) for h in half]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points + generator.uniform(-0.5, 0.5, points.shape) * spacing_mm
    points = points[points[:, 0] * side > 0].astype(np.float32)
    depth = patient.lung_depth(points[:, 0], points[:, 1], points[:, 2])
    inside: Points = points[depth > 2.5].astype(np.float64)
    return inside
