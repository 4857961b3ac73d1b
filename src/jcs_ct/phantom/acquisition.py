"""The scanner: slice thickness, resolution, correlated noise, streaks, motion, padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from jcs_ct.phantom.grid import Plane, stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.volume import BACKGROUND_HU

_THICKNESSES_MM = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0)


@dataclass(frozen=True)
class Acquisition:
    """How one phantom was scanned and reconstructed.

    Args:
        seed: Of the noise.
        pixel_mm: Pixel spacing.
        slice_spacing_mm: Distance of slices.
        slice_thickness_mm: Slices are averaged over it.
        noise_hu: SD of the noise in the middle of the lungs.
        mtf_half_per_mm: Frequency in 1/mm where the kernel passes about half.
        enhancement: Edge enhancement of the kernel, 0 for none.
        noise_peak_per_mm: Frequency in 1/mm that the noise spectrum is scaled by; it peaks at 0.82 of it.
        padded: Whether pixels outside the reconstruction circle are padding.
        arms_up: Whether the arms are out of the field.
        kernel: The kernel's name in headers.
    """

    seed: int
    pixel_mm: float
    slice_spacing_mm: float
    slice_thickness_mm: float
    noise_hu: float
    mtf_half_per_mm: float
    enhancement: float
    noise_peak_per_mm: float
    padded: bool
    arms_up: bool
    kernel: str

    @classmethod
    def draw(
        cls, patient: Patient, *, slices: int, size: int, spacing_mm: float | None, pixel_mm: float | None
    ) -> Acquisition:
        """The scanner of a patient's seed, fitted to the patient where nothing is given."""
        g = stream(patient.seed, 8)
        body_width = 2 * (patient.chest_half_width + patient.wall + patient.fat + 17)
        field = max(float(g.uniform(0.92, 1.12)) * body_width, 2 * patient.chest_half_width + 40)
        covered = patient.lung_height * float(g.uniform(1.04, 1.12))
        spacing = covered / max(slices, 2) if spacing_mm is None else spacing_mm
        usual = [t for t in _THICKNESSES_MM if t <= spacing + 0.01] or [spacing]
        thickness = float(g.choice(usual[-3:]))
        sharp = float(g.uniform(0, 1))
        noise = (
            float(g.uniform(10, 22)) * (0.8 + 0.7 * sharp) * float(np.clip(1.6 / np.sqrt(thickness + 0.4), 0.7, 1.3))
        )
        return cls(
            seed=patient.seed,
            pixel_mm=field / size if pixel_mm is None else pixel_mm,
            slice_spacing_mm=spacing,
            slice_thickness_mm=thickness,
            noise_hu=noise,
            mtf_half_per_mm=0.34 + 0.22 * sharp,
            enhancement=0.9 * sharp,
            noise_peak_per_mm=0.21 + 0.13 * sharp,
            padded=bool(g.random() < 0.4),
            arms_up=bool(g.random() < 0.8),
            kernel=f"PH{round(20 + 50 * sharp)}",
        )

    def padding(self, size: int) -> NDArray[np.bool_]:
        """(size, size) True where nothing is reconstructed: outside the circle, when the scanner pads."""
        centre = (np.arange(size, dtype=np.float32) - (size - 1) / 2) / (size / 2)
        outside: NDArray[np.bool_] = np.hypot(centre[:, None], centre[None, :]) > 1
        return outside & self.padded


class Scanner:
    """Turns ideal planes of a patient into reconstructed slices.

    Args:
        acquisition: Settings.
        size: Rows and columns of every plane.
    """

    def __init__(self, acquisition: Acquisition, size: int) -> None:
        self.acquisition = acquisition
        self._size = size
        frequency = np.hypot(
            fft.fftfreq(size, acquisition.pixel_mm)[:, None], fft.rfftfreq(size, acquisition.pixel_mm)[None, :]
        ).astype(np.float32)
        self._transfer = transfer(frequency, acquisition.mtf_half_per_mm, acquisition.enhancement)
        shape = noise_amplitude(frequency, acquisition.noise_peak_per_mm)
        self._noise = shape * np.float32(1 / _spatial_sd(shape, size))
        # Streaks between the shoulders run sideways: power at low horizontal frequency only.
        sideways = (fft.rfftfreq(size, acquisition.pixel_mm)[None, :] / 0.02).astype(np.float32)
        streaks = shape * np.exp(-(sideways**2))
        self._streaks = streaks * np.float32(1 / _spatial_sd(streaks, size))
        #: (rows, columns) True where nothing is reconstructed.
        self.padding = acquisition.padding(size)

    def reconstruct(self, ideal: Plane, index: int, *, body: Plane, shoulders: float) -> NDArray[np.int16]:
        """Blur, add noise, pad and quantise one slice.

        Args:
            ideal: (rows, columns) HU.
            index: Number of the slice; each has its own noise.
            body: (rows, columns) 0 to 1, how much tissue lies around a pixel; noise grows with it.
            shoulders: 0 to 1, how strong horizontal streaks are.

        Returns:
            (rows, columns) int16 HU.
        """
        generator = stream(self.acquisition.seed, 9, index)
        blurred = fft.irfft2(fft.rfft2(ideal) * self._transfer, s=ideal.shape)
        white = fft.rfft2(generator.standard_normal(ideal.shape, dtype=np.float32))
        noise = fft.irfft2(white * self._noise, s=ideal.shape)
        if shoulders > 0:
            noise = noise + np.float32(1.2 * shoulders) * fft.irfft2(white * self._streaks, s=ideal.shape)
        level = np.float32(self.acquisition.noise_hu) * (np.float32(0.42) + np.float32(0.75) * body)
        hu = np.rint(blurred + noise * level)
        scanned: NDArray[np.int16] = np.clip(hu, BACKGROUND_HU, 3071).astype(np.int16)
        scanned[self.padding] = BACKGROUND_HU
        return scanned


def transfer(frequency: Plane, half_per_mm: float, enhancement: float) -> Plane:
    """Modulation transfer of the kernel by frequency in 1/mm; 1 at 0."""
    relative = frequency / np.float32(half_per_mm)
    passed: Plane = np.exp(np.float32(-np.log(2)) * relative**2) * (1 + np.float32(enhancement) * relative**2)
    return passed


def noise_amplitude(frequency: Plane, peak_per_mm: float) -> Plane:
    """Square root of the noise power spectrum: filtered back-projection's ramp, rolled off by the kernel."""
    relative = frequency / np.float32(peak_per_mm)
    # The constant is what interpolation and helical weighting leave at low frequency; it was fitted to real series.
    power: Plane = (relative + np.float32(0.4)) * np.exp(-0.5 * relative**2)
    return np.sqrt(power)


def _spatial_sd(amplitude: Plane, size: int) -> float:
    """SD of white noise of SD 1 after this filter (given on half of the frequency plane)."""
    weight = np.full(amplitude.shape[1], 2.0)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    return float(np.sqrt((amplitude.astype(np.float64) ** 2 * weight).sum() / size**2))
