"""int8 where the answer allows: the groups of layers that change it most stay in fp32 until a limit holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine.graphs import graph_of
from jcs_ct.engine.network import ReadyNetwork
from jcs_ct.engine.onnx_graph import onnx_bytes
from jcs_ct.engine.openvino_backend import OpenVINOModel
from jcs_ct.engine.quantisation import layer_groups, quantised_graph
from jcs_ct.errors import BackendError
from jcs_ct.metrics.overlap import Counts, dice_score
from jcs_ct.models.closed_form import probabilities
from jcs_ct.volume import every_nth, spread_over

logger = logging.getLogger(__name__)

#: Groups go back to fp32 an eighth of all at a time, rounded down: 15 quantisations at most.
_STEPS = 8
#: At most so many slices calibrate and judge one group alone; the order of groups needs fewer than the final figure.
_RANKING_SLICES = 8


@dataclass(frozen=True, eq=False)
class JudgingSlices:
    """Validation slices that say what int8 does to the answer.

    Args:
        images: (N, C, H, W) prepared slices.
        sources: Data set of each; the limit holds for every one of them.
        cut: Probability from which a slice is infected (classifier) or a pixel a lesion (segmenter).
        masks: (N, H, W) bool, true lesions; None for a classifier, whose verdicts are compared instead.
    """

    images: NDArray[np.float32]
    sources: tuple[str, ...]
    cut: float
    masks: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if len(self.images) == 0 or len(self.images) != len(self.sources):
            raise ValueError(f"{len(self.images)} judging slices, {len(self.sources)} sources; one source a slice")
        if self.masks is not None and self.masks.shape != (len(self.images), *self.images.shape[2:]):
            raise ValueError(f"masks must be one a slice on its grid, got {self.masks.shape} for {self.images.shape}")

    @property
    def measure(self) -> str:
        """What :meth:`changes` compares."""
        return "share of slice verdicts changed" if self.masks is None else "change of mean Dice"

    def changes(self, exact: NDArray[np.float32], found: NDArray[np.float32]) -> dict[str, float]:
        """Probabilities in fp32 and in int8, (N,) or (N, H, W) -> the change in each source."""
        if self.masks is None:
            each = ((exact >= self.cut) != (found >= self.cut)).astype(np.float64)
        else:
            each = self._dice(found, self.masks) - self._dice(exact, self.masks)
        named = np.array(self.sources)
        return {source: float(each[named == source].mean()) for source in dict.fromkeys(self.sources)}

    def _dice(self, probabilities: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        counts = (Counts.of(one >= self.cut, mask) for one, mask in zip(probabilities, masks, strict=True))
        return dice_score(Counts.stack(counts)).values

    def some(self, most: int) -> list[int]:
        """At most ``most`` places, evenly over the slices."""
        return spread_over(len(self.images), most)


@dataclass(frozen=True, eq=False)
class MixedPrecision:
    """A network of which as much is int8 as the answer allows.

    Args:
        graph: ``openvino.Model`` of what the engine runs.
        fp32_groups: Left in fp32, the most harmful first.
        int8_groups: The others, in the order they run in.
        judged: Measure, limit, change and number of slices by source; None when there was nothing to judge with.
    """

    graph: Any
    fp32_groups: tuple[str, ...]
    int8_groups: tuple[str, ...]
    judged: dict[str, Any] | None

    def facts(self) -> dict[str, Any]:
        """Plain values for the JSON beside an export."""
        return {
            "fp32_groups": list(self.fp32_groups),
            "int8_groups": list(self.int8_groups),
            "judged": self.judged,
        }


def mixed_precision(
    ready: ReadyNetwork,
    calibration: NDArray[np.float32],
    judging: JudgingSlices | None,
    *,
    largest_change: float,
) -> MixedPrecision:
    """Quantise what the engine runs of a network, and as little less than all of it as the limit asks for.

    All groups of layers are tried first. Where the answer changes too much, each group is quantised alone and ranked
    by the mean absolute change of the probabilities; then the worst go back to fp32, an eighth at a time.

    Args:
        ready: A classifier or segmenter.
        calibration: (N, C, H, W) prepared training slices.
        judging: Validation slices; None quantises everything and judges nothing.
        largest_change: Limit, of each source's absolute :meth:`JudgingSlices.changes`.

    Raises:
        ConfigError: NNCF is not installed, or there is no calibration slice.
        BackendError: the limit does not hold with all groups but an eighth, or one, in fp32.
        RuntimeError: an operation that cannot be quantised.
    """
    onnx = onnx_bytes(graph_of(ready), ready.input_shape)
    groups = layer_groups(onnx)
    if judging is None:
        return MixedPrecision(quantised_graph(onnx, calibration), (), groups, None)
    exact = probabilities_of(OpenVINOModel.from_onnx(onnx, "fp32"), ready.task, judging.images)
    order: tuple[str, ...] = ()
    step = max(1, len(groups) // _STEPS)
    for count in range(0, len(groups), step):
        if count == step:
            order = _most_harmful_first(onnx, ready.task, groups, calibration, judging, exact)
        graph = quantised_graph(onnx, calibration, exact=order[:count])
        found = probabilities_of(OpenVINOModel.from_graph(graph, "int8"), ready.task, judging.images)
        changes = judging.changes(exact, found)
        logger.info("%s in int8 with %d of %d groups in fp32: %s", ready.task, count, len(groups), changes)
        if max(map(abs, changes.values())) <= largest_change:
            judged = {
                "measure": judging.measure,
                "limit": largest_change,
                "changes": changes,
                "slices": {source: judging.sources.count(source) for source in changes},
            }
            kept = order[:count]
            return MixedPrecision(graph, kept, tuple(name for name in groups if name not in kept), judged)
    raise BackendError(
        f"int8 changes the {ready.task}'s answers ({judging.measure}) by more than {largest_change:g}, however many "
        f"layers stay in fp32; allow more with --largest-change"
    )


def _most_harmful_first(
    onnx: bytes,
    task: str,
    groups: Sequence[str],
    calibration: NDArray[np.float32],
    judging: JudgingSlices,
    exact: NDArray[np.float32],
) -> tuple[str, ...]:
    """Groups by what each alone does to the probabilities when it is int8."""
    places = judging.some(_RANKING_SLICES)
    few = every_nth(calibration, _RANKING_SLICES)
    harm: dict[str, float] = {}
    for group in groups:
        graph = quantised_graph(onnx, few, exact=[name for name in groups if name != group])
        found = probabilities_of(OpenVINOModel.from_graph(graph, "int8"), task, judging.images[places])
        harm[group] = float(np.abs(found - exact[places]).mean())
        logger.info("int8 in %s alone changes probabilities by %.5f", group, harm[group])
    return tuple(sorted(groups, key=lambda name: -harm[name]))


def probabilities_of(
    model: Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]], task: str, images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, C, H, W) -> (N,) of infection or (N, H, W) of lesion, slice by slice."""
    outputs = (model(np.ascontiguousarray(image[None]))[0] for image in images)
    if task == "classifier":
        return np.stack([probabilities(logits)[0, 1] for logits in outputs])
    return np.stack([probability[0, 0].copy() for probability in outputs])
