"""Checks of the gate on voxels, the same for every format: are they HU, are all slices there, is it one series?

Everything is measured on a thinned grid, so that it costs next to nothing beside decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_acquisitions import INTERLEAVED_UP_TO
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.volume import BACKGROUND_HU

#: Air and lung lie below this, in HU; a chest CT shows them in at least this share of its voxels.
AIR_BELOW_HU, LEAST_AIR_SHARE = -500.0, 0.001
#: Soft tissue and fat lie within this of water; a chest CT shows them in at least this share of its voxels.
TISSUE_WITHIN_HU, LEAST_TISSUE_SHARE = 300.0, 0.002
#: No tissue, bone or metal fills more than this share of a chest above this, in HU.
DENSEST_HU, MOST_DENSE_SHARE = 10_000.0, 0.02
#: Slices that end in more rows of one value than their neighbours, by this share of all rows, lost their end.
LOST_ROWS_SHARE, LOST_ROWS_SHARE_AT_END = 0.1, 0.25
#: Slices two (three, four) apart that are more alike than slices one less apart, by this factor, interleave.
ALIKE = 0.93
#: How often a mean that alternates from slice to slice must exceed what the series shows at other frequencies ...
ALTERNATION_POWER = 100.0
#: ... and by how much it must alternate: HU of tissue, HU of lung, logarithm of the noise.
_LEAST_ALTERNATION = (3.0, 3.0, 0.15)
#: Fewest slices in which similarity, and in which means, tell interleaved series.
_LEAST_ALIKE, _LEAST_MEANS = 8, 16
#: Fewest voxels of a thinned slice from which a mean is worth anything.
_LEAST_PIXELS = 1024
_SIDE = 128
#: Fewest other frequencies to hold one against.
_LEAST_FREQUENCIES = 3
_ADVICE = "export one acquisition and one reconstruction"


def check_voxels(hu: NDArray[Any], *, blank_ends: bool = False, assumed_hu: bool = False) -> list[Finding]:
    """NO_HU, TRUNCATED, DUPLICATE_POSITION and MIXED_SERIES by the voxels themselves.

    Args:
        hu: (slices, rows, columns) in HU, in order along the body.
        blank_ends: Whether slices of one value may lie at the ends, as resampling to a larger grid leaves them.
        assumed_hu: HU were made from grey levels, so that they cannot be held against air and water.
    """
    every = max(1, min(hu.shape[1:]) // _SIDE)
    thin = hu[:, ::every, ::every].astype(np.float32)
    blank = (thin.min(axis=(1, 2)) == thin.max(axis=(1, 2))).nonzero()[0]
    findings = [] if assumed_hu else check_levels(thin)
    findings += check_blank(blank, len(hu), blank_ends=blank_ends)
    if blank.size == 0 and not assumed_hu:
        findings += check_lost_rows(hu[:, :, ::every])
    if blank.size == 0:
        findings += check_identical(hu, thin)
    if not findings:
        findings += check_interleaved(hu, thin)
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


def check_blank(blank: NDArray[np.intp], count: int, *, blank_ends: bool) -> list[Finding]:
    """TRUNCATED: slices of one value between others; at the ends a note when resampling may have left them."""
    if blank.size in (0, count):
        return []
    shown = np.setdiff1d(np.arange(count), blank)
    within = blank[(blank > shown[0]) & (blank < shown[-1])]
    if blank_ends and within.size == 0:
        message = f"{blank.size} of {count} slices at the ends hold one value only: nothing was imaged there"
        return [Finding("BLANK_SLICES", message, Severity.NOTE)]
    first = int((blank if within.size == 0 else within)[0]) + 1
    message = (
        f"{blank.size} of {count} slices hold one value only, the first is slice {first}: their pixels were lost; "
        "copy or export the series again"
    )
    return [Finding(GateCode.TRUNCATED, message, Severity.REFUSED)]


def check_lost_rows(columns: NDArray[Any]) -> list[Finding]:
    """TRUNCATED: a slice that ends in rows of one value where its neighbours do not, as half-written files do.

    Args:
        columns: (slices, rows, some columns).
    """
    count, rows = columns.shape[:2]
    last = columns[:, -1:, -1:]
    differs = (columns != last).any(axis=2)
    empty = np.where(differs.any(axis=1), np.argmax(differs[:, ::-1], axis=1), rows)
    for number, lost in enumerate(empty.tolist()):
        neighbours = [int(empty[place]) for place in (number - 1, number + 1) if 0 <= place < count]
        share = LOST_ROWS_SHARE if len(neighbours) == 2 else LOST_ROWS_SHARE_AT_END
        if neighbours and lost - max(neighbours) > max(2.0, share * rows):
            message = (
                f"slice {number + 1} ends in {lost} rows of one value, its neighbours in {max(neighbours)}: the end "
                "of its pixels was lost; copy or export the series again"
            )
            return [Finding(GateCode.TRUNCATED, message, Severity.REFUSED)]
    return []


def check_identical(hu: NDArray[Any], thin: NDArray[np.float32]) -> list[Finding]:
    """DUPLICATE_POSITION: slices with the same voxels, which no two places of a body have."""
    seen: dict[bytes, int] = {}
    same = []
    for number, plane in enumerate(thin):
        first = seen.setdefault(hashlib.sha256(plane.tobytes()).digest(), number)
        if first != number and np.array_equal(hu[first], hu[number]):
            same.append((first + 1, number + 1))
    if not same:
        return []
    message = (
        f"{len(same)} slice(s) have the very voxels of another, the first are slices {same[0][0]} and {same[0][1]}: "
        "one picture stands at two places; remove the copies or export the series again"
    )
    return [Finding(GateCode.DUPLICATE_POSITION, message)]


def check_interleaved(hu: NDArray[Any], thin: NDArray[np.float32]) -> list[Finding]:
    """MIXED_SERIES: slices that resemble the next but one more than the next, or whose means alternate."""
    if thin[0].size < _LEAST_PIXELS:
        return []
    reason = _more_alike_further_apart(thin) or next(_alternating_means(hu, thin), None)
    if reason is None:
        return []
    message = f"two or more series interleave in one: {reason}; {_ADVICE}"
    return [Finding(GateCode.MIXED_SERIES, message)]


def _more_alike_further_apart(thin: NDArray[np.float32]) -> str | None:
    if len(thin) < _LEAST_ALIKE:
        return None
    apart = [np.abs(thin[lag:] - thin[:-lag]).mean(axis=(1, 2)) for lag in range(1, INTERLEAVED_UP_TO + 1)]
    medians = [float(np.median(one)) for one in apart]
    between = (apart[0][:-1] + apart[0][1:]) / 2
    for lag in range(2, INTERLEAVED_UP_TO + 1):
        nearer, further = medians[lag - 2], medians[lag - 1]
        if nearer <= 0 or further >= ALIKE * nearer or (lag == 2 and (apart[1] < between).mean() < 0.7):
            continue
        return (
            f"slices {lag} apart differ by {further:.0f} HU on average, slices {lag - 1} apart by {nearer:.0f} HU; "
            "in one series the nearer are the more alike"
        )
    return None


def _alternating_means(hu: NDArray[Any], thin: NDArray[np.float32]) -> Iterator[str]:
    if len(thin) < _LEAST_MEANS:
        return
    names = ("tissue", "lung and air", "noise")
    for name, least, values in zip(names, _LEAST_ALTERNATION, _means(hu, thin), strict=True):
        for count in range(2, INTERLEAVED_UP_TO + 1):
            power, amplitude = alternation(values, count)
            if power > ALTERNATION_POWER and amplitude > least:
                amount = f"{100 * np.expm1(amplitude):.0f} %" if name == "noise" else f"{amplitude:.0f} HU"
                yield f"{name} changes by {amount} to and fro every {count} slices"


def _means(hu: NDArray[Any], thin: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Mean of tissue and of lung, and logarithm of the difference of neighbouring columns, of each slice."""
    tissue, lung, noise = np.zeros(len(thin)), np.zeros(len(thin)), np.zeros(len(thin))
    every = max(1, hu.shape[1] // _SIDE)
    for number, plane in enumerate(thin):
        dense = plane > AIR_BELOW_HU
        airy = (plane > BACKGROUND_HU + 44) & ~dense  # air around the patient is cut off at -1000 by some scanners
        tissue[number] = plane[dense].mean() if dense.any() else 0.0
        lung[number] = plane[airy].mean() if airy.any() else 0.0
        rows = hu[number, ::every].astype(np.float32)
        noise[number] = np.log(1e-3 + np.abs(np.diff(rows, axis=1)).mean())
    return tissue, lung, noise


def alternation(values: NDArray[np.float64], count: int) -> tuple[float, float]:
    """How strongly a sequence changes to and fro with a period of ``count``.

    Args:
        values: One number a slice.
        count: From 2.

    Returns:
        Power at that frequency over the median of the fast half of the spectrum, and the difference between the
        classes of slices in the unit of ``values``. Slow changes are taken out by second differences, whose gain is
        divided out again. Zeros where the sequence is too short to tell this frequency from others.
    """
    second = values[1:-1] - (values[:-2] + values[2:]) / 2
    taper = np.hanning(second.size + 2)[1:-1]
    places = np.arange(second.size)

    def amplitude(frequency: float) -> float:
        wave = np.exp(-2j * np.pi * frequency * places)
        return float(abs((taper * second * wave).sum()) / taper.sum() / (2 * np.sin(np.pi * frequency) ** 2))

    others = np.arange(0.2, 0.5, 0.5 / second.size)
    others = others[np.abs(others - 1 / count) > 2.5 / second.size]
    if others.size < _LEAST_FREQUENCIES:
        return 0.0, 0.0
    usual = float(np.median([amplitude(frequency) ** 2 for frequency in others]))
    found = amplitude(1 / count)
    return found**2 / max(usual, 1e-12), 2 * found if count == 2 else 3 * found
