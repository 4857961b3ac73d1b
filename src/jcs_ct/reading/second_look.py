"""A negative verdict held against the segmenter, which looks at some of the slices that the classifier passed.

The paper segments positive patients only: an infected patient whom the classifier misses would leave without a word.
The two networks err differently: on sources that neither was trained on, both together tell more than either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine import SegmenterAhead
from jcs_ct.progress import CountProgress
from jcs_ct.reading.lesion_mask import LesionSegmentation
from jcs_ct.reading.lesions import without_specks
from jcs_ct.volume import evenly_spaced

#: Slices that are looked at, evenly spaced among those with lung.
MOST_SLICES = 20
#: A negative verdict is doubted where lesions are outlined on this share of the lung: 1 to 15 % in whole volumes with
#: COVID-19, below 0.2 % in uninfected chests (docs/results/classifier.md).
DOUBTED_SHARE = 0.005


@dataclass(frozen=True)
class SecondLook:
    """What the segmenter says of a study whose verdict is negative.

    Args:
        indices: The slices that were looked at.
        outlined_share: Share of the lung on them that is outlined as lesion, in [0, 1]; specks are none.
    """

    indices: tuple[int, ...]
    outlined_share: float

    @classmethod
    def of(
        cls, mask: NDArray[np.bool_], lungs: NDArray[np.uint8], with_lung: Sequence[int], voxel_ml: float | None
    ) -> Self:
        """From the lesions of some of a study's slices: the same, whether the others were segmented too or not.

        Args:
            mask, lungs: (slices, rows, columns), lesions and lungs, 0 outside.
            with_lung: The slices that show lung, in order.
            voxel_ml: Volume of a voxel; None where it is not known.
        """
        indices = slices_to_look_at(with_lung)
        lesion = lung = 0
        for run in _runs(indices):
            kept = without_specks(mask[run], voxel_ml)
            for lesions, lung_plane in zip(kept, lungs[run] > 0, strict=True):
                lesion += int(np.count_nonzero(lesions & lung_plane))
                lung += int(np.count_nonzero(lung_plane))
        return cls(tuple(indices), lesion / lung if lung else 0.0)

    @property
    def slice_count(self) -> int:
        """Slices that were looked at."""
        return len(self.indices)

    @property
    def doubts_negative(self) -> bool:
        """Whether so much is outlined that a negative verdict should not stand alone."""
        return self.outlined_share >= DOUBTED_SHARE


def look_again(
    lesions: LesionSegmentation, with_lung: Sequence[int], ahead: SegmenterAhead, progress: CountProgress
) -> tuple[SecondLook, NDArray[np.bool_]]:
    """Segment some of a study's slices -> what that says, and their (slices, rows, columns) lesion mask.

    Args:
        lesions: The segmenter and the study.
        with_lung: The slices that show lung.
        ahead: What has begun with the slices that were likely to be asked for.
        progress: Called with (done, total).
    """
    mask = lesions.mask(slices_to_look_at(with_lung), progress, ahead=ahead)
    return SecondLook.of(mask, lesions.lungs, with_lung, lesions.volume.voxel_ml), mask


def slices_to_look_at(with_lung: Sequence[int]) -> list[int]:
    """Those of the slices that show lung on which a negative verdict is checked."""
    return evenly_spaced(with_lung, MOST_SLICES)


def _runs(indices: Sequence[int]) -> Iterator[slice]:
    """Slices that are neighbours, each run of them at once: what lies on both may be one lesion."""
    first = 0
    for place, index in enumerate(indices, start=1):
        if place == len(indices) or indices[place] != index + 1:
            yield slice(indices[first], index + 1)
            first = place
