"""What a page says of networks that may have seen the slices they are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jcs_ct.checkpoints.ancestry import ancestor_manifests
from jcs_ct.data.manifest import Manifest


def split_warnings(split: str) -> list[str]:
    """Whether the split was unseen in training."""
    if split == "test":
        return []
    return [f"the split {split!r} was looked at in training: these figures are not of unseen slices"]


def manifest_warnings(name: str, provenance: Mapping[str, Any], table: Manifest) -> list[str]:
    """Whether the network was trained with this very manifest, so that its test split is known to be unseen.

    So must be the networks it was trained from. Of several with the same manifest the first is named; one without any
    adds nothing to what is said of the network itself.
    """
    these, unknown = (table.sha256, table.with_masks().sha256), "whether it has seen these slices is not known"
    own = provenance.get("manifest_sha256")
    others = {} if own in these else {own: f"{name} was trained with another manifest: {unknown}"}
    for who, sha256 in ancestor_manifests(provenance).items():
        if sha256 is None and not others:
            others[None] = f"with which manifest the {who} of {name} was trained is not stated: {unknown}"
        elif sha256 is not None and sha256 not in these:
            others.setdefault(sha256, f"the {who} of {name} was trained with another manifest: {unknown}")
    return [*others.values()]
