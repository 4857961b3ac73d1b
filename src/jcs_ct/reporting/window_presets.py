"""Grey windows that a reader can choose between: presets, and what the header offers.

A slice is stored in two windows; a narrower window inside one of them is that picture with more contrast, so every
preset costs the page nothing but its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jcs_ct.reporting.language import Words, marked
from jcs_ct.reporting.slice_images import LUNG_DISPLAY, MEDIASTINAL_DISPLAY, DisplayWindow

if TYPE_CHECKING:
    from jcs_ct.imaging.study import Study

PICTURES = (LUNG_DISPLAY, MEDIASTINAL_DISPLAY)
#: For faint ground glass: the lung window with half as much contrast again.
GROUND_GLASS_DISPLAY = DisplayWindow("ground-glass", marked("Ground glass"), -700.0, 1000.0)
#: Inside the mediastinal window, for what lies in the wall and the fluid.
SOFT_TISSUE_DISPLAY = DisplayWindow("soft-tissue", marked("Soft tissue, narrow"), 40.0, 250.0)
#: Everyone's choice, in this order, on the report page and in the service's viewer.
PRESETS = (LUNG_DISPLAY, GROUND_GLASS_DISPLAY, MEDIASTINAL_DISPLAY, SOFT_TISSUE_DISPLAY)


@dataclass(frozen=True)
class WindowPreset:
    """A window on the page.

    Args:
        key: Short name in the page's data.
        name: For the reader, in the reader's language.
        level_hu, width_hu: What it shows.
        picture: Key of the stored picture that it is made from.
        filter: What the browser does to that picture (CSS), ``none`` for the picture itself.
    """

    key: str
    name: str
    level_hu: float
    width_hu: float
    picture: str
    filter: str


def window_presets(study: Study, words: Words) -> tuple[WindowPreset, ...]:
    """The presets, then the windows of the study's header that a stored picture can show."""
    presets = [
        _preset(window, words.text(window.label), stored)
        for window in PRESETS
        if (stored := _stored_around(window)) is not None
    ]
    shown = {(preset.level_hu, preset.width_hu) for preset in presets}
    for number, offered in enumerate(study.header_windows, start=1):
        window = DisplayWindow(f"header-{number}", "", offered.level_hu, offered.width_hu)
        stored = _stored_around(window)
        if stored is not None and (window.level_hu, window.width_hu) not in shown:
            presets.append(_preset(window, words.text(marked("From the DICOM header")), stored))
            shown.add((window.level_hu, window.width_hu))
    return tuple(presets)


def _stored_around(window: DisplayWindow) -> DisplayWindow | None:
    """The narrowest stored picture that holds a window whole."""
    fitting = [
        picture
        for picture in PICTURES
        if abs(window.level_hu - picture.level_hu) + window.width_hu / 2 <= picture.width_hu / 2
    ]
    return min(fitting, key=lambda picture: picture.width_hu, default=None)


def _preset(window: DisplayWindow, name: str, stored: DisplayWindow) -> WindowPreset:
    return WindowPreset(window.key, name, window.level_hu, window.width_hu, stored.key, contrast(window, stored))


def contrast(window: DisplayWindow, stored: DisplayWindow) -> str:
    """The CSS filter that makes a window from the picture of a wider one around it.

    With ``low`` and ``high`` the window's ends as shares of the picture's range, ``brightness(b)`` (v -> b v) and
    then ``contrast(c)`` (v -> c v + (1 - c) / 2) take low to 0 and high to 1 (Filter Effects Module Level 1, 12).
    """
    if (window.level_hu, window.width_hu) == (stored.level_hu, stored.width_hu):
        return "none"
    start = stored.level_hu - stored.width_hu / 2
    low = (window.level_hu - window.width_hu / 2 - start) / stored.width_hu
    high = (window.level_hu + window.width_hu / 2 - start) / stored.width_hu
    return f"brightness({1 / (low + high):.4f}) contrast({(high + low) / (high - low):.4f})"
