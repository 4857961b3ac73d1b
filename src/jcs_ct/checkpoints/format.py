"""Weights on disk: safetensors with everything a network needs to be used again in its metadata.

A checkpoint holds the network's config, its preprocessing, its operating point and where it comes from. No code is
ever run while reading one. ``checkpoint_info`` reads all of it but the tensors; this is what torch is needed for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from jcs_ct.checkpoints.checkpoint_info import (
    FORMAT_VERSION,
    METADATA_KEY,
    CheckpointInfo,
    damaged,
    read_info,
    require_known,
)
from jcs_ct.checkpoints.key_comparison import compare
from jcs_ct.errors import CheckpointError
from jcs_ct.files import replacing
from jcs_ct.models.classifier import ClassifierConfig
from jcs_ct.models.comparison import build_comparison
from jcs_ct.models.comparison.stored import comparison_from_dict, is_comparison
from jcs_ct.models.presets import build_classifier, build_segmenter
from jcs_ct.models.res2net import Res2Net, Res2NetConfig
from jcs_ct.models.segmenter import SegmenterConfig
from jcs_ct.models.vgg import VGGConfig, VGGEncoder

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
        # Written here: of a full disk safetensors says so in an error of its own, which nothing explains.
        temporary.write_bytes(save(tensors, metadata={METADATA_KEY: json.dumps(content, sort_keys=True)}))


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors as they are stored, without building its network.

    Raises:
        CheckpointError: no such file, damaged, or not written by jcs-ct.
    """
    read_info(path)
    return _read_tensors(path)


def read_network(path: Path) -> tuple[CheckpointInfo, nn.Module]:
    """Read a checkpoint -> what it says of itself, and its network as it was saved, in fp32.

    Raises:
        CheckpointError: no such file, damaged, unsafe, or tensors that do not fit the config.
    """
    info = read_info(path)
    tensors = _read_tensors(path)
    require_known(path, info.task)
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


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error
