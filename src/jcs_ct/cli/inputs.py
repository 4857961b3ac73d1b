"""What a command reads must be there: looked at before anything is imported that takes long, all of it at once.

A parameter says so in its annotation: ``Annotated[Path, typer.Argument(...), Input()]``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.models import OptionInfo


@dataclass(frozen=True)
class Input:
    """Names a file or folder that the command reads.

    Args:
        paths: The paths that a value stands for; none for what is no path of this machine.
        look: A first look at a path that is there; raises a ``JCSError``.
    """

    paths: Callable[[str], tuple[Path, ...]] = lambda text: (Path(text),)
    look: Callable[[Path], None] | None = None


def require_inputs(parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any]) -> None:
    """Look at everything that a command is given to read.

    Args:
        parameters: Of the command, with resolved annotations.
        values: By their names.

    Raises:
        NotFoundError: nothing lies there; names every such path.
        JCSError: as the first looks.
    """
    given = list(_given(parameters, values))
    absent = [f"{name}: {path} does not exist" for name, _, path in given if not path.exists()]
    if absent:
        from jcs_ct.errors import NotFoundError

        raise NotFoundError("; ".join(absent))
    for _, wanted, path in given:
        if wanted.look is not None:
            wanted.look(path)


def _given(
    parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any]
) -> Iterator[tuple[str, Input, Path]]:
    for name, parameter in parameters.items():
        for wanted in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(wanted, Input) and values.get(name) is not None:
                several = values[name] if isinstance(values[name], list) else [values[name]]
                for one in several:
                    yield from ((_spoken(parameter), wanted, path) for path in wanted.paths(str(one)))


def flags_of(annotation: Any) -> tuple[str, ...]:
    """What an option is called on the command line, where its annotation says so."""
    return tuple(
        flag
        for option in getattr(annotation, "__metadata__", ())
        for flag in (getattr(option, "default", None), *(getattr(option, "param_decls", None) or ()))
        if isinstance(flag, str)
    )


def _spoken(parameter: inspect.Parameter) -> str:
    """The parameter as it is typed: an option's longest flag, an argument's name."""
    if flags := flags_of(parameter.annotation):
        return max(flags, key=len)
    if any(isinstance(one, OptionInfo) for one in parameter.annotation.__metadata__):
        return f"--{parameter.name.replace('_', '-')}"
    return parameter.name.upper()


def _models_paths(text: str) -> tuple[Path, ...]:
    return () if text == "compact" else (Path(text),)


def named_file(text: str) -> tuple[str | None, str]:
    """``NAME=FILE`` or ``FILE`` -> name and file; both may have an equals sign in them.

    The whole text is the file where it exists, else what follows the first equals sign behind which one exists.
    """
    return _named(text, lambda file: file == "compact" or Path(file).exists())


def named_folders(text: str) -> tuple[str | None, tuple[Path, ...]]:
    """``NAME=FOLDER``, ``FOLDER`` or ``NAME=FOLDER+FOLDER`` -> name and folders, as :func:`named_file` parts them.

    A folder may have a plus in its name.
    """
    name, place = _named(text, lambda place: all(folder.exists() for folder in _joined(place)))
    return name, _joined(place)


def _named(text: str, exists: Callable[[str], bool]) -> tuple[str | None, str]:
    pieces = text.split("=")
    readings = [("=".join(pieces[:count]) or None, "=".join(pieces[count:])) for count in range(len(pieces))]
    for name, place in readings:
        if place and exists(place):
            return name, place
    # Nothing is there, which is said of what was most likely meant: a name has no slash in it.
    return readings[1] if len(pieces) > 1 and "/" not in pieces[0] else (None, text)


def _joined(place: str) -> tuple[Path, ...]:
    return (Path(place),) if Path(place).exists() else tuple(Path(one) for one in place.split("+"))


def _named_paths(text: str) -> tuple[Path, ...]:
    _, file = named_file(text)
    return () if file == "compact" else (Path(file),)


def _predicted_paths(text: str) -> tuple[Path, ...]:
    return named_folders(text)[1]


def _local_paths(text: str) -> tuple[Path, ...]:
    return () if "://" in text else (Path(text),)


def _recipe_paths(text: str) -> tuple[Path, ...]:
    from jcs_ct.recipes import find_recipe

    return (find_recipe(text),)


def _look_for_images(path: Path) -> None:
    from jcs_ct.imaging.study_files import require_images

    require_images(path)


def _look_for_studies(path: Path) -> None:
    """At a cohort: a list is looked at later, and so is a tree in which images are not among the first files."""
    from jcs_ct.errors import GateCode, StudyError

    if path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq"):
        return
    try:
        _look_for_images(path)
    except StudyError as error:
        if error.code is not GateCode.UNSUPPORTED:
            raise


#: A file or folder.
SOME_INPUT = Input()
#: A study, in which there is an image at least.
STUDY_INPUT = Input(look=_look_for_images)
#: ``compact``, or a folder of networks.
MODELS_INPUT = Input(_models_paths)
#: ``NAME=FILE``, ``FILE`` or ``compact``.
NAMED_INPUT = Input(_named_paths)
#: ``NAME=FOLDER``, ``FOLDER`` or ``NAME=FOLDER+FOLDER``: predictions.
PREDICTIONS_INPUT = Input(_predicted_paths)
#: A cohort: a folder, a list, or an address.
COHORT_INPUT = Input(_local_paths, look=_look_for_studies)
#: A recipe's name or path.
RECIPE_INPUT = Input(_recipe_paths)
