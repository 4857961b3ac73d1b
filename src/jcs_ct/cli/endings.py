"""How a command ends: its exit code, and with --json one document on stdout for every ending.

======  ==========  =====================================================================
code    outcome     meaning
======  ==========  =====================================================================
0       done        what was asked for is done; a negative study is done, too
1       failed      a fault of the software, with a traceback on stderr
2       failed      usage: an option, a setting, a table, or a folder that cannot be written
3       refused     an input is refused: a study by the gate, a mask, a checkpoint
4       failed      some studies of a batch failed
5       failed      the work could not be done on this machine
130     interrupted Ctrl-C
143     interrupted terminated (SIGTERM)
======  ==========  =====================================================================
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import typer

from jcs_ct import NOTICE
from jcs_ct.cli.common_options import Shown, showing, shown
from jcs_ct.cli.documents import DONE, EXIT_DONE, Stdout, print_document
from jcs_ct.errors import REMEDIES, JCSError, StoppedError

START_OVER = "run the same command again to start over"
REFUSED, FAILED, INTERRUPTED = "refused", "failed", "interrupted"
EXIT_FAULT, EXIT_USAGE, EXIT_REFUSED = 1, 2, 3
EXIT_PARTLY, EXIT_MACHINE, EXIT_INTERRUPTED, EXIT_TERMINATED = 4, 5, 130, 143
OUTCOMES = {
    EXIT_DONE: DONE,
    EXIT_FAULT: FAILED,
    EXIT_USAGE: FAILED,
    EXIT_REFUSED: REFUSED,
    EXIT_PARTLY: FAILED,
    EXIT_MACHINE: FAILED,
    EXIT_INTERRUPTED: INTERRUPTED,
    EXIT_TERMINATED: INTERRUPTED,
}


def ending(exit_code: int, code: str, message: str, remedy: str) -> dict[str, Any]:
    """The document of an ending that is not ``done``."""
    return {
        "exit_code": exit_code,
        "error": {"code": code, "message": message, "remedy": remedy},
        "notice": NOTICE,
    }


def run(app: typer.Typer, arguments: Sequence[str], early: Sequence[int] = ()) -> int:
    """Run the command line -> its exit code; every ending is said on stderr, and with ``--json`` on stdout too.

    Args:
        app: The commands.
        arguments: Of the command line, without the program's name.
        early: Signals that came before there was anyone to answer them.

    Raises:
        Exception: a fault of the software, for the traceback; its document is printed before.
    """
    as_json = "--json" in arguments
    Stdout.has_document = False
    try:
        with showing(Shown(as_json=as_json)):
            found = _found_ending(app, arguments, early, as_json=as_json)
    except Exception as error:
        if as_json:
            _print_ending(ending(EXIT_FAULT, "FAULT", f"{type(error).__name__}: {error}", REMEDIES["FAULT"]))
        raise
    if as_json:
        _print_ending(found)
    return int(found["exit_code"])


def _found_ending(
    app: typer.Typer, arguments: Sequence[str], early: Sequence[int], *, as_json: bool
) -> dict[str, Any]:
    from typer.exceptions import TyperException

    with _signals_interrupt(early) as was_terminated:
        try:
            if early:
                raise KeyboardInterrupt
            # Without typer's own ending: it returns the code of an Exit, and 130 for Ctrl-C.
            returned = app(args=list(arguments), standalone_mode=False)
        except JCSError as error:
            typer.echo(f"jcs: {error}{_remedy_line(error)}", err=True)
            code = EXIT_TERMINATED if isinstance(error, StoppedError) and was_terminated() else error.exit_code
            return {**ending(code, str(error.code), str(error), error.remedy), **error.details}
        except TyperException as error:
            _say_usage(error, as_json=as_json)
            return ending(EXIT_USAGE, "USAGE", error.format_message(), REMEDIES["USAGE"])
        except (typer.Abort, KeyboardInterrupt):
            returned = EXIT_INTERRUPTED
        code = returned if isinstance(returned, int) else EXIT_DONE
        return _ending_of_code(EXIT_TERMINATED if code == EXIT_INTERRUPTED and was_terminated() else code)


#: Codes of errors whose messages say themselves what to do.
_IN_THE_MESSAGE = ("SETTINGS", "MANIFEST", "LEAK")


def _remedy_line(error: JCSError) -> str:
    """What to do, on a line of its own, where the message has not said it, and the remedy is not to read it."""
    is_said = error.remedy in str(error) or error.remedy in {REMEDIES[code] for code in _IN_THE_MESSAGE}
    return "" if is_said else f"\nwhat to do: {error.remedy}"


def _say_usage(error: Any, *, as_json: bool) -> None:
    """A box for people; one line beside a document on stdout, among the lines of progress."""
    if as_json:
        typer.echo(f"jcs: {error.format_message()}", err=True)
        return
    from typer import rich_utils  # only now: every command would wait for it

    rich_utils.rich_format_error(cast(Any, error))


def _print_ending(found: dict[str, Any]) -> None:
    if not Stdout.has_document:
        print_document(found, outcome=OUTCOMES[found["exit_code"]])


def _ending_of_code(code: int) -> dict[str, Any]:
    if code == EXIT_DONE:
        return {"exit_code": EXIT_DONE, "notice": NOTICE}
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        typer.echo("jcs: stopped; files that are there are whole", err=True)
        return ending(code, "INTERRUPTED", "stopped; files that are there are whole", REMEDIES["INTERRUPTED"])
    return ending(code, "FAILED", "the command did not succeed; see stderr", REMEDIES["FAILED"])


@contextmanager
def _signals_interrupt(early: Sequence[int]) -> Iterator[Callable[[], bool]]:
    """SIGTERM stops a command as Ctrl-C does, so that what is half-written goes; children keep the system's way.

    What is ignored (by a shell, of a command in the background) stays ignored.

    Args:
        early: Signals that came before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may take signals
        return
    process = os.getpid()
    was_terminated = [number for number in early if number == signal.SIGTERM]

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        was_terminated.append(number)
        raise KeyboardInterrupt

    answers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: stop}
    before = {number: signal.getsignal(number) for number in answers}
    taken = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in taken:
        signal.signal(number, answers[number])
    try:
        yield lambda: bool(was_terminated)
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


class Interrupts:
    """Ctrl-C and SIGTERM that wait for work which stops where its results are whole; a second is answered at once."""

    def __init__(self) -> None:
        """None has come."""
        self._came: list[int] = []

    @contextmanager
    def deferred(self) -> Iterator[Callable[[], bool]]:
        """Yield what tells whether one came. Processes forked meanwhile pass Ctrl-C over: their parent ends them."""
        if threading.current_thread() is not threading.main_thread():
            yield lambda: False  # only the main thread may take signals
            return
        process, says_so = os.getpid(), not (shown().quiet or shown().as_json)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        taken = {number: handler for number, handler in before.items() if callable(handler)}

        def note(number: int, frame: FrameType | None) -> None:
            is_parent = os.getpid() == process
            if is_parent and not self._came:
                self._came.append(number)
                if says_so:
                    os.write(2, _STOPPING)  # no stream: it may be in the middle of a line
            elif is_parent or number != signal.SIGINT:
                taken[signal.Signals(number)](number, frame)

        for number in taken:
            signal.signal(number, note)
        try:
            yield lambda: bool(self._came)
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Work that ends with StoppedError, as it was asked to, is interrupted as by the signal that came.

        Raises:
            KeyboardInterrupt: instead of StoppedError.
        """
        try:
            yield
        except StoppedError:
            self.answer()

    def answer(self) -> NoReturn:
        """Interrupt as the signal that came does.

        Raises:
            KeyboardInterrupt: always; also where the signal came to another process of the same work.
        """
        for number in self._came:
            signal.raise_signal(number)
        raise KeyboardInterrupt


_STOPPING = b"\nstopping after this step; Ctrl-C again stops at once, without what is not saved yet\n"


@contextmanager
def interruptible(left: Callable[[], str], go_on: str | Callable[[], str] = START_OVER) -> Iterator[None]:
    """Say on Ctrl-C what is left and how to go on.

    Args:
        left: Called then; says what is on disk.
        go_on: What to do, or what is called then and says it.

    Raises:
        StoppedError: instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise StoppedError(left(), go_on if isinstance(go_on, str) else go_on()) from interrupt


def earlier_or_new(last: Path, what: str) -> Callable[[], str]:
    """What is left of work whose files are put in place together, ``last`` as the last of them.

    Args:
        last: That file; looked at now, and when the work was stopped.
        what: What the files are: ``report``, ``evaluation``.
    """
    before = _stamp(last)

    def left() -> str:
        now = _stamp(last)
        if now != before:
            return f"the new {what} in {last.parent} is whole"
        if now is None:
            return f"nothing was written to {last.parent}"
        return f"the earlier {what} in {last.parent} is as it was"

    return left


def stoppable(
    left: Callable[[Mapping[str, Any]], Callable[[], str]],
    go_on: str | Callable[[Mapping[str, Any]], str] = START_OVER,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command that says on Ctrl-C what is left and how to go on.

    Args:
        left: Called with the command's options before it runs; what it returns is called when it is stopped.
        go_on: What to do then, or what says so when it is called with the options then.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**options: Any) -> Any:
            with interruptible(left(options), go_on if isinstance(go_on, str) else partial(go_on, options)):
                return function(**options)

        return command

    return decorate


def _stamp(path: Path) -> tuple[int, int] | None:
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
