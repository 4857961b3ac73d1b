"""The segmentation branch over slices of one study: where a pixel is lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine import Execution, ReadySegmenter, SegmenterAhead, segment_slices
from jcs_ct.lungs.morphology import dilated_by_rectangle
from jcs_ct.preprocessing import Region
from jcs_ct.progress import CountProgress
from jcs_ct.reading.lesion_findings import pixel_mm_of
from jcs_ct.volume import CTVolume

#: Lesions are kept this far outside the lung mask, in mm:
#: disease that touches the chest wall may lie just outside a mask made from density.
LESION_MARGIN_MM = 3.0


@dataclass(frozen=True, eq=False)
class LesionSegmentation:
    """A segmenter, and the study that it reads.

    Args:
        segmenter: The network.
        volume: Grid, geometry and HU.
        lungs: (slices, rows, columns) uint8, 0 outside the lungs.
        lesion_probability: A pixel is lesion when its probability is at least this.
        execution: Backend, device, precision and batch size.
    """

    segmenter: ReadySegmenter
    volume: CTVolume
    lungs: NDArray[np.uint8]
    lesion_probability: float
    execution: Execution

    def mask(
        self, indices: Sequence[int], progress: CountProgress, *, ahead: SegmenterAhead | None = None
    ) -> NDArray[np.bool_]:
        """(slices, rows, columns) bool: the lesions of these slices, inside or just beside the lungs.

        Args:
            indices: Slices to segment; the others hold no lesion.
            progress: Called with (done, total).
            ahead: Of this segmenter and volume; while it runs, nothing else may, and its answers are there once.
        """
        mask = np.zeros(self.volume.shape, dtype=bool)
        row_mm, column_mm = pixel_mm_of(self.volume)
        margins = max(1, round(LESION_MARGIN_MM / row_mm)), max(1, round(LESION_MARGIN_MM / column_mm))
        parts = {index: _with_margins(self.lungs[index] > 0, margins) for index in indices}
        for index, probability in segment_slices(
            self.segmenter,
            self.volume.hu,
            indices,
            execution=self.execution,
            parts=parts,
            ahead=ahead,
            progress=progress,
        ):
            part = parts[index]
            near = dilated_by_rectangle(part.of(self.lungs[index]) > 0, margins)
            part.of(mask[index])[...] = (probability >= self.lesion_probability) & near
        return mask


def _with_margins(lung: NDArray[np.bool_], margins: tuple[int, int]) -> Region:
    """The rectangle of a slice's lungs and so many rows and columns around them: no lesion is taken beyond."""
    box = Region.around(lung)
    rows, columns = lung.shape
    above, aside = margins
    return Region(
        max(0, box.top - above),
        min(rows, box.bottom + above),
        max(0, box.left - aside),
        min(columns, box.right + aside),
    )
