"""What lies at a path: which files, and what each is by its first bytes (names and endings are not trusted)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jcs_ct.errors import ConfigError, GateCode, StudyError

#: Files that a folder may hold; more is not a study.
MAXIMUM_FILES = 20_000
#: Nesting of folders below the one given.
MAXIMUM_DEPTH = 12
_HEAD_BYTES = 352
_IGNORED_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class FileKind(StrEnum):
    """What a file is, by its content."""

    DICOM = "DICOM"
    NIFTI = "NIfTI"
    PICTURE = "PNG, JPEG or TIFF"
    ARCHIVE = "archive"
    OTHER = "other"


@dataclass(frozen=True)
class SourceFiles:
    """The files of an input by kind, each list in name order."""

    root: Path
    dicom: tuple[Path, ...] = ()
    nifti: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()
    archives: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


def file_kind(path: Path) -> FileKind:
    """Tell a file's kind from its first bytes.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head[128:132] == b"DICM":
        return FileKind.DICOM
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")):
        return FileKind.PICTURE
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0":
        return FileKind.NIFTI
    name = path.name.lower()
    if head.startswith(b"\x1f\x8b"):
        return FileKind.NIFTI if name.endswith(".nii.gz") else FileKind.ARCHIVE
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or head[257:262] == b"ustar":
        return FileKind.ARCHIVE
    return FileKind.OTHER


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts ``im2`` before ``im10``."""
    parts: list[tuple[int, int, str]] = []
    for text in path.parts:
        number, word = "", ""
        for letter in text:
            if letter.isdecimal() and letter.isascii():
                if word:
                    parts.append((1, 0, word))
                    word = ""
                number += letter
            else:
                if number:
                    parts.append((0, int(number[:18]), number))
                    number = ""
                word += letter.lower()
        parts.append((0, int(number[:18]), number) if number else (1, 0, word))
    return tuple(parts)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    if depth > MAXIMUM_DEPTH:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _IGNORED_NAMES:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1)
            elif entry.is_file():
                yield Path(entry.path)


def find_files(path: Path) -> SourceFiles:
    """The files at ``path`` (one file, or a folder with everything below it) by kind.

    Links to folders are not followed; hidden files are left out.

    Raises:
        ConfigError: nothing there, or it may not be read.
        StudyError: NO_IMAGES when the folder is empty, UNSUPPORTED when it holds too many files.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            files = [path]
        elif stat.S_ISDIR(mode):
            files = []
            for file in _walk(path, 0):
                files.append(file)
                if len(files) > MAXIMUM_FILES:
                    message = f"the folder holds more than {MAXIMUM_FILES} files; give the folder of one study"
                    raise StudyError(GateCode.UNSUPPORTED, message)
        else:
            raise ConfigError(f"{path} is neither a file nor a folder")
        if not files:
            message = f"{path} is an empty folder; give a folder with DICOM files, a NIfTI volume or pictures"
            raise StudyError(GateCode.NO_IMAGES, message)
        found: dict[FileKind, list[Path]] = {kind: [] for kind in FileKind}
        for file in sorted(files, key=natural_key):
            found[file_kind(file)].append(file)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; give a file or a folder with a study") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error
    return SourceFiles(
        path,
        dicom=tuple(found[FileKind.DICOM]),
        nifti=tuple(found[FileKind.NIFTI]),
        pictures=tuple(found[FileKind.PICTURE]),
        archives=tuple(found[FileKind.ARCHIVE]),
        others=tuple(found[FileKind.OTHER]),
    )
