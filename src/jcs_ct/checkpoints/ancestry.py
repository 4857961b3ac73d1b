"""Which manifests stand behind a network: those that the networks it was trained from were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Key of the provenance that holds :func:`inherited_manifests`.
ANCESTORS = "ancestor_manifests"
#: Stands among them for the manifest on whose validation slices ``jcs calibrate`` chose.
OPERATING_POINT = "operating point"
#: A network that a training works from -> the key of the provenance that names its file.
_NAMED_BY = {"classifier": "classifier_sha256", "pretrained network": "pretrained", "teacher": "teacher_sha256"}


def ancestor_manifests(provenance: Mapping[str, Any]) -> dict[str, str | None]:
    """The manifest behind each network that this one was trained from, as its provenance says.

    Returns:
        SHA-256 by ancestor, such as ``teacher of the pretrained network``; None of one that is named without its
        manifest. ImageNet's trunks and encoders, which have seen no study, are none.
    """
    stated = provenance.get(ANCESTORS)
    if isinstance(stated, Mapping):
        return dict(stated)
    return {who: None for who, key in _NAMED_BY.items() if _is_network(provenance.get(key))}


def inherited_manifests(worked_from: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    """What a training keeps in the provenance of its network, for :func:`ancestor_manifests`.

    Args:
        worked_from: Provenance of each network that it works from, by what that is to it, such as ``teacher``.
    """
    found: dict[str, str | None] = {}
    for who, provenance in worked_from.items():
        found[who] = provenance.get("manifest_sha256")
        behind = ancestor_manifests(provenance)
        found |= {f"{its} of the {who}": sha256 for its, sha256 in behind.items() if its != OPERATING_POINT}
    return found


def _is_network(named: object) -> bool:
    return named.get("part") == "whole" if isinstance(named, Mapping) else named is not None
