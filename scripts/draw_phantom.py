"""Draw the pictures of docs/concepts/phantom.md: phantoms only, the same bytes every time.

python scripts/draw_phantom.py docs/concepts/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jcs_ct.files import replacing
from jcs_ct.phantom import Phantom, PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_pictures import lung_window

LESION = (230, 60, 50)
TILE = 280
GREYS = 43
STEP = 6


def tile(phantom: Phantom, index: int, *, outlined: bool) -> NDArray[np.uint8]:
    """(TILE, TILE): a slice under the lung window as palette indices, lesions outlined or not."""
    grey = Image.fromarray(lung_window(phantom.volume.hu[index]))
    indices = np.asarray(grey.resize((TILE, TILE), Image.Resampling.LANCZOS)) // STEP
    if outlined:
        mask = Image.fromarray(phantom.lesions.labels[index])
        lesion = np.asarray(mask.resize((TILE, TILE), Image.Resampling.NEAREST)) > 0
        indices[lesion & ~ndimage.binary_erosion(lesion)] = GREYS
    return indices


def row(phantom: Phantom, heights: tuple[float, ...], *, outlined: bool = False) -> NDArray[np.uint8]:
    """Slices side by side, at heights from 0 (top) to 1."""
    last = phantom.volume.shape[0] - 1
    return np.hstack([tile(phantom, round(height * last), outlined=outlined) for height in heights])


def save(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """Write a picture of a few greys and one colour, which keeps it small."""
    picture = Image.fromarray(np.vstack(rows)).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([value for grey in range(GREYS) for value in [grey * STEP + STEP // 2] * 3] + list(LESION))
    with replacing(path) as temporary:
        picture.save(temporary, optimize=True)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    heights = (0.22, 0.42, 0.58, 0.72)
    positive = make_phantom(PhantomConfig(slices=24, seed=8))
    negative = make_phantom(PhantomConfig(slices=24, seed=21, negative=True))
    save(
        folder / "phantom-slices.png",
        [row(positive, heights), row(positive, heights, outlined=True), row(negative, heights)],
    )
    whole = make_phantom(PhantomConfig(slices=24, seed=14))
    save(
        folder / "phantom-chest.png",
        [row(whole, (0.04, 0.15, 0.28, 0.40)), row(whole, (0.52, 0.65, 0.80, 0.94))],
    )


if __name__ == "__main__":
    main()
