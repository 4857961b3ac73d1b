"""Compare phantoms with real chest CT: HU inside the lungs, noise level, noise power spectrum.

    python scripts/phantom_statistics.py REAL_STUDY [REAL_STUDY ...] --seeds 200-207 [--json]

Real studies are anything ``jcs diagnose`` reads. Lungs are found in the same way (``segment_lungs``) on both sides,
so that the comparison does not depend on who drew the mask. Phantoms with an odd seed are negative, those with an
even seed have ``--lesions`` lesions. Exit code 1 when a tolerance is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.imaging import open_study
from jcs_ct.lungs import segment_lungs
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.volume import CTVolume

#: Bins of the histogram in HU.
EDGES = np.arange(-1024, 217, 20)
#: Frequencies in 1/mm at which spectra are compared.
FREQUENCIES = np.linspace(0.05, 0.65, 25)
PATCH_PIXELS = 32
TOLERANCES = {
    "total_variation": 0.15,
    "wasserstein_hu": 25.0,
    "mean_difference_hu": 20.0,
    "sd_difference_hu": 20.0,
    "noise_sd_log2_ratio": 1.0,
    "soft_spectrum_mean_difference": 0.15,
    "lung_spectrum_mean_difference": 0.15,
}


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of one volume.

    Args:
        histogram: Share of the lungs' voxels in each bin of ``EDGES``.
        mean_hu, sd_hu: Of the lungs' voxels between the outer edges.
        noise_sd_hu: SD in homogeneous soft tissue, over ``FREQUENCIES``' range.
        soft_spectrum, lung_spectrum: Noise power by frequency, each with mean 1.
    """

    histogram: NDArray[np.float64]
    mean_hu: float
    sd_hu: float
    noise_sd_hu: float
    soft_spectrum: NDArray[np.float64]
    lung_spectrum: NDArray[np.float64]


def statistics_of(volume: CTVolume) -> Statistics:
    """Measure a volume with known geometry, at most 40 slices of it."""
    if volume.spacing_mm is None or volume.affine is None:
        raise SystemExit("a study without geometry cannot be compared")
    step = max(1, volume.shape[0] // 40)
    left_is_high = bool(volume.affine[0, 2] > 0)
    lungs = segment_lungs(
        volume.hu, spacing_mm=volume.spacing_mm, hu_is_assumed=False, left_is_high_column=left_is_high
    )
    hu, inside = volume.hu[::step].astype(np.float32), lungs[::step] > 0
    values = hu[inside]
    values = values[(values >= EDGES[0]) & (values < EDGES[-1])]
    counts, _ = np.histogram(values, EDGES)
    pixel_mm = volume.spacing_mm[1]
    soft, noise_sd = spectrum(hu, soft_patches(hu), pixel_mm)
    lung, _ = spectrum(hu, lung_patches(hu, inside), pixel_mm)
    return Statistics(counts / counts.sum(), float(values.mean()), float(values.std()), noise_sd, soft, lung)


def soft_patches(hu: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """Corners (slice, row, column) of patches of homogeneous soft tissue: liver, spleen, heart, muscle."""
    return _flattest(hu, (hu > -60) & (hu < 160), 60, keep=0.5)


def lung_patches(hu: NDArray[np.float32], inside: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Corners of patches of lung without large vessels."""
    return _flattest(hu, inside & (hu < -650), 120, keep=0.35)


def _flattest(
    hu: NDArray[np.float32], tissue: NDArray[np.bool_], most: int, *, keep: float
) -> list[tuple[int, int, int]]:
    """The flattest share ``keep`` (by SD after smoothing) of the patches that lie inside ``tissue``."""
    found: list[tuple[float, tuple[int, int, int]]] = []
    half = PATCH_PIXELS // 2
    for index in range(hu.shape[0]):
        share = ndimage.uniform_filter(tissue[index].astype(np.float32), PATCH_PIXELS)
        smooth = ndimage.uniform_filter(hu[index], 5)
        for row in range(half, hu.shape[1] - half, half):
            for column in range(half, hu.shape[2] - half, half):
                if share[row, column] > 0.985:
                    corner = (index, row - half, column - half)
                    found.append((float(_patch(smooth, corner).std()), corner))
    found.sort()
    return [corner for _, corner in found[: max(8, int(keep * len(found)))]][:most]


def _patch(plane: NDArray[np.float32], corner: tuple[int, int, int]) -> NDArray[np.float32]:
    _, row, column = corner
    return plane[row : row + PATCH_PIXELS, column : column + PATCH_PIXELS]


def spectrum(
    hu: NDArray[np.float32], corners: list[tuple[int, int, int]], pixel_mm: float
) -> tuple[NDArray[np.float64], float]:
    """Radial noise power at ``FREQUENCIES`` (mean 1) and the SD in HU that it stands for.

    A plane is fitted to each patch and taken off; a Hann window keeps leakage down (IEC 61223-3-5 practice).
    """
    axis = np.linspace(-1, 1, PATCH_PIXELS)
    design = np.stack([np.ones(PATCH_PIXELS**2), np.repeat(axis, PATCH_PIXELS), np.tile(axis, PATCH_PIXELS)], axis=1)
    window = np.hanning(PATCH_PIXELS)[:, None] * np.hanning(PATCH_PIXELS)[None, :]
    power = np.zeros((PATCH_PIXELS, PATCH_PIXELS))
    for corner in corners:
        values = _patch(hu[corner[0]], corner).astype(np.float64).ravel()
        values = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        power += np.abs(np.fft.fft2(values.reshape(window.shape) * window)) ** 2
    power /= max(len(corners), 1) * (window**2).sum()
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(PATCH_PIXELS, pixel_mm)] * 2))
    order = np.argsort(frequency.ravel())
    flat_f, flat_p = frequency.ravel()[order], power.ravel()[order]
    width = 0.5 / (PATCH_PIXELS * pixel_mm)
    weights = np.exp(-(((flat_f[None] - FREQUENCIES[:, None]) / width) ** 2))
    radial = (weights * flat_p).sum(axis=1) / weights.sum(axis=1)
    return radial / radial.mean(), float(np.sqrt(power.mean()))


def compare(phantoms: list[Statistics], real: list[Statistics]) -> dict[str, float]:
    """Differences between the mean of the phantoms and the mean of the real volumes."""
    ours, theirs = (np.mean([one.histogram for one in side], axis=0) for side in (phantoms, real))
    cumulative = np.abs(np.cumsum(ours - theirs))

    def mean(side: list[Statistics], name: str) -> Any:
        return np.mean([getattr(one, name) for one in side], axis=0)

    out = {
        "total_variation": float(0.5 * np.abs(ours - theirs).sum()),
        "wasserstein_hu": float(cumulative.sum() * (EDGES[1] - EDGES[0])),
        "mean_difference_hu": abs(float(mean(phantoms, "mean_hu") - mean(real, "mean_hu"))),
        "sd_difference_hu": abs(float(mean(phantoms, "sd_hu") - mean(real, "sd_hu"))),
        "noise_sd_log2_ratio": abs(
            float(np.mean([np.log2(one.noise_sd_hu) for one in phantoms]))
            - float(np.mean([np.log2(one.noise_sd_hu) for one in real]))
        ),
    }
    for name in ("soft_spectrum", "lung_spectrum"):
        gap = np.abs(mean(phantoms, name) - mean(real, name))
        out[f"{name}_mean_difference"] = float(gap.mean())
        out[f"{name}_max_difference"] = float(gap.max())
    return out


def main() -> int:
    """Measure, compare, print; 1 when a tolerance is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", nargs="+", type=Path, help="real studies")
    parser.add_argument("--seeds", default="200-207", help="first-last seed of the phantoms")
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--lesions", type=int, default=4, help="of the positive phantoms")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    first, last = (int(part) for part in options.seeds.split("-"))
    real = [statistics_of(open_study(path).volume) for path in options.real]
    configs = [
        PhantomConfig(slices=options.slices, lesions=options.lesions, seed=seed, negative=seed % 2 == 1)
        for seed in range(first, last + 1)
    ]
    phantoms = [statistics_of(make_phantom(config).volume) for config in configs]
    result = compare(phantoms, real)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, side in ([str(path.name), one] for path, one in zip(options.real, real, strict=True)):
            _print_one(name, side)
        for seed, one in enumerate(phantoms, start=first):
            _print_one(f"phantom {seed}", one)
        for name, value in result.items():
            limit = TOLERANCES.get(name)
            verdict = "" if limit is None else f"  tolerance {limit:g}  {'met' if value <= limit else 'MISSED'}"
            print(f"{name:<32} {value:8.3f}{verdict}")
    return int(any(result[name] > limit for name, limit in TOLERANCES.items()))


def _print_one(name: str, one: Statistics) -> None:
    peaks = [FREQUENCIES[int(np.argmax(part))] for part in (one.soft_spectrum, one.lung_spectrum)]
    print(
        f"{name:<14} lung {one.mean_hu:7.1f} ± {one.sd_hu:5.1f} HU   noise {one.noise_sd_hu:5.1f} HU   "
        f"spectrum peaks at {peaks[0]:.2f} (soft tissue), {peaks[1]:.2f} (lung) per mm"
    )


if __name__ == "__main__":
    sys.exit(main())
