"""What a page says of networks that may have seen the slices they are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jcs_ct.data.manifest import Manifest


def split_warnings(split: str) -> list[str]:
    """Whether the split was unseen in training."""
    if split == "test":
        return []
    return [f"the split {split!r} was looked at in training: these figures are not of unseen slices"]


def manifest_warnings(name: str, provenance: Mapping[str, Any], table: Manifest) -> list[str]:
    """Whether the network was trained with this very manifest, so that its test split is known to be unseen."""
    if provenance.get("manifest_sha256") in (table.sha256, table.with_masks().sha256):
        return []
    return [f"{name} was trained with another manifest: whether it has seen these slices is not known"]
