"""Checks of the gate on how a source lies in the patient, the same for every format: which turn leads to its axes.

A source is turned to the patient's axes by permuting and flipping its own, never by resampling; so its axes must run
along the patient's, to within the angles stated here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jcs_ct.axes import AxisTurn, axial_angles_deg
from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_geometry import LARGEST_SPACING_MM
from jcs_ct.imaging.headers import SliceHeader
from jcs_ct.imaging.stack import Stack

#: Largest angle between the axial slices' normal and the body axis.
AXIAL_LIMIT_DEG = 30.0
#: Largest angle by which axial slices may be turned in their plane, beside the quarter turns that are undone.
IN_PLANE_LIMIT_DEG = 15.0
#: From this angle on, either way, a study is flagged as oblique.
OBLIQUE_FROM_DEG = 1.0
#: Axial slices whose pixels are longer than this one way, than the other way and than the step between slices
#: were cut out of slices of another direction that lie too far apart.
MAXIMUM_PIXEL_MM = 3.0
_ELONGATED = 1.5

_PLANES = ("axial", "coronal", "sagittal")
#: How the patient lay and where gravity led, by Patient Position without what entered the gantry first (HF, FF, LF,
#: RF; PS3.3 C.7.3.1.1.2: prone is face down, decubitus right is right side down).
_DEPENDENT = {
    "P": ("prone", "at the front"),
    "DR": ("on the right side", "in the right lung"),
    "DL": ("on the left side", "in the left lung"),
}


def check_axes(axes: NDArray[np.float64], *, tilt_may_be_lost: bool = False) -> tuple[AxisTurn | None, list[Finding]]:
    """The turn to the patient's axes, and what is to be said of it.

    NOT_AXIAL: axial slices would lean over or be turned in their plane too far, or have pixels that are too long.
    OBLIQUE, a note.

    Args:
        axes: (3, 3), in its columns the steps of the source's axes in LPS: in mm, or of length 1 where spacings are
            not known.
        tilt_may_be_lost: Whether the source is a converted one, on whose orthogonal axes a gantry tilt may have been
            lost: converters that write three directions and no shear lean the slices over then.

    Returns:
        The turn, None where two axes lie nearest to one of the patient's; and the findings.
    """
    try:
        turn = AxisTurn.to_patient(axes)
    except ValueError:
        message = "the source's axes are turned by about 45 degrees against the patient's; give the axial series"
        return None, [Finding(GateCode.NOT_AXIAL, message, Severity.REFUSED)]
    steps = turn.turned_affine(np.pad(axes, ((0, 1), (0, 1))), (1, 1, 1))
    return turn, [*_check_angles(steps, tilt_may_be_lost), *_check_pixels(steps)]


def _check_angles(steps: NDArray[np.float64], tilt_may_be_lost: bool) -> list[Finding]:
    lean, turned = axial_angles_deg(steps)
    if lean > AXIAL_LIMIT_DEG:
        message = (
            f"the slices lean over by {lean:.0f} degrees from the body axis, at most {AXIAL_LIMIT_DEG:.0f} are read; "
            "give the axial series"
        )
        return [Finding(GateCode.NOT_AXIAL, message, Severity.REFUSED)]
    if turned > IN_PLANE_LIMIT_DEG:
        message = (
            f"the slices are turned in their plane by {turned:.0f} degrees, at most {IN_PLANE_LIMIT_DEG:.0f} beside "
            "quarter turns are read; have them reconstructed along the patient's axes, or resample them"
        )
        return [Finding(GateCode.NOT_AXIAL, message, Severity.REFUSED)]
    if max(lean, turned) <= OBLIQUE_FROM_DEG:
        return []
    ways = [f"lean over by {lean:.1f} degrees"] if lean > OBLIQUE_FROM_DEG else []
    ways += [f"are turned in their plane by {turned:.1f} degrees"] if turned > OBLIQUE_FROM_DEG else []
    message = f"the slices {' and '.join(ways)}; volumes and positions take that into account"
    if tilt_may_be_lost and lean > OBLIQUE_FROM_DEG:
        message += (
            ", but not a gantry tilt that the conversion lost: where the source states one (Gantry/Detector Tilt), "
            "positions and lengths are wrong; convert it with the tilt corrected"
        )
    return [Finding("OBLIQUE", message, Severity.NOTE)]


def _check_pixels(steps: NDArray[np.float64]) -> list[Finding]:
    slice_mm, *pixel_mm = np.linalg.norm(steps[:3, :3], axis=0)
    short, long = min(pixel_mm), max(pixel_mm)
    if not max(MAXIMUM_PIXEL_MM, slice_mm, _ELONGATED * short) < long <= LARGEST_SPACING_MM:
        return []
    message = (
        f"axial slices would have pixels of {short:.1f} x {long:.1f} mm: the study was not acquired or reconstructed "
        "axially; give the axial series"
    )
    return [Finding(GateCode.NOT_AXIAL, message, Severity.REFUSED)]


def check_stored_plane(turn: AxisTurn, stack: Stack | None, findings: Sequence[Finding]) -> list[Finding]:
    """CORONAL_SLICES or SAGITTAL_SLICES, notes; NOT_AXIAL where axial slices cannot be cut out of such.

    Args:
        turn: From the stored slices to the patient's axes.
        stack: The stored slices' geometry.
        findings: All others on the series: axial slices are cut out of sound geometry only.
    """
    stored = _PLANES[turn.order.index(0)]
    if stored == "axial":
        return []
    faults = [finding.code for finding in findings if finding.severity is Severity.GEOMETRY]
    if faults or stack is None:
        message = (
            f"the slices are {stored}, and axial ones can be cut out of sound geometry only, but there is "
            f"{', '.join(faults) or GateCode.NO_POSITION}; give the axial series"
        )
        return [Finding(GateCode.NOT_AXIAL, message, Severity.REFUSED)]
    slice_mm, row_mm, column_mm = (float(np.linalg.norm(stack.axes[:, axis])) for axis in turn.order)
    message = (
        f"the slices are {stored}; axial ones were cut out of them, every {slice_mm:.2f} mm, with pixels of "
        f"{row_mm:.2f} x {column_mm:.2f} mm, and results lie on the stored slices"
    )
    return [Finding(f"{stored.upper()}_SLICES", message, Severity.NOTE)]


def check_patient_position(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """PATIENT_POSITION: the patient lay prone or on a side, so that gravity worked another way than usual."""
    for stated in sorted({header.patient_position.upper() for header in ordered}):
        how = _DEPENDENT.get(stated[2:])
        if how is not None:
            message = (
                f"the patient lay {how[0]} (Patient Position {stated}): dependent opacities and fluid gather "
                f"{how[1]}, not at the back as in one who lies supine; sides and positions are the patient's own"
            )
            return [Finding("PATIENT_POSITION", message, Severity.NOTE)]
    return []
