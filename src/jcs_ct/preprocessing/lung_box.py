"""The rectangle around both lungs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs import lesser_lung_share, segment_picture
from jcs_ct.preprocessing.region import Region

#: What is set outside the body, where a slice's own values there must not count.
OUTSIDE_HU = np.float32(-1024.0)
#: Kept around the lungs, as a share of the sides of their box: disease at the wall, and where it lies.
LUNG_MARGIN = 0.05
#: Lungs whose box is smaller than this share of the body's box were not found whole (figures cropped to the thorax).
LEAST_LUNG_SHARE = 0.3
#: Each lung is at least this share of the body's box, or a crop could keep one lung and lose the other.
LEAST_EACH_LUNG = 0.02


def lung_box(hu: NDArray[Any], body: Region) -> Region:
    """The rectangle around both lungs with a margin, inside the body's; the body's own where they are not both found.

    Args:
        hu: (rows, columns) in HU.
        body: The body's bounding box.
    """
    inside = np.asarray(hu)[body.top : body.bottom, body.left : body.right]
    labels = segment_picture(inside)
    if lesser_lung_share(labels) < LEAST_EACH_LUNG:
        return body
    lungs = Region.around(labels > 0)
    height, width = lungs.shape
    if height * width < LEAST_LUNG_SHARE * inside.size:
        return body
    above, aside = round(LUNG_MARGIN * height), round(LUNG_MARGIN * width)
    return Region(
        max(body.top, body.top + lungs.top - above),
        min(body.bottom, body.top + lungs.bottom + above),
        max(body.left, body.left + lungs.left - aside),
        min(body.right, body.left + lungs.right + aside),
    )
