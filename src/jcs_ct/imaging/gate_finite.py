"""NaN and infinities of volumes, told from air; apart from ``gate_voxels``, since SciPy loads slowly in a child."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_voxels import AIR_BELOW_HU

#: NaN is taken for what lies outside the field of view when at most this share of the voxels at it is body.
MOST_BODY_BESIDE_NAN = 0.05
#: Scanners show a circle of at least this share of half a slice's side.
FIELD_OF_VIEW = 0.95


def check_finite(values: NDArray[Any]) -> list[Finding]:
    """NO_HU: NaN or infinite values in the body; a note where NaN only stands for what the scanner never saw.

    Args:
        values: (slices, rows, columns) as stored, in HU.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return []
    lost = ~np.isfinite(values)
    rim = values[ndimage.binary_dilation(lost) & ~lost]
    border = np.zeros(lost.shape, dtype=bool)
    border[:, [0, -1], :] = border[:, :, [0, -1]] = True
    from_border = ndimage.binary_propagation(border & lost, mask=lost)
    beside_body = float((rim > AIR_BELOW_HU).mean()) if rim.size else 1.0
    outside = bool((from_border == lost).all()) and beside_body <= MOST_BODY_BESIDE_NAN
    count = f"{lost.sum()} of {lost.size} voxels are NaN or infinite"
    if not np.isinf(values).any() and (outside or _around_field_of_view(lost)):
        message = f"{count}, all outside the body or the field of view: they were taken as background"
        return [Finding("NOT_IMAGED", message, Severity.NOTE)]
    first = int(lost.any(axis=(1, 2)).argmax()) + 1
    message = (
        f"{count}, the first in slice {first}, within the body or at it; what was there is lost and is not taken for "
        "air: convert the volume again from its source"
    )
    return [Finding(GateCode.NO_HU, message)]


def _around_field_of_view(lost: NDArray[np.bool_]) -> bool:
    """Whether the very same pixels are lost on every slice, and none of them within the circle shown."""
    rows, columns = np.ogrid[-1 : 1 : lost.shape[1] * 1j, -1 : 1 : lost.shape[2] * 1j]
    circle = rows**2 + columns**2 <= FIELD_OF_VIEW**2
    return bool((lost == lost[0]).all()) and not lost[0][circle].any()
