"""Lung mask without learned weights: air inside the body, without airways, with dense disease at the wall filled in.

The work is done on a grid of about 256 columns: body by threshold and hole filling, air inside it, airways and bowel
gas out, left and right told apart, then each lung closed against the chest wall. Dense disease is recovered where the
lung reaches around it (its convex hull towards the wall, or the slices above and below); a lobe that is wholly
consolidated over many slices is not.
"""

from __future__ import annotations

from jcs_ct.lungs.constants import AIR_HU, ASSUMED_PIXEL_MM, ASSUMED_WIDTH_MM, LEFT, RIGHT, UNKNOWN_SIDE
from jcs_ct.lungs.in_view import MOST_AT_END, LungsInView, lungs_in_view
from jcs_ct.lungs.lung_presence import lung_slices, require_lung
from jcs_ct.lungs.lung_segmentation import segment_lungs
from jcs_ct.lungs.picture import lesser_lung_share, segment_picture

__all__ = [
    "AIR_HU",
    "ASSUMED_PIXEL_MM",
    "ASSUMED_WIDTH_MM",
    "LEFT",
    "MOST_AT_END",
    "RIGHT",
    "UNKNOWN_SIDE",
    "LungsInView",
    "lesser_lung_share",
    "lung_slices",
    "lungs_in_view",
    "require_lung",
    "segment_lungs",
    "segment_picture",
]
