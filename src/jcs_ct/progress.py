"""How long work says where it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what is being done, how many steps (slices, studies) of it are done, and how many there are."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Show it."""


def silent(stage: str, done: int, total: int, /) -> None:
    """The :class:`Progress` of those who do not look."""
