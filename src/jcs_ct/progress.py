"""How long work says where it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Protocol, TypeVar

from jcs_ct.errors import StoppedError

T = TypeVar("T")


class Progress(Protocol):
    """Called with what is being done, how many steps (slices, studies) of it are done, and how many there are."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Show it."""


class CountProgress(Protocol):
    """Called with how many of one kind of thing (slices, studies) are done, and how many there are."""

    def __call__(self, done: int, total: int, /) -> None:
        """Show it."""


def silent(stage: str, done: int, total: int, /) -> None:
    """The :class:`Progress` of those who do not look."""


def counted(things: Collection[T], progress: CountProgress | None) -> Iterator[T]:
    """The things one after the other, each said to be done when the next one is asked for."""
    for done, thing in enumerate(things, start=1):
        yield thing
        if progress is not None:
            progress(done, len(things))


def stopping(progress: Progress, cancelled: Callable[[], bool]) -> Progress:
    """Progress that stops the work as soon as ``cancelled`` says so: after the batch of slices in hand.

    Raises:
        StoppedError: from the call that finds it cancelled.
    """

    def report(stage: str, done: int, total: int, /) -> None:
        progress(stage, done, total)
        if cancelled():
            raise StoppedError(f"cancelled while {stage} was at {done} of {total}", "call it again to start over")

    return report
