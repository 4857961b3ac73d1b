"""Progress of a training on stderr: steps with losses, the last validation and the time left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from jcs_ct.cli.common_options import shown
from jcs_ct.cli.console import LineClock, is_terminal

#: Called with a step, how many there are, and losses by name.
_StepProgress = Callable[[int, int, Mapping[str, float]], None]


@contextmanager
def step_progress(
    steps: int, *, line_every: int = 25, silent: bool = False, log: Path | None = None
) -> Iterator[_StepProgress]:
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
        lines = _training_lines(line_every, validation, as_json=wanted.as_json)
        yield _announcing(lines, _json_going_on if wanted.as_json else _going_on, log)
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

        yield _announcing(update, lambda said, *_: bar.console.print(said, markup=False), log)


def _going_on(said: str, _step: int, _total: int) -> None:
    typer.echo(said, err=True)


def _json_going_on(_said: str, step: int, total: int) -> None:
    typer.echo(json.dumps({"stage": "train", "done": step, "total": total, "goes_on": True}), err=True)


def _announcing(shown: _StepProgress, say: Callable[[str, int, int], None], log: Path | None) -> _StepProgress:
    """Progress that says, before its first step, from where a run goes on."""
    begun: list[int] = []

    def announced(step: int, total: int, losses: Mapping[str, float]) -> None:
        if not begun and step and not losses:
            run = "" if log is None else f"{log.parent}: "
            goes_on = f"goes on from step {step} of {total}"
            say(run + (goes_on if step < total else f"all {total} steps are done"), step, total)
        begun.append(step)
        shown(step, total, losses)

    return announced


def _training_lines(line_every: int, validation: _LastValidation, *, as_json: bool) -> _StepProgress:
    clock = LineClock()

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
