"""Networks on ONNX Runtime's CPU provider, with its telemetry switched off."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from jcs_ct.engine.graphs import INPUT


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
        # As many threads as torch was given: one setting (OMP_NUM_THREADS, torch.set_num_threads) holds for both.
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3
        try:
            self._session = package.InferenceSession(onnx, settings, providers=["CPUExecutionProvider"])
        except runtime_errors() as error:
            raise RuntimeError(f"ONNX Runtime does not take the model: {error}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def place(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, contiguous."""
        return images.contiguous()

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) float32 -> the graph's outputs, float32."""
        results = self._session.run(self._outputs, {INPUT: images.numpy()})
        return tuple(torch.from_numpy(result) for result in results)
