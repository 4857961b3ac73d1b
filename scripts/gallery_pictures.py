"""Right and wrong answers of the shipped networks, as a picture and a table for docs/gallery.md. Phantoms only.

    python scripts/gallery_pictures.py docs/images

Phantoms of seeds that no training used, one in four without lesions; none is left out and none is chosen by its
answer: the picture shows the best, the median and the worst by Dice, and every wrong verdict.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import jcs_ct as jcs
from jcs_ct.evaluation.pages.figures import AGREEMENT_COLOURS
from jcs_ct.files import replacing
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom
from jcs_ct.phantom.phantom_pictures import lung_window

SEEDS = range(5001, 5017)
SLICES, SIZE = 60, 512
_DPI = 80


@dataclass(frozen=True, eq=False)
class Answer:
    """One phantom and what was said of it.

    Args:
        seed: Of the phantom.
        lesions: How many were drawn.
        truth, found: (slices, rows, columns) bool, on the same grid.
        hu: Likewise.
        voxel_ml: Of one voxel.
        verdict: By the patient rule.
        counted: Infected slices, and above how many the patient is positive.
    """

    seed: int
    lesions: int
    truth: NDArray[np.bool_]
    found: NDArray[np.bool_]
    hu: NDArray[np.int16]
    voxel_ml: float
    verdict: str
    counted: tuple[int, int | None]

    @property
    def is_right(self) -> bool:
        """Whether the verdict is the phantom's truth."""
        return self.verdict == ("positive" if self.truth.any() else "negative")

    @property
    def dice(self) -> float | None:
        """Of the whole volume; None where there is no true lesion."""
        total = int(self.truth.sum()) + int(self.found.sum())
        return 2.0 * int((self.truth & self.found).sum()) / total if self.truth.any() else None


def read(seed: int, models: jcs.Models) -> Answer:
    """Draw a phantom, write it as DICOM, and read it as a user would, lesions outlined whatever the verdict."""
    lesions = 0 if seed % 4 == 0 else 2 + seed % 7
    phantom = make_phantom(
        PhantomConfig(slices=SLICES, size=SIZE, seed=seed, lesions=max(lesions, 1), negative=not lesions)
    )
    with tempfile.TemporaryDirectory() as folder:
        write_dicom(phantom, Path(folder))
        study = jcs.open_study(Path(folder) / "dicom")
    found = jcs.diagnose(study, models, segment="always")
    if study.volume.voxel_ml is None:
        raise ValueError("a phantom has a geometry")
    return Answer(
        seed,
        lesions,
        phantom.lesions.labels > 0,
        found.lesion_labels > 0,
        phantom.volume.hu,
        study.volume.voxel_ml,
        str(found.verdict),
        (found.positive_slice_count, found.positive_slice_threshold),
    )


def shown(answers: list[Answer]) -> list[tuple[str, Answer]]:
    """What the picture shows, by the rule that the page states."""
    ranked = sorted((one for one in answers if one.truth.any()), key=lambda one: one.dice or 0.0)
    rows = [("best Dice", ranked[-1]), ("median Dice", ranked[len(ranked) // 2]), ("worst Dice", ranked[0])]
    return rows + [("wrong verdict", one) for one in answers if not one.is_right]


def draw(rows: list[tuple[str, Answer]]) -> Figure:
    """A row an answer: the slice with most lesion (true, else found), and who calls what a lesion."""
    figure = Figure(figsize=(7.0, 3.4 * len(rows)), layout="constrained", dpi=_DPI)
    for axes, (name, answer) in zip(figure.subplots(len(rows), 2, squeeze=False), rows, strict=True):
        area = (answer.truth if answer.truth.any() else answer.found).sum(axis=(1, 2))
        index = int(area.argmax())
        truth, found = answer.truth[index], answer.found[index]
        for axis in axes:
            axis.imshow(lung_window(answer.hu[index]), cmap="gray", vmin=0, vmax=255)
            axis.axis("off")
        for where, kind in ((truth & found, "both"), (truth & ~found, "missed"), (found & ~truth, "too much")):
            if where.any():
                axes[1].contourf(where, levels=[0.5, 1.5], colors=[AGREEMENT_COLOURS[kind]], alpha=0.6)
        dice = "-" if answer.dice is None else f"{answer.dice:.2f}"
        axes[0].set_title(f"{name}: seed {answer.seed}, slice {index + 1}", fontsize=9, loc="left")
        axes[1].set_title(f"{answer.verdict}, Dice {dice}", fontsize=9, loc="left")
    return figure


def table(answers: list[Answer]) -> str:
    """Markdown, a row a phantom."""
    lines = [
        "| seed | lesions drawn, ml | outlined, ml | Dice | infected slices | verdict | |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in answers:
        true_ml, found_ml = (float(mask.sum()) * one.voxel_ml for mask in (one.truth, one.found))
        dice = "–" if one.dice is None else f"{one.dice:.2f}"
        threshold = "" if one.counted[1] is None else f", positive above {one.counted[1]}"
        lines.append(
            f"| {one.seed} | {one.lesions}: {true_ml:.1f} | {found_ml:.1f} | {dice} | {one.counted[0]}{threshold} "
            f"| {one.verdict} | {'right' if one.is_right else '**wrong**'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read every phantom, draw, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    models = jcs.load_models("compact")
    answers = [read(seed, models) for seed in SEEDS]
    with replacing(folder / "phantom-answers.png") as temporary:
        draw(shown(answers)).savefig(temporary, pil_kwargs={"optimize": True})
    print(table(answers))


if __name__ == "__main__":
    main()
