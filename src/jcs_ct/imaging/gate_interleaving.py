"""Checks of the gate on voxels that a series is one: two that interleave show it where headers do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_acquisitions import INTERLEAVED_UP_TO
from jcs_ct.imaging.gate_finding import Finding

#: Voxels above this are tissue, those below lung and air.
_TISSUE_ABOVE_HU = -500.0
#: Voxels between the two are lung: the air around the patient is cut off at the bottom by some scanners.
_LUNG_ABOVE_HU = -950.0
#: Slices whose mean tells tissue and lung: as many of each class of slices, whether two, three or four interleave.
_AROUND = 12
#: Slices two (three, four) apart that are more alike than slices one less apart, by this factor, interleave.
ALIKE = 0.93
#: How often a mean that alternates from slice to slice must exceed what the series shows at other frequencies ...
ALTERNATION_POWER = 100.0
#: ... and by how much it must alternate: HU of tissue, HU of lung, logarithm of the noise, which linear interpolation
#: divides by up to the root of 2 (0.35) on every second slice.
_LEAST_ALTERNATION = (3.0, 3.0, 0.4)
#: What changes to and fro from slice to slice, voxel by voxel, over what changes every 8/3 slices, in power: in ten
#: patients' scans at steps of 2 to 10 mm it is 0.95 at most, on phantoms 1.14, of pure noise 1.
FASTEST_CHANGE = 1.25
#: Slices that are looked at together there.
_WINDOW = 8
#: Fewest slices in which similarity, and in which means, tell interleaved series.
_LEAST_ALIKE, _LEAST_MEANS = 8, 16
#: Fewest voxels of a thinned slice from which a mean is worth anything.
_LEAST_PIXELS = 1024
_SIDE = 128
#: Fewest other frequencies to hold one against.
_LEAST_FREQUENCIES = 3
_ADVICE = "export one acquisition and one reconstruction"


def check_interleaved(hu: NDArray[Any], thin: NDArray[np.float32], scanned: NDArray[np.intp] | None) -> list[Finding]:
    """MIXED_SERIES: slices that resemble the next but one more than the next, or whose means alternate.

    Slices that were interpolated between others are passed over: each is like the two beside it, and has less noise.

    Args:
        hu: (slices, rows, columns) in HU.
        thin: The same, thinned.
        scanned: As of ``scanned_slices``.
    """
    if scanned is None or thin[0].size < _LEAST_PIXELS:
        return []
    if len(scanned) < len(thin):
        hu, thin = hu[scanned], thin[scanned]
    reason = _more_alike_further_apart(thin) or next(_alternating_means(hu, thin), None) or _alternating_voxels(thin)
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


def _alternating_voxels(thin: NDArray[np.float32]) -> str | None:
    share = fastest_change(thin)
    if share <= FASTEST_CHANGE:
        return None
    return (
        f"voxels change to and fro from slice to slice by {share:.2f} times the power with which they change every "
        "8/3 slices; in one series slower changes are the larger"
    )


def fastest_change(thin: NDArray[np.float32]) -> float:
    """Power of what alternates from slice to slice over that of what changes every 8/3 slices; 0 with too few.

    Slow changes are taken out by second differences, whose gain is divided out again, and the power is summed over
    all voxels and all windows of eight slices: breathing moves what alternates as it goes along the body.

    Args:
        thin: (slices, rows, columns) in HU, thinned.
    """
    if len(thin) < _WINDOW + 2:
        return 0.0
    second = (thin[1:-1] - (thin[:-2] + thin[2:]) / 2).reshape(len(thin) - 2, -1)
    taper = np.hanning(_WINDOW + 2)[1:-1].astype(np.float32)
    places = np.arange(_WINDOW)
    alternating = taper * (-1.0) ** places / 2
    wave = taper * np.exp(-0.75j * np.pi * places) / (2 * np.sin(0.375 * np.pi) ** 2)
    waves = np.stack([alternating, wave.real, wave.imag]).astype(np.float32)
    fast = slow = 0.0
    for first in range(0, len(second) - _WINDOW + 1, _WINDOW // 2):
        power = np.square(waves @ second[first : first + _WINDOW]).sum(axis=1, dtype=np.float64)
        fast, slow = fast + float(power[0]), slow + float(power[1] + power[2])
    return fast / slow if slow > 0 else 0.0


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
    """Mean of tissue and of lung, and logarithm of the usual difference of columns side by side in tissue.

    What is tissue or lung is told from the mean of the slices around, not from the slice itself: a threshold on
    values with noise moves their mean, and interpolation gives every second or third slice less noise than others.
    """
    tissue, lung, noise = np.zeros(len(thin)), np.zeros(len(thin)), np.zeros(len(thin))
    every = max(1, hu.shape[1] // _SIDE)
    for number, plane in enumerate(thin):
        first = min(max(number - _AROUND // 2, 0), len(thin) - _AROUND)
        around = thin[first : first + _AROUND].mean(axis=0)
        dense = around > _TISSUE_ABOVE_HU
        airy = (around > _LUNG_ABOVE_HU) & ~dense
        tissue[number] = plane[dense].mean() if dense.any() else 0.0
        lung[number] = plane[airy].mean() if airy.any() else 0.0
        rows = hu[number, ::every].astype(np.float32)
        in_tissue = np.minimum(rows[:, 1:], rows[:, :-1]) > _TISSUE_ABOVE_HU
        apart = np.abs(np.diff(rows, axis=1))[in_tissue]
        noise[number] = np.log(1.0 + np.median(apart)) if apart.size else 0.0
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
