"""Opening checkpoints: what one says of itself, and its network, built when something asks for it.

Nothing here imports torch: a network that a backend holds compiled is opened, told by its hash and run without.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from jcs_ct.checkpoints.checkpoint_info import (
    file_sha256,
    read_info,
    require_known,
)
from jcs_ct.choices import NetworkTask
from jcs_ct.engine import ReadyClassifier, ReadySegmenter, StoredNetwork
from jcs_ct.errors import CheckpointError
from jcs_ct.operating_point import OperatingPoint

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Models:
    """A classifier and a segmenter that belong together, and where they become positive."""

    classifier: ReadyClassifier
    segmenter: ReadySegmenter
    operating_point: OperatingPoint


def open_checkpoint(path: Path) -> ReadyClassifier | ReadySegmenter:
    """A checkpoint's network, to be built when something asks for its modules.

    Raises:
        CheckpointError: no such file, damaged, not written by jcs-ct, or a part of a network.
    """
    info, digest = read_info(path), file_sha256(path)

    def build() -> nn.Module:
        from jcs_ct.checkpoints.format import read_network

        if file_sha256(path) != digest:
            raise CheckpointError(f"{path}: the file was changed after it had been opened; start again")
        return read_network(path)[1].eval()

    def read_tensor(name: str) -> NDArray[np.float32]:
        with safe_open(path, framework="numpy") as file:
            tensor: NDArray[np.float32] = file.get_tensor(name).astype(np.float32)
        return tensor

    stored = StoredNetwork(digest, build, read_tensor)
    facts = (info.preprocessor, info.preset, digest, path.stem)
    if info.task == "classifier":
        return ReadyClassifier(stored, *facts)
    if info.task == "segmenter":
        return ReadySegmenter(stored, *facts)
    require_known(path, info.task)
    raise CheckpointError(
        f"{path} holds the {info.task}, a part of a network that training starts from (--pretrained); "
        "give a classifier or a segmenter"
    )


def load_checkpoint(path: Path | str) -> ReadyClassifier | ReadySegmenter:
    """Read a checkpoint -> the network in evaluation mode with its preprocessing.

    Raises:
        CheckpointError: no such file, damaged, unsafe, tensors that do not fit the config, or a part of a network.
    """
    ready = open_checkpoint(Path(path))
    ready.network.eval()  # built and checked here, not at the first slice
    return ready


def load_classifier(path: Path | str) -> ReadyClassifier:
    """:func:`load_checkpoint`, of a classifier.

    Raises:
        CheckpointError: as there, and a segmenter.
    """
    return _require_classifier(path, load_checkpoint(path))


def load_segmenter(path: Path | str) -> ReadySegmenter:
    """:func:`load_checkpoint`, of a segmenter.

    Raises:
        CheckpointError: as there, and a classifier.
    """
    return _require_segmenter(path, load_checkpoint(path))


def _require_classifier(path: Path | str, ready: ReadyClassifier | ReadySegmenter) -> ReadyClassifier:
    if not isinstance(ready, ReadyClassifier):
        raise CheckpointError(f"{path} holds a {ready.task}; give a classifier")
    return ready


def _require_segmenter(path: Path | str, ready: ReadyClassifier | ReadySegmenter) -> ReadySegmenter:
    if not isinstance(ready, ReadySegmenter):
        raise CheckpointError(f"{path} holds a {ready.task}; give a segmenter")
    return ready


def load_models(name: str | Path = "compact") -> Models:
    """Open a classifier and a segmenter that belong together; modules are built when a backend needs them.

    Args:
        name: ``compact`` for the weights in the box, or a folder with ``classifier.safetensors`` and
            ``segmenter.safetensors``.

    Raises:
        CheckpointError: files missing or damaged, or a classifier without an operating point.
    """
    classifier_path, segmenter_path = (model_path(name, task) for task in ("classifier", "segmenter"))
    absent = [path.name for path in (classifier_path, segmenter_path) if not path.is_file()]
    if absent:
        calibrate = "make a folder of both networks with `jcs calibrate`, from best.safetensors of two training runs"
        raise CheckpointError(
            f"{name}: no {' and no '.join(absent)}; {calibrate}, or give 'compact'", remedy=calibrate
        )
    point = read_info(classifier_path).operating_point
    if point is None:
        raise CheckpointError(
            f"{classifier_path}: it has no operating point; choose one on validation patients with `jcs calibrate`",
            remedy="choose an operating point on validation patients with `jcs calibrate`",
        )
    classifier = _require_classifier(classifier_path, open_checkpoint(classifier_path))
    return Models(classifier, _require_segmenter(segmenter_path, open_checkpoint(segmenter_path)), point)


def model_path(name: str | Path, task: NetworkTask) -> Path:
    """The checkpoint of a task, of a name as :func:`load_models` takes it."""
    return shipped_checkpoint(task) if name == "compact" else Path(name) / f"{task}.safetensors"


def shipped_checkpoint(task: NetworkTask) -> Path:
    """The weights in the box for ``classifier`` or ``segmenter``."""
    return Path(str(resources.files("jcs_ct"))) / "weights" / f"compact-{task}.safetensors"
