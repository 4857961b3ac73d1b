"""What a person may choose between: one type a choice, from the command line to the code that acts on it.

They stand here, beside nothing heavy, so that ``--help`` can list them at once.
"""

from __future__ import annotations

from typing import Literal

CT100Folds = Literal["miniseg", "patient-safe"]
"""Folds of CT100. The published ones part slices of some acquisitions: a network has seen neighbours of what it is
judged on. The patient-safe ones keep acquisitions together."""

EvaluationProtocol = Literal["image", "official", "miniseg", "patient-safe"]
"""How segmentations are scored. ``image`` and ``official`` share the headline table; ``miniseg`` adds the
figures that were published for CT100's published folds; ``patient-safe`` takes a CT100 folder's patient-safe ones."""
