"""A small picture of each study for the cohort's page: its most suspicious slice, lesions in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.files import replacing
from jcs_ct.reporting.slice_images import LUNG_DISPLAY

if TYPE_CHECKING:
    from pathlib import Path

    from jcs_ct.imaging import Study
    from jcs_ct.reading.diagnosis import Diagnosis

PICTURE = "picture.png"
#: Longest side in pixels.
PICTURE_PIXELS = 160
_LESION_COLOUR = (240, 96, 36)


def write_picture(study: Study, diagnosis: Diagnosis, folder: Path) -> None:
    """Write ``picture.png``: the lung slice of the highest probability as radiologists look at it.

    Raises:
        OutputError: it cannot be written.
    """
    shown = [one for one in diagnosis.slices if one.has_lung] or list(diagnosis.slices)
    index = max(shown, key=lambda one: one.infection_probability).slice_index
    picture = Image.fromarray(_coloured(study.volume.hu[index], diagnosis.lesion_labels[index] > 0))
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.BOX)
    with replacing(folder / PICTURE) as temporary:
        picture.save(temporary, "PNG")


def _coloured(hu: NDArray[Any], lesion: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(rows, columns) twice -> (rows, columns, 3)."""
    grey = LUNG_DISPLAY(hu)
    picture = np.stack([grey] * 3, axis=-1)
    picture[lesion] = (picture[lesion] // 2 + np.array(_LESION_COLOUR, dtype=np.uint8) // 2).astype(np.uint8)
    return picture
