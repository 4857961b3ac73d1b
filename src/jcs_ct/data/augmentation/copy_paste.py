"""Lesions of one training slice pasted into another: more lesions in more lungs, from the training slices alone.

After "Simple copy-paste" (Ghiasi et al., CVPR 2021), with two things that CT asks for: a lesion goes only where lung
is, and it is carried over as *how much denser than its lung* it is, so that two windows make no seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from jcs_ct.data.manifest import Manifest
from jcs_ct.preprocessing import BODY_GREY, body_mask

D = TypeVar("D", bound=np.generic)

#: Largest shift of a pasted lesion as a share of the side length.
LARGEST_SHIFT = 0.08
#: Less lung than this share of the picture tells nothing of its density.
_LEAST_LUNG_SHARE = 0.02
#: Fewer pixels are no lesion.
_LEAST_PIXELS = 12
#: Sigma in pixels over which a pasted lesion fades into its lung.
_SOFTNESS = 1.0
#: A pixel is lesion only where its surroundings become this much brighter (60 HU in the lung window), seen over a
#: Gaussian of this sigma in pixels: vessels inside a lesion belong to it.
SEEN_GREY, _SEEN_OVER = 0.04, 2.0


@dataclass(frozen=True)
class Paste:
    """What is pasted into one slice: the lesions of slice ``donor``, mirrored left-right or not, shifted."""

    donor: int
    mirrored: bool
    shift: tuple[float, float]


@dataclass(frozen=True)
class LesionPasting:
    """Draws what is pasted.

    Args:
        probability: That a slice is given the lesions of another one.
        donors: Indices of the slices whose lesions may be taken.

    Raises:
        ValueError: no donors.
    """

    probability: float
    donors: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.donors:
            raise ValueError("pasting lesions needs a training slice with a lesion mask; there is none")

    @classmethod
    def among(cls, manifest: Manifest, probability: float) -> LesionPasting:
        """Every infected slice with a mask file may give its lesions."""
        rows = enumerate(manifest)
        return cls(probability, tuple(i for i, row in rows if row.label == 1 and row.mask is not None))

    def draw(self, generator: np.random.Generator) -> Paste | None:
        """One slice's paste, or None; always the same number of draws."""
        u = generator.random(5)
        if u[0] >= self.probability:
            return None
        donor = self.donors[min(int(u[1] * len(self.donors)), len(self.donors) - 1)]
        shift = (float(LARGEST_SHIFT * (2 * u[3] - 1)), float(LARGEST_SHIFT * (2 * u[4] - 1)))
        return Paste(donor, bool(u[2] < 0.5), shift)


def paste_lesions(
    grey: Tensor, mask: Tensor, donor_grey: Tensor, donor_mask: Tensor, paste: Paste
) -> tuple[Tensor, Tensor]:
    """Give a slice the lesions of another one, where it shows lung.

    Args:
        grey, donor_grey: (1, H, W) in [0, 1] under a lung window.
        mask, donor_mask: (1, H, W) in {0, 1}.
        paste: How.

    Returns:
        Slice and mask with the lesions added; both as they were where too little of them meets lung.
    """
    own, source = grey[0].numpy(), donor_grey[0].numpy()
    lesion = donor_mask[0].numpy() >= 0.5
    donor_lung = _lung(source) & ~lesion
    lung = _lung(own)
    if min(lung.mean(), donor_lung.mean()) < _LEAST_LUNG_SHARE:
        return grey, mask
    denser = np.where(lesion, source - np.median(source[donor_lung]), 0.0).astype(np.float32)
    denser, lesion = _moved(denser, paste), _moved(lesion, paste)
    pasted = lesion & lung
    if pasted.sum() < _LEAST_PIXELS:
        return grey, mask
    weight = ndimage.gaussian_filter(pasted.astype(np.float32), _SOFTNESS) * lung
    # Beyond its border the lesion is as dense as at the border, or fading would end in nothing at once.
    nearest = ndimage.distance_transform_edt(~lesion, return_distances=False, return_indices=True)
    target = np.median(own[lung]) + denser[tuple(nearest)]
    changed = np.clip(own + weight * np.maximum(target - own, 0.0), 0.0, 1.0).astype(np.float32)
    # What was as dense before shows no lesion: it is no lesion in the mask either.
    pasted &= ndimage.gaussian_filter(changed - own, _SEEN_OVER) > SEEN_GREY
    if pasted.sum() < _LEAST_PIXELS:
        return grey, mask
    return torch.from_numpy(changed)[None], torch.maximum(mask, torch.from_numpy(pasted)[None].to(mask))


def _lung(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Air inside the body with its vessels: fast, for pasting only (``jcs_ct.lungs`` finds lungs for measuring)."""
    body = body_mask(grey)
    air = ndimage.binary_opening(body & (grey < BODY_GREY), iterations=2)
    lung: NDArray[np.bool_] = ndimage.binary_fill_holes(ndimage.binary_closing(air, iterations=2))
    return lung & body


def _moved(plane: NDArray[D], paste: Paste) -> NDArray[D]:
    """Mirrored and shifted by whole pixels; what comes in from outside is 0."""
    if paste.mirrored:
        plane = plane[:, ::-1]
    moved = np.zeros_like(plane)
    down, right = (round(share * side) for share, side in zip(paste.shift, plane.shape, strict=True))
    rows, columns = plane.shape
    moved[max(0, down) : rows + min(0, down), max(0, right) : columns + min(0, right)] = plane[
        max(0, -down) : rows - max(0, down), max(0, -right) : columns - max(0, right)
    ]
    return moved
