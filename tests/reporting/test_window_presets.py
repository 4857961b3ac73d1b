"""Presets show what they say: the browser's filter on a stored picture gives the window's own greys."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from jcs_ct.imaging.study import HeaderWindow
from jcs_ct.reporting.language import Words
from jcs_ct.reporting.slice_images import DisplayWindow
from jcs_ct.reporting.window_presets import PICTURES, window_presets

WORDS = Words.of("en")


def _filtered(picture, css):
    """What a browser makes of greys in [0, 1]; each function clamps (Filter Effects Module Level 1)."""
    if css == "none":
        return picture
    (brightness,), (contrast,) = re.findall(r"brightness\((.+?)\)", css), re.findall(r"contrast\((.+?)\)", css)
    brighter = np.clip(picture * float(brightness), 0, 1)
    return np.clip(brighter * float(contrast) + 0.5 - 0.5 * float(contrast), 0, 1)


def test_a_preset_gives_the_greys_of_its_window(make_study):
    study = replace(
        make_study(),
        header_windows=(HeaderWindow(-500.0, 1200.0), HeaderWindow(60.0, 350.0), HeaderWindow(0.0, 4000.0)),
    )
    presets = window_presets(study, WORDS)
    stored = {window.key: window for window in PICTURES}
    hu = np.arange(-1400, 400, 7, dtype=np.int16)
    for preset in presets:
        wanted = DisplayWindow("wanted", "", preset.level_hu, preset.width_hu)(hu) / 255
        shown = _filtered(stored[preset.picture](hu) / 255, preset.filter)
        assert np.abs(shown - wanted).max() < 0.012, preset
    offered = [(preset.level_hu, preset.width_hu) for preset in presets if preset.name == "From the DICOM header"]
    assert offered == [(-500.0, 1200.0), (60.0, 350.0)], "4000 HU are in no stored picture"


def test_presets_are_told_apart(make_study):
    study = replace(make_study(), header_windows=(HeaderWindow(-600.0, 1500.0), HeaderWindow(40.0, 400.0)))
    presets = window_presets(study, WORDS)
    assert [preset.name for preset in presets] == ["Lung", "Ground glass", "Mediastinum", "Soft tissue, narrow"]
    assert len({preset.key for preset in presets}) == len(presets)
    assert [preset.filter for preset in presets if preset.picture == preset.key] == ["none", "none"]


@pytest.mark.parametrize("key", ["lung", "mediastinal"])
def test_every_picture_is_shown_by_a_preset(make_study, key):
    assert key in {preset.picture for preset in window_presets(make_study(), WORDS)}
