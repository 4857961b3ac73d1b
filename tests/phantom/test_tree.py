from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.phantom.grid import SliceGrid, SmoothField, stream
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.tree import Tubes, grow_tree, tube_share
from jcs_ct.phantom.trees import lung_points

GRID = SliceGrid.centred(101, 101, 1.0, 1.0)


def test_tube_across_the_slice_covers_its_section() -> None:
    tube = Tubes.polyline([(0, 0, -50), (0, 0, 50)], [10.0, 10.0])
    assert tube_share(GRID, tube, 0.0).sum() == pytest.approx(np.pi * 100, rel=0.02)


def test_tube_along_the_slice_covers_its_length() -> None:
    tube = Tubes.polyline([(-20, 0, 0), (20, 0, 0)], [3.0, 3.0])
    share = tube_share(GRID, tube, 0.0)
    assert share.sum() == pytest.approx(40 * 6 + np.pi * 9, rel=0.05)
    assert tube_share(GRID, tube, 5.0).sum() == 0


def test_tree_reaches_every_target_and_tapers() -> None:
    targets = np.random.default_rng(0).uniform(-40, 40, (60, 3))
    root = np.array([0.0, 0.0, -60.0])
    tree = grow_tree(np.random.default_rng(1), root, targets, tip_radius_mm=0.5)
    near_root = np.linalg.norm(tree.start - root, axis=1) < 1e-9
    assert near_root.any()
    assert tree.start_radius[near_root].max() > 1.0
    assert tree.end_radius.min() == pytest.approx(0.5)
    # Murray: no branch is thicker than all tips together would make it.
    assert tree.start_radius.max() <= 1.26 * 0.5 * 60 ** (1 / 2.7)


def test_lung_points_lie_in_the_lung_of_their_side() -> None:
    patient = Patient.draw(2)
    for side in (-1, 1):
        points = lung_points(patient, stream(2, 99), side, 20.0)
        assert len(points) > 50
        assert (points[:, 0] * side > 0).all()


def test_smooth_field_is_standard_and_the_same_on_any_crop() -> None:
    field = SmoothField(stream(7, 0), 3.0)
    plane = field.plane(GRID, 4.2)
    assert abs(plane.mean()) < 0.2
    assert plane.std() == pytest.approx(1.0, abs=0.2)
    box = (slice(10, 40), slice(20, 70))
    assert np.allclose(field.plane(GRID.crop(box), 4.2), plane[box], atol=1e-5)
