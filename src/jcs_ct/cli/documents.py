"""JSON documents on stdout: one a command, whatever it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

#: Of the documents; its first number changes when a field changes its meaning or goes.
SCHEMA_VERSION = "1.0"
DONE, EXIT_DONE = "done", 0


class Stdout:
    """What the running command has to say as JSON; one process runs one command."""

    has_document = False
    result: Mapping[str, Any] = {}


def print_document(value: Any, *, outcome: str = DONE) -> None:
    """One JSON document on stdout; one that is an object says its schema version and how the command ended."""
    if isinstance(value, dict):
        begins = {"schema_version": SCHEMA_VERSION, "outcome": outcome}
        value = {**begins, **({"exit_code": EXIT_DONE} if outcome == DONE else {}), **value}
    Stdout.has_document = True
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def say_result(facts: Mapping[str, Any]) -> None:
    """What a command that prints for people has found: its document, when it is done and ``--json`` was given."""
    Stdout.result = facts
