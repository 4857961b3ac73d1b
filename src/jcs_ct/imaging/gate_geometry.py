"""Checks of the gate on geometry: where slices lie, how far apart, how they are turned.

Tolerances are the module's constants, so that they can be stated in the documentation and in a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity, count_of
from jcs_ct.imaging.headers import SliceHeader
from jcs_ct.imaging.stack import Stack, angle_deg, is_orthonormal

#: Fewest slices of a study that is read without ``lenient``.
MINIMUM_SLICES = 5
#: A step between slices may differ from the median by this share of it ...
SPACING_TOLERANCE = 0.01
#: ... or by this much in mm, whichever is more.
SPACING_TOLERANCE_MM = 0.01
#: Headers round positions to 0.1 mm: steps may differ more while no slice lies further than this from a regular grid.
GRID_TOLERANCE_MM = 0.06
#: Two slices nearer than this share of the median step lie at one position.
DUPLICATE_SHARE = 0.1
#: Largest angle between the slices' normal and the line of their positions, and largest gantry tilt in a header.
TILT_TOLERANCE_DEG = 0.1
#: Slices whose orientations differ by more than this are mixed.
ORIENTATION_TOLERANCE_DEG = 0.1
#: Relative difference of pixel spacings that is still one spacing.
PIXEL_SPACING_TOLERANCE = 1e-3
#: Distances of voxels outside these are no chest CT's, in mm (a scout's preview has pixels of some mm).
SMALLEST_SPACING_MM, LARGEST_SPACING_MM = 0.05, 60.0
#: Slices that leave a straight line in the plane by more than this were reconstructed about different centres.
CENTRE_TOLERANCE_MM = 0.1
#: A series that covers less than this from top to bottom is flagged as part of a chest.
WHOLE_CHEST_MM = 180.0


def check_positions(headers: Sequence[SliceHeader]) -> list[Finding]:
    """NO_POSITION: without position, orientation and pixel spacing nothing can be measured."""
    missing: Counter[str] = Counter()
    for header in headers:
        missing["Image Position (Patient)"] += header.position is None
        missing["Image Orientation (Patient)"] += header.orientation is None
        missing["Pixel Spacing"] += header.pixel_spacing is None or min(header.pixel_spacing) <= 0
        if header.orientation is not None and not is_orthonormal(header.orientation):
            missing["Image Orientation (Patient) of two unit vectors at right angles"] += 1
    return [
        Finding(
            GateCode.NO_POSITION,
            f"{count_of(number, len(headers))} have no {name}; nothing can be measured, export them with geometry",
        )
        for name, number in missing.items()
        if number
    ]


def check_pixel_spacing(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """MIXED_SPACING: pixels of different size in one series; NO_POSITION: of a size that no CT has."""
    spacings = [header.pixel_spacing for header in ordered if header.pixel_spacing is not None]
    if not spacings:
        return []
    table = np.asarray(spacings)
    if message := implausible_spacing(table.min(), table.max()):
        return [Finding(GateCode.NO_POSITION, message)]
    if np.all(np.abs(table - table[0]) <= PIXEL_SPACING_TOLERANCE * table[0]):
        return []
    low, high = table.min(axis=0), table.max(axis=0)
    message = (
        f"pixel spacing differs: rows {low[0]:.4f} to {high[0]:.4f} mm, columns {low[1]:.4f} to {high[1]:.4f} mm; "
        "export one reconstruction"
    )
    return [Finding(GateCode.MIXED_SPACING, message)]


def implausible_spacing(*spacing_mm: float) -> str | None:
    """Why such distances between voxels are not believed, or None when they are."""
    if min(spacing_mm) >= SMALLEST_SPACING_MM and max(spacing_mm) <= LARGEST_SPACING_MM:
        return None
    listed = " x ".join(f"{value:.4g}" for value in spacing_mm)
    return (
        f"the header states distances between voxels of {listed} mm, a chest CT has {SMALLEST_SPACING_MM:g} to "
        f"{LARGEST_SPACING_MM:g}; nothing can be measured, export it with its true spacing"
    )


def check_orientation(ordered: Sequence[SliceHeader], stack: Stack) -> list[Finding]:
    """MIXED_ORIENTATION: slices that do not lie parallel, or are turned in their plane."""
    worst, place = 0.0, 0
    for number, header in enumerate(ordered):
        if header.orientation is None:
            continue
        row, column = np.asarray(header.orientation[:3]), np.asarray(header.orientation[3:])
        angle = max(angle_deg(row, stack.along_row), angle_deg(column, stack.along_column))
        if angle > worst:
            worst, place = angle, number
    if worst <= ORIENTATION_TOLERANCE_DEG:
        return []
    message = f"slices are not parallel: slice {place + 1} is turned by {worst:.1f} degrees; export one orientation"
    return [Finding(GateCode.MIXED_ORIENTATION, message)]


def check_tilt(ordered: Sequence[SliceHeader], stack: Stack) -> list[Finding]:
    """TILT: sheared positions, or a gantry tilt in the header."""
    findings = []
    if stack.shear_deg is not None and stack.shear_deg > TILT_TOLERANCE_DEG:
        message = (
            f"the volume is sheared: positions advance {stack.shear_deg:.1f} degrees off the slices' normal "
            "(gantry tilt); have it reconstructed without tilt"
        )
        findings.append(Finding(GateCode.TILT, message))
    tilt = max((abs(header.gantry_tilt) for header in ordered if header.gantry_tilt is not None), default=0.0)
    if not findings and tilt > TILT_TOLERANCE_DEG:
        message = (
            f"the header states a gantry tilt of {tilt:.1f} degrees that the slice positions do not show; "
            "the geometry cannot be trusted, have it reconstructed without tilt"
        )
        findings.append(Finding(GateCode.TILT, message))
    return findings


def check_steps(stack: Stack) -> list[Finding]:
    """DUPLICATE_POSITION, GAP or MIXED_SPACING: distances between neighbouring slices along the normal."""
    steps = stack.steps_mm
    if steps.size == 0:
        return []
    apart = steps[steps > SPACING_TOLERANCE_MM]
    median = float(np.median(apart)) if apart.size else 0.0
    findings = []
    doubled = np.flatnonzero(steps < max(DUPLICATE_SHARE * median, SPACING_TOLERANCE_MM))
    if doubled.size:
        place = int(doubled[0])
        message = (
            f"{doubled.size + 1 if median == 0 else doubled.size} slice(s) lie at the position of another: slices "
            f"{place + 1} and {place + 2} are {steps[place]:.2f} mm apart, median {median:.2f} mm; remove the copies "
            "or export one reconstruction"
        )
        findings.append(Finding(GateCode.DUPLICATE_POSITION, message))
        steps = np.delete(steps, doubled)
    return findings + _irregular(steps, median, stack)


def _irregular(steps: NDArray[np.float64], median: float, stack: Stack) -> list[Finding]:
    if steps.size < 2:
        return []
    uneven = np.abs(steps - median) > max(SPACING_TOLERANCE * median, SPACING_TOLERANCE_MM)
    grid = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.arange(grid.size)
    off_grid = np.abs(grid - np.polyval(np.polyfit(places, grid, 1), places)).max()
    if not uneven.any() or off_grid <= GRID_TOLERANCE_MM:
        return []
    step = float(steps[int(np.argmax(np.abs(steps - median)))])
    place = int(np.flatnonzero(np.isclose(stack.steps_mm, step))[0])
    between = f"{step:.2f} mm between slices {place + 1} and {place + 2}, median {median:.2f} mm"
    ratios = steps[uneven] / median
    multiples = np.abs(ratios - np.rint(ratios)) < 0.1
    if step > 1.5 * median and multiples.all() and uneven.mean() <= 0.25:
        lost = int(np.rint(ratios - 1).sum())
        what = "a slice is probably missing" if lost == 1 else f"{lost} slices are probably missing"
        return [Finding(GateCode.GAP, f"slice spacing is irregular: {between}; {what}, export the series again")]
    message = (
        f"slice spacing is irregular: {between}; {int(uneven.sum())} of {steps.size} steps differ by more than "
        f"{SPACING_TOLERANCE:.0%}; export one reconstruction"
    )
    return [Finding(GateCode.MIXED_SPACING, message)]


def check_centres(stack: Stack) -> list[Finding]:
    """MIXED_SERIES: slices whose corner leaves the line of the others were reconstructed about another centre."""
    if stack.off_line_mm <= CENTRE_TOLERANCE_MM:
        return []
    message = (
        f"slice {stack.off_line_slice + 1} lies {stack.off_line_mm:.1f} mm beside the line of the others (another "
        "reconstruction centre); export one reconstruction"
    )
    return [Finding(GateCode.MIXED_SERIES, message)]


def check_count(slice_count: int) -> list[Finding]:
    """TOO_FEW_SLICES: not a chest CT."""
    if slice_count >= MINIMUM_SLICES:
        return []
    message = (
        f"the series has {slice_count} slice(s), at least {MINIMUM_SLICES} are needed; give the whole series "
        "(its folder), or --lenient for slice verdicts without measurements"
    )
    return [Finding(GateCode.TOO_FEW_SLICES, message)]


def check_coverage(slice_count: int, step_mm: float, *, way: str = "from top to bottom") -> list[Finding]:
    """PARTIAL_CHEST, a note: slices that do not reach from one end of a chest to the other."""
    extent_mm = (slice_count - 1) * step_mm
    if slice_count < MINIMUM_SLICES or extent_mm >= WHOLE_CHEST_MM:
        return []
    message = (
        f"the series covers {extent_mm:.0f} mm {way}, an adult's lungs need about 250 mm: this may be part of a chest"
    )
    return [Finding("PARTIAL_CHEST", message, Severity.NOTE)]


def check_sparse(ordered: Sequence[SliceHeader], stack: Stack) -> list[Finding]:
    """SPARSE_SLICES, a note: spaces between thin slices."""
    thickness, step = ordered[0].slice_thickness, stack.step_mm
    if not (thickness and step and step > 1.5 * thickness):
        return []
    message = (
        f"slices are {step:.1f} mm apart and {thickness:.1f} mm thick: what lies between them is not seen, and "
        "volumes assume that each slice stands for the whole step"
    )
    return [Finding("SPARSE_SLICES", message, Severity.NOTE)]
