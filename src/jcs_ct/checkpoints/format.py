"""Weights on disk: safetensors with everything a network needs to be used again in its metadata.

A checkpoint holds the network's config, its preprocessing, its operating point and where it comes from. No code is
ever run while reading one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jcs_ct.checkpoints.fit import compare
from jcs_ct.choices import NetworkTask
from jcs_ct.engine import ReadyClassifier, ReadySegmenter
from jcs_ct.errors import CheckpointError
from jcs_ct.files import replacing
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.comparison import build_comparison
from jcs_ct.models.comparison.base import ComparisonNetwork
from jcs_ct.models.comparison.stored import comparison_from_dict, is_comparison
from jcs_ct.models.presets import build_classifier, build_segmenter
from jcs_ct.models.res2net import Res2Net, Res2NetConfig
from jcs_ct.models.segmenter import Segmenter, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig, VGGEncoder
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

FORMAT_VERSION = 1
_KEY = "jcs_ct"

#: Task -> network from its stored config. ``trunk`` and ``encoder`` are parts that training starts from.
_BUILDERS: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "classifier": lambda config: build_classifier(ClassifierConfig.from_dict(config)),
    "segmenter": lambda config: (
        build_comparison(comparison_from_dict(config))
        if is_comparison(config)
        else build_segmenter(SegmenterConfig.from_dict(config))
    ),
    "trunk": lambda config: Res2Net(Res2NetConfig.from_dict(config)),
    "encoder": lambda config: VGGEncoder(VGGConfig.from_dict(config)),
}


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


@dataclass(frozen=True, eq=False)
class Models:
    """A classifier and a segmenter that belong together, and where they become positive."""

    classifier: ReadyClassifier
    segmenter: ReadySegmenter
    operating_point: OperatingPoint


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_checkpoint(path: Path, network: nn.Module, info: CheckpointInfo, *, half: bool = True) -> None:
    """Write a network as safetensors, whole or not at all.

    Args:
        path: Ends in ``.safetensors``.
        network: Its ``state_dict`` is written.
        info: Goes into the metadata.
        half: Store as :func:`as_stored` says.

    Raises:
        CheckpointError: a weight that is not finite, or beyond fp16.
    """
    tensors = {name: value.contiguous() for name, value in as_stored(network.state_dict(), half=half).items()}
    content = {
        "format_version": FORMAT_VERSION,
        "task": info.task,
        "preset": info.preset,
        "config": dict(info.config),
        "preprocessor": info.preprocessor.to_dict(),
        "operating_point": asdict(info.operating_point) if info.operating_point else None,
        "provenance": dict(info.provenance),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(content, sort_keys=True)})


def as_stored(tensors: Mapping[str, Tensor], *, half: bool = True) -> dict[str, Tensor]:
    """Tensors in the precision that a checkpoint keeps them in; validation judges these.

    Args:
        tensors: By name, on any device.
        half: Tensors of two or more dimensions become fp16; biases and normalisation statistics stay fp32.

    Raises:
        CheckpointError: values that are not finite, or that fp16 cannot hold (above 65 504), named all at once.
    """
    stored = {
        name: value.detach().half() if half and value.is_floating_point() and value.ndim > 1 else value.detach()
        for name, value in tensors.items()
    }
    lost = {name: value for name, value in stored.items() if not bool(torch.isfinite(value).all())}
    if lost:
        named = ", ".join(f"{name} (largest {float(tensors[name].abs().max()):.4g})" for name in lost)
        raise CheckpointError(f"weights that cannot be stored as {'fp16' if half else 'they are'}: {named}")
    return stored


def read_info(path: Path) -> CheckpointInfo:
    """Read a checkpoint's metadata without its tensors.

    Raises:
        CheckpointError: no such file, damaged, or not written by jcs-ct.
    """
    return _read(path, tensors=False)[0]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors as they are stored, without building its network.

    Raises:
        CheckpointError: no such file, damaged, or not written by jcs-ct.
    """
    return _read(path, tensors=True)[1]


def is_checkpoint(path: Path) -> bool:
    """Whether a file is safetensors that jcs-ct wrote (it may still be damaged behind its header)."""
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_checkpoint(path: Path | str) -> ReadyClassifier | ReadySegmenter:
    """Read a checkpoint -> the network in evaluation mode with its preprocessing.

    Raises:
        CheckpointError: no such file, damaged, unsafe, tensors that do not fit the config, or a part of a network.
    """
    path = Path(path)
    info, network = read_network(path)
    network.eval()
    facts = (info.preprocessor, info.preset, file_sha256(path), path.stem)
    if isinstance(network, Classifier):
        return ReadyClassifier(network, *facts)
    if isinstance(network, Segmenter | ComparisonNetwork):
        return ReadySegmenter(network, *facts)
    raise CheckpointError(
        f"{path} holds the {info.task}, a part of a network that training starts from (--pretrained); "
        "give a classifier or a segmenter"
    )


def load_classifier(path: Path | str) -> ReadyClassifier:
    """:func:`load_checkpoint`, of a classifier.

    Raises:
        CheckpointError: as there, and a segmenter.
    """
    ready = load_checkpoint(path)
    if not isinstance(ready, ReadyClassifier):
        raise CheckpointError(f"{path} holds a {ready.task}; give a classifier")
    return ready


def load_segmenter(path: Path | str) -> ReadySegmenter:
    """:func:`load_checkpoint`, of a segmenter.

    Raises:
        CheckpointError: as there, and a classifier.
    """
    ready = load_checkpoint(path)
    if not isinstance(ready, ReadySegmenter):
        raise CheckpointError(f"{path} holds a {ready.task}; give a segmenter")
    return ready


def read_network(path: Path) -> tuple[CheckpointInfo, nn.Module]:
    """Read a checkpoint -> what it says of itself, and its network as it was saved, in fp32.

    Raises:
        CheckpointError: no such file, damaged, unsafe, or tensors that do not fit the config.
    """
    info, tensors = _read(path, tensors=True)
    if info.task not in _BUILDERS:
        raise CheckpointError(f"{path}: its task {info.task!r} is none of {', '.join(_BUILDERS)}; update jcs-ct")
    try:
        with torch.device("meta"):  # every tensor comes from the file: nothing is drawn first
            network = _BUILDERS[info.task](info.config)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: its network config cannot be used: {error}") from error
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    load_strictly(network, floats, path)
    return info, network


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors key by key; every missing, unexpected and mis-shaped key is listed.

    Raises:
        CheckpointError: when anything does not fit.
    """
    fit = compare({name: tuple(value.shape) for name, value in network.state_dict().items()}, tensors)
    if fit.differences:
        raise CheckpointError("\n  ".join([f"{path}: the tensors do not fit the network:", *fit.lines()]))
    network.load_state_dict(dict(tensors), assign=any(value.is_meta for value in network.state_dict().values()))


def _read(path: Path, *, tensors: bool) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            loaded = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); it may be truncated, fetch it again. "
            "Other formats go through `jcs weights import`"
        ) from error
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: safetensors, but not written by jcs-ct; see `jcs weights import --help`")
    try:
        content = json.loads(metadata[_KEY])
        if content["format_version"] > FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: written in format {content['format_version']}, this version reads up to {FORMAT_VERSION}; "
                "update jcs-ct"
            )
        point = content["operating_point"]
        info = CheckpointInfo(
            task=content["task"],
            preset=content["preset"],
            config=content["config"],
            preprocessor=SlicePreprocessor.from_dict(content["preprocessor"]),
            operating_point=OperatingPoint(**point) if point else None,
            provenance=content["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read ({type(error).__name__}: {error})") from error
    return info, loaded


def load_models(name: str | Path = "compact") -> Models:
    """Load a classifier and a segmenter that belong together.

    Args:
        name: ``compact`` for the weights in the box, or a folder with ``classifier.safetensors`` and
            ``segmenter.safetensors``.

    Raises:
        CheckpointError: files missing or damaged, or a classifier without an operating point.
    """
    classifier_path, segmenter_path = (model_path(name, task) for task in ("classifier", "segmenter"))
    point = read_info(classifier_path).operating_point
    if point is None:
        raise CheckpointError(
            f"{classifier_path}: it has no operating point; choose one on validation patients with `jcs calibrate`"
        )
    return Models(load_classifier(classifier_path), load_segmenter(segmenter_path), point)


def model_path(name: str | Path, task: NetworkTask) -> Path:
    """The checkpoint of a task, of a name as :func:`load_models` takes it."""
    return shipped_checkpoint(task) if name == "compact" else Path(name) / f"{task}.safetensors"


def shipped_checkpoint(task: NetworkTask) -> Path:
    """The weights in the box for ``classifier`` or ``segmenter``."""
    return Path(str(resources.files("jcs_ct"))) / "weights" / f"compact-{task}.safetensors"
