"""Weights on disk: the package's own format, and importers for the published ones.

``format`` writes and reads jcs-ct checkpoints; ``fit`` compares names and shapes; ``published`` is the table of
foreign formats; ``reading`` opens foreign files without running code; ``importing`` turns one into a checkpoint;
``pretrained`` starts a network from a checkpoint, and ``fetching`` gets ImageNet weights when it is asked to.
"""

from jcs_ct.checkpoints.format import (
    FORMAT_VERSION,
    CheckpointInfo,
    Models,
    as_stored,
    file_sha256,
    load_checkpoint,
    load_classifier,
    load_models,
    load_segmenter,
    load_strictly,
    model_path,
    read_info,
    save_checkpoint,
    shipped_checkpoint,
)
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
    "read_info",
    "save_checkpoint",
    "shipped_checkpoint",
    "start_from",
    "write_imported",
]
