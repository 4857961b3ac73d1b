"""Slices -> first-stage feature files and their lists, in the form COVID-CS is published in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jcs_ct.data.covid_cs.feature_files import StoredFeatures, write_features
from jcs_ct.data.covid_cs.feature_lists import ListedSlice, write_list
from jcs_ct.data.datasets import prepare_slice
from jcs_ct.data.manifest import SPLITS, Manifest
from jcs_ct.engine import ReadyNetwork
from jcs_ct.errors import ConfigError
from jcs_ct.files import prepare_output_folder, replacing
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.progress import CountProgress


def write_feature_set(
    manifest: Manifest,
    ready: ReadyNetwork,
    folder: Path,
    *,
    half_size: bool = False,
    progress: CountProgress | None = None,
) -> list[dict[str, Any]]:
    """Run a network's first stage over a manifest's slices and store what comes out.

    Writes ``features/<number>.mat``, ``masks/<number>.png`` (not for a classifier) and a list per split,
    ``train.txt``, ``val.txt``, ``test.txt``. Numbers are the manifest's rows; no name or patient is carried over.

    Args:
        manifest: Slices; for a segmenter those whose lesion pixels are known are taken, for a classifier those with
            a label.
        ready: The network whose first stage runs, with its preprocessing.
        folder: Output.
        half_size: Of slices at half the network's size, a quarter of the storage.
        progress: Called with (done, total).

    Returns:
        One record a slice: file, split, saturated values.

    Raises:
        ConfigError: no slice that can be used, or a part of a network without a first stage.
    """
    network = ready.network
    if not isinstance(network, Classifier | Segmenter):
        raise ConfigError(f"{ready.name} is a {ready.task}; features are written by a classifier or a segmenter")
    preprocessor = ready.preprocessor
    if half_size:
        preprocessor = replace(preprocessor, size=preprocessor.size // 2)
    with_mask = isinstance(network, Segmenter)
    known = {id(row) for row in (manifest.with_masks() if with_mask else manifest)}
    rows = [(n, row) for n, row in enumerate(manifest) if id(row) in known and row.label is not None]
    if not rows:
        raise ConfigError(f"the manifest has no slice with a known {'lesion mask' if with_mask else 'label'}")
    for name in ("features", "masks") if with_mask else ("features",):
        prepare_output_folder(folder / name)
    lists: dict[str, list[ListedSlice]] = {split: [] for split in SPLITS}
    records: list[dict[str, Any]] = []
    for done, (number, row) in enumerate(rows, start=1):
        grey, mask = prepare_slice(row, preprocessor)
        path = folder / "features" / f"{number:06d}.mat"
        stored = store_first_stage(path, network, preprocessor, grey)
        mask_path = folder / "masks" / f"{number:06d}.png" if with_mask else None
        if mask_path is not None:
            _write_mask(mask_path, np.zeros(grey.shape[1:], np.uint8) if mask is None else mask[0].numpy())
        lists[row.split].append(ListedSlice(path, mask_path, None if with_mask else row.label))
        records.append({"features": path.name, "split": row.split, "saturated": stored.saturated})
        if progress is not None:
            progress(done, len(rows))
    for split, listed in lists.items():
        if listed:
            write_list(folder / f"{split}.txt", listed)
    return records


def store_first_stage(
    path: Path, network: Classifier | Segmenter, preprocessor: SlicePreprocessor, grey: Tensor
) -> StoredFeatures:
    """(1, H, W) uint8 grey -> the first stage's maps in ``path``."""
    with torch.inference_mode():
        first = network.first_stage(preprocessor.normalise(grey.float() / 255.0)[None])
    return write_features(path, vgg_feats=_array(first.vgg_feats), res2net_feats=_array(first.res2net_feats))


def _array(feature: Tensor | None) -> NDArray[np.float32] | None:
    return None if feature is None else feature[0].float().cpu().numpy()


def _write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    with replacing(path) as temporary:
        Image.fromarray(mask * np.uint8(255)).save(temporary)
