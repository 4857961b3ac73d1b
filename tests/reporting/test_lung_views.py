"""Views through the lungs: what lies where, on which side, and how much of it."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jcs_ct.lungs import LEFT, RIGHT, UNKNOWN_SIDE
from jcs_ct.reporting.lung_views import Sight, lines_of_sight, lung_views

#: A lesion in the patient's right lung, upper and anterior; one in the left, lower and posterior.
BOXES = (np.s_[1:4, 6:12, 6:14], np.s_[8:11, 28:34, 34:42])


@pytest.fixture
def study(make_study):
    return make_study()


@pytest.fixture
def found(study, make_diagnosis):
    lungs = np.zeros(study.volume.shape, dtype=np.uint8)
    lungs[:, 4:36, 4:20] = RIGHT
    lungs[:, 4:36, 28:44] = LEFT
    return replace(make_diagnosis(study, boxes=BOXES), lung_labels=lungs)


def seen(diagnosis):
    return diagnosis.lung_labels, diagnosis.lesion_labels, diagnosis.lesions


def test_lines_count_lung_and_what_of_it_is_opacified(study, found):
    front, right, left = lines_of_sight(study.volume.hu, *seen(found), (Sight.FRONT, Sight.RIGHT, Sight.LEFT))
    assert front.density_hu.shape == (12, 48)
    assert front.lung[2, 10] == 32
    assert front.opacified[2, 10] == 6
    assert front.share[2, 10] == pytest.approx(6 / 32)
    assert front.share[2, 24] == 0, "no lung, no share"
    assert right.share[2, 8] == pytest.approx(8 / 16)
    assert not right.share[8:].any(), "the left lung's lesion is not seen through the right one"
    assert left.share[9, 30] == pytest.approx(8 / 16)
    assert not left.share[:8].any()


def test_a_lesion_beside_the_lung_counts_on_its_side(study, found):
    lungs = found.lung_labels.copy()
    lungs[BOXES[1]] = 0
    outside = replace(found, lung_labels=lungs)
    right, left = lines_of_sight(study.volume.hu, *seen(outside), (Sight.RIGHT, Sight.LEFT))
    assert left.share[9, 30] == pytest.approx(8 / 16)
    assert not right.share[8:].any()


def test_the_right_lung_is_on_the_left_and_superior_on_top(study, found):
    views = lung_views(study.volume, *seen(found))
    assert [view.sight for view in views] == [Sight.FRONT, Sight.RIGHT, Sight.LEFT]
    reddest = {view.sight: _reddest(view.picture) for view in views}
    (front, right, left) = (reddest[view.sight] for view in views)
    assert front[0] < 6
    assert front[1] < 24, "the right lung's upper lesion: top left, seen from the front"
    assert right[1] < 20, "anterior is on the left"
    assert left[0] > 6
    assert left[1] > 20, "posterior is on the right"


def test_lung_of_unknown_side_is_seen_as_a_whole(study, found):
    unknown = replace(found, lung_labels=np.where(found.lung_labels == LEFT, UNKNOWN_SIDE, found.lung_labels))
    assert [view.sight for view in lung_views(study.volume, *seen(unknown))] == [Sight.FRONT, Sight.BOTH]


def _reddest(picture: str) -> tuple[int, int]:
    """(row, column) of the middle of what is coloured."""
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGB")).astype(int)
    coloured = np.argwhere(shown[..., 0] - shown[..., 2] > 60)
    assert len(coloured)
    first = coloured[coloured[:, 0] <= coloured[:, 0].min() + 2]
    row, column = first.mean(axis=0)
    return int(row), int(column)
