"""What is burned into pictures and says nothing of the patient: letters, numbers and frames.

Public infected and uninfected slices come from different places, and each place marks its pictures in its own way: a
classifier can read the marks. They are put on at random in training, and on and off when a classifier is judged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.float32]

#: 3 x 5 dots a character, row by row from the top.
_GLYPHS = {
    "0": "111101101101111",
    "1": "010110010010111",
    "2": "111001111100111",
    "3": "111001111001111",
    "4": "101101111001001",
    "5": "111100111001111",
    "6": "111100111101111",
    "7": "111001010010010",
    "8": "111101111101111",
    "9": "111101111001111",
    "A": "010101111101101",
    "H": "101101111101101",
    "L": "100100100100111",
    "P": "111101111100100",
    "R": "110101110101101",
    " ": "000000000000000",
}
_CHARACTERS = tuple(_GLYPHS)
_GLYPH_ROWS, _GLYPH_COLUMNS = 5, 3
#: Text lies within this share of the picture from an edge.
_MARGIN = 0.16
#: Grey from which a pixel may be a burned-in mark, and how much brighter than around it such a mark is.
MARK_GREY, MARK_CONTRAST = 0.98, 0.25
#: A mark removed is at most this share of the picture, each letter of it.
_LARGEST_MARK = 0.002
#: What surrounds a mark: the median of this many pixels a side, of a picture of about so many pixels.
_MEDIAN_SIZE, _COARSE = 7, 160


def burn_marks(grey: Grey, generator: np.random.Generator) -> Grey:
    """Text, a frame, or both; as training draws them."""
    kind = generator.integers(3)
    if kind != 1:
        grey = burn_text(grey, generator)
    return draw_frame(grey, generator) if kind != 0 else grey


def burn_text(grey: Grey, generator: np.random.Generator) -> Grey:
    """One to three lines of characters near the picture's edges.

    Args:
        grey: (rows, columns) in [0, 1]; it is not changed.
        generator: Source of the draws.
    """
    marked = grey.copy()
    rows, columns = grey.shape
    for _ in range(int(generator.integers(1, 4))):
        text = "".join(generator.choice(_CHARACTERS, size=int(generator.integers(1, 11))))
        dots = np.kron(_dots(text), np.ones((max(1, round(rows * generator.uniform(0.004, 0.010))),) * 2, dtype=bool))
        dots = dots[:rows, :columns]
        top, left = _place(grey.shape, dots.shape, generator)
        level = generator.uniform(0.8, 1.0) if generator.random() < 0.8 else generator.uniform(0.0, 0.15)
        marked[top : top + dots.shape[0], left : left + dots.shape[1]][dots] = level
    return marked


def _dots(text: str) -> NDArray[np.bool_]:
    """(5, 4 * characters) True where ink is."""
    glyphs = [
        np.array([mark == "1" for mark in _GLYPHS[name]], dtype=bool).reshape(_GLYPH_ROWS, _GLYPH_COLUMNS)
        for name in text
    ]
    return np.concatenate([np.pad(glyph, ((0, 0), (0, 1))) for glyph in glyphs], axis=1)


def _place(shape: tuple[int, ...], size: tuple[int, ...], generator: np.random.Generator) -> tuple[int, int]:
    """Top and left of a block that lies along one of the four edges."""
    free = [max(0, whole - part) for whole, part in zip(shape, size, strict=True)]
    place = [round(space * generator.random()) for space in free]
    axis, far = int(generator.integers(2)), bool(generator.integers(2))
    depth = round(min(free[axis], _MARGIN * shape[axis]) * generator.random())
    place[axis] = free[axis] - depth if far else depth
    return place[0], place[1]


def draw_frame(grey: Grey, generator: np.random.Generator) -> Grey:
    """A frame of one level on one to four sides, up to 5 % of the picture wide.

    Args:
        grey: (rows, columns) in [0, 1]; it is not changed.
        generator: Source of the draws.
    """
    framed = grey.copy()
    level = float(generator.choice([0.0, 1.0, generator.uniform(0.2, 0.8)]))
    width = max(1, round(min(grey.shape) * generator.uniform(0.01, 0.05)))
    sides = generator.permutation(4)[: int(generator.integers(1, 5))]
    for side in sides:
        turned = np.rot90(framed, int(side))
        turned[:width] = level
    return framed


def remove_marks(grey: Grey) -> Grey:
    """Letters and arrows taken off: small saturated parts, filled with the median of what surrounds them.

    A calcified spot or the bright middle of a vessel may go with them: it changes little in a lung window.

    Args:
        grey: (rows, columns) in [0, 1] under a lung window.
    """
    # Of every step-th pixel: a median over as many pixels of the picture itself takes seconds.
    step = max(1, min(grey.shape) // _COARSE)
    around = ndimage.median_filter(grey[::step, ::step], size=_MEDIAN_SIZE, mode="nearest")
    around = np.kron(around, np.ones((step, step), dtype=np.float32))[: grey.shape[0], : grey.shape[1]]
    labels, _ = ndimage.label(grey >= MARK_GREY, structure=np.ones((3, 3), dtype=bool))
    small = np.bincount(labels.ravel()) <= _LARGEST_MARK * grey.size
    small[0] = False
    # The antialiased rim of a letter goes with it.
    marks = ndimage.binary_dilation(small[labels] & (grey - around >= MARK_CONTRAST), iterations=1)
    return np.where(marks, around, grey)
