"""A network over many slices: batches in order, prepared by one thread and run by another ahead of who takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jcs_ct.beside import Beside
from jcs_ct.choices import MapVariant
from jcs_ct.engine.execution import Execution
from jcs_ct.engine.network import ReadyClassifier, ReadySegmenter
from jcs_ct.engine.runners import Model, runner_for
from jcs_ct.models.closed_form import normalised_maps, probabilities
from jcs_ct.preprocessing import Region, SlicePreprocessor
from jcs_ct.progress import CountProgress

#: Batches that are prepared or run while one is taken.
_AHEAD = 2
#: Slices whose answers are kept at the network's own resolution until it is known whether they are wanted.
_MOST_LIKELY = 128


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
    threads_beside: int = 0,
    progress: CountProgress | None = None,
) -> list[ClassifiedSlice]:
    """Run a classifier over slices; the activation map comes from the same forward pass, in closed form.

    Args:
        ready: A classifier.
        hu: (slices, rows, columns).
        indices: Slices to read, in the order of the result.
        execution: Backend, device, precision and batch size.
        variant: ``paper`` (Eq. 1-2) or ``grad_cam``.
        threads_beside: Of other work at the same time, which cores are left to.
        progress: Called with (done, total).
    """
    model = runner_for(ready, execution).model.leaving(threads_beside)
    weight = ready.head_weight()
    results: list[ClassifiedSlice] = []
    for batch, (logits, features), regions in _answers(ready.preprocessor, hu, indices, model, execution.batch_size):
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
    parts: Mapping[int, Region] | None = None,
    ahead: SegmenterAhead | None = None,
    progress: CountProgress | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Run a segmenter over slices -> (index, (rows, columns) lesion probability on the slice's grid), in order.

    Args:
        ready: A segmenter.
        hu: (slices, rows, columns).
        indices: Slices to read.
        execution: Backend, device, precision and batch size.
        parts: The rectangle of each slice whose probability is asked for; None for whole slices.
        ahead: Of this segmenter and volume; the slices that it began with come first.
        progress: Called with (done, total).
    """
    shape, restore = (hu.shape[1], hu.shape[2]), ready.preprocessor.restore
    wanted, done = set(indices), 0
    rest = indices if ahead is None else [index for index in indices if index not in ahead.likely]
    model = runner_for(ready, execution).model
    begun = iter(()) if ahead is None else ahead.answers()
    for batch, (lesions,), regions in chain(
        begun, _answers(ready.preprocessor, hu, rest, model, execution.batch_size)
    ):
        for position, index in enumerate(batch):
            if index in wanted:
                part = None if parts is None else parts[index]
                yield index, restore(lesions[position, 0], regions[position], shape, part=part)
                done += 1
        if progress is not None:
            progress(done, len(indices))


class SegmenterAhead:
    """A segmenter that begins with the slices that will most likely be asked for, before it is known which are.

    Left without its answers being asked for, it drops what it has not begun. The slices are run in batches of their
    own, whether they are run before they are asked for or after: no answer depends on how far this has come.

    Args:
        ready: A segmenter.
        hu: (slices, rows, columns).
        execution: Backend, device, precision and batch size.
    """

    def __init__(self, ready: ReadySegmenter, hu: NDArray[Any], *, execution: Execution) -> None:
        self._ready, self._hu, self._execution = ready, hu, execution
        self._beside = Beside("ahead")
        self._found: SimpleQueue[_Answer | None] = SimpleQueue()
        self._running: Future[None] | None = None
        self._dropped = threading.Event()
        #: The slices that it began with.
        self.likely: tuple[int, ...] = ()

    def begin(self, likely: Sequence[int]) -> None:
        """Run the first of these slices, as many as may be kept, in a thread."""
        self.likely = tuple(likely[:_MOST_LIKELY])
        if self.likely:
            self._running = self._beside.start(self._run)

    def answers(self) -> Iterator[_Answer]:
        """What the network says of the likely slices, batch by batch; waits for it."""
        if self._running is None:
            return
        while (answer := self._found.get()) is not None:
            yield answer
        self._running.result()

    def _run(self) -> None:
        try:
            model = runner_for(self._ready, self._execution).model
            size = self._execution.batch_size
            with closing(_answers(self._ready.preprocessor, self._hu, self.likely, model, size)) as answers:
                for answer in answers:
                    if self._dropped.is_set():
                        return
                    self._found.put(answer)
        finally:
            self._found.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropped.set()
        self._beside.__exit__(kind, error, trace)


_Answer = tuple[list[int], tuple[NDArray[np.float32], ...], list[Region]]


def _answers(
    preprocessor: SlicePreprocessor, hu: NDArray[Any], indices: Sequence[int], model: Model, size: int
) -> Generator[_Answer]:
    """Batches in order with what the network says of them; two more are prepared and run meanwhile."""

    def prepare(group: list[int]) -> tuple[Any, list[Region]]:
        pairs = [preprocessor(hu[index]) for index in group]
        return model.place(np.stack([image for image, _ in pairs])), [region for _, region in pairs]

    def run(group: list[int], prepared: Future[tuple[Any, list[Region]]]) -> _Answer:
        images, regions = prepared.result()
        return group, model(images), regions

    groups = [list(indices[start : start + size]) for start in range(0, len(indices), size)]
    with Beside("network") as running, Beside("prepare") as preparing:
        waiting: deque[Future[_Answer]] = deque()
        for group in groups:
            waiting.append(running.start(run, group, preparing.start(prepare, group)))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
