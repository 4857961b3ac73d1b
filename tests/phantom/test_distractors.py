from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.phantom.distractors import (
    Distractor,
    DistractorKind,
    EmphysemaTexture,
    draw_distractors,
    effusion_share,
    paint_atelectasis,
    paint_nodule,
)
from jcs_ct.phantom.grid import SliceGrid
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.surfaces import Surfaces

GRID = SliceGrid.centred(128, 128, 2.6, 2.6)


@pytest.fixture
def patient() -> Patient:
    return Patient.draw(3)


@pytest.fixture
def low(patient: Patient) -> Surfaces:
    return Surfaces.of(patient, GRID, patient.z_mm(0.72), 2.0)


def lung() -> np.ndarray:
    return np.full(GRID.shape, -880, dtype=np.float32)


def test_every_kind_occurs_in_positives_and_negatives() -> None:
    for sign in (False, True):
        drawn = {one.kind for seed in range(60) for one in draw_distractors(Patient.draw(seed), negative=sign)}
        assert drawn == set(DistractorKind)


def test_some_phantoms_have_none() -> None:
    counts = [len(draw_distractors(Patient.draw(seed), negative=True)) for seed in range(40)]
    assert 0 in counts


def test_atelectasis_is_thin_and_at_the_back(patient: Patient, low: Surfaces) -> None:
    hu = lung()
    one = Distractor(DistractorKind.DEPENDENT_ATELECTASIS, 0, 6.0, 1.0)
    paint_atelectasis(hu, patient, low, one, np.zeros(GRID.shape, dtype=np.float32))
    dense = (hu > -750) & (low.depth > 0)
    assert dense.any()
    assert (np.nonzero(dense)[0] > 64).all()
    assert low.depth[dense].max() < 15


def test_effusion_lies_behind_on_its_side(patient: Patient, low: Surfaces) -> None:
    share = effusion_share(patient, low, Distractor(DistractorKind.EFFUSION, 1, 30.0)) * low.lung
    rows, columns = np.nonzero(share > 0.5)
    assert len(rows) > 10
    assert rows.mean() > 70
    assert columns.min() >= 63
    high = Surfaces.of(patient, GRID, patient.z_mm(0.2), 2.0)
    assert effusion_share(patient, high, Distractor(DistractorKind.EFFUSION, 1, 30.0)).max() == 0


def test_nodule_is_cut_as_a_sphere() -> None:
    one = Distractor(DistractorKind.NODULE, -1, 10.0, 1.0, (-60.0, 0.0, 0.0))
    areas = []
    for z in (0.0, 7.0, 14.0):
        hu = lung()
        paint_nodule(hu, GRID, z, 1.0, one)
        areas.append(int((hu > -400).sum()))
    assert areas[0] > areas[1] > areas[2] == 0


def test_emphysema_only_darkens(patient: Patient) -> None:
    hu = lung()
    EmphysemaTexture(3).paint(hu, patient, GRID, patient.z_mm(0.2), 1.0)
    assert (hu <= -879.9).all()
    assert (hu < -940).mean() > 0.01
