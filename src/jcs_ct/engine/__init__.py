"""Runs a network over many slices: batches, precision, device and backend, with preparation that overlaps."""

from __future__ import annotations

from jcs_ct.engine.execution import (
    BACKENDS,
    PRECISIONS,
    Choice,
    Execution,
    choose,
    inference,
    multiplies_bf16,
)
from jcs_ct.engine.network import ReadyClassifier, ReadyNetwork, ReadySegmenter, placed
from jcs_ct.engine.runners import Runner, execution_facts, runner_for
from jcs_ct.engine.slices import ClassifiedSlice, Progress, classify_slices, segment_slices

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Choice",
    "ClassifiedSlice",
    "Execution",
    "Progress",
    "ReadyClassifier",
    "ReadyNetwork",
    "ReadySegmenter",
    "Runner",
    "choose",
    "classify_slices",
    "execution_facts",
    "inference",
    "multiplies_bf16",
    "placed",
    "runner_for",
    "segment_slices",
]
