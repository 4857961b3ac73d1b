"""What the commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jcs_ct.cli.common_options import shown
from jcs_ct.cli.endings import print_document

if TYPE_CHECKING:
    from jcs_ct.evaluation.pages.tables import Table


#: Seconds between two lines of progress where no one looks at a bar.
SECONDS_PER_LINE = 10.0


def print_json(value: Any) -> None:
    """The result of a command as one JSON document on stdout (see :mod:`jcs_ct.cli.endings`)."""
    print_document(value)


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
    clocks: dict[str, _LineClock] = {}

    def lines(stage: str, done: int, total: int) -> None:
        clock = clocks.setdefault(stage, _LineClock())
        left = clock.left(done, total)
        if done >= total and not clock.is_over:
            clock.is_over = True
            typer.echo(f"{stage}: {done}/{total} in {spoken_seconds(clock.elapsed())}", err=True)
        elif done < total and clock.is_due():
            typer.echo(f"{stage}: {done}/{total}, {left}", err=True)

    return lines


class _LineClock:
    """When the next line of a stage is due, and how long it still takes at its pace so far."""

    def __init__(self) -> None:
        self._started = self._said = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.is_over = False

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def is_due(self) -> bool:
        if time.monotonic() - self._said < SECONDS_PER_LINE:
            return False
        self.said()
        return True

    def said(self) -> None:
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


@contextmanager
def step_progress(
    steps: int, *, line_every: int = 25, silent: bool = False, log: Path | None = None
) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """Steps of a training with loss, last validation and time left, on stderr, from the first step on.

    A bar on a terminal; elsewhere a line at the first step, every ``line_every`` steps and every
    ``SECONDS_PER_LINE``; with --json the same as JSON lines; with -q nothing.

    Args:
        steps: There are to do.
        line_every: Steps between two lines.
        silent: Nothing is shown (a further process of one training).
        log: The run's ``log.jsonl``, whose last line is the last validation.
    """
    wanted = shown()
    validation = _LastValidation(log)
    if silent or wanted.quiet:
        yield lambda step, total, losses: None
        return
    if wanted.as_json or not is_terminal():
        yield _training_lines(line_every, validation, as_json=wanted.as_json)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("preparing", total=steps)

        def update(step: int, total: int, losses: Mapping[str, float]) -> None:
            said = [f"loss {losses['loss']:.4f}"] if losses else []
            if validation.figures():
                said.append(f"validation {validation.in_words()}")
            bar.update(task, completed=step, total=total, description=", ".join(said) if said else None)

        yield update


def _training_lines(
    line_every: int, validation: _LastValidation, *, as_json: bool
) -> Callable[[int, int, Mapping[str, float]], None]:
    clock = _LineClock()

    def lines(step: int, total: int, losses: Mapping[str, float]) -> None:
        left = clock.left(step, total)
        is_news = step % line_every == 0 or step in (1, total) or validation.is_new()
        if not losses or not (is_news or clock.is_due()):
            return
        clock.said()
        if as_json:
            facts = {"stage": "train", "done": step, "total": total, "losses": dict(losses)}
            typer.echo(json.dumps({**facts, "validation": validation.figures() or None}), err=True)
            return
        named = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        judged = f"; validation {validation.in_words()}" if validation.figures() else ""
        typer.echo(f"step {step}/{total}: {named}{judged}" + (f"; {left}" if step < total else ""), err=True)

    return lines


class _LastValidation:
    """The last line of a run's log, read when the file has grown."""

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self._size = self._seen = log.stat().st_size if log is not None and log.is_file() else 0
        self._figures: dict[str, float] = {}

    def figures(self) -> dict[str, float]:
        """Of this run, without what is no figure of a validation; empty before the first."""
        if self._log is not None and self._log.is_file() and self._log.stat().st_size != self._size:
            text = self._log.read_text(encoding="utf-8")
            self._size = self._log.stat().st_size
            whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
            record = json.loads(whole[-1]) if whole else {}
            self._figures = {name: value for name, value in record.items() if name not in _NO_FIGURES}
        return self._figures

    def is_new(self) -> bool:
        """Whether it has not been asked for since it came."""
        self.figures()
        is_new, self._seen = self._size != self._seen, self._size
        return is_new

    def in_words(self) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in self._figures.items())


_NO_FIGURES = ("step", "train_loss", "validation_s")
