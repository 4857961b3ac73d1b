"""A graph as ONNX, in memory: what OpenVINO and ONNX Runtime read, and what `jcs export` writes."""

from __future__ import annotations

import io
import warnings
from typing import Any, cast

import torch

from jcs_ct.engine.graphs import INPUT, NetworkGraph

#: The oldest operator set that has everything the networks use; older programs can still read it.
OPSET = 17
#: Name of the first axis of input and outputs, which may have any length.
BATCH = "batch"


def onnx_bytes(graph: NetworkGraph, input_shape: tuple[int, int, int]) -> bytes:
    """Trace a graph into an ONNX model whose batch may have any size.

    torch's older exporter is used: its files equal the newer one's to the last digits here, it takes 2 s for the
    compact classifier where the newer takes 30, and it needs no onnxscript.

    Args:
        graph: In evaluation mode.
        input_shape: (channels, rows, columns); rows and columns are fixed in the file.

    Raises:
        RuntimeError: an operation that ONNX does not have (torch's ``OnnxExporterError`` is one).
    """
    stream = io.BytesIO()
    example = torch.zeros(2, *input_shape)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter's own notices: that it is the older one, and that shape checks become constants (they hold for
        # every batch of this size).
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
        torch.onnx.export(
            graph,
            (example,),
            cast(Any, stream),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(graph.outputs),
            dynamic_axes={name: {0: BATCH} for name in (INPUT, *graph.outputs)},
        )
    return stream.getvalue()
