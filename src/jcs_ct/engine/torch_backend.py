"""The backend that is always there: torch with BatchNorm folded and weights channels-last."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from jcs_ct.engine.execution import Choice
from jcs_ct.engine.graphs import NetworkGraph
from jcs_ct.engine.network import placed


class TorchModel:
    """A graph on a device, in fp32 or bf16."""

    def __init__(self, graph: NetworkGraph, choice: Choice) -> None:
        self._device = torch.device(choice.device)
        self._graph = placed(graph, self._device).requires_grad_(False)
        self._bf16 = choice.precision == "bf16"

    def place(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> the same where and how the network wants it."""
        return images.to(self._device, memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) -> the graph's outputs, float32, on the device."""
        precision = torch.autocast(self._device.type, dtype=torch.bfloat16) if self._bf16 else nullcontext()
        with torch.inference_mode(), precision:
            outputs: tuple[Tensor, ...] = self._graph(images)
        return tuple(output.float() for output in outputs)
