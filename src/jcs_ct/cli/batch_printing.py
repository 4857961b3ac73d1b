"""What `jcs batch` prints: how far it is, what it would do, how it ended."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jcs_ct import NOTICE
from jcs_ct.choices import State
from jcs_ct.cli.console import counted, print_json, spoken_seconds
from jcs_ct.cli.documents import print_document
from jcs_ct.cli.endings import EXIT_INTERRUPTED, EXIT_PARTLY, EXIT_TERMINATED, OUTCOMES, ending
from jcs_ct.disk_space import size_text
from jcs_ct.errors import StoppedError

if TYPE_CHECKING:
    from jcs_ct.batch.cohort_manifest import ManifestCounts
    from jcs_ct.batch.driver import Failure, Standing
    from jcs_ct.batch.estimate import Estimate

#: How a batch that was stopped goes on, and what to do with studies that failed.
GO_ON = "the same command goes on from there"
RETRY = "see `jcs batch status`, then run the same command with --retry-failed"
_LINE_EVERY_S = 10.0
#: Columns of a line where nobody sees a terminal, and what empties the line that changes on one.
_LOG_COLUMNS = 80
_CLEARED = "\r\x1b[K"


class BatchProgress:
    """Progress on stderr: a line that changes on a terminal, JSON lines, or a line now and then; failures at once."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._as_json, self._quiet, self._told = as_json, quiet, 0.0
        self._is_live = sys.stderr.isatty() and not as_json

    def found(self, count: int) -> None:
        """So many files or studies were looked at."""
        self._tell({"looked_at": count}, f"looking for studies: {count} looked at")

    def standing(self, standing: Standing) -> None:
        """How far the work is."""
        left = standing.seconds_left
        facts = {
            **with_running(standing.counts, standing.running),
            "verdicts": dict(standing.verdicts),
            "studies_per_minute": round(60 * standing.rate, 2),
            "seconds_left": None if left is None else round(left),
            "waiting_for": standing.waiting_for,
        }
        columns = shutil.get_terminal_size().columns if self._is_live else _LOG_COLUMNS
        self._tell(facts, standing_line(standing, columns - 1), last=not standing.open)

    def failure(self, failure: Failure) -> None:
        """A study was refused, or an attempt at it failed."""
        if self._quiet:
            return
        if self._as_json:
            typer.echo(json.dumps(asdict(failure)), err=True)
            return
        now = "tried again" if failure.state is State.QUEUED else failure.state.replace("_", " ")
        cleared = _CLEARED if self._is_live else ""
        said = f"{failure.job_id}  attempt {failure.attempt}, {now}  {failure.code}  {failure.message}"
        typer.echo(f"{cleared}{said.rstrip()}", err=True)

    def end(self) -> None:
        """Leave the line that changed."""
        if self._told and self._is_live:
            typer.echo("", err=True)

    def _tell(self, facts: Mapping[str, Any], line: str, *, last: bool = False) -> None:
        every_s = 0.5 if self._is_live else _LINE_EVERY_S
        if self._quiet or (not last and self._told and time.monotonic() - self._told < every_s):
            return
        self._told = time.monotonic()
        if self._as_json:
            typer.echo(json.dumps(facts), err=True)
        else:
            typer.echo(f"{_CLEARED}{line}" if self._is_live else line, err=True, nl=not self._is_live)


def standing_line(standing: Standing, columns: int) -> str:
    """How far a batch is, in one line of at most so many columns: what matters least is left out first."""
    counts, left = standing.counts, standing.seconds_left
    ended = {state: count for state, count in counts.items() if state is not State.QUEUED}
    verdicts = named_counts(standing.verdicts)
    others = named_counts({str(state): count for state, count in ended.items() if state is not State.DONE and count})
    parts = {  # by how much they matter
        "share": f"{sum(ended.values())} of {sum(counts.values())}",
        "waiting": "waiting until results can be written" if standing.waiting_for else "",
        "left": "" if left is None or not standing.open else f"{_duration(left)} left",
        "others": others,
        "verdicts": verdicts or (f"{counts[State.DONE]} done" if counts[State.DONE] else ""),
        "running": f"{standing.running} running" if standing.running else "",
        "rate": f"{60 * standing.rate:.1f} a minute" if standing.rate else "",
    }
    order = ("share", "verdicts", "others", "running", "rate", "left", "waiting")
    line = ""
    for wanted in range(1, len(parts) + 1):
        chosen = list(parts)[:wanted]
        longer = "; ".join(parts[name] for name in order if name in chosen and parts[name])
        if len(longer) > columns:
            break
        line = longer
    return line[:columns] or parts["share"][:columns]


@contextmanager
def batch_progress(as_json: bool, quiet: bool) -> Iterator[BatchProgress]:
    """Progress whose changing line is left when the block ends.

    It names what fails: the log's word on each attempt, less than that, is left out unless ``--verbose`` asks for it.
    """
    shown, attempts = BatchProgress(as_json, quiet), logging.getLogger("jcs_ct.jobs.attempts")
    level = attempts.level
    if not quiet and not attempts.isEnabledFor(logging.INFO):
        attempts.setLevel(logging.ERROR)
    try:
        yield shown
    finally:
        attempts.setLevel(level)
        shown.end()


def with_running(counts: Mapping[State, int], running: int) -> dict[str, int]:
    """Jobs by state, those that are being read apart from those that wait."""
    named = {str(state): count for state, count in counts.items()}
    return {"running": running, **named, "queued": max(0, named["queued"] - running)}


def counts_line(counts: Mapping[str, int], refused_by_headers: int = 0) -> str:
    """States that have jobs, with their numbers, and the studies whose headers were refused before they had one."""
    said = named_counts({state: count for state, count in counts.items() if count}) or "no studies"
    return said + (f"; {refused_by_headers} refused by their headers" if refused_by_headers else "")


def named_counts(counts: Mapping[str, int]) -> str:
    """Every state with its number."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return spoken_seconds(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def print_plan(counts: ManifestCounts, expected: Estimate, as_json: bool) -> None:
    """What a dry run found, and how long it would take."""
    if as_json:
        print_json({**asdict(counts), "estimate": asdict(expected), "notice": NOTICE})
        return
    studies, slices = counted(counts.studies, "study", "studies"), counted(counts.slices, "slice", "slices")
    typer.echo(f"{studies} to read, {slices}, {size_text(counts.bytes)}")
    if counts.duplicates:
        typer.echo(f"{counted(counts.duplicates, 'was', 'were')} found twice and counted once")
    for code, count in counts.refused.items():
        typer.echo(f"{count} refused: {code}")
    room = f"{size_text(expected.output_bytes)} of results"
    typer.echo(f"about {_duration(expected.seconds)} and {room}, {expected.basis}")


def left(standing: Standing) -> str:
    """What a batch leaves that is stopped now."""
    done = standing.counts[State.DONE]
    return f"{done} of {done + standing.open} studies are done"


def print_end(folder: Path, counts: ManifestCounts, standing: Standing, code: int, as_json: bool) -> None:
    """How a batch ended, and where its summary lies."""
    failed = standing.counts[State.SET_ASIDE]
    if as_json:
        told: dict[str, Any] = {}
        if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            stopped = StoppedError(left(standing), GO_ON)
            told = ending(code, stopped.code, str(stopped), stopped.remedy)
        elif code == EXIT_PARTLY:
            told = ending(code, "FAILED", f"{counted(failed, 'study', 'studies')} failed three times", RETRY)
        states = {str(state): count for state, count in standing.counts.items()}
        print_document(
            {
                "exit_code": code,
                **told,
                "manifest": asdict(counts),
                "counts": states,
                "seconds": round(standing.seconds, 1),
                "summary": str(folder / "summary.csv"),
                "page": str(folder / "cohort.html"),
                "notice": NOTICE,
            },
            outcome=OUTCOMES[code],
        )
        return
    typer.echo(counts_line(with_running(standing.counts, 0), sum(counts.refused.values())))
    earlier = sum(standing.counts.values()) - counts.studies
    if earlier > 0:
        typer.echo(f"{earlier} of them from an earlier search, not in the manifest now and not in the summary")
    if code == EXIT_PARTLY:
        typer.echo(f"jcs: {counted(failed, 'study', 'studies')} failed three times; {RETRY}", err=True)
    typer.echo(f"summary: {folder / 'summary.csv'}; page: {folder / 'cohort.html'}")
    typer.echo(NOTICE)
