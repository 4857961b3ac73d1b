"""Checks of the gate on voxels, the same for every format: are they HU, are all slices there, is it one series?

Everything is measured on a thinned grid, so that it costs next to nothing beside decoding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_interleaving import check_interleaved
from jcs_ct.imaging.gate_interpolated import check_filled_gap, scanned_slices, slices_on_line
from jcs_ct.imaging.gate_noise import check_noise
from jcs_ct.imaging.gate_order import check_order, check_turned
from jcs_ct.imaging.gate_whole_slices import (
    TISSUE_WITHIN_HU,
    check_blank,
    check_identical,
    check_lost_rows,
    check_overwritten_rows,
    check_unlike,
    check_wider_step,
)
from jcs_ct.volume import BACKGROUND_HU

#: Denser than any lung with air in it.
LUNG_BELOW_HU = -300.0
#: Air and lung lie below this, in HU; a chest CT shows them in at least this share of its voxels.
AIR_BELOW_HU, LEAST_AIR_SHARE = -500.0, 0.001
#: A chest CT shows soft tissue and fat in at least this share of its voxels.
LEAST_TISSUE_SHARE = 0.002
#: Of what is denser than lung, at most this share lies above this, in HU: bone, contrast agent and metal.
BONE_HU, MOST_BONE_SHARE = 500.0, 0.5
#: The air around a patient lies in this range, in HU ...
AIR_AROUND_HU = (-1060.0, -960.0)
#: ... is told from lung and cushions by how little it spreads, half of it this close to its most frequent value; and
#: it is looked for where it makes up this share of the picture's border: a circular field has too little of it.
AIR_SPREAD_HU, LEAST_AIR_AROUND = 25.0, 0.2
#: Values that were cut off at the bottom end in a value that this share of the voxels has; air is darker than this,
#: -1013 or less at its darkest in thirty real slices and series.
DARKEST_AIR_HU, LEAST_CUT_SHARE = -985.0, 0.003
#: Of the air inside the body, at most this share has the darkest value of all; where lungs were cut off there, more.
MOST_AT_FLOOR = 0.3
#: Fat, muscle and blood lie in this range, in HU, which holds at least this share of all that is denser than lung
#: with air: 0.77 or more of thirty real slices and series, 0.45 or less where values were stretched by 1.2 or more.
#: A body is seen where enough of a picture is denser, and half of that lies closer together than this, in HU.
SOLID_ABOVE_HU, SOLID_HU, LEAST_SOLID_SHARE, ENOUGH_SOLID, SOLID_SPREAD_HU = -500.0, (-200.0, 150.0), 0.6, 0.1, 350.0
#: Fat and muscle are denser than this, in HU; and air in lung and airways is darker than this.
WALL_HU, INNER_AIR_HU = -200.0, -700.0
#: Of fat and soft tissue this share lies where muscle, blood and liver do, where there is enough of them; 0.19 or
#: more in the same slices, 0.06 or less with 100 HU taken off.
TISSUE_HU, SOFT_HU, LEAST_SOFT_SHARE, ENOUGH_TISSUE = (-200.0, 100.0), 0.0, 0.1, 0.1
#: No tissue, bone or metal fills more than this share of a chest above this, in HU.
DENSEST_HU, MOST_DENSE_SHARE = 10_000.0, 0.02
_SIDE = 128


def check_voxels(
    hu: NDArray[Any], *, blank_ends: bool = False, assumed_hu: bool = False, axial: bool = True
) -> list[Finding]:
    """What the voxels themselves contradict: HU, whole slices of one series, one orientation, the body's order.

    Args:
        hu: (slices, rows, columns) in HU, in order along the body.
        blank_ends: Whether slices of one value may lie at the ends, as resampling to a larger grid leaves them.
        assumed_hu: HU were made from grey levels, so that they cannot be held against air and water.
        axial: Whether the slices are axial; coronal ones through the table are unlike their neighbours.
    """
    every = max(1, min(hu.shape[1:]) // _SIDE)
    thin = hu[:, ::every, ::every].astype(np.float32)
    blank = (thin.min(axis=(1, 2)) == thin.max(axis=(1, 2))).nonzero()[0]
    levels = [] if assumed_hu else check_levels(thin)
    findings = [finding for finding in levels if finding.severity is not Severity.NOTE]
    findings += check_blank(blank, len(hu), blank_ends=blank_ends)
    if blank.size == 0 and not assumed_hu:
        findings += check_lost_rows(hu[:, :, ::every])
    on_line = slices_on_line(thin)
    scanned = scanned_slices(on_line)
    if blank.size == 0:
        findings += [] if findings else check_overwritten_rows(hu[:, :, ::every])
        findings += check_identical(hu, thin, on_line)
    if not findings:
        findings += check_filled_gap(on_line) or check_interleaved(hu, thin, scanned)
    if axial and not findings:
        unlike = check_turned(thin) or check_unlike(thin) or check_order(thin)
        findings += unlike or check_wider_step(hu, thin, scanned)
    notes = [finding for finding in levels if finding.severity is Severity.NOTE]
    return [*notes, *findings, *check_noise(hu)]


def check_levels(thin: NDArray[np.float32]) -> list[Finding]:
    """NO_HU: values that lack air or soft tissue where Hounsfield units have them."""
    inside = thin[thin != BACKGROUND_HU]
    if inside.size == 0:
        return [Finding(GateCode.NO_HU, "every voxel is background; give a chest CT", Severity.REFUSED)]
    darkest = inside.min()  # one value may be padding whose intercept was lost with that of all others
    air = float(((inside < AIR_BELOW_HU) & (inside > darkest)).mean())
    tissue = float((np.abs(inside) <= TISSUE_WITHIN_HU).mean())
    dense = float((inside > DENSEST_HU).mean())
    if dense <= MOST_DENSE_SHARE and air >= LEAST_AIR_SHARE and tissue >= LEAST_TISSUE_SHARE:
        return _check_density(inside) or _check_shift(thin, inside)
    if dense > MOST_DENSE_SHARE:
        why = "numbers below zero were probably stored as if all were positive (Pixel Representation)"
    elif air < LEAST_AIR_SHARE and inside.max() > 0:
        why = "the rescale intercept was probably lost, or the values are grey levels"
    else:
        why = "the rescale was probably applied twice or lost"
    message = (
        f"values from {inside.min():g} to {inside.max():g} are no chest CT in HU (air is -1000, water 0): {why}; "
        "export the CT again from its source, with its rescale slope and intercept"
    )
    return [Finding(GateCode.NO_HU, message, Severity.REFUSED)]


def _check_density(inside: NDArray[np.float32]) -> list[Finding]:
    """NO_HU: most of what is denser than lung is as dense as bone."""
    bony = float((inside[inside > LUNG_BELOW_HU] > BONE_HU).mean())
    if bony <= MOST_BONE_SHARE:
        return []
    message = (
        f"{bony:.0%} of what is denser than lung lies above {BONE_HU:g} HU, as bone does: the rescale slope or "
        "intercept is probably wrong; export the CT again from its source"
    )
    return [Finding(GateCode.NO_HU, message, Severity.REFUSED)]


def _check_shift(thin: NDArray[np.float32], inside: NDArray[np.float32]) -> list[Finding]:
    """HU_SHIFTED, a note: air, fat or soft tissue are not where they belong, or the lungs' values were cut off."""
    darkest = float(inside.min())
    border = np.concatenate([thin[:, [0, -1], :].ravel(), thin[:, 1:-1, [0, -1]].ravel()])
    # One value alone is padding, or what a scanner or a converter put in the place of all that is darker.
    air = border[(border < AIR_BELOW_HU) & (border > darkest) & (border != BACKGROUND_HU)]
    levels, counts = np.unique(np.round(air / 10.0) * 10.0, return_counts=True)
    level = float(levels[counts.argmax()]) if air.size else 0.0
    peaked = bool(np.mean(np.abs(air - level) <= AIR_SPREAD_HU) >= 0.5) if air.size else False
    around = peaked and air.size >= LEAST_AIR_AROUND * border.size
    cut = float((inside == darkest).mean()) >= LEAST_CUT_SHARE
    tissue = inside[(inside > TISSUE_HU[0]) & (inside < TISSUE_HU[1])]
    soft = float((tissue > SOFT_HU).mean()) if tissue.size >= ENOUGH_TISSUE * inside.size else 1.0
    if around and not AIR_AROUND_HU[0] <= level <= AIR_AROUND_HU[1]:
        found = f"the air around the patient lies at {level:.0f} HU, where air is -1000"
    elif darkest > DARKEST_AIR_HU and cut:
        found = f"no voxel is darker than {darkest:.0f} HU, where air is -1000"
    elif soft < LEAST_SOFT_SHARE:
        found = f"{soft:.0%} of fat and soft tissue lies above 0 HU, where muscle, blood and liver are"
    elif (elsewhere := _solid_elsewhere(inside)) is not None:
        found = "half of what is denser than lung lies from {:.0f} to {:.0f} HU, where no fat or muscle does".format(
            *elsewhere
        )
    elif (floor := _share_at_floor(thin)) > MOST_AT_FLOOR:
        found = f"{floor:.0%} of the air inside the body has the one value {thin.min():g}, the darkest of all"
    else:
        return []
    message = (
        f"{found}: values seem shifted, stretched or cut off; lungs, densities and volumes may be wrong, so export "
        "the CT again from its source, with its rescale slope and intercept"
    )
    return [Finding("HU_SHIFTED", message, Severity.NOTE)]


def _solid_elsewhere(inside: NDArray[np.float32]) -> tuple[float, float] | None:
    """Where half of what is denser than lung lies, in HU, when it is not where fat, muscle and blood do."""
    solid = inside[inside > SOLID_ABOVE_HU]
    if solid.size < ENOUGH_SOLID * inside.size:
        return None
    low, high = (float(level) for level in np.percentile(solid, (25, 75)))
    usual = float(((solid >= SOLID_HU[0]) & (solid <= SOLID_HU[1])).mean())
    return (low, high) if usual < LEAST_SOLID_SHARE and high - low <= SOLID_SPREAD_HU else None


def _share_at_floor(thin: NDArray[np.float32]) -> float:
    """Share of the air inside the body that has the darkest value; inside is what has tissue on all four sides."""
    wall = thin > WALL_HU
    inside = ~wall & (thin < INNER_AIR_HU)
    for axis in (1, 2):
        for part in (wall, np.flip(wall, axis)):
            reached = np.maximum.accumulate(part, axis=axis)
            inside &= reached if part is wall else np.flip(reached, axis)
    count = np.count_nonzero(inside)
    return float(np.count_nonzero(inside & (thin == thin.min())) / count) if count else 0.0
