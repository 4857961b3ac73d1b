"""Runs a network over many slices: batches, precision, device and backend, with preparation that overlaps.

What needs torch is imported when it is asked for: a compiled network runs without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jcs_ct.engine.execution import (
    BACKENDS,
    PRECISIONS,
    Choice,
    Execution,
    choose,
    multiplies_bf16,
)
from jcs_ct.engine.network import ReadyClassifier, ReadyNetwork, ReadySegmenter, StoredNetwork
from jcs_ct.engine.runners import NetworkRunner, execution_facts, runner_for
from jcs_ct.engine.slices import ClassifiedSlice, SegmenterAhead, classify_slices, segment_slices

if TYPE_CHECKING:
    from jcs_ct.engine.torch_backend import inference, placed

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Choice",
    "ClassifiedSlice",
    "Execution",
    "NetworkRunner",
    "ReadyClassifier",
    "ReadyNetwork",
    "ReadySegmenter",
    "SegmenterAhead",
    "StoredNetwork",
    "choose",
    "classify_slices",
    "execution_facts",
    "inference",
    "multiplies_bf16",
    "placed",
    "runner_for",
    "segment_slices",
]


def __getattr__(name: str) -> Any:
    if name in ("inference", "placed"):
        from jcs_ct.engine import torch_backend

        return getattr(torch_backend, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
