"""Options that every command has: -v, -q and --json; and what a command knows of them while it runs."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from jcs_ct import NOTICE
from jcs_ct.cli.choices_in_words import choices_in_words
from jcs_ct.cli.documents import Stdout, print_document
from jcs_ct.cli.inputs import flags_of, require_inputs
from jcs_ct.cli.narrow_help import WholeNamesCommand
from jcs_ct.cli.outputs import prepared_outputs

_JSON_FLAG = "--json"
_HANDLER = "jcs"
_NAMES = ("verbose", "quiet", "json_ending")


@dataclass(frozen=True)
class Shown:
    """What a command shows of its work.

    Args:
        quiet: No progress.
        as_json: Progress as JSON lines on stderr, and one JSON document on stdout at every ending.
    """

    quiet: bool = False
    as_json: bool = False


_shown: ContextVar[Shown] = ContextVar("shown")


def shown() -> Shown:
    """What the command that is running shows."""
    return _shown.get(Shown())


@contextmanager
def showing(wanted: Shown) -> Iterator[None]:
    """Show so inside the block."""
    token = _shown.set(wanted)
    try:
        yield
    finally:
        _shown.reset(token)


def log_warnings() -> None:
    """Log warnings to stderr, and nothing below, whatever level a library gives its own logger."""
    handler = logging.StreamHandler()
    handler.set_name(_HANDLER)
    handler.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[handler])


def log_verbosely() -> None:
    """Log what is done, with hashed identifiers only."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in root.handlers:
        if handler.name == _HANDLER:
            handler.setLevel(logging.INFO)


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done (hashed identifiers only).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JSONEnding = Annotated[bool, typer.Option(_JSON_FLAG, help="Result as JSON on stdout, all else on stderr.")]


def with_common_options(app: typer.Typer) -> None:
    """Give every command of ``app``, and of the apps below it, the options that it does not have itself."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_options(command.callback)
            command.cls = WholeNamesCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_common_options(group.typer_instance)
            own = group.typer_instance.registered_callback  # of an app that is a command itself
            if own is not None and own.invoke_without_command is True and own.callback is not None:
                own.callback = _with_options(own.callback)


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function, eval_str=True)
    signature = signature.replace(parameters=[choices_in_words(one) for one in signature.parameters.values()])
    has_json = any(_JSON_FLAG in flags_of(parameter.annotation) for parameter in signature.parameters.values())
    options: dict[str, Any] = {"verbose": Verbose, "quiet": Quiet}
    if not has_json:
        options["json_ending"] = JSONEnding

    @functools.wraps(function)
    def command(*args: Any, **values: Any) -> Any:
        given = {name: values.pop(name, False) for name in _NAMES}
        if given["verbose"]:
            log_verbosely()
        require_inputs(signature.parameters, values)
        as_json = shown().as_json or given["json_ending"] or bool(values.get("as_json"))
        Stdout.result = {}
        with (
            showing(Shown(quiet=shown().quiet or given["quiet"], as_json=as_json)),
            prepared_outputs(signature.parameters, values),
            redirect_stdout(sys.stderr) if given["json_ending"] else nullcontext(),  # stdout is the ending's
        ):
            returned = function(*args, **values)
        if given["json_ending"] and Stdout.result:
            print_document({**Stdout.result, "notice": NOTICE})
        return returned

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in options.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    # What typer reads: the resolved annotations of the function's own parameters, and the added ones.
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
