"""Predictions as files: one grey PNG a slice, read and written so that the cut at 0.5 stays where it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jcs_ct.data.manifest import read_hu
from jcs_ct.engine import Execution, ReadySegmenter, segment_slices
from jcs_ct.errors import ConfigError, NotFoundError
from jcs_ct.experiments.judged_slices import Case, CaseSet
from jcs_ct.files import prepare_output_folder, replacing
from jcs_ct.progress import CountProgress

#: Levels up to which a folder's largest one is probably the number of a class, no probability.
_MOST_CLASSES = 16


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one method says of every case.

    Args:
        name: Of the method.
        levels: (rows, columns) uint8 of every case, probability = level / 255.
        note: What the reader should know of them; may be empty.
    """

    name: str
    levels: tuple[NDArray[np.uint8], ...]
    note: str = ""

    def __len__(self) -> int:
        return len(self.levels)

    def probability(self, index: int) -> NDArray[np.float32]:
        """(rows, columns) in [0, 1]."""
        return np.asarray(self.levels[index], dtype=np.float32) / np.float32(255.0)


def to_levels(probability: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Probabilities in [0, 1] -> 0 to 255, halves rounded up: ``level >= 128`` exactly where ``p >= 0.5``."""
    return np.floor(np.asarray(probability, dtype=np.float64) * 255.0 + 0.5).clip(0, 255).astype(np.uint8)


def write_predictions(folder: Path, names: Sequence[str], levels: Sequence[NDArray[np.uint8]]) -> None:
    """Write one PNG a case, ``<name>.png``, each whole or not at all."""
    prepare_output_folder(folder)
    for name, plane in zip(names, levels, strict=True):
        with replacing(folder / f"{name}.png") as temporary:
            Image.fromarray(plane).save(temporary)


def read_predictions(folder: Path, cases: CaseSet, *, name: str | None = None) -> Predictions:
    """Read the predictions of all cases: PNG of 0 to 255, the probability times 255.

    Args:
        folder: Holds ``<case name>.png``; files of no case are left alone and named in the note.
        cases: What is judged.
        name: Of the method; the folder's name by default.

    Raises:
        ConfigError: files that are missing, unreadable, not 8-bit grey or not of their mask's size; all at once.
    """
    levels: list[NDArray[np.uint8]] = []
    problems: list[str] = []
    for case in cases:
        path = folder / f"{case.name}.png"
        try:
            plane = _read_plane(path)
        except ConfigError as error:
            problems.append(str(error))
            continue
        shape = case.read_mask().shape
        if plane.shape != shape:
            problems.append(
                f"{path}: the prediction has {plane.shape[0]}x{plane.shape[1]} pixels, its mask "
                f"{shape[0]}x{shape[1]}; "
                "predictions are judged on the mask's own grid"
            )
        levels.append(plane)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"the predictions in {folder} have {len(problems)} problem(s):\n{shown}")
    known = {case.name for case in cases}
    extra = sum(path.stem not in known for path in folder.glob("*.png"))
    note = f"{extra} file(s) in the folder belong to no case and were left alone" if extra else ""
    return Predictions(name or folder.name, tuple(levels), note)


def read_given(folders: Sequence[Path], cases: CaseSet, *, name: str | None = None) -> Predictions:
    """Predictions that others may have made: PNG of 0 to 255, or masks of 0 and 1; of several folders their mean.

    Args:
        folders: One or more, as :func:`read_predictions` takes them. One whose largest value is 1 holds masks of 0
            and 1, which the note says: nothing tells them from probabilities that nowhere exceed 1/255.
        cases: What is judged.
        name: Of the method; a single folder's name by default.

    Raises:
        ConfigError: several folders without a name, masks of 0 and 1 among those of 0 and 255, or as
            :func:`read_predictions`.
    """
    if len(folders) == 1:
        return _masks_as_levels(read_predictions(folders[0], cases, name=name))
    if name is None:
        joined = "+".join(str(folder) for folder in folders)
        raise ConfigError(f"the mean of several folders needs a name: NAME={joined}")
    return mean_predictions([_masks_as_levels(read_predictions(folder, cases)) for folder in folders], name=name)


def _masks_as_levels(read: Predictions) -> Predictions:
    """Masks of 0 and 1 as 0 and 255, and a word of it; all else as it is, with a word of what may be labels."""
    present: set[int] = set().union(*(np.unique(plane).tolist() for plane in read.levels))
    if present in ({0, 1, 255}, {1, 255}):
        raise ConfigError(
            f"{read.name} holds the values 0, 1 and 255 and no other: masks of 0 and 1 among masks of 0 and 255; "
            "write all of one kind"
        )
    largest = max(present, default=0)
    if not 1 <= largest <= _MOST_CLASSES:
        return read
    note, levels = f"its largest value is {largest}: read as ", read.levels
    if largest == 1:
        note += "masks of 0 and 1, not as probabilities times 255"
        levels = tuple(plane * np.uint8(255) for plane in levels)
    else:
        note += "probabilities times 255, all of them faint; give labels of several classes as masks of 0 and 255"
    return Predictions(read.name, levels, "; ".join(filter(None, [read.note, note])))


def mean_predictions(members: Sequence[Predictions], *, name: str) -> Predictions:
    """An ensemble: the mean probability of several methods, case by case."""
    # Of the levels themselves, halves rounded up: sums of whole numbers have no error that could move the cut.
    levels = tuple(
        np.floor(np.mean(planes, axis=0, dtype=np.float64) + 0.5).astype(np.uint8)
        for planes in zip(*(member.levels for member in members), strict=True)
    )
    notes = [f"{member.name}: {member.note}" for member in members if member.note]
    mean = f"mean of {len(members)}: {', '.join(member.name for member in members)}"
    return Predictions(name, levels, "; ".join([mean, *notes]))


def _read_plane(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("L", "1"):
                raise ConfigError(f"{path}: a prediction is an 8-bit grey PNG, this one is {image.mode}")
            return np.asarray(image.convert("L"), dtype=np.uint8)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable image ({error})") from error


def predict_cases(
    ready: ReadySegmenter,
    cases: Sequence[Case],
    *,
    execution: Execution,
    flip_average: bool = False,
    progress: CountProgress | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Levels (rows, columns) of every case, in order, on its own grid.

    Args:
        ready: A segmenter.
        cases: With images.
        execution: Device, precision and batch size.
        flip_average: Average the probability with that of the slice's mirror image, mirrored back.
        progress: Called with (done, total).

    Raises:
        ValueError: a case without an image.
        ConfigError: an image that cannot be read.
    """
    for done, case in enumerate(cases, start=1):
        hu = case_hu(case)
        views = np.stack([hu, hu[:, ::-1]]) if flip_average else hu[None]
        planes = [plane for _, plane in segment_slices(ready, views, range(len(views)), execution=execution)]
        yield to_levels((planes[0] + planes[1][:, ::-1]) / 2 if flip_average else planes[0])
        if progress is not None:
            progress(done, len(cases))


def case_hu(case: Case) -> NDArray[np.float32]:
    """(rows, columns) in HU, as in training: under the window of the grey levels, or as their values say.

    Raises:
        ValueError: a case without an image.
        ConfigError: an image that cannot be read.
    """
    if case.image is None:
        raise ValueError(f"case {case.name!r} has no image to run a network on; give a manifest or the data's folder")
    return read_hu(case.image, case.window)
