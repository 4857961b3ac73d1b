"""Starting a network from weights that exist: a whole checkpoint of its preset, or an ImageNet trunk or encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from jcs_ct.checkpoints.checkpoint_info import CheckpointInfo, file_sha256
from jcs_ct.checkpoints.fetching import fetch
from jcs_ct.checkpoints.format import load_strictly, read_network
from jcs_ct.checkpoints.importing import import_weights
from jcs_ct.checkpoints.published import PUBLISHED
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.folding import fold_batch_norm
from jcs_ct.models.res2net import Res2Net, Res2NetConfig
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.models.vgg import VGGConfig, VGGEncoder

#: Asks for the ImageNet weights of the network's own kind; the only word that may download anything.
AUTO = "auto"


@dataclass(frozen=True)
class PretrainedWeights:
    """Where a network's first weights come from.

    Args:
        part: What was filled: ``whole``, ``trunk`` or ``encoder``.
        origin: The file's name.
        sha256: Of the file.
        loaded: Tensors that were filled.
    """

    part: str
    origin: str
    sha256: str
    loaded: int


def start_from(network: Classifier | Segmenter, source: Path | str) -> PretrainedWeights:
    """Fill a network, or the part of it that the file holds, before training.

    Args:
        network: A fresh network; changed in place.
        source: A checkpoint of the same preset (the whole network), an imported ImageNet trunk (Res2Net) or encoder
            (VGG); or ``auto``: the ImageNet weights that fit, downloaded when they are not in torch's cache.

    Raises:
        ConfigError: ``auto`` for a network that no published ImageNet weights fit.
        CheckpointError: a file that cannot be read, or another network's.
    """
    if str(source) == AUTO:
        name = _imagenet_name(network)
        path = fetch(name)
        imported = import_weights(path, name)
        return _fill(network, path, imported.info, imported.network)
    path = Path(source)
    return _fill(network, path, *read_network(path))


def _imagenet_name(network: Classifier | Segmenter) -> str:
    """The published format whose network is this one's trunk or encoder, up to the kind of norm."""
    if isinstance(network, Classifier):
        wanted: Res2NetConfig | VGGConfig = network.config.backbone
        names = ("timm-res2net101d",)
    else:
        wanted = network.config.encoder
        names = ("torchvision-vgg16",) if wanted.norm == "none" else ("torchvision-vgg16_bn",)
    for name in names:
        if _same_layers(PUBLISHED[name].config, wanted):
            return name
    raise ConfigError(
        "--pretrained auto: no published ImageNet weights fit this network (it is not a Res2Net-101 v1b or a VGG-16 "
        "with three input channels); train it from scratch, or give a checkpoint of the same preset"
    )


def _same_layers(one: object, other: object) -> bool:
    """Whether two configs have the same convolutions: strides, pools and norms hold no weights of their own."""
    if isinstance(one, VGGConfig) and isinstance(other, VGGConfig):
        return (
            replace(one, norm=other.norm, norm_eps=other.norm_eps, pool_before_block5=other.pool_before_block5)
            == other
        )
    if isinstance(one, Res2NetConfig) and isinstance(other, Res2NetConfig):
        return replace(one, norm=other.norm, norm_eps=other.norm_eps, last_stride=other.last_stride) == other
    return False


def _fill(network: Classifier | Segmenter, path: Path, info: CheckpointInfo, donor: nn.Module) -> PretrainedWeights:
    if isinstance(donor, Res2Net | VGGEncoder):
        part, place = _place(network, donor, path)
        load_strictly(place, _in_norm_of(place, donor, path), path)
    else:
        part = "whole"
        if type(donor) is not type(network):
            raise CheckpointError(
                f"{path}: holds a {info.task}, this network is a {type(network).__name__.lower()}"
                + ("; a joint segmenter takes its classifier by --classifier" if info.task == "classifier" else "")
            )
        if donor.config != network.config:
            raise CheckpointError(
                f"{path}: a checkpoint of the preset {info.preset!r}, whose network is not this one; it differs in "
                f"{_differing_fields(donor.config, network.config)}; give one of the same preset"
            )
        load_strictly(network, donor.state_dict(), path)
    return PretrainedWeights(part, path.name, file_sha256(path), len(donor.state_dict()))


def _place(
    network: Classifier | Segmenter, donor: Res2Net | VGGEncoder, path: Path
) -> tuple[str, Res2Net | VGGEncoder]:
    """The network's own place for what a file holds."""
    place: Res2Net | VGGEncoder | None
    if isinstance(donor, Res2Net):
        part, place = "trunk", network.backbone
        if place is None:
            raise CheckpointError(f"{path}: holds a Res2Net trunk, and segmentation alone has no place for one")
    else:
        part, place = "encoder", network.encoder if isinstance(network, Segmenter) else None
        if place is None:
            raise CheckpointError(f"{path}: holds a VGG encoder, and a classifier has none; it starts from a Res2Net")
    if not _same_layers(donor.config, place.config):
        raise CheckpointError(
            f"{path}: its {part} is not this network's; it differs in {_differing_fields(donor.config, place.config)}"
        )
    return part, place


def _in_norm_of(target: Res2Net | VGGEncoder, donor: Res2Net | VGGEncoder, path: Path) -> dict[str, Tensor]:
    """The donor's tensors for a network with another kind of BatchNorm, computing the same function.

    Into frozen BatchNorm the donor's eps goes into the variance; into no BatchNorm at all it is folded into the
    convolutions.
    """
    have, want = donor.config.norm, target.config.norm
    if want == "none" and have != "none":
        return dict(fold_batch_norm(donor).state_dict())
    if have == "none" and want != "none":
        raise CheckpointError(
            f"{path}: its VGG-16 has no BatchNorm, this network's has; import torchvision-vgg16_bn instead"
        )
    shift = donor.config.norm_eps - target.config.norm_eps
    tensors = dict(donor.state_dict())
    if have == "batch" and want == "frozen":
        return {
            name: value + shift if name.endswith(".running_var") else value
            for name, value in tensors.items()
            if name in target.state_dict()
        }
    return tensors


def _differing_fields(one: object, other: object) -> str:
    """Leaf fields of two configs that differ: ``encoder.norm ('batch', here 'none')``."""
    return ", ".join(f"{name} ({theirs!r}, here {ours!r})" for name, theirs, ours in _differences("", one, other))


def _differences(prefix: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
    if is_dataclass(one) and is_dataclass(other) and type(one) is type(other):
        for field in fields(one):
            name = f"{prefix}{field.name}"
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            if is_dataclass(mine) and is_dataclass(theirs):
                yield from _differences(f"{name}.", mine, theirs)
            elif mine != theirs:
                yield name, _short(mine), _short(theirs)


def _short(value: object) -> object:
    return type(value).__name__ if is_dataclass(value) else value
