"""Weights on disk: the package's own format, and importers for the published ones.

``checkpoint_info`` reads what a checkpoint of jcs-ct says of itself, ``ancestry`` which manifests stand behind it;
``checkpoint_opening`` opens it, ``format`` writes it and builds its network; ``key_comparison`` compares names and
shapes; ``published`` is the table of foreign formats; ``foreign_files`` opens those without running code;
``weights_facts`` says what a file holds; ``importing`` turns one into a checkpoint; ``pretrained`` starts a network
from a checkpoint, and ``fetching`` gets ImageNet weights when it is asked to. What needs torch is imported when it is
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jcs_ct.checkpoints.checkpoint_info import FORMAT_VERSION, CheckpointInfo, file_sha256, read_info
from jcs_ct.checkpoints.checkpoint_opening import (
    Models,
    load_checkpoint,
    load_classifier,
    load_models,
    load_segmenter,
    model_path,
    open_checkpoint,
    shipped_checkpoint,
)

if TYPE_CHECKING:
    from jcs_ct.checkpoints.format import as_stored, load_strictly, save_checkpoint
    from jcs_ct.checkpoints.importing import ImportedWeights, import_weights, write_imported
    from jcs_ct.checkpoints.pretrained import PretrainedWeights, start_from
    from jcs_ct.checkpoints.published import PUBLISHED

__all__ = [
    "FORMAT_VERSION",
    "PUBLISHED",
    "CheckpointInfo",
    "ImportedWeights",
    "Models",
    "PretrainedWeights",
    "as_stored",
    "file_sha256",
    "import_weights",
    "load_checkpoint",
    "load_classifier",
    "load_models",
    "load_segmenter",
    "load_strictly",
    "model_path",
    "open_checkpoint",
    "read_info",
    "save_checkpoint",
    "shipped_checkpoint",
    "start_from",
    "write_imported",
]

#: What needs torch -> the module that has it.
_LATER = {
    "as_stored": "format",
    "load_strictly": "format",
    "save_checkpoint": "format",
    "ImportedWeights": "importing",
    "import_weights": "importing",
    "write_imported": "importing",
    "PretrainedWeights": "pretrained",
    "start_from": "pretrained",
    "PUBLISHED": "published",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"jcs_ct.checkpoints.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
