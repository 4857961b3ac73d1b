"""One value around what was imaged, as padding and resampling leave it: told from tissue, and taken out.

Apart from ``gate_voxels``, since SciPy loads slowly in a child.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_voxels import AIR_BELOW_HU
from jcs_ct.volume import BACKGROUND_HU

#: A fill stands in the corners of this share of the slices or more.
LEAST_FILLED_SHARE = 0.95
#: The largest value of all is tissue that was clipped there, unless no tissue is as dense.
DENSER_THAN_TISSUE_HU = 1000.0


def take_out_fill(hu: NDArray[Any]) -> list[Finding]:
    """Turn a fill that is no air into ``BACKGROUND_HU``, in place; a note where there was one.

    Beside a body, 0 is water: air that it encloses would be lung.

    Args:
        hu: (slices, rows, columns) in HU.
    """
    corners = hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    values, counts = np.unique(corners, return_counts=True)
    fill = values[counts.argmax()]
    filled = (corners == fill).all(axis=1)
    if not fill > AIR_BELOW_HU or filled.mean() < LEAST_FILLED_SHARE:
        return []
    if fill < DENSER_THAN_TISSUE_HU and fill == hu.max():
        return []
    taken = 0
    for plane in hu:
        labels, _ = ndimage.label(plane == fill)
        at_border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        outside = np.isin(labels, at_border[at_border > 0])
        plane[outside] = BACKGROUND_HU
        taken += int(np.count_nonzero(outside))
    message = (
        f"{taken / hu.size:.0%} of the grid holds the one value {fill:g} HU out to its border, as padding or "
        "resampling leaves it: it was taken as background"
    )
    return [Finding("NOT_IMAGED", message, Severity.NOTE)]
