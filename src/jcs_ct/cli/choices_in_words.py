"""Long lists of choices stand in an option's sentence: in the column of types they break words and options' names."""

from __future__ import annotations

import inspect
from copy import copy
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

from typer.models import OptionInfo

#: Letters of the column of types that leave the options' names whole in a window of 80 columns.
_MOST_LETTERS = 16


def choices_in_words(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter with its choices named at the end of its help, where the list of them is long."""
    annotation = parameter.annotation
    if get_origin(annotation) is not Annotated:
        return parameter
    kind, *metadata = get_args(annotation)
    names = _choices(kind)
    if len("|".join(names)) <= _MOST_LETTERS:
        return parameter
    changed = [_named(one, names) if isinstance(one, OptionInfo) and one.metavar is None else one for one in metadata]
    return parameter.replace(annotation=Annotated[(kind, *changed)])


def _choices(kind: Any) -> list[str]:
    """Values of a ``Literal`` or an enumeration, also inside ``list[...]`` and beside None."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(one.value) for one in kind]
    return [name for part in get_args(kind) for name in _choices(part)]


def _named(option: OptionInfo, names: list[str]) -> OptionInfo:
    told = copy(option)
    told.metavar = "CHOICE"
    told.help = f"{option.help or ''} One of {', '.join(names)}."
    return told
