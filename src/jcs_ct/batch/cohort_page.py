"""The page of a cohort: how much burden, which verdicts by scanner, what was refused, whom to look at first."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from jcs_ct import NOTICE, __version__
from jcs_ct.batch.batch_results import BatchResults
from jcs_ct.batch.summary_row import SummaryRow
from jcs_ct.files import write_text
from jcs_ct.operating_point import Verdict

PAGE = "cohort.html"
_SHOWN = 10
_UNKNOWN = "not stated"
#: Edges of the histogram of burden, in percent of the lungs.
BURDEN_EDGES = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0)


@dataclass(frozen=True)
class HistogramBar:
    """One bar of a histogram: its label, count, and share of the largest in percent."""

    label: str
    count: int
    percent_of_largest: float


def burden_histogram(rows: Sequence[SummaryRow]) -> tuple[HistogramBar, ...]:
    """Studies by percent of the lungs that is opaque, where lesions were segmented and lungs measured."""
    values = [row.percent_opacity for row in rows if row.percent_opacity is not None]
    counts = [0] * (len(BURDEN_EDGES) - 1)
    for value in values:
        place = sum(value >= edge for edge in BURDEN_EDGES[1:-1])
        counts[place] += 1
    labels = [f"{low:g} to {high:g} %" for low, high in pairwise(BURDEN_EDGES)]
    return _bars(zip(labels, counts, strict=True))


def _bars(counts: Any) -> tuple[HistogramBar, ...]:
    listed = list(counts)
    most = max((count for _, count in listed), default=0) or 1
    return tuple(HistogramBar(label, count, round(100 * count / most, 1)) for label, count in listed)


def verdicts_by_scanner(rows: Sequence[SummaryRow]) -> list[dict[str, Any]]:
    """A line a scanner, the commonest first: studies by verdict."""
    verdicts: dict[str, Counter[str]] = {}
    for row in rows:
        if row.verdict is not None:
            verdicts.setdefault(row.scanner or _UNKNOWN, Counter())[row.verdict] += 1
    lines = [
        {"scanner": scanner, "all": sum(found.values()), **{str(one): found[str(one)] for one in Verdict}}
        for scanner, found in verdicts.items()
    ]
    return sorted(lines, key=lambda line: (-int(line["all"]), str(line["scanner"])))


def by_margin(rows: Sequence[SummaryRow]) -> tuple[list[SummaryRow], list[SummaryRow]]:
    """The ten studies whose count is furthest from the threshold, and the ten closest to it.

    All of them as the first, and no second, where there are ten or fewer.
    """
    judged = [row for row in rows if row.margin is not None]
    ranked = sorted(judged, key=lambda row: (-abs(row.margin or 0.0), row.job_id))
    return ranked[:_SHOWN], ranked[::-1][:_SHOWN] if len(ranked) > _SHOWN else []


def write_cohort_page(folder: Path, rows: Sequence[SummaryRow], results: BatchResults) -> Path:
    """Write ``cohort.html``, one file that needs no network; its path.

    Raises:
        OutputError: it cannot be written.
    """
    most, least = by_margin(rows)
    environment = Environment(
        loader=PackageLoader("jcs_ct.batch", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    refusals = Counter(row.code for row in rows if row.state == "refused")
    failures = Counter(row.code for row in rows if row.state == "set_aside")
    page = environment.get_template("cohort.html").render(
        notice=NOTICE,
        version=__version__,
        states=Counter(row.state for row in rows).most_common(),
        verdicts=Counter(row.verdict for row in rows if row.verdict).most_common(),
        total=len(rows),
        burden=burden_histogram(rows),
        measured=sum(row.percent_opacity is not None for row in rows),
        scanners=verdicts_by_scanner(rows),
        refusals=_bars(refusals.most_common()),
        failures=_bars(failures.most_common()),
        ranked=[
            (title, _shown(listed, results, folder))
            for title, listed in (
                ("Furthest from the threshold" if least else "Studies, the furthest from the threshold first", most),
                ("Closest to the threshold", least),
            )
            if listed
        ],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _shown(rows: Sequence[SummaryRow], results: BatchResults, folder: Path) -> list[dict[str, Any]]:
    shown = []
    for row in rows:
        picture = results.picture(row.job_id)
        data = "" if picture is None else base64.b64encode(picture).decode("ascii")
        page = results.page(row.job_id)
        link = "" if page is None else quote(Path(os.path.relpath(page, folder.absolute())).as_posix())
        shown.append({"row": row, "picture": data, "link": link})
    return shown
