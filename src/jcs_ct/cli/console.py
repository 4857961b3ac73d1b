"""What the commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from jcs_ct.cli.common_options import shown
from jcs_ct.cli.documents import print_document

if TYPE_CHECKING:
    from jcs_ct.evaluation.pages.tables import Table


#: Seconds between two lines of progress where no one looks at a bar.
SECONDS_PER_LINE = 10.0


def print_json(value: Any) -> None:
    """The result of a command as one JSON document on stdout (see :mod:`jcs_ct.cli.endings`)."""
    print_document(value)


def counted(count: int, one: str, several: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count} {one if count == 1 else several}"


def parse_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` as given with --set -> values by dotted name."""
    import yaml

    found: dict[str, Any] = {}
    for setting in settings or []:
        name, separator, value = setting.partition("=")
        if not separator:
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE", param_hint="--set")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"the value of {setting!r} is not valid YAML", param_hint="--set") from error
    return found


def print_tables(tables: Iterable[Table]) -> None:
    """Tables as a person reads them: a row a line where that fits the window, else a block, a figure a line."""
    from jcs_ct.evaluation.pages.tables import EMPTY_CELL

    for table in tables:
        columns = shutil.get_terminal_size().columns
        typer.echo("\n" + textwrap.fill(table.title, columns))
        heads = [column.title for column in table.columns]
        for cells in table.shown():
            pairs = zip(heads[1:], cells[1:], strict=True)
            shown = [(head, cell) for head, cell in pairs if cell != EMPTY_CELL]
            line = f"  {cells[0]}: {', '.join(f'{head} {cell}' for head, cell in shown)}"
            typer.echo(line if len(line) <= columns else f"  {cells[0]}\n{_block(shown, columns)}")


def _block(figures: Sequence[tuple[str, str]], columns: int) -> str:
    """Names and figures below each other; what is longer than its line goes on below itself."""
    width = max((len(name) for name, _ in figures), default=0)
    lines = []
    for name, figure in figures:
        head = f"    {name:<{width}}  "
        later = " " * (len(head) if len(head) <= columns // 2 else 6)
        lines.append(textwrap.fill(head + figure, columns, subsequent_indent=later, drop_whitespace=True))
    return "\n".join(lines)


@contextmanager
def stage_progress(*, as_json: bool = False, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """What is done of each stage, and the time left, on stderr.

    A bar a stage on a terminal; elsewhere a line at the end of a stage and every ``SECONDS_PER_LINE`` within it. With
    ``as_json`` one JSON line a change; with ``quiet`` nothing. Both may come from the command's own options, too.
    """
    wanted = shown()
    if quiet or wanted.quiet:
        yield lambda stage, done, total: None
    elif as_json or wanted.as_json:
        yield _json_lines()
    elif not is_terminal():
        yield _plain_lines()
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            tasks: dict[str, Any] = {}

            def update(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=max(total, 1))
                bars.update(tasks[stage], completed=done, total=max(total, 1))

            yield update


def is_terminal() -> bool:
    """Whether someone looks at stderr as it is written."""
    return sys.stderr.isatty()


def _json_lines() -> Callable[[str, int, int], None]:
    seen: dict[str, int] = {}

    def lines(stage: str, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if seen.get(stage) != percent:
            seen[stage] = percent
            typer.echo(json.dumps({"stage": stage, "done": done, "total": total}), err=True)

    return lines


def _plain_lines() -> Callable[[str, int, int], None]:
    clocks: dict[str, LineClock] = {}

    def lines(stage: str, done: int, total: int) -> None:
        clock = clocks.setdefault(stage, LineClock())
        left = clock.left(done, total)
        if done >= total and not clock.is_over:
            clock.is_over = True
            typer.echo(f"{stage}: {done}/{total} in {spoken_seconds(clock.elapsed())}", err=True)
        elif done < total and clock.is_due():
            typer.echo(f"{stage}: {done}/{total}, {left}", err=True)

    return lines


class LineClock:
    """When the next line of a stage is due, and how long it still takes at its pace so far."""

    def __init__(self) -> None:
        self._started = self._said = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.is_over = False

    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def is_due(self) -> bool:
        """Whether a line is due; it is then taken as said."""
        if time.monotonic() - self._said < SECONDS_PER_LINE:
            return False
        self.said()
        return True

    def said(self) -> None:
        """Count the wait for the next line from now."""
        self._said = time.monotonic()

    def left(self, done: int, total: int) -> str:
        """In words; a run that continues is timed from where it was continued."""
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now) if done else (0, self._started)
        first, since = self._first
        if done <= first:
            return "time left not known yet"
        return f"about {spoken_seconds((now - since) / (done - first) * (total - done))} left"


def spoken_seconds(seconds: float) -> str:
    """A time for a person: ``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{max(0.0, seconds):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
