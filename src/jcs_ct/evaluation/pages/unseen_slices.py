"""What a page says of networks that may have seen the slices they are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jcs_ct.checkpoints import read_info
from jcs_ct.checkpoints.ancestry import OPERATING_POINT, ancestor_manifests
from jcs_ct.data.manifest import Manifest

_UNKNOWN = "whether it has seen these slices is not known"


def split_warnings(split: str) -> list[str]:
    """Whether the split was unseen in training."""
    if split == "test":
        return []
    return [f"the split {split!r} was looked at in training: these figures are not of unseen slices"]


def manifest_warnings(name: str, provenance: Mapping[str, Any], table: Manifest) -> list[str]:
    """Whether the network was trained with this very manifest, so that its test split is known to be unseen.

    So must be the networks it was trained from, and its operating point. Of several with the same manifest the first
    is named; one without any adds nothing to what is said of the network itself.
    """
    these = (table.sha256, table.with_masks().sha256)
    own = provenance.get("manifest_sha256")
    others = {} if own in these else {own: f"{name} was trained with another manifest: {_UNKNOWN}"}
    for who, sha256 in ancestor_manifests(provenance).items():
        if sha256 is None and not others:
            others[None] = f"with which manifest the {who} of {name} was trained is not stated: {_UNKNOWN}"
        elif sha256 is not None and sha256 not in these:
            made = "chosen" if who == OPERATING_POINT else "trained"
            others.setdefault(sha256, f"the {who} of {name} was {made} with another manifest: {_UNKNOWN}")
    return [*others.values()]


def start_warnings(pretrained: Path | None) -> list[str]:
    """Whether the weights that an experiment's networks start from may have seen the slices these are kept from.

    Args:
        pretrained: A checkpoint, or a method's folder in an earlier experiment: there a network was kept from the
            same slices, and what it started from in turn is looked at.
    """
    if pretrained is None:
        return []
    for path in sorted(pretrained.glob("*/*.safetensors")) if pretrained.is_dir() else [pretrained]:
        provenance = read_info(path).provenance
        own, behind = provenance.get("manifest_sha256"), {*ancestor_manifests(provenance).values()}
        if behind - {own} if pretrained.is_dir() else own or behind:
            return [f"networks start from {pretrained.name}, which goes back to an earlier training: {_UNKNOWN}"]
    return []
