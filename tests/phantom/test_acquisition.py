from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jcs_ct.phantom.acquisition import Acquisition, Scanner, noise_amplitude, transfer
from jcs_ct.phantom.patient import Patient
from jcs_ct.volume import BACKGROUND_HU


@pytest.fixture
def acquisition() -> Acquisition:
    drawn = Acquisition.draw(Patient.draw(1), slices=40, size=128, spacing_mm=None, pixel_mm=0.7)
    return replace(drawn, padded=False, noise_hu=20.0)


def test_noise_has_the_stated_level_and_no_mean(acquisition: Acquisition) -> None:
    water = np.zeros((128, 128), dtype=np.float32)
    hu = Scanner(acquisition, 128).reconstruct(water, 0, body=np.full_like(water, 0.5), shoulders=0.0)
    assert hu.std() == pytest.approx(20.0 * (0.42 + 0.75 * 0.5), rel=0.1)
    assert abs(hu.mean()) < 5


def test_each_slice_has_its_own_noise_and_the_same_again(acquisition: Acquisition) -> None:
    water = np.zeros((128, 128), dtype=np.float32)
    scanner = Scanner(acquisition, 128)
    first, second, again = (scanner.reconstruct(water, i, body=water, shoulders=0.5) for i in (0, 1, 0))
    assert np.array_equal(first, again)
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_noise_is_correlated_between_neighbours(acquisition: Acquisition) -> None:
    water = np.zeros((128, 128), dtype=np.float32)
    hu = Scanner(acquisition, 128).reconstruct(water, 0, body=water, shoulders=0.0).astype(float)
    assert np.corrcoef(hu[:, :-1].ravel(), hu[:, 1:].ravel())[0, 1] > 0.2


def test_blur_keeps_the_mean_and_softens_edges(acquisition: Acquisition) -> None:
    edge = np.full((128, 128), -1000, dtype=np.float32)
    edge[:, 32:96] = 0
    quiet = Scanner(replace(acquisition, noise_hu=0.0, enhancement=0.0), 128)
    hu = quiet.reconstruct(edge, 0, body=np.zeros_like(edge), shoulders=0.0)
    assert hu.mean() == pytest.approx(edge.mean(), abs=1.0)
    assert -900 < hu[64, 31] < -100 or -900 < hu[64, 32] < -100


def test_padding_is_background_outside_the_circle(acquisition: Acquisition) -> None:
    padded = replace(acquisition, padded=True)
    water = np.zeros((128, 128), dtype=np.float32)
    hu = Scanner(padded, 128).reconstruct(water, 0, body=water, shoulders=0.0)
    outside = padded.padding(128)
    assert 0.19 < outside.mean() < 0.24  # 1 - pi / 4
    assert (hu[outside] == BACKGROUND_HU).all()
    assert (hu[~outside] > -500).all()


def test_transfer_passes_the_mean_and_half_at_its_frequency() -> None:
    frequency = np.array([0.0, 0.4], dtype=np.float32)
    assert transfer(frequency, 0.4, 0.0) == pytest.approx([1.0, 0.5])
    assert transfer(frequency, 0.4, 1.0)[1] == pytest.approx(1.0)


def test_noise_spectrum_rises_and_falls() -> None:
    frequency = np.linspace(0, 1, 201, dtype=np.float32)
    power = noise_amplitude(frequency, 0.25) ** 2
    peak = frequency[int(power.argmax())]
    assert peak == pytest.approx(0.82 * 0.25, abs=0.02)
    assert power[0] < power.max()
    assert power[-1] < 0.05 * power.max()
