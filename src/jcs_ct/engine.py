"""Runs a network over many slices: batches, precision, device, and preparation that overlaps with the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jcs_ct.models.activation_map import activation_map_from_features, normalise_map
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import Region, SlicePreprocessor

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ReadyNetwork:
    """A network in evaluation mode with the preprocessing it was trained with.

    Args:
        network: A ``Classifier`` or ``Segmenter``.
        preprocessor: The path from a slice to its input.
        task: ``classifier`` or ``segmenter``.
        preset: Name of its config.
        sha256: Of the weights file.
        name: For reports.
    """

    network: nn.Module
    preprocessor: SlicePreprocessor
    task: str
    preset: str
    sha256: str
    name: str


@dataclass(frozen=True)
class Execution:
    """How networks are run.

    Args:
        device: ``auto`` takes a GPU where there is one.
        precision: ``auto`` is bf16 where the hardware multiplies it natively, else fp32.
        batch_size: Slices a forward pass.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, got {self.precision!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def torch_device(self) -> torch.device:
        """The device that is used."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    @property
    def uses_bf16(self) -> bool:
        """Whether networks run in bf16."""
        return self.precision == "bf16" or (self.precision == "auto" and multiplies_bf16(self.torch_device))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 natively, so that it is faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


N = TypeVar("N", bound=nn.Module)


def placed(network: N, device: torch.device) -> N:
    """The network on a device, weights channels-last (what convolutions are fastest with)."""
    # torch's annotation of Module.to has no memory_format.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


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
    ready: ReadyNetwork,
    hu: NDArray[Any],
    indices: Sequence[int],
    *,
    execution: Execution,
    variant: str = "paper",
    progress: Progress | None = None,
) -> list[ClassifiedSlice]:
    """Run a classifier over slices; the activation map comes from the same forward pass, in closed form.

    Args:
        ready: A classifier.
        hu: (slices, rows, columns).
        indices: Slices to read, in the order of the result.
        execution: Device, precision and batch size.
        variant: ``paper`` (Eq. 1-2) or ``grad_cam``.
        progress: Called with (done, total).
    """
    network = placed(cast(Classifier, ready.network), execution.torch_device)
    results: list[ClassifiedSlice] = []
    for batch, images, regions in _batches(ready.preprocessor, hu, indices, execution):
        with inference(execution):
            features = network.features(images)[-1]
            logits = network.head_logits(features).float()
            raw = activation_map_from_features(features.float(), logits, network.head.weight, 1, variant=variant)
            maps = normalise_map(raw).float().cpu()
            probabilities = torch.softmax(logits, dim=1)[:, 1].cpu()
        for position, index in enumerate(batch):
            activation = maps[position, 0].numpy()
            results.append(ClassifiedSlice(index, float(probabilities[position]), activation, regions[position]))
        if progress is not None:
            progress(len(results), len(indices))
    return results


def segment_slices(
    ready: ReadyNetwork,
    hu: NDArray[Any],
    indices: Sequence[int],
    *,
    execution: Execution,
    progress: Progress | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Run a segmenter over slices -> (index, (rows, columns) lesion probability on the slice's grid), in order."""
    network = placed(cast(Segmenter, ready.network), execution.torch_device)
    shape = cast(tuple[int, int], hu.shape[1:])
    done = 0
    for batch, images, regions in _batches(ready.preprocessor, hu, indices, execution):
        with inference(execution):
            probabilities = network.predict(images).float().cpu()
        for position, index in enumerate(batch):
            yield index, ready.preprocessor.restore(probabilities[position, 0], regions[position], shape)
        done += len(batch)
        if progress is not None:
            progress(done, len(indices))


@contextmanager
def inference(execution: Execution) -> Iterator[None]:
    """No gradients, and bf16 where it was chosen; entered per batch so that a consumer never runs inside it."""
    device = execution.torch_device
    precision = torch.autocast(device.type, dtype=torch.bfloat16) if execution.uses_bf16 else nullcontext()
    with torch.inference_mode(), precision:
        yield


def _batches(
    preprocessor: SlicePreprocessor, hu: NDArray[Any], indices: Sequence[int], execution: Execution
) -> Iterator[tuple[list[int], Tensor, list[Region]]]:
    """Prepared batches in order; two are being prepared by a thread while the network runs."""
    device = execution.torch_device

    def prepare(group: list[int]) -> tuple[list[int], Tensor, list[Region]]:
        pairs = [preprocessor(hu[index]) for index in group]
        images = torch.stack([image for image, _ in pairs]).to(device, memory_format=torch.channels_last)
        return group, images, [region for _, region in pairs]

    size = execution.batch_size
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
