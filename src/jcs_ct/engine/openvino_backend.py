"""Networks on OpenVINO's CPU plugin, with its telemetry switched off."""

from __future__ import annotations

import importlib
import io
import logging
import sys
import threading
from copy import copy
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine.processor import thread_count

logger = logging.getLogger(__name__)

_TELEMETRY = "openvino_telemetry"
#: Of slices that run beside one another; beyond, threads share a slice.
_MOST_STREAMS = 4
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8: what is not quantised stays fp32


def without_telemetry() -> None:
    """Keep OpenVINO (and NNCF) from sending anything, for this process.

    ``import openvino`` sends an event through the package ``openvino_telemetry`` unless the user has opted out in a
    file in the home folder. Where that package cannot be imported OpenVINO puts a stub in its place; a None in
    ``sys.modules`` makes Python say so. Nothing is written anywhere.
    """
    if sys.modules.get(_TELEMETRY) is not None:
        logger.warning(
            "this program imported %s before jcs-ct could switch it off; jcs-ct itself calls nothing that sends, "
            "but what else uses OpenVINO here may: opt out with `opt_in_out --opt_out`",
            _TELEMETRY,
        )
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]


@cache
def openvino() -> ModuleType:
    """The package, without its telemetry.

    Raises:
        ImportError: it is not installed, or broken.
    """
    without_telemetry()
    package: ModuleType = importlib.import_module("openvino")
    return package


@cache
def _core() -> Any:
    return openvino().Core()


def processor() -> str:
    """What a compiled network depends on beside its own facts: the processor's name and what it can do."""
    core = _core()
    abilities = ", ".join(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
    return f"{core.get_property('CPU', 'FULL_DEVICE_NAME').strip()} ({abilities})"


class OpenVINOModel:
    """A compiled network. Threads may share it: each waits until the batch of another is answered."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        #: Held over a batch, and shared by what :meth:`leaving` gives: a request has one input and one answer.
        self._batch_lock = threading.Lock()
        self._requests = [compiled.create_infer_request() for _ in range(compiled.get_property("NUM_STREAMS"))]

    @classmethod
    def from_onnx(cls, onnx: bytes, precision: str) -> OpenVINOModel:
        """Compile an ONNX model.

        Raises:
            RuntimeError: OpenVINO cannot read or compile it.
        """
        return cls.from_graph(read_onnx(onnx), precision)

    @classmethod
    def from_graph(cls, graph: Any, precision: str) -> OpenVINOModel:
        """Compile an ``openvino.Model``.

        Raises:
            RuntimeError: OpenVINO cannot compile it.
        """
        return cls(_core().compile_model(graph, "CPU", _settings(precision)))

    @classmethod
    def from_bytes(cls, stored: bytes, precision: str) -> OpenVINOModel:
        """The inverse of :meth:`to_bytes`, by the same version on the same kind of processor.

        Raises:
            RuntimeError: OpenVINO does not take it.
        """
        return cls(_core().import_model(io.BytesIO(stored), "CPU", _settings(precision)))

    def to_bytes(self) -> bytes:
        """The compiled network, for the cache."""
        stream = io.BytesIO()
        self._compiled.export_model(stream)
        return stream.getvalue()

    def leaving(self, threads: int) -> OpenVINOModel:
        """The same network on fewer streams, so that ``threads`` of other work find a core."""
        other = copy(self)
        other._requests = self._requests[: max(1, len(self._requests) - threads)]
        return other

    def place(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, H, W) -> the same, contiguous."""
        return np.ascontiguousarray(images)

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """(N, C, H, W), placed -> the graph's outputs, float32."""
        parts = np.array_split(images, min(len(self._requests), len(images)))
        running = self._requests[: len(parts)]
        with self._batch_lock:
            for request, part in zip(running, parts, strict=True):
                request.start_async(part, share_inputs=True)
            for request in running:
                request.wait()
            found = [[request.get_output_tensor(place).data for request in running] for place in self._places]
            # Copied: the next batch is written where these lie.
            return tuple(np.concatenate(arrays) for arrays in found)

    @property
    def _places(self) -> range:
        return range(len(self._compiled.outputs))


def read_onnx(onnx: bytes) -> Any:
    """An ONNX model as ``openvino.Model``.

    Raises:
        RuntimeError: OpenVINO cannot read it.
    """
    return _core().read_model(io.BytesIO(onnx))


def _settings(precision: str) -> dict[str, Any]:
    """Several streams, which share a batch: threads that wait for one another at every layer burn time."""
    threads = thread_count()
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": min(threads, _MOST_STREAMS),
        # Other stages work beside: a stream that is held to a core waits for them there while another core is free.
        "ENABLE_CPU_PINNING": False,
    }
