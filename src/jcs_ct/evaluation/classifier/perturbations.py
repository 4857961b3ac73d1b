"""Changes of a slice that say whether a classifier looks where the disease is.

Most take away or add what says nothing of the patient: the verdict should stay. One takes the lungs away: what is
left of the verdict then came from outside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.data.augmentation.marks import burn_text, draw_frame, remove_marks
from jcs_ct.lungs import lesser_lung_share, segment_picture
from jcs_ct.preprocessing import LUNG_WINDOW, OUTSIDE_HU, Window, body_mask

#: Denser than this is tissue around the lungs.
TISSUE_HU = -300.0
#: Lungs are blanked, and kept, with this margin as a share of the picture's width: disease at the wall is theirs.
_LUNG_MARGIN = 0.02
#: Each lung shows at least this share of the picture, or the lungs were not found (as in figures cropped to the
#: thorax, whose lungs are open to the border): the slice then says nothing of what lungs do.
LEAST_LUNG_SHARE = 0.03
#: Of a slice's lung pixels this percentile is air-filled lung without disease or vessels.
_AERATED_PERCENTILE = 20

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SlicePlane:
    """One slice with what is needed to change it.

    Args:
        hu: (rows, columns), as the classifier's preprocessing is given it.
        lungs: (rows, columns) with the margin; None where none were found.
        seed: Of what is random.
    """

    hu: Plane
    lungs: Mask | None
    seed: int

    def generator(self) -> np.random.Generator:
        """The same source of draws for every change of this slice."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Perturbation:
    """One change.

    Args:
        key: Stable name.
        title: For the reader.
        should_stay: Whether the verdict should stay; else it should fall to uninfected.
        needs_lungs: Whether slices without found lungs are left out.
        apply: The changed slice in HU.
    """

    key: str
    title: str
    should_stay: bool
    needs_lungs: bool
    apply: Callable[[SlicePlane], Plane]


def slice_plane(hu: NDArray[Any], *, seed: int) -> SlicePlane:
    """Find the lungs of one slice, without learned weights.

    Args:
        hu: (rows, columns) in HU; where they come from grey levels, the density of lung is found in the slice itself.
        seed: Of what is random.
    """
    plane = np.asarray(hu, dtype=np.float32)
    labels = segment_picture(plane)
    if lesser_lung_share(labels) < LEAST_LUNG_SHARE:
        return SlicePlane(plane, None, seed)
    lungs = labels > 0
    margin = max(1, round(_LUNG_MARGIN * plane.shape[1]))
    near: Mask = ndimage.distance_transform_cdt(~lungs, metric="chessboard") <= margin
    return SlicePlane(plane, near, seed)


def _outside_blanked(plane: SlicePlane) -> Plane:
    return np.where(body_mask(LUNG_WINDOW(plane.hu)), plane.hu, OUTSIDE_HU)


def _text_added(plane: SlicePlane) -> Plane:
    return LUNG_WINDOW.inverse(burn_text(LUNG_WINDOW(plane.hu), plane.generator()))


def _frame_added(plane: SlicePlane) -> Plane:
    return LUNG_WINDOW.inverse(draw_frame(LUNG_WINDOW(plane.hu), plane.generator()))


def _marks_removed(plane: SlicePlane) -> Plane:
    return LUNG_WINDOW.inverse(remove_marks(LUNG_WINDOW(plane.hu)))


def _around_lungs_flat(plane: SlicePlane) -> Plane:
    """Chest wall, bones and mediastinum at one density, that of the slice's own tissue; air outside the body.

    Air all around the lungs would be no chest any more: where a body is looked for, none would be found.
    """
    assert plane.lungs is not None  # needs_lungs
    body = body_mask(LUNG_WINDOW(plane.hu))
    around = plane.hu[body & ~plane.lungs]
    tissue = around[around > TISSUE_HU]
    level = np.float32(np.median(tissue)) if tissue.size else np.float32(0.0)
    return np.where(plane.lungs, plane.hu, np.where(body, level, OUTSIDE_HU))


def _lungs_aerated(plane: SlicePlane) -> Plane:
    """The lungs at one density, that of the slice's own air-filled lung: neither disease nor vessels are left."""
    assert plane.lungs is not None  # needs_lungs
    level = np.float32(np.percentile(plane.hu[plane.lungs], _AERATED_PERCENTILE))
    return np.where(plane.lungs, level, plane.hu)


def _windowed(level_shift: float, width_factor: float) -> Callable[[SlicePlane], Plane]:
    """A picture made under another window and read as if it had been made under the lung window."""
    other = Window(LUNG_WINDOW.level + level_shift, LUNG_WINDOW.width * width_factor)
    return lambda plane: LUNG_WINDOW.inverse(other(plane.hu))


def _gamma(exponent: float) -> Callable[[SlicePlane], Plane]:
    return lambda plane: LUNG_WINDOW.inverse(LUNG_WINDOW(plane.hu) ** np.float32(exponent))


PERTURBATIONS = (
    Perturbation("outside_body", "outside the body blanked", True, False, _outside_blanked),
    Perturbation("text_added", "text burned in", True, False, _text_added),
    Perturbation("frame_added", "frame added", True, False, _frame_added),
    Perturbation("marks_removed", "small bright marks removed", True, False, _marks_removed),
    Perturbation("level_up", "window level +100 HU", True, False, _windowed(100.0, 1.0)),
    Perturbation("level_down", "window level -100 HU", True, False, _windowed(-100.0, 1.0)),
    Perturbation("width_narrow", "window width x 0.8", True, False, _windowed(0.0, 0.8)),
    Perturbation("width_wide", "window width x 1.25", True, False, _windowed(0.0, 1.25)),
    Perturbation("gamma_bright", "gamma 0.75", True, False, _gamma(0.75)),
    Perturbation("gamma_dark", "gamma 1.33", True, False, _gamma(1.33)),
    Perturbation("only_lungs", "all but the lungs flattened", True, True, _around_lungs_flat),
    Perturbation("no_lungs", "lungs blanked", False, True, _lungs_aerated),
)
