"""Slices of a manifest that an int8 network is calibrated on, and those that say what int8 does to its answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.datasets import alike_by_source, prepare_slice, prepared_images
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import ReadyNetwork
from jcs_ct.engine.mixed_precision import JudgingSlices
from jcs_ct.operating_point import OperatingPoint


def training_slices(ready: ReadyNetwork, manifest: Manifest, most: int) -> NDArray[np.float32]:
    """(N, C, H, W) prepared slices of the train split, at most ``most``, as many of every source.

    Raises:
        ConfigError: a picture that cannot be read.
    """
    return prepared_images(alike_by_source(manifest.split("train"), most), ready.preprocessor)


def judging_slices(
    ready: ReadyNetwork, manifest: Manifest, most: int, point: OperatingPoint | None
) -> JudgingSlices | None:
    """Labelled slices of the val split, for a segmenter infected ones with masks; None where there are none.

    Args:
        ready: Prepares them.
        manifest: Of slices.
        most: So many at most, as many of every source.
        point: Says where a slice or a pixel becomes positive; None takes the default one.

    Raises:
        ConfigError: a picture that cannot be read.
    """
    segments, point = ready.task == "segmenter", point or OperatingPoint()
    usable = (row for row in manifest.split("val") if row.label is not None)
    rows = alike_by_source(
        Manifest(tuple(row for row in usable if not segments or (row.label == 1 and row.mask is not None))), most
    )
    if len(rows) == 0:
        return None
    images, sources = prepared_images(rows, ready.preprocessor), tuple(row.source for row in rows)
    if not segments:
        return JudgingSlices(images, sources, point.slice_probability)
    masks = [mask[0].numpy() > 0 for row in rows if (mask := prepare_slice(row, ready.preprocessor)[1]) is not None]
    return JudgingSlices(images, sources, point.lesion_probability, np.stack(masks))
