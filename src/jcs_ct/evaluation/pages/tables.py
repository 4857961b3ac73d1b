"""Tables: typed columns and rows once, written as CSV, JSON and HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jcs_ct.metrics.bootstrap import LEAST_GROUPS, Interval

Cell = str | int | float | bool | None

#: Values of the column ``origin``.
MEASURED = "measured here"
PAPER = "paper, private data"
PUBLISHED = "published"
#: What a note says of intervals that are not there.
NO_INTERVAL = (
    f"none for fewer than {LEAST_GROUPS} patients (of each class, where two are compared), too narrow for few, and "
    "none where all draws agree, as of a rate of 100 %"
)
#: What the reader sees where there is no value.
EMPTY_CELL = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: Stable name with its unit, as ``dice_percent``.
        title: For the reader.
        digits: Decimals of a number in HTML.
        interval: Rows hold ``<key>_low`` and ``<key>_high`` beside the value.
    """

    key: str
    title: str
    digits: int = 2
    interval: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The column's keys in CSV and JSON."""
        return (self.key, f"{self.key}_low", f"{self.key}_high") if self.interval else (self.key,)


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: Stem of its files.
        title: For the reader, with n and what is counted.
        columns: In order.
        rows: Cells by key; a key that is absent is empty.
        notes: Below the table.

    Raises:
        ValueError: a row with a key of no column.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = set(self.keys)
        for row in self.rows:
            if not set(row) <= known:
                raise ValueError(f"table {self.name!r} has no column {', '.join(sorted(set(row) - known))}")

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys in order."""
        return tuple(key for column in self.columns for key in column.keys)

    def to_csv(self) -> str:
        """CSV text with the keys as header; empty cells are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.keys)
        for row in self.rows:
            writer.writerow(["" if row.get(key) is None else row[key] for key in self.keys])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": [{"key": column.key, "title": column.title} for column in self.columns],
            "rows": [{key: row.get(key) for key in self.keys} for row in self.rows],
            "notes": list(self.notes),
        }

    def shown(self) -> Iterator[list[str]]:
        """Rows as the reader sees them."""
        for row in self.rows:
            yield [_shown(column, row) for column in self.columns]


def _shown(column: Column, row: Mapping[str, Cell]) -> str:
    value = row.get(column.key)
    if value is None:
        return EMPTY_CELL
    text = _number(value, column.digits)
    low, high = row.get(f"{column.key}_low"), row.get(f"{column.key}_high")
    if column.interval and low is not None and high is not None:
        return f"{text} [{_number(low, column.digits)}, {_number(high, column.digits)}]"
    return text


def _number(value: Cell, digits: int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def interval_cells(key: str, interval: Interval, *, scale: float = 1.0) -> dict[str, Cell]:
    """An interval's three cells, times ``scale``."""
    values = (interval.value, interval.low, interval.high)
    return {
        name: None if value is None else float(value * scale)
        for name, value in zip((key, f"{key}_low", f"{key}_high"), values, strict=True)
    }
