"""What the commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from jcs_ct.evaluation.pages.tables import Table


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def parse_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` as given with --set -> values by dotted name."""
    import yaml

    found: dict[str, Any] = {}
    for setting in settings or []:
        name, separator, value = setting.partition("=")
        if not separator:
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE", param_hint="--set")
        found[name] = yaml.safe_load(value)
    return found


def print_tables(tables: Iterable[Table]) -> None:
    """Tables as a person reads them: one block a row, so that wide ones stay whole in a narrow window."""

    from jcs_ct.evaluation.pages.tables import EMPTY_CELL

    for table in tables:
        typer.echo(f"\n{table.title}")
        heads = [column.title for column in table.columns]
        for cells in table.shown():
            pairs = zip(heads[1:], cells[1:], strict=True)
            shown = [f"{head} {cell}" for head, cell in pairs if cell != EMPTY_CELL]
            typer.echo(f"  {cells[0]}: {', '.join(shown)}")


@contextmanager
def stage_progress(*, as_json: bool = False, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per stage on stderr; with ``as_json`` one JSON line a change instead."""
    if quiet:
        yield lambda stage, done, total: None
        return
    if as_json:
        seen: dict[str, int] = {}

        def lines(stage: str, done: int, total: int) -> None:
            percent = 100 * done // max(total, 1)
            if seen.get(stage) != percent:
                seen[stage] = percent
                typer.echo(json.dumps({"stage": stage, "done": done, "total": total}), err=True)

        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=max(total, 1))
            bars.update(tasks[stage], completed=done, total=max(total, 1))

        yield update


@contextmanager
def step_progress(
    steps: int, *, line_every: int = 25, silent: bool = False
) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """Progress of a training: a bar with the loss on a terminal, a line every ``line_every`` steps elsewhere."""
    if silent:
        yield lambda step, total, losses: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:

        def lines(step: int, total: int, losses: Mapping[str, float]) -> None:
            if losses and (step % line_every == 0 or step in (1, total)):
                named = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
                typer.echo(f"step {step}/{total}: {named}", err=True)

        yield lines
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task("preparing", total=steps)

        def update(step: int, total: int, losses: Mapping[str, float]) -> None:
            said = f"loss {losses['loss']:.4f}" if losses else None
            bar.update(shown, completed=step, total=total, description=said)

        yield update
