"""A check of the gate on pictures: black and white are not exchanged, as programs do on export and in print."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity

#: Of what is dark before a bright border, at least this share is bright within, on at least this share of the slices:
#: lungs in a body. Of two patients' slices, inverted in four windows, half and more show so much; of the same ones as
#: they are none does, and of cut-outs of them none shows 0.15 (vessels in a lung that fills the picture).
LEAST_WITHIN, LEAST_INVERTED_SHARE = 0.15, 0.25
_SIDE, _LEAST_PIXELS = 128, 1024


def check_inverted(levels: NDArray[Any]) -> list[Finding]:
    """NO_HU: what lies around the body is bright, the body dark, and the lungs in it bright again.

    Args:
        levels: (slices, rows, columns) grey levels, or HU made of them.
    """
    every = max(1, min(levels.shape[1:]) // _SIDE)
    thin = levels[:, ::every, ::every]
    if thin[0].size < _LEAST_PIXELS:
        return []
    inverted = np.mean([_bright_within(plane) >= LEAST_WITHIN for plane in thin])
    if inverted < LEAST_INVERTED_SHARE:
        return []
    message = (
        f"on {inverted:.0%} of the pictures a dark body with bright lungs lies before a bright background: black and "
        "white are exchanged; export them with air black and bone white"
    )
    return [Finding(GateCode.NO_HU, message, Severity.REFUSED)]


def _bright_within(plane: NDArray[Any]) -> float:
    """Share of bright pixels enclosed by dark ones, of both together; 0 where the border is dark."""
    border = float(np.median(np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])))
    darkest, brightest = np.percentile(plane, [2, 98])
    if border <= (darkest + brightest) / 2:
        return 0.0
    dark = plane < (darkest + border) / 2
    filled = ndimage.binary_fill_holes(dark)
    return float((filled & ~dark).sum() / max(1, filled.sum()))
