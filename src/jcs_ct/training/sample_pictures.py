"""Sample pictures of a run: a few fixed validation slices with the truth and what the network makes of them.

Nothing here draws random numbers, so that a run is the same with and without pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from jcs_ct import NOTICE
from jcs_ct.files import replacing
from jcs_ct.models.activation_map import normalise_map
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.training_data import Batch, TrainingData
from jcs_ct.volume import evenly_spaced

#: Folder below the run's.
SAMPLES = "samples"
_PANEL = 224
_TITLE = 16
_GAP = 4
_TRUTH = np.array([0.0, 158.0, 115.0])
_FOUND = np.array([230.0, 159.0, 0.0])
_HEADS = ("slice", "truth", "network")

#: Maps (N, 1, h, w) between 0 and 1 of a batch, and a few words on each.
MapsOf = Callable[[Batch], tuple[Tensor, Sequence[str]]]


def choose_samples(labels: Sequence[int], count: int) -> tuple[int, ...]:
    """Up to ``count`` indices, the same for the same labels: two thirds infected, each kind spread evenly."""
    infected = [index for index, label in enumerate(labels) if label]
    others = [index for index, label in enumerate(labels) if not label]
    wanted = min(len(infected), max(count - len(others), count - count // 3))
    return (*evenly_spaced(infected, wanted), *evenly_spaced(others, count - wanted))


def write_samples(
    folder: Path,
    step: int,
    data: TrainingData,
    indices: Sequence[int],
    maps_of: MapsOf,
    preprocessor: SlicePreprocessor,
    device: torch.device,
) -> Path:
    """Draw ``samples/step-000500.png``: slice, truth and network side by side, a row a slice; whole or not at all.

    Args:
        folder: Of the run.
        step: For the name.
        data: Validation slices.
        indices: Those that are drawn.
        maps_of: The network, ready to be evaluated.
        preprocessor: What the slices were prepared with.
        device: Of the network.

    Raises:
        OutputError: it cannot be written.
    """
    rows = []
    for index in indices:  # one by one: feature files of a list may differ in size
        batch = data.batch([index], augmentation=None, generator=np.random.default_rng(0))
        maps, words = maps_of(batch.to(device))
        grey, mask, found = _panel(_grey(batch, preprocessor)), _panel(batch.masks), _panel(maps.cpu())
        truth = "infected" if data.labels[index] else "not infected"
        known = "" if bool(batch.has_mask[0]) else ", pixels not known"
        panels = (_colour(grey), _tinted(grey, mask >= 0.5, _TRUTH), _tinted(grey, found, _FOUND))
        rows.append((panels, (f"validation slice {index}", truth + known, words[0])))
    path = folder / SAMPLES / f"step-{step:06d}.png"
    with replacing(path) as temporary:
        _sheet(rows, f"step {step}").save(temporary)
    return path


def _grey(batch: Batch, preprocessor: SlicePreprocessor) -> Tensor:
    """(1, 1, H, W) between 0 and 1: the slice; of features the mean of their first map, which looks like one."""
    if isinstance(batch.images, Tensor):
        return batch.images[:, :1] * preprocessor.std[0] + preprocessor.mean[0]
    first = next(one for one in batch.images if one is not None)
    return normalise_map(first.mean(dim=1, keepdim=True))


def _panel(plane: Tensor) -> NDArray[np.float64]:
    """(1, 1, h, w) -> (panel, panel) between 0 and 1."""
    sized = F.interpolate(plane.float(), (_PANEL, _PANEL), mode="bilinear", align_corners=False, antialias=True)
    return sized[0, 0].double().clamp(0.0, 1.0).numpy()


def _colour(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.repeat(255.0 * grey[..., None], 3, axis=2)


def _tinted(
    grey: NDArray[np.float64], share: NDArray[np.float64] | NDArray[np.bool_], tint: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Grey with a colour laid over it, at most 60 % of it."""
    cover = 0.6 * np.asarray(share, dtype=np.float64)[..., None]
    tinted: NDArray[np.float64] = (1.0 - cover) * _colour(grey) + cover * tint
    return tinted


def _sheet(rows: Sequence[tuple[Sequence[NDArray[np.float64]], Sequence[str]]], title: str) -> Image.Image:
    width = len(_HEADS) * (_PANEL + _GAP) + _GAP
    top = 2 * _TITLE + _GAP
    height = top + len(rows) * (_PANEL + _TITLE + _GAP) + _TITLE
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 2), title, fill="black")
    pen.text((_GAP, height - _TITLE), NOTICE, fill="black")
    for column, head in enumerate(_HEADS):
        pen.text((_GAP + column * (_PANEL + _GAP), _TITLE), head, fill="black")
    for number, (panels, words) in enumerate(rows):
        y = top + number * (_PANEL + _TITLE + _GAP)
        for column, (panel, text) in enumerate(zip(panels, words, strict=True)):
            x = _GAP + column * (_PANEL + _GAP)
            sheet.paste(Image.fromarray(np.rint(panel).astype(np.uint8)), (x, y))
            pen.text((x, y + _PANEL), text, fill="black")
    return sheet
