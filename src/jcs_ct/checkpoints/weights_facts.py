"""What a weights file holds, for a reader: a checkpoint of this package or a foreign file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from jcs_ct.checkpoints.checkpoint_info import file_sha256, is_checkpoint, read_info
from jcs_ct.checkpoints.foreign_files import read_foreign
from jcs_ct.checkpoints.format import read_tensors
from jcs_ct.checkpoints.importing import best_fit


def describe_weights(path: Path) -> dict[str, Any]:
    """Facts about a weights file, as plain values; no code in it is run.

    Raises:
        CheckpointError: no such file, damaged, or with code in it.
    """
    if is_checkpoint(path):
        info = read_info(path)
        facts: dict[str, Any] = {
            "kind": "jcs-ct checkpoint",
            "task": info.task,
            "preset": info.preset,
            "preprocessor": info.preprocessor.to_dict(),
            "operating_point": asdict(info.operating_point) if info.operating_point else None,
            "provenance": dict(info.provenance),
            "config": dict(info.config),
        }
        return {**facts, **_tensor_facts(path, read_tensors(path))}
    foreign = read_foreign(path)
    published, fit = best_fit(foreign.tensors)
    return {
        "kind": "foreign weights",
        "wrapped_in": foreign.wrapper,
        "data_parallel_prefix": foreign.had_prefix,
        "best_fit": {
            "format": published.name,
            "about": published.about,
            "matching": fit.matching,
            "missing": list(fit.missing),
            "unexpected": list(fit.unexpected),
            "mis_shaped": list(fit.misshaped),
        },
        **_tensor_facts(path, foreign.tensors),
    }


def _tensor_facts(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "sha256": file_sha256(path),
        "entries": len(tensors),
        "values": sum(tensor.numel() for tensor in tensors.values()),
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())),
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }
