"""A comparison network's config as plain values that say which network it is of, for a checkpoint's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jcs_ct.models.comparison.base import ComparisonConfig
from jcs_ct.models.comparison.dss import DSSConfig
from jcs_ct.models.comparison.egnet import EGNetConfig
from jcs_ct.models.comparison.poolnet import PoolNetConfig
from jcs_ct.models.comparison.unet import UNetConfig

_KEY = "comparison"
_CONFIGS: dict[str, type[ComparisonConfig]] = {
    "unet": UNetConfig,
    "dss": DSSConfig,
    "poolnet": PoolNetConfig,
    "egnet": EGNetConfig,
}


def is_comparison(values: Mapping[str, Any]) -> bool:
    """Whether plain values are of a comparison network, and not of our segmenter."""
    return _KEY in values


def comparison_to_dict(config: ComparisonConfig) -> dict[str, Any]:
    """The config's fields, and the network's name under ``comparison``."""
    name = next(name for name, kind in _CONFIGS.items() if type(config) is kind)
    return {_KEY: name, **config.to_dict()}


def comparison_from_dict(values: Mapping[str, Any]) -> ComparisonConfig:
    """The inverse of :func:`comparison_to_dict`, also after JSON.

    Raises:
        KeyError: no such network.
        TypeError, ValueError: fields that the network does not have, or values it cannot have.
    """
    fields = dict(values)
    return _CONFIGS[fields.pop(_KEY)].from_dict(fields)
