"""A finished evaluation on disk: one offline page, every table as CSV, all as JSON, every figure as PNG and SVG."""

from __future__ import annotations

import base64
import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from jcs_ct import NOTICE, __version__
from jcs_ct.evaluation.pages.figures import save_figure
from jcs_ct.evaluation.pages.tables import MEASURED, Table
from jcs_ct.files import staged_folder, write_text

#: Tables of more rows are written as CSV and JSON only.
MOST_ROWS_SHOWN = 60
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Tables and figures of one evaluation.

    Args:
        title: Of the page.
        tables: In the page's order.
        figures: By name, with a caption.
        facts: What was evaluated and how: data, weights, budget, seeds. Plain values.
        warnings: Shown on top, as ``short budget: 20 steps``.
    """

    title: str
    tables: tuple[Table, ...]
    figures: Mapping[str, tuple[Figure, str]]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


#: A file of an evaluation, and never one elsewhere.
_PLAIN_NAME = re.compile(r"[\w-]+\.(csv|png|svg)")

PAGE = "index.html"
DATA = "evaluation.json"


def write_evaluation(folder: Path, evaluation: Evaluation, *, beside: Callable[[Path], None] | None = None) -> Path:
    """Write everything together, the page last; its path is returned.

    Args:
        folder: An earlier evaluation there stays as it was until all of this one is written; its tables and figures
            that this one does not have are removed then.
        evaluation: What is written.
        beside: Called with the folder to write what else belongs to this evaluation, such as predictions.

    Raises:
        OutputError: the folder cannot be written.
    """
    with staged_folder(folder, last=PAGE, stale=_earlier_files(folder)) as staging:
        if beside is not None:
            beside(staging)
        _write_into(staging, evaluation)
    return folder / PAGE


def _earlier_files(folder: Path) -> list[str]:
    """Names of the tables and figures of the evaluation in ``folder``, as that states them; none without one."""
    try:
        content = json.loads((folder / DATA).read_text(encoding="utf-8"))
        tables, figures = list(content["tables"]), list(content["figures"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    names = [f"{name}.csv" for name in tables] + [f"{name}.{kind}" for name in figures for kind in ("png", "svg")]
    return [name for name in names if _PLAIN_NAME.fullmatch(name)]


def _write_into(folder: Path, evaluation: Evaluation) -> None:
    pictures = []
    for name, (figure, caption) in evaluation.figures.items():
        png, _ = save_figure(figure, folder, name)
        data = base64.b64encode(png.read_bytes()).decode("ascii")
        pictures.append({"name": name, "caption": caption, "data": data})
    for table in evaluation.tables:
        write_text(folder / f"{table.name}.csv", table.to_csv())
    facts = {**evaluation.facts, **software_facts()}
    write_text(folder / DATA, _json(evaluation, facts))
    write_text(folder / PAGE, _html(evaluation, facts, pictures))


def software_facts() -> dict[str, str]:
    """Versions that a figure depends on."""
    return {
        "jcs_ct": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _json(evaluation: Evaluation, facts: Mapping[str, Any]) -> str:
    content = {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "title": evaluation.title,
        "warnings": list(evaluation.warnings),
        "facts": dict(facts),
        "tables": {table.name: table.to_dict() for table in evaluation.tables},
        "figures": list(evaluation.figures),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _html(evaluation: Evaluation, facts: Mapping[str, Any], pictures: Sequence[Mapping[str, str]]) -> str:
    environment = Environment(
        loader=PackageLoader("jcs_ct.evaluation.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    tables = [
        {
            "name": table.name,
            "title": table.title,
            "heads": [column.title for column in table.columns],
            "rows": list(zip(table.shown(), _is_foreign(table), strict=True))
            if len(table.rows) <= MOST_ROWS_SHOWN
            else None,
            "count": len(table.rows),
            "notes": table.notes,
        }
        for table in evaluation.tables
    ]
    return environment.get_template("evaluation.html").render(
        title=evaluation.title,
        notice=NOTICE,
        warnings=evaluation.warnings,
        tables=tables,
        pictures=pictures,
        facts={name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()},
    )


def _is_foreign(table: Table) -> list[bool]:
    """Whether a row was not measured here."""
    return [row.get("origin", MEASURED) != MEASURED for row in table.rows]
