"""Dice of the lung mask on a folder of chest slices with lung masks (``images/`` and ``lung_masks/``, 8 bit).

    python scripts/lung_dice.py FOLDER [--json] [--worst N --pictures OUT]

Grey levels are taken as (HU + 1100) * 255 / 1500, clipped; the pixel size is not known. Empty cases follow
docs/reference/metrics.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jcs_ct.lungs import segment_lungs
from jcs_ct.metrics.overlap import Counts, dice_score


def read_hu(path: Path) -> NDArray[np.float32]:
    """(rows, columns) in HU of an 8-bit slice."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) * np.float32(1500 / 255) - np.float32(1100)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(rows, columns) True inside the lungs."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 0


def score(folder: Path) -> list[tuple[str, float, float]]:
    """(name, Dice, seconds) of every slice, in the order of the names."""
    scores = []
    for image in sorted((folder / "images").glob("*.png")):
        hu, truth = read_hu(image), read_mask(folder / "lung_masks" / image.name)
        started = time.perf_counter()
        lungs = segment_lungs(hu[None], spacing_mm=None)[0] > 0
        seconds = time.perf_counter() - started
        scores.append((image.name, float(dice_score(Counts.of(lungs, truth)).values), seconds))
    return scores


def contours(folder: Path, name: str) -> NDArray[np.uint8]:
    """(rows, columns, 3): the slice with the given mask in red and the found one in green."""
    hu, truth = read_hu(folder / "images" / name), read_mask(folder / "lung_masks" / name)
    found = segment_lungs(hu[None], spacing_mm=None)[0] > 0
    picture = np.repeat(np.clip((hu + 1350) / 1500 * 255, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    for mask, colour in ((truth, (255, 0, 0)), (found, (0, 255, 0))):
        picture[mask & ~ndimage.binary_erosion(mask)] = colour
    return picture


def main() -> None:
    """Score the folder and print the summary."""
    parser = argparse.ArgumentParser(description="Dice of the lung mask on slices with given lung masks.")
    parser.add_argument("folder", type=Path, help="holds images/ and lung_masks/")
    parser.add_argument("--json", action="store_true", help="one JSON document with every slice")
    parser.add_argument("--worst", type=int, default=10, help="how many of the worst slices to name")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the worst slices")
    options = parser.parse_args()
    scores = score(options.folder)
    dice = np.array([value for _, value, _ in scores])
    worst = sorted(scores, key=lambda item: item[1])[: options.worst]
    summary = {
        "n": len(dice),
        "mean": round(float(dice.mean()), 4),
        "median": round(float(np.median(dice)), 4),
        "min": round(float(dice.min()), 4),
        "below_0.9": int((dice < 0.9).sum()),
        "ms_per_slice": round(1000 * float(np.mean([seconds for _, _, seconds in scores])), 1),
        "worst": {name: round(value, 4) for name, value, _ in worst},
    }
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name, _, _ in worst:
            Image.fromarray(contours(options.folder, name)).save(options.pictures / name)
    if options.json:
        summary["slices"] = {name: round(value, 4) for name, value, _ in scores}
        print(json.dumps(summary, indent=2))
    else:
        print("\n".join(f"{key}: {value}" for key, value in summary.items()))


if __name__ == "__main__":
    main()
