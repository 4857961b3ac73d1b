"""The folds that nnU-Net validates on: ``splits_final.json``, a list of ``{"train": [CASE], "val": [CASE]}``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from jcs_ct.data.manifest import ManifestRow, split_problems
from jcs_ct.errors import ConfigError
from jcs_ct.files import read_json

SPLITS_NAME = "splits_final.json"
#: What follows a case's name in the file of its first channel.
CHANNEL_ENDING_2D = "_0000.png"
CHANNEL_ENDINGS = ("_0000.nii.gz", "_0000.nii", CHANNEL_ENDING_2D)


def case_name(path: Path) -> str:
    """The case that a file of ``imagesTr`` is of."""
    ending = next((one for one in CHANNEL_ENDINGS if path.name.endswith(one)), "")
    return path.name.removesuffix(ending)


def splits_text(rows: Sequence[ManifestRow]) -> str:
    """The rows' folds as nnU-Net's file, or their train and val; empty where they have neither."""
    folds = sorted({row.fold for row in rows if row.fold is not None})
    judged = [[row for row in rows if row.fold == fold] for fold in folds] or [_of_split(rows, "val")]
    splits = []
    for held_out in judged:
        paths = {row.path for row in held_out}
        taught = [case_name(row.path) for row in rows if row.path not in paths]
        splits += [{"train": taught, "val": [case_name(row.path) for row in held_out]}] if held_out else []
    return json.dumps(splits, indent=2) + "\n" if splits else ""


def _of_split(rows: Iterable[ManifestRow], name: str) -> list[ManifestRow]:
    return [row for row in rows if row.split == name]


def with_splits(rows: Sequence[ManifestRow], path: Path, problems: list[str]) -> tuple[ManifestRow, ...]:
    """Rows with the folds of ``splits_final.json``; with one fold only, its cases to validate on are the val split.

    Args:
        rows: Of the cases of ``imagesTr``.
        path: The file.
        problems: Grows by what is wrong: cases that are not there, a case in two folds, a patient in two splits.
    """
    folds = _read(path)
    known = {case_name(row.path) for row in rows}
    where: dict[str, int] = {}
    for number, names in enumerate(folds):
        problems += [
            f"{path}: fold {number} names case {name}, which imagesTr lacks" for name in names if name not in known
        ]
        problems += [
            f"{path}: case {name} is validated in the folds {where[name]} and {number}"
            for name in names
            if name in where
        ]
        where |= dict.fromkeys(names, number)
    placed = [(row, where.get(case_name(row.path))) for row in rows]
    if len(folds) == 1:
        found = tuple(replace(row, split="train" if fold is None else "val") for row, fold in placed)
    else:
        found = tuple(replace(row, fold=fold) for row, fold in placed)
    problems += [f"{path}: {problem}" for problem in split_problems(found)]
    return found


def _read(path: Path) -> list[list[str]]:
    """The cases to validate on, fold by fold."""
    splits = read_json(path)
    if not (
        isinstance(splits, list)
        and splits
        and all(isinstance(one, dict) and isinstance(one.get("val"), list) for one in splits)
    ):
        raise ConfigError(f"{path} is no list of folds with train and val, as nnU-Net writes it")
    return [[str(name) for name in one["val"]] for one in splits]
