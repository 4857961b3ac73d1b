from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from jcs_ct.reporting.slice_images import (
    LUNG_DISPLAY,
    MAP_PIXELS,
    PICTURE_PIXELS,
    Display,
    ct_picture,
    map_picture,
)
from jcs_ct.volume import CTVolume


def _volume(row_axis=(0, 0.5, 0), column_axis=(0.5, 0, 0), shape=(3, 20, 30)):
    affine = np.eye(4)
    affine[:3, :3] = np.array([(0, 0, -2.0), row_axis, column_axis]).T
    return CTVolume(np.zeros(shape, dtype=np.int16), affine)


def _picture(uri):
    kind, data = re.fullmatch(r"data:image/(\w+);base64,(.+)", uri).groups()
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_pixels_that_are_not_square_keep_their_shape():
    display = Display.of(_volume(row_axis=(0, 1.0, 0), column_axis=(0.5, 0, 0)))
    assert (display.width, display.height) == (30.0, 40.0)


def test_directions_that_no_source_states_are_marked():
    hu = np.zeros((3, 20, 30), dtype=np.int16)
    display = Display.of(CTVolume(hu, None, axes_are_assumed=True))
    assert not display.directions_are_known
    assert (display.width, display.height) == (30.0, 20.0)
    assert Display.of(CTVolume(hu, None)).directions_are_known


def test_window_limits():
    np.testing.assert_array_equal(LUNG_DISPLAY(np.array([-3000, -1350, -600, 150, 3000])), [0, 0, 128, 255, 255])


def test_a_window_gives_whole_numbers_and_others_the_same_grey():
    hu = np.arange(-3000, 3000, 7, dtype=np.int16)
    np.testing.assert_array_equal(LUNG_DISPLAY(hu), LUNG_DISPLAY(hu.astype(np.float32)))
    np.testing.assert_array_equal(LUNG_DISPLAY(hu.reshape(-1, 2)[:, ::-1]), LUNG_DISPLAY(hu).reshape(-1, 2)[:, ::-1])


def test_ct_pictures_are_small_and_show_what_is_there():
    hu = np.full((512, 512), -1024, dtype=np.int16)
    hu[:, 256:] = 150
    kind, picture = _picture(ct_picture(hu, LUNG_DISPLAY))
    assert kind == "jpeg"
    assert picture.size == (PICTURE_PIXELS, PICTURE_PIXELS)
    grey = np.asarray(picture.convert("L")).astype(int)
    assert abs(grey[:, : PICTURE_PIXELS // 2 - 4].mean() - LUNG_DISPLAY(np.array([-1024]))[0]) < 4
    assert grey[:, PICTURE_PIXELS // 2 + 4 :].mean() > 250


def test_small_slices_are_not_enlarged():
    _, picture = _picture(ct_picture(np.zeros((20, 30), dtype=np.int16), LUNG_DISPLAY))
    assert picture.size == (30, 20)


def test_map_pictures_are_clear_where_nothing_is_active():
    activation = np.zeros((256, 256), dtype=np.float16)
    activation[:, 128:] = 1.0
    kind, picture = _picture(map_picture(activation))
    alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert kind == "png"
    assert picture.size == (MAP_PIXELS, MAP_PIXELS)
    assert alpha[:, :40].max() == 0
    assert alpha[:, 60:].min() == 255


def test_no_map_where_there_is_no_activation():
    assert map_picture(np.zeros((8, 8), dtype=np.float16)) is None
