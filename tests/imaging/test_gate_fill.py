"""A fill around what was imaged: no tissue, no air, and never part of a body, in every format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jcs_ct.imaging import open_study
from jcs_ct.imaging.gate_fill import take_out_fill
from jcs_ct.lungs import segment_lungs
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom
from jcs_ct.phantom.phantom_volumes import write_nifti
from jcs_ct.volume import BACKGROUND_HU


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(slices=8, lesions=3, seed=5, size=128))


def around(shape, kind):
    """(rows, columns) True outside what was imaged."""
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    frame = np.maximum(np.abs(rows), np.abs(columns)) > 0.9
    return frame if kind == "frame" else rows**2 + columns**2 > 1


@pytest.mark.parametrize("kind", ["frame", "circle"])
@pytest.mark.parametrize("value", [0, 50, -200, 3071])
def test_a_fill_is_background_whatever_its_value_and_nothing_else_changes(phantom, kind, value):
    outside = around(phantom.volume.hu.shape[1:], kind)
    filled = phantom.volume.hu.copy()
    filled[:, outside] = value
    (finding,) = take_out_fill(filled)
    assert finding.code == "NOT_IMAGED"
    assert f"{outside.mean():.0%} of the grid holds the one value {value} HU" in finding.message
    assert (filled[:, outside] == BACKGROUND_HU).all()
    changed = (filled != phantom.volume.hu) & ~outside
    assert (phantom.volume.hu[changed] == value).all()  # a pixel of skin that has the very value and touches it
    assert changed.sum() < 20


@pytest.mark.parametrize("value", [-1024, -2000, -1000])
def test_what_is_as_dark_as_air_stays(phantom, value):
    filled = phantom.volume.hu.copy()
    filled[:, around(filled.shape[1:], "circle")] = value
    before = filled.copy()
    assert take_out_fill(filled) == []
    assert np.array_equal(filled, before)


def test_tissue_that_was_clipped_at_the_border_of_a_narrow_field_is_no_fill(phantom):
    tissue = np.full((8, 64, 64), 300, dtype=np.int16)
    tissue[:, 16:48, 16:48] = -850
    clipped = np.minimum(tissue, 150)
    assert take_out_fill(clipped) == []
    some = phantom.volume.hu.copy()
    some[:4, around(some.shape[1:], "frame")] = 0  # in half the slices: not how padding looks
    assert take_out_fill(some) == []


@pytest.mark.parametrize("writer", [write_dicom, write_nifti])
def test_air_that_a_fill_encloses_is_no_lung_whichever_format_it_came_in(phantom, tmp_path, writer):
    hu = phantom.volume.hu.copy()
    hu[:, around(hu.shape[1:], "frame")] = 0
    writer(replace(phantom, volume=replace(phantom.volume, hu=hu)), tmp_path)
    path = tmp_path / "dicom" if (tmp_path / "dicom").exists() else next(tmp_path.rglob("ct.nii*"), tmp_path)
    study = open_study(path)
    assert "NOT_IMAGED" in [flag.code for flag in study.flags]
    found, true = (
        segment_lungs(volume.hu, spacing_mm=volume.spacing_mm) for volume in (study.volume, phantom.volume)
    )
    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(true), rel=0.01)
    assert np.mean(found[true > 0] == true[true > 0]) > 0.99
