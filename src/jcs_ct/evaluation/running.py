"""A trained segmenter over cases -> its predictions on the slices' own grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import read_hu
from jcs_ct.engine import Execution, ReadyNetwork, segment_slices
from jcs_ct.evaluation.cases import Case
from jcs_ct.evaluation.predictions import to_levels


def predict_cases(
    ready: ReadyNetwork,
    cases: Sequence[Case],
    *,
    execution: Execution,
    flip_average: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Levels (rows, columns) of every case, in order, on its own grid.

    Args:
        ready: A segmenter.
        cases: With images.
        execution: Device, precision and batch size.
        flip_average: Average the probability with that of the slice's mirror image, mirrored back.
        progress: Called with (done, total).

    Raises:
        ValueError: a case without an image.
        ConfigError: an image that cannot be read.
    """
    for done, case in enumerate(cases, start=1):
        hu = case_hu(case)
        views = np.stack([hu, hu[:, ::-1]]) if flip_average else hu[None]
        planes = [plane for _, plane in segment_slices(ready, views, range(len(views)), execution=execution)]
        yield to_levels((planes[0] + planes[1][:, ::-1]) / 2 if flip_average else planes[0])
        if progress is not None:
            progress(done, len(cases))


def case_hu(case: Case) -> NDArray[np.float32]:
    """(rows, columns) in HU, as in training: under the window of the grey levels, or as their values say.

    Raises:
        ValueError: a case without an image.
        ConfigError: an image that cannot be read.
    """
    if case.image is None:
        raise ValueError(f"case {case.name!r} has no image to run a network on; give a manifest or the data's folder")
    return read_hu(case.image, case.window)
