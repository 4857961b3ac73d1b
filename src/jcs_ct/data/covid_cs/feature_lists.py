"""Lists as COVID-CS is published with: ``features mask`` (or ``features label``) pairs, one slice a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jcs_ct.data.manifest.file_identity import identify_files
from jcs_ct.errors import ConfigError
from jcs_ct.files import read_text, write_text


@dataclass(frozen=True)
class ListedSlice:
    """A line of a list.

    Args:
        features: MATLAB file.
        mask: Lesion mask, or None.
        label: 1 infected, 0 not, None where the mask alone says it.
    """

    features: Path
    mask: Path | None
    label: int | None


def read_list(path: Path, root: Path | None = None) -> tuple[ListedSlice, ...]:
    """Read a published list: a features file and its mask a line, separated by blanks; ``#`` starts a comment.

    For classification the second word is the label, 0 or 1. Relative names count from ``root``, which is the list's
    own folder when it is not given.

    Raises:
        ConfigError: unreadable, or lines of another form; all at once.
    """
    lines = read_text(path, what="list").splitlines()
    root = path.parent if root is None else root
    listed: list[ListedSlice] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            problems.append(
                f"line {number}: expected a features file and a mask (or 0, or 1), got {len(words)} word(s)"
            )
        elif words[1] in ("0", "1"):
            listed.append(ListedSlice(root / words[0], None, int(words[1])))
        else:
            listed.append(ListedSlice(root / words[0], root / words[1], None))
    if not listed and not problems:
        problems.append("it has no lines")
    if problems:
        raise ConfigError("\n  ".join([f"the list {path} has {len(problems)} problem(s):", *problems]))
    return tuple(listed)


def write_list(path: Path, listed: Iterable[ListedSlice]) -> None:
    """Write a list with names relative to its folder."""
    lines = []
    for one in listed:
        second = str(one.label) if one.mask is None else _relative(one.mask, path.parent)
        lines.append(f"{_relative(one.features, path.parent)} {second}")
    write_text(path, "\n".join(lines) + "\n")


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


@dataclass(frozen=True)
class FeatureLists:
    """What a network is trained from in the place of a manifest.

    Args:
        train: Slices to learn from.
        val: Slices that choose the weights; empty where the recipe keeps the last ones.

    Raises:
        ConfigError: a slice in both.
    """

    train: tuple[ListedSlice, ...]
    val: tuple[ListedSlice, ...] = ()

    def __post_init__(self) -> None:
        known = {one.features.resolve() for one in self.train}
        common = [one.features.name for one in self.val if one.features.resolve() in known]
        if common:
            raise ConfigError(
                f"{len(common)} slice(s) stand in the training list and in the validation list, as {common[0]}: "
                "weights are not chosen on slices they were trained on"
            )

    @cached_property
    def sha256(self) -> str:
        """Hash of which files these are, by list, label and size; paths count from the folder that holds them all."""
        slices = [("train", one) for one in self.train] + [("val", one) for one in self.val]
        places = identify_files(path for _, one in slices for path in (one.features, one.mask) if path is not None)
        digest = hashlib.sha256()
        for name, one in slices:
            mask = None if one.mask is None else places[one.mask]
            digest.update(json.dumps([name, places[one.features], mask, one.label]).encode() + b"\n")
        return digest.hexdigest()
