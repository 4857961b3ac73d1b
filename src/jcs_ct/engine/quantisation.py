"""Networks in int8: post-training quantisation, calibrated on slices of the training split, layer by layer."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.engine.execution import require_installed
from jcs_ct.engine.openvino_backend import read_onnx, without_telemetry
from jcs_ct.errors import ConfigError

#: OpenVINO's operations that have weights, which are what int8 is about.
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


def quantised_graph(onnx: bytes, images: NDArray[np.float32], *, exact: Collection[str] = ()) -> Any:
    """An ONNX model -> an ``openvino.Model`` whose convolutions and matrix products are int8.

    Weights per channel and activations per tensor, symmetric where the sign allows (NNCF's ``mixed`` preset). Weights
    take half of the 8-bit range: x86 processors without VNNI add products in 16 bits and saturate otherwise, so that
    one file would give other answers on other machines, and worse ones.

    Args:
        onnx: In fp32.
        images: (N, C, H, W) prepared slices whose activations set the ranges.
        exact: Names of :func:`layer_groups` that stay in fp32.

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
            ignored_scope=nncf.IgnoredScope(patterns=[f"^/{re.escape(name)}/.*" for name in sorted(exact)]),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def layer_groups(onnx: bytes) -> tuple[str, ...]:
    """The groups of layers that are int8 or fp32 together, in the order they run in, such as ``decoder/stages.4``.

    A group is a part of the network down to the first number in its path: a stage or a block, whatever the preset.
    """
    operations = read_onnx(onnx).get_ordered_ops()
    weighted = [operation for operation in operations if operation.get_type_name() in _WEIGHTED]
    return tuple(dict.fromkeys(_group(operation.get_friendly_name()) for operation in weighted))


def _group(operation: str) -> str:
    """``/decoder/stages.4/deeper/conv/Conv`` -> ``decoder/stages.4``; without a number, the module that it is in."""
    parts = re.sub(r"/WithoutBiases$", "", operation).strip("/").split("/")[:-1]
    numbered = next((place for place, part in enumerate(parts) if re.search(r"\d", part)), len(parts))
    return "/".join(parts[: numbered + 1])
