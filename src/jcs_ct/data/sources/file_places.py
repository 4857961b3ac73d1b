"""Where the files lie that a table names: below the folder that is said, or the one folder that holds them all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind
from jcs_ct.imaging.gate_pictures import DRAWN_WORDS

#: Endings that are tried where a cell names none.
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii.gz", ".nii")
#: How whole paths of Windows begin: a drive's letter, or a server's name.
_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
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


@dataclass(frozen=True)
class FoundPlaces:
    """Where images and masks lie.

    Args:
        by_column: The folder of ``path`` and of ``mask``.
        problems: Every file that is not there.
        notes: Folders that were found, not said.
    """

    by_column: Mapping[str, Place]
    problems: tuple[ManifestProblem, ...]
    notes: tuple[str, ...]


def find_places(base: Path, names: Mapping[str, Sequence[str]], said: Mapping[str, Path | None]) -> FoundPlaces:
    """The folders of a table's files.

    A folder that is not said is ``base`` where a file is there; else the one folder below ``base`` that holds most of
    them, and at least half (of several, the one that is called as masks are, or not, as they are looked for).

    Args:
        base: The table's folder.
        names: The files as typed, by column (``path``, ``mask``).
        said: The folder that the user names, by column.
    """
    places: dict[str, Place] = {}
    problems: list[ManifestProblem] = []
    notes: list[str] = []
    for column, own in names.items():
        root = said.get(column) or said.get("path")
        first = Place(root or (places["path"].folder if column == "mask" and "path" in places else base))
        images = (
            {places["path"].file(name) for name in names["path"]} if column == "mask" and "path" in places else ()
        )
        places[column] = first
        if not _absent(first, own, images):
            continue
        below = _files_below(root or base)
        candidates, held = _holders(below, own, images, drawn=column == "mask")
        if root is None and len(_absent(first, own, images)) == len(own) and len(candidates) == 1:
            places[column] = Place(candidates[0])
            what = "images" if column == "path" else "masks"
            several = len(set(own))
            holds = f"all {several}" if held == several else f"most: {held} of {several}"
            notes.append(f"{what} count from {candidates[0]}, the one folder that holds {holds}")
            candidates = []
        option = _OPTION_OF[column]
        whole = _remedy_of_whole_paths(own, root or base, below, images, option, drawn=column == "mask")
        problems += [
            _absence(name, places[column], candidates, below, option, whole)
            for name in own
            if _absent(places[column], [name], images)
        ]
    return FoundPlaces(places, tuple(problems), tuple(notes))


def _absent(place: Place, names: Iterable[str], images: Collection[Path]) -> list[Path]:
    """The files that are not there, or are the images where masks are looked for."""
    files = map(place.file, names)
    return [file for file in files if file in images or not file.exists()]


def _absence(
    name: str,
    place: Place,
    candidates: Sequence[Path],
    below: Mapping[str, Sequence[Path]],
    option: str,
    whole: str,
) -> ManifestProblem:
    """That a file is not there, and how it would be: by the folder that holds it, else wherever its name lies.

    ``whole`` is what to do with a whole path.
    """
    if _is_whole(name) and not place.file(name).exists():
        why = ", and a path with a drive letter or a server's name is another machine's (Windows)"
        return ManifestProblem(
            ProblemKind.FILE, f"does not exist{why if _OF_WINDOWS.match(name) else ''}", name, whole
        )
    file = place.file(name)
    holders = [folder for folder in candidates if Place(folder).file(name).exists()]
    remedy = " or ".join(f"{option} {folder}" for folder in holders)
    if not remedy and file.name in below:
        remedy = f"there is {below[file.name][0]}: say from which folder names count with {option}"
    what = "is the image itself, not its mask" if file.exists() else "does not exist"
    return ManifestProblem(
        ProblemKind.FILE, what, str(file), remedy or f"correct its name in the table, or {option} FOLDER"
    )


def _is_whole(name: str) -> bool:
    return Path(name).is_absolute() or _OF_WINDOWS.match(name) is not None


def _remedy_of_whole_paths(
    names: Sequence[str],
    base: Path,
    below: Mapping[str, Sequence[Path]],
    images: Collection[Path],
    option: str,
    *,
    drawn: bool,
) -> str:
    """What to do with whole paths, which count from no folder: the same for all, with the folder of their names."""
    bare = list(dict.fromkeys(PureWindowsPath(name).name for name in names if _is_whole(name)))
    found, held = [base], sum((base / name).exists() for name in bare)
    if 2 * held < len(bare) or not held:
        found, held = _holders(below, bare, images, drawn=drawn)
    if not found:
        return f"keep the file names alone in the table, and {option} FOLDER for where they lie"
    folders = " or ".join(f"{option} {folder}" for folder in found)
    return f"keep the file names alone in the table, and {folders}, which holds {held} of {len(bare)}"


def _files_below(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Every file below a folder but those in it, by name."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.parent != folder:
            found[path.name].append(path)
    return found


def _holders(
    below: Mapping[str, Sequence[Path]], names: Sequence[str], images: Collection[Path], *, drawn: bool
) -> tuple[list[Path], int]:
    """The folders that hold most files, at least half, and how many; of several, those called as is looked for."""
    held: dict[Path, set[str]] = defaultdict(set)
    for name in set(names):
        wanted = Path(name if "/" in name else name.replace("\\", "/"))
        tail = wanted.parts[:-1]
        for spelled in _spelled(Path(), wanted.name) if not wanted.is_absolute() else ():
            for path in below.get(spelled.name, ()):
                if path not in images and (not tail or path.parent.parts[-len(tail) :] == tail):
                    held[path.parents[len(tail)]].add(name)
    most = max(map(len, held.values()), default=0)
    if 2 * most < len(set(names)):
        return [], 0
    found = sorted(folder for folder, files in held.items() if len(files) == most)
    return [folder for folder in found if _is_called_drawn(folder) == drawn] or found, most


def _spelled(folder: Path, name: str) -> list[Path]:
    return [folder / (name + ending) for ending in _ENDINGS]


def _is_called_drawn(folder: Path) -> bool:
    return any(word in DRAWN_WORDS for word in folder.name.lower().replace("-", "_").split("_"))
