"""A network over many slices: batches in order, prepared by a thread while the network runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.choices import MapVariant
from jcs_ct.engine.execution import Execution
from jcs_ct.engine.network import ReadyClassifier, ReadySegmenter
from jcs_ct.engine.runners import Model, runner_for
from jcs_ct.models.closed_form import normalised_maps, probabilities
from jcs_ct.preprocessing import Region, SlicePreprocessor
from jcs_ct.progress import CountProgress


@dataclass(frozen=True, eq=False)
class ClassifiedSlice:
    """What the classifier says of one slice.

    Args:
        slice_index: Index in the volume.
        probability: Of infection.
        activation: (h, w) float32 in [0, 1], the normalised activation map at the network's own resolution.
        region: Where the map lies on the slice.
    """

    slice_index: int
    probability: float
    activation: NDArray[np.float32]
    region: Region


def classify_slices(
    ready: ReadyClassifier,
    hu: NDArray[Any],
    indices: Sequence[int],
    *,
    execution: Execution,
    variant: MapVariant = "paper",
    progress: CountProgress | None = None,
) -> list[ClassifiedSlice]:
    """Run a classifier over slices; the activation map comes from the same forward pass, in closed form.

    Args:
        ready: A classifier.
        hu: (slices, rows, columns).
        indices: Slices to read, in the order of the result.
        execution: Backend, device, precision and batch size.
        variant: ``paper`` (Eq. 1-2) or ``grad_cam``.
        progress: Called with (done, total).
    """
    model = runner_for(ready, execution).model
    weight = ready.head_weight()
    results: list[ClassifiedSlice] = []
    for batch, images, regions in _batches(ready.preprocessor, hu, indices, model, execution.batch_size):
        logits, features = model(images)
        maps = normalised_maps(features, logits, weight, 1, variant=variant)
        infected = probabilities(logits)[:, 1]
        for position, index in enumerate(batch):
            results.append(ClassifiedSlice(index, float(infected[position]), maps[position], regions[position]))
        if progress is not None:
            progress(len(results), len(indices))
    return results


def segment_slices(
    ready: ReadySegmenter,
    hu: NDArray[Any],
    indices: Sequence[int],
    *,
    execution: Execution,
    progress: CountProgress | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Run a segmenter over slices -> (index, (rows, columns) lesion probability on the slice's grid), in order."""
    model = runner_for(ready, execution).model
    shape = (hu.shape[1], hu.shape[2])
    done = 0
    for batch, images, regions in _batches(ready.preprocessor, hu, indices, model, execution.batch_size):
        lesions = model(images)[0]
        for position, index in enumerate(batch):
            yield index, ready.preprocessor.restore(lesions[position, 0], regions[position], shape)
        done += len(batch)
        if progress is not None:
            progress(done, len(indices))


def _batches(
    preprocessor: SlicePreprocessor, hu: NDArray[Any], indices: Sequence[int], model: Model, size: int
) -> Iterator[tuple[list[int], Any, list[Region]]]:
    """Prepared batches in order; two are being prepared by a thread while the network runs."""

    def prepare(group: list[int]) -> tuple[list[int], Any, list[Region]]:
        pairs = [preprocessor(hu[index]) for index in group]
        images = model.place(np.stack([image for image, _ in pairs]))
        return group, images, [region for _, region in pairs]

    groups = [list(indices[start : start + size]) for start in range(0, len(indices), size)]
    with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
        waiting = deque(pool.submit(prepare, group) for group in groups[:2])
        for upcoming in [*groups[2:], None, None]:
            if not waiting:
                return
            batch = waiting.popleft().result()
            if upcoming is not None:
                waiting.append(pool.submit(prepare, upcoming))
            yield batch
