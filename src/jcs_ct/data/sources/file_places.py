"""Where the files lie that a table names: below the folder that is said, or the one folder that holds them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.data.manifest.manifest_problems import Problem, ProblemKind
from jcs_ct.imaging.gate_pictures import DRAWN_WORDS

#: Endings that are tried where a cell names none.
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii.gz", ".nii")
_OPTION_OF = {"path": "--root", "mask": "--mask-root"}


@dataclass(frozen=True)
class Place:
    """A folder that names count from.

    Args:
        folder: The folder.
    """

    folder: Path

    def file(self, name: str) -> Path:
        """A file's whole path, with the ending that it has on disk where the table leaves it out."""
        name = name if "/" in name else name.replace("\\", "/")
        return next((path for path in _spelled(self.folder, name) if path.exists()), self.folder / name)

    def absent(self, names: Iterable[str]) -> list[Path]:
        """The files that are not there."""
        files = [self.file(name) for name in names]
        return [file for file in files if not file.exists()]


@dataclass(frozen=True)
class FoundPlaces:
    """Where images and masks lie.

    Args:
        by_column: The folder of ``path`` and of ``mask``.
        problems: Every file that is not there.
        notes: Folders that were found, not said.
    """

    by_column: Mapping[str, Place]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def find_places(base: Path, names: Mapping[str, Sequence[str]], said: Mapping[str, Path | None]) -> FoundPlaces:
    """The folders of a table's files.

    A folder that is not said is ``base`` where a file is there; else the one folder below ``base`` that holds every
    file, if one alone does (of several, the one that is called as masks are, or not, as they are looked for).

    Args:
        base: The table's folder.
        names: The files as typed, by column (``path``, ``mask``).
        said: The folder that the user names, by column.
    """
    places: dict[str, Place] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for column, own in names.items():
        root = said.get(column) or said.get("path")
        first = Place(root or (places["path"].folder if column == "mask" and "path" in places else base))
        images = (
            {places["path"].file(name) for name in names["path"]} if column == "mask" and "path" in places else ()
        )
        absent = [file for file in map(first.file, own) if file in images or not file.exists()]
        places[column] = first
        if not absent:
            continue
        candidates = _holders(root or base, own, drawn=column == "mask")
        if root is None and len(absent) == len(own) and len(candidates) == 1:
            places[column] = Place(candidates[0])
            what = "images" if column == "path" else "masks"
            notes.append(f"{what} count from {candidates[0]}, the one folder that holds all {len(own)}")
            continue
        option = _OPTION_OF[column]
        remedy = " or ".join(f"{option} {folder}" for folder in candidates) or _elsewhere(
            root or base, absent[0], option
        )
        what = "is the image itself, not its mask" if absent[0].exists() else "does not exist"
        problems += [Problem(ProblemKind.FILE, what, str(file), remedy) for file in absent]
    return FoundPlaces(places, tuple(problems), tuple(notes))


def _holders(base: Path, names: Sequence[str], *, drawn: bool) -> list[Path]:
    """The folders below ``base`` under which every file is; where several are, those called as is looked for."""
    if not names or not base.is_dir() or Path(names[0]).is_absolute():
        return []
    depth = len(Path(names[0]).parts)
    folders = {path.parents[depth - 1] for path in _below(base, names[0])}
    found = sorted(folder for folder in folders if not Place(folder).absent(names))
    if len(found) < 2:
        return found
    return [folder for folder in found if _is_called_drawn(folder) == drawn] or found


def _below(base: Path, name: str) -> list[Path]:
    wanted = Path(name)
    spelled = {path.name for path in _spelled(Path(), wanted.name)}
    tail = wanted.parts[:-1]
    return [
        path
        for path in base.rglob("*")
        if path.name in spelled and (not tail or path.parent.parts[-len(tail) :] == tail) and path.parent != base
    ]


def _spelled(folder: Path, name: str) -> list[Path]:
    return [folder / (name + ending) for ending in _ENDINGS]


def _is_called_drawn(folder: Path) -> bool:
    return any(word in DRAWN_WORDS for word in folder.name.lower().replace("-", "_").split("_"))


def _elsewhere(base: Path, absent: Path, option: str) -> str:
    """Where a file of such a name lies instead."""
    found = next((path for path in base.rglob(absent.name)), None) if base.is_dir() else None
    return f"there is {found}: say from which folder names count with {option}" if found else f"{option} FOLDER"
