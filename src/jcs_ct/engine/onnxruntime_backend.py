"""Networks on ONNX Runtime's CPU provider, with its telemetry switched off."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine.processor import thread_count


@cache
def onnxruntime() -> ModuleType:
    """The package; its telemetry, which official builds for Windows have, is switched off.

    Raises:
        ImportError: it is not installed, or broken.
    """
    package: ModuleType = importlib.import_module("onnxruntime")
    package.disable_telemetry_events()
    return package


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model that it cannot take; these share no base but ``Exception``."""
    state = onnxruntime().capi.onnxruntime_pybind11_state
    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)


class ONNXRuntimeModel:
    """An inference session."""

    def __init__(self, onnx: bytes) -> None:
        package = onnxruntime()
        settings = package.SessionOptions()
        settings.intra_op_num_threads = thread_count()
        settings.log_severity_level = 3
        try:
            self._session = package.InferenceSession(onnx, settings, providers=["CPUExecutionProvider"])
        except runtime_errors() as error:
            raise RuntimeError(f"ONNX Runtime does not take the model: {error}") from error
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def leaving(self, threads: int) -> ONNXRuntimeModel:
        """The same network: its threads are set for the whole process."""
        return self

    def place(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, H, W) -> the same, contiguous."""
        return np.ascontiguousarray(images)

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """(N, C, H, W), placed -> the graph's outputs, float32."""
        return tuple(self._session.run(self._outputs, {self._input: images}))
