"""The paper's annotation fields (Fig. 6) of single slices, from their masks."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest, read_mask
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.imaging.masks import is_segmentation, open_mask
from jcs_ct.progress import CountProgress, counted
from jcs_ct.reading.lesions import SliceLesion, find_lesions
from jcs_ct.volume import CTVolume

_FIELDS = ("area_pixel", "position_x", "position_y", "x0", "y0", "width", "height")


@dataclass(frozen=True)
class SliceAnnotation:
    """The lesions of one slice, largest first.

    Args:
        image, mask: Its files.
        shape: (rows, columns).
        lesions: By the fields of Fig. 6; neighbours by a side or a corner are one lesion.
    """

    image: Path
    mask: Path
    shape: tuple[int, int]
    lesions: tuple[SliceLesion, ...]

    @property
    def lesion_count(self) -> int:
        """Lesions on the slice."""
        return len(self.lesions)


def annotate_mask(mask: NDArray[np.bool_]) -> tuple[SliceLesion, ...]:
    """(rows, columns) bool -> its lesions, largest first, by the same code that a study's findings come from."""
    plane = mask[None]
    volume = CTVolume(np.zeros(plane.shape, dtype=np.int16), None, hu_is_assumed=True)
    _, lesions = find_lesions(plane, volume, np.zeros(plane.shape, dtype=np.uint8), least_voxels=1)
    return tuple(lesion.slices[0] for lesion in lesions)


def annotate_manifest(manifest: Manifest, *, progress: CountProgress | None = None) -> tuple[SliceAnnotation, ...]:
    """Annotate every slice that has a mask file; of a study every slice, named by its series and its number.

    ``progress`` is called with (rows done, total).

    Raises:
        ConfigError, MaskError: a mask that cannot be read.
        StudyError: a study that the gate refuses.
    """
    found = []
    for row in counted(manifest.rows, progress):
        if row.mask is None:
            continue
        if row.is_study:
            # A study's images are read only for a mask that means nothing without them.
            planes = (
                open_row(row)[1]
                if is_segmentation(row.mask)
                else open_mask(row.mask, row.lesion_labels).lesions.labels
            )
            name = row.series or row.path.name
            named = [(Path(f"{name}#{n:04d}"), plane) for n, plane in enumerate(() if planes is None else planes)]
        else:
            named = [(row.path, read_mask(row.mask, row.lesion_labels))]
        for image, mask in named:
            shape = (mask.shape[0], mask.shape[1])
            found.append(SliceAnnotation(image, row.mask, shape, annotate_mask(mask)))
    return tuple(found)


def annotations_csv(annotations: tuple[SliceAnnotation, ...]) -> str:
    """CSV, one row a lesion with its slice's lesion_count; a slice without lesion has one row with count 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["slice", "lesion_count", "lesion_id", *_FIELDS])
    for one in annotations:
        if not one.lesions:
            writer.writerow([one.image.name, 0, *[""] * (1 + len(_FIELDS))])
        for lesion in one.lesions:
            fields = asdict(lesion)
            writer.writerow([one.image.name, one.lesion_count, lesion.lesion_id, *(fields[name] for name in _FIELDS)])
    return text.getvalue()
