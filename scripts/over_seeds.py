"""Networks trained several times from other seeds, and judged on the same slices: means, intervals, differences.

    python scripts/over_seeds.py evaluation/per_image.csv -m slices.csv --source ct100 --baseline none

``per_image.csv`` is what ``jcs evaluate segmentation`` (or ``jcs compare``) writes; its methods are called NAME-SEED.
Intervals resample patients and, within each draw, every network's seeds: a difference that another seed would undo
does not pass for one. Prints one table in Markdown.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import read_manifest
from jcs_ct.metrics.bootstrap import Interval, Resampling

Floats = NDArray[np.float64]
#: Columns of ``per_image.csv`` that are shown; the first also for each seed and against the baseline.
MEASURES = {"dice_percent": "Dice, %", "iou_percent": "IoU, %", "hausdorff_px": "Hausdorff, px"}


def scores_of(rows: Sequence[Mapping[str, str]], cases: Sequence[str], measure: str) -> dict[str, Floats]:
    """Scores of each network, (seeds, cases), out of the rows of ``per_image.csv``.

    Raises:
        SystemExit: a method without a seed in its name, or one that was not judged on all cases.
    """
    wanted = {case: number for number, case in enumerate(cases)}
    found: dict[str, dict[str, Floats]] = {}
    for row in rows:
        name, dash, seed = row["method"].rpartition("-")
        if not dash or not seed.isdigit():
            raise SystemExit(f"the method {row['method']!r} is not called NAME-SEED")
        if row["case"] in wanted:
            scores = found.setdefault(name, {}).setdefault(seed, np.full(len(cases), np.nan))
            scores[wanted[row["case"]]] = float(row[measure])
    stacked = {name: np.stack(list(seeds.values())) for name, seeds in found.items()}
    for name, scores in stacked.items():
        if not np.isfinite(scores).all():
            raise SystemExit(f"{name} lacks {measure} of some of the {len(cases)} slices")
    return stacked


def over_seeds(
    scores: Floats, patients: Sequence[str], resampling: Resampling, minus: Floats | None = None
) -> Interval:
    """Mean of (seeds, cases) scores, or of what they are above others' on the same cases, with seeds of their own.

    Each draw of the interval takes patients with repeats, and as many seeds of each network with repeats.
    """
    seeds = resampling.generator().spawn(1)[0]

    def drawn(of: Floats, rows: NDArray[np.int64]) -> float:
        return float(of[seeds.integers(0, len(of), len(of))][:, rows].mean())

    def statistic(rows: NDArray[np.int64]) -> float:
        return drawn(scores, rows) - (0.0 if minus is None else drawn(minus, rows))

    interval = resampling.interval(statistic, patients)
    return replace(interval, value=float(scores.mean()) - (0.0 if minus is None else float(minus.mean())))


def table(
    scores: Mapping[str, Mapping[str, Floats]], patients: Sequence[str], baseline: str, resampling: Resampling
) -> str:
    """One row a network, in Markdown; ``scores`` by measure and name."""
    first, *others = MEASURES
    heads = ["network", MEASURES[first], "each seed", f"minus {baseline}", *(MEASURES[one] for one in others)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, own in scores[first].items():
        difference = "–"
        if name != baseline:
            difference = _said(over_seeds(own, patients, resampling, scores[first][baseline]), sign=True)
        cells = [
            _said(over_seeds(own, patients, resampling)),
            ", ".join(f"{value:.1f}" for value in own.mean(axis=1)),
            difference,
            *(_said(over_seeds(scores[one][name], patients, resampling)) for one in others),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _said(interval: Interval, *, sign: bool = False) -> str:
    """The figure, and its interval where there are patients enough for one."""
    values = [value for value in (interval.value, interval.low, interval.high) if value is not None]
    value, *ends = (f"{one:+.1f}".replace("-", "−") if sign else f"{one:.1f}" for one in values)
    return f"{value} ({' to '.join(ends)})" if ends else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scores", type=Path, help="per_image.csv")
    parser.add_argument("-m", "--manifest", type=Path, required=True, help="of the slices that were judged")
    parser.add_argument("--source", help="slices of this source only")
    parser.add_argument("--baseline", required=True, help="network that the others are compared with")
    parser.add_argument("--draws", type=int, default=2000)
    asked = parser.parse_args(arguments)
    judged = {
        row.mask.stem: row.unit
        for row in read_manifest(asked.manifest)
        if row.split == "test" and row.mask is not None and asked.source in (None, row.source)
    }
    with asked.scores.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cases = sorted({row["case"] for row in rows} & judged.keys())
    if not cases:
        raise SystemExit("none of the scored slices is a test slice of the manifest")
    scores = {measure: scores_of(rows, cases, measure) for measure in MEASURES}
    if asked.baseline not in scores["dice_percent"]:
        raise SystemExit(f"no network {asked.baseline!r}; there are {', '.join(scores['dice_percent'])}")
    patients = [judged[case] for case in cases]
    print(f"{len(cases)} slices of {len(set(patients))} patients\n")
    print(table(scores, patients, asked.baseline, Resampling(draws=asked.draws)))


if __name__ == "__main__":
    main()
