"""The page's two plots as inline SVG: probability per slice, and HU inside the lungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from jcs_ct.reporting.language import Words, marked

#: Limits of aeration on CT in HU: very low below the first, then normally, poorly and not aerated.
AERATION_CUTS_HU = (-900.0, -500.0, -100.0)
AERATION_NAMES = (
    marked("very low density"),
    marked("normally aerated"),
    marked("poorly aerated"),
    marked("not aerated"),
)


@dataclass(frozen=True)
class Frame:
    """Where a plot's data lie in its picture units."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        """y of the axis."""
        return self.top + self.height


@dataclass(frozen=True)
class Bar:
    """One bar: x, y, width and height in picture units, and what it shows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    position: float
    label: str


@dataclass(frozen=True)
class SlicePlot:
    """Probability of every slice, from superior (left) to inferior (right).

    Args:
        frame: Where the bars lie.
        bars: One a slice, in order.
        threshold_y: Height of the slice threshold.
        lesion_spans: (x, width) of runs of slices that bear a lesion.
        no_lung_spans: (x, width) of runs of slices without lung.
        ticks: Slice numbers, from 1.
    """

    frame: Frame
    bars: tuple[Bar, ...]
    threshold_y: float
    lesion_spans: tuple[tuple[float, float], ...]
    no_lung_spans: tuple[tuple[float, float], ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Cut:
    """A vertical line at a HU value."""

    x: float
    label: str
    is_high_opacity: bool


@dataclass(frozen=True)
class Band:
    """A range of aeration between two cuts, with its share of the lung where the bins allow to say it."""

    x: float
    width: float
    name: str
    percent: float | None


@dataclass(frozen=True)
class HistogramPlot:
    """HU of the lung voxels with the cuts."""

    frame: Frame
    bars: tuple[Bar, ...]
    cuts: tuple[Cut, ...]
    bands: tuple[Band, ...]
    ticks: tuple[Tick, ...]


def slice_plot(slices: Sequence[Mapping[str, Any]], slice_probability: float, words: Words) -> SlicePlot:
    """Lay out the ``slices`` of a report, with the words of its reader."""
    frame = Frame(left=44.0, top=10.0, width=934.0, height=120.0)
    step = frame.width / len(slices)
    bars = []
    for place, entry in enumerate(slices):
        probability = float(entry["infection_probability"])
        kind = "infected" if entry["infected"] else ("clear" if entry["has_lung"] else "outside")
        height = max(0.8, probability * frame.height)
        bars.append(
            Bar(
                x=round(frame.left + place * step, 2),
                y=round(frame.bottom - height, 2),
                width=round(max(step * 0.86, step - 1.5), 2),
                height=round(height, 2),
                kind=kind,
                title=_slice_title(entry, slice_probability, words),
            )
        )
    return SlicePlot(
        frame=frame,
        bars=tuple(bars),
        threshold_y=frame.bottom - slice_probability * frame.height,
        lesion_spans=_spans([bool(entry["lesion_count"]) for entry in slices], frame.left, step),
        no_lung_spans=_spans([not entry["has_lung"] for entry in slices], frame.left, step),
        ticks=tuple(
            Tick(round(frame.left + (number - 0.5) * step, 2), str(number)) for number in _round_steps(len(slices))
        ),
    )


def _slice_title(entry: Mapping[str, Any], cut: float, words: Words) -> str:
    parts = [
        words.text(
            marked("slice %(slice)s: probability %(probability)s"),
            slice=entry["slice_index"] + 1,
            probability=words.probability(entry["infection_probability"], cut),
        )
    ]
    if entry["lesion_count"] is not None:
        parts.append(words.plural("%(number)s lesion", "%(number)s lesions", entry["lesion_count"]))
    if not entry["has_lung"]:
        parts.append(words.text(marked("no lung")))
    return ", ".join(parts)


def _spans(marked: Sequence[bool], left: float, step: float) -> tuple[tuple[float, float], ...]:
    """Runs of marked slices as (x, width)."""
    spans = []
    for is_marked, run in groupby(enumerate(marked), key=lambda pair: pair[1]):
        if is_marked:
            places = [place for place, _ in run]
            spans.append((round(left + places[0] * step, 2), round(len(places) * step, 2)))
    return tuple(spans)


def _round_steps(count: int) -> list[int]:
    """About ten round slice numbers from 1 to ``count``."""
    step = next((size for size in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if count / size <= 10), 1000)
    return [1, *range(step if step > 1 else 2, count + 1, step)]


def histogram_plot(burden: Mapping[str, Any], words: Words) -> HistogramPlot | None:
    """Lay out the ``hu_histogram`` of a report's burden, or None when it is empty."""
    edges = [float(edge) for edge in burden["hu_histogram"]["bin_edges_hu"]]
    counts = [int(count) for count in burden["hu_histogram"]["voxel_counts"]]
    total = sum(counts)
    if total == 0 or len(edges) < 2:
        return None
    frame = Frame(left=24.0, top=34.0, width=556.0, height=130.0)
    low, high = edges[0], edges[-1]

    def place(hu: float) -> float:
        return round(frame.left + (hu - low) / (high - low) * frame.width, 2)

    cut_hu = float(burden["high_opacity_cut_hu"])
    tallest = max(counts)
    bars = []
    for first, last, count in zip(edges[:-1], edges[1:], counts, strict=True):
        height = round(count / tallest * frame.height, 2)
        title = words.text(
            marked("%(first)s to %(last)s HU: %(count)s voxels, %(share)s of the lungs"),
            first=words.figure(first, 0),
            last=words.figure(last, 0),
            count=count,
            share=words.percent(100 * count / total),
        )
        kind = "dense" if first >= cut_hu else "lung"
        bars.append(
            Bar(place(first), frame.bottom - height, round(place(last) - place(first) - 0.3, 2), height, kind, title)
        )
    cuts = [Cut(place(hu), f"{hu:g}", False) for hu in AERATION_CUTS_HU if low < hu < high]
    cuts += (
        [Cut(place(cut_hu), words.text(marked("PHO cut %(cut)s HU"), cut=words.figure(cut_hu, 0)), True)]
        if low <= cut_hu <= high
        else []
    )
    return HistogramPlot(
        frame=frame,
        bars=tuple(bars),
        cuts=tuple(cuts),
        bands=_bands(edges, counts, place, words),
        ticks=tuple(Tick(place(hu), words.figure(hu, 0)) for hu in range(-1000, 401, 100) if low <= hu <= high),
    )


def _bands(edges: Sequence[float], counts: Sequence[int], place: Any, words: Words) -> tuple[Band, ...]:
    """Aeration bands; their share is stated only when both limits are edges of the histogram."""
    limits = [edges[0], *(cut for cut in AERATION_CUTS_HU if edges[0] < cut < edges[-1]), edges[-1]]
    first_name = sum(cut <= edges[0] for cut in AERATION_CUTS_HU)
    total = sum(counts)
    bands = []
    for offset, (start, stop) in enumerate(pairwise(limits)):
        percent = None
        if start in edges and stop in edges:
            inside = sum(count for edge, count in zip(edges, counts) if start <= edge < stop)
            percent = 100.0 * inside / total
        name = words.text(AERATION_NAMES[first_name + offset])
        bands.append(Band(place(start), round(place(stop) - place(start), 2), name, percent))
    return tuple(bands)
