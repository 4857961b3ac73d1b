"""The backend that is always there: torch with BatchNorm folded and weights channels-last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jcs_ct.engine.execution import Choice, Execution
from jcs_ct.engine.graphs import NetworkGraph

N = TypeVar("N", bound=nn.Module)


def placed(network: N, device: torch.device) -> N:
    """The network on a device, weights channels-last (what convolutions are fastest with)."""
    # torch's annotation of Module.to has no memory_format.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextmanager
def inference(execution: Execution) -> Iterator[None]:
    """No gradients, and bf16 where it was chosen; entered per batch so that a consumer never runs inside it."""
    device = execution.torch_device
    precision = torch.autocast(device.type, dtype=torch.bfloat16) if execution.uses_bf16 else nullcontext()
    with torch.inference_mode(), precision:
        yield


class TorchModel:
    """A graph on a device, in fp32 or bf16."""

    def __init__(self, graph: NetworkGraph, choice: Choice) -> None:
        self._device = torch.device(choice.device)
        self._graph = placed(graph, self._device).requires_grad_(False)
        self._bf16 = choice.precision == "bf16"

    def leaving(self, threads: int) -> TorchModel:
        """The same network: its threads are set for the whole process."""
        return self

    def place(self, images: NDArray[np.float32]) -> Tensor:
        """(N, C, H, W) -> the same where and how the network wants it."""
        return torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> tuple[NDArray[np.float32], ...]:
        """(N, C, H, W), placed -> the graph's outputs, float32."""
        precision = torch.autocast(self._device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()
        with torch.inference_mode(), precision:
            outputs: tuple[Any, ...] = self._graph(images)
        return tuple(output.float().cpu().numpy() for output in outputs)
