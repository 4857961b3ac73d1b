"""Networks in int8: post-training quantisation, calibrated on slices of the training split."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine.execution import require_installed
from jcs_ct.engine.openvino_backend import read_onnx, without_telemetry
from jcs_ct.errors import ConfigError


def quantised_graph(onnx: bytes, images: NDArray[np.float32]) -> Any:
    """An ONNX model -> an ``openvino.Model`` whose convolutions and matrix products are int8.

    Weights per channel and activations per tensor, symmetric where the sign allows (NNCF's ``mixed`` preset).

    Args:
        onnx: In fp32.
        images: (N, C, H, W) prepared slices whose activations set the ranges.

    Raises:
        ConfigError: NNCF is not installed, or there is no slice.
        RuntimeError: an operation that cannot be quantised.
    """
    require_installed("int8")
    if len(images) == 0:
        raise ConfigError("int8 is calibrated on training slices, and there are none")
    without_telemetry()
    import nncf

    nncf.set_log_level(logging.ERROR)
    # NNCF draws progress bars on stdout, where the command line's result belongs.
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        return nncf.quantize(
            read_onnx(onnx),
            nncf.Dataset([image[None] for image in images]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
        )
