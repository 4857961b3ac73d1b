"""What a checkpoint says of itself, read without its tensors and without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from jcs_ct.errors import CheckpointError
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

FORMAT_VERSION = 1
#: ``trunk`` and ``encoder`` are parts that training starts from.
TASKS = ("classifier", "segmenter", "trunk", "encoder")
#: Name of the one entry of the file's metadata.
METADATA_KEY = "jcs_ct"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    Args:
        task: ``classifier``, ``segmenter``, or a part of one: ``trunk`` (Res2Net), ``encoder`` (VGG).
        preset: Name of the config the network started from; of the published format where it was imported.
        config: The network's config as plain values.
        preprocessor: The preprocessing the network was trained with.
        operating_point: Thresholds chosen on validation patients, or None when none was chosen yet.
        provenance: Recipe, data, figures: free, for the reader.
    """

    task: str
    preset: str
    config: Mapping[str, Any]
    preprocessor: SlicePreprocessor
    operating_point: OperatingPoint | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_info(path: Path) -> CheckpointInfo:
    """Read a checkpoint's metadata without its tensors.

    Raises:
        CheckpointError: no such file, damaged, or not written by jcs-ct.
    """
    if not path.is_file():
        raise _no_checkpoint(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
    return _info(path, metadata)


def _no_checkpoint(path: Path) -> CheckpointError:
    """The error for what is no file; of a folder its checkpoints are named, up to three."""
    if not path.is_dir():
        return CheckpointError(f"{path}: no such checkpoint")
    files = [str(file) for file in sorted(path.glob("*.safetensors")) if not file.name.startswith(".")][:3]
    remedy = f"give {' or '.join(files)}" if files else "give a checkpoint (.safetensors)"
    return CheckpointError(f"{path} is a folder, and a checkpoint is a file; {remedy}", remedy=remedy)


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that safetensors cannot read."""
    return CheckpointError(
        f"{path}: not a readable safetensors file ({error}); it may be truncated, fetch it again. "
        "Other formats go through `jcs weights import`"
    )


def _info(path: Path, metadata: Mapping[str, str]) -> CheckpointInfo:
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: safetensors, but not written by jcs-ct; see `jcs weights import --help`")
    try:
        content = json.loads(metadata[METADATA_KEY])
        if content["format_version"] > FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: written in format {content['format_version']}, this version reads up to {FORMAT_VERSION}; "
                "update jcs-ct"
            )
        point = content["operating_point"]
        return CheckpointInfo(
            task=content["task"],
            preset=content["preset"],
            config=content["config"],
            preprocessor=SlicePreprocessor.from_dict(content["preprocessor"]),
            operating_point=OperatingPoint(**point) if point else None,
            provenance=content["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read ({type(error).__name__}: {error})") from error


def require_known(path: Path, task: str) -> None:
    """Raise unless a checkpoint's task is one of ``TASKS``.

    Raises:
        CheckpointError: it was written by a later version.
    """
    if task not in TASKS:
        raise CheckpointError(f"{path}: its task {task!r} is none of {', '.join(TASKS)}; update jcs-ct")


def is_checkpoint(path: Path) -> bool:
    """Whether a file is safetensors that jcs-ct wrote (it may still be damaged behind its header)."""
    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
