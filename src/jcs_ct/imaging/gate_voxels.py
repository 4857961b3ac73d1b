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
from jcs_ct.imaging.gate_whole_slices import (
    TISSUE_WITHIN_HU,
    check_blank,
    check_identical,
    check_lost_rows,
    check_overwritten_rows,
    check_unlike,
)
from jcs_ct.volume import BACKGROUND_HU

#: Air and lung lie below this, in HU; a chest CT shows them in at least this share of its voxels.
AIR_BELOW_HU, LEAST_AIR_SHARE = -500.0, 0.001
#: A chest CT shows soft tissue and fat in at least this share of its voxels.
LEAST_TISSUE_SHARE = 0.002
#: No tissue, bone or metal fills more than this share of a chest above this, in HU.
DENSEST_HU, MOST_DENSE_SHARE = 10_000.0, 0.02
_SIDE = 128


def check_voxels(
    hu: NDArray[Any], *, blank_ends: bool = False, assumed_hu: bool = False, axial: bool = True
) -> list[Finding]:
    """NO_HU, TRUNCATED, UNREADABLE, DUPLICATE_POSITION and MIXED_SERIES by the voxels themselves.

    Args:
        hu: (slices, rows, columns) in HU, in order along the body.
        blank_ends: Whether slices of one value may lie at the ends, as resampling to a larger grid leaves them.
        assumed_hu: HU were made from grey levels, so that they cannot be held against air and water.
        axial: Whether the slices are axial; coronal ones through the table are unlike their neighbours.
    """
    every = max(1, min(hu.shape[1:]) // _SIDE)
    thin = hu[:, ::every, ::every].astype(np.float32)
    blank = (thin.min(axis=(1, 2)) == thin.max(axis=(1, 2))).nonzero()[0]
    findings = [] if assumed_hu else check_levels(thin)
    findings += check_blank(blank, len(hu), blank_ends=blank_ends)
    if blank.size == 0 and not assumed_hu:
        findings += check_lost_rows(hu[:, :, ::every])
    if blank.size == 0:
        findings += [] if findings else check_overwritten_rows(hu[:, :, ::every])
        findings += check_identical(hu, thin)
    if not findings:
        findings += check_interleaved(hu, thin)
    if axial and not findings:
        findings += check_unlike(thin)
    return findings


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
        return []
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
