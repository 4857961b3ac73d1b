"""What lies at a path: which files, and what each is by its first bytes (names and endings are not trusted)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any

from natsort import natsort_keygen, ns

from jcs_ct.errors import ConfigError, GateCode, NotFoundError, StudyError
from jcs_ct.imaging.compression import BZIP2, GZIP, XZ, first_bytes, first_unpacked_bytes
from jcs_ct.imaging.earlier_results import earlier_results

#: Files that a folder may hold; more is not a study.
MAXIMUM_FILES = 20_000
#: Nesting of folders below the one given.
MAXIMUM_DEPTH = 12
_HEAD_BYTES = 352
#: Files and folders that are left out, as hidden ones are.
IGNORED_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class FileKind(StrEnum):
    """What a file is, by its content."""

    DICOM = "DICOM"
    NIFTI = "NIfTI"
    PICTURE = "PNG, JPEG or TIFF"
    ARCHIVE = "archive"
    OTHER = "other"


@dataclass(frozen=True)
class SourceFiles:
    """The files of an input by kind, each list in name order.

    Args:
        root: What was given, or the folder an archive was unpacked to.
        lost: Files among the others that are called as the study's images are, but are none: empty or overwritten.
        names: What files out of an archive are called there.
    """

    root: Path
    dicom: tuple[Path, ...] = ()
    nifti: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()
    archives: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    lost: tuple[Path, ...] = ()
    names: Mapping[Path, PurePath] = field(default_factory=dict)

    def name_of(self, path: Path) -> PurePath:
        """What a file is called where it came from."""
        return self.names.get(path, path)


def file_kind(path: Path, name: PurePath | None = None) -> FileKind:
    """Tell a file's kind from its first bytes, also through gzip and bzip2.

    Args:
        path: The file.
        name: What it is called, when its path does not say; counts only for what is damaged from its start.

    Raises:
        OSError: the file cannot be opened.
    """
    head = first_bytes(path, _HEAD_BYTES)
    if head[128:132] == b"DICM":
        return FileKind.DICOM
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")):
        return FileKind.PICTURE
    if _is_nifti(head):
        return FileKind.NIFTI
    if head.startswith((GZIP, BZIP2)):
        inside = first_unpacked_bytes(path, _HEAD_BYTES)
        called_nifti = (name or path).name.lower().endswith((".nii.gz", ".nii", ".nii.bz2"))
        if _is_nifti(inside) or (called_nifti and not _is_tar(inside)):
            return FileKind.NIFTI
        return FileKind.ARCHIVE
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", XZ)) or _is_tar(head):
        return FileKind.ARCHIVE
    return FileKind.OTHER


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0"


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


#: What DICOM files and pictures are called, when they have an ending; pictures also of the kinds that are not read.
IMAGE_ENDINGS = {
    FileKind.DICOM: (".dcm", ".dicom", ".dic", ".ima", ".acr"),
    FileKind.PICTURE: (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jph", ".jls", ".jxl", ".heic", ".heif", ".avif"),
        *(".pgm", ".ppm", ".pnm", ".tga", ".pcx", ".dcm", ".dicom", ".ima"),
    ),
}


def _lost(found: Mapping[FileKind, Sequence[Path]], names: Mapping[Path, PurePath]) -> tuple[Path, ...]:
    """Files that are no images but are called as the images beside them, or have an image's ending."""
    kind = FileKind.DICOM if found[FileKind.DICOM] else FileKind.PICTURE
    images = [names.get(path, path) for path in found[kind]]
    patterns = {(image.parent, name_pattern(image.name)) for image in images}
    lost = []
    for path in found[FileKind.OTHER] if images else ():
        name = names.get(path, path)
        pattern = name_pattern(name.name)
        alike = ("#" in pattern or "$" in pattern) and (name.parent, pattern) in patterns
        if alike or name.suffix.lower() in IMAGE_ENDINGS[kind]:
            lost.append(path)
    return tuple(lost)


def name_pattern(name: str) -> str:
    """A file name with its numbers as ``#``, and a long hexadecimal stem as ``$``: what a series' files share."""
    stem, dot, ending = name.lower().rpartition(".")
    if not dot:
        stem, ending = ending, ""
    if re.fullmatch(r"[0-9a-f-]{8,}", stem) and not stem.isdecimal():
        return f"${dot}{ending}"
    return re.sub(r"\d+", "#", stem) + dot + ("#" if ending.isdecimal() else ending)


_PART_KEY = natsort_keygen(alg=ns.IGNORECASE)


def natural_key(path: PurePath) -> tuple[tuple[Any, ...], str]:
    """Sorts ``im2`` before ``im10``, and names that differ in case or leading zeros alone always alike."""
    return tuple(_PART_KEY(part) for part in path.parts), str(path)


def _walk(folder: Path, depth: int, left_out: frozenset[Path] = frozenset()) -> Iterator[Path]:
    if depth > MAXIMUM_DEPTH:
        return
    left_out |= earlier_results(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in IGNORED_NAMES:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1, left_out)
            elif entry.is_file() and Path(entry.path) not in left_out:
                yield Path(entry.path)


def require_images(path: Path) -> None:
    """Refuse what no image lies in; it stops at the first, and needs nothing that takes long to import.

    Raises:
        ConfigError: nothing at ``path``, or it may not be read.
        StudyError: no image there.
    """
    with _explained(path):
        if any(file_kind(file) is not FileKind.OTHER for file in _files_at(path)):
            return
    raise no_images(find_files(path))


def no_images(source: SourceFiles) -> StudyError:
    """Why files among which there is no image are refused."""
    accepted = "DICOM (with its preamble), NIfTI (.nii, .nii.gz), PNG, JPEG or TIFF slices, .zip or .tar of these"
    if source.archives:
        message = f"{len(source.archives)} archives lie here; give the one to read"
        return StudyError(GateCode.MIXED_SERIES, message, remedy="give the one to read")
    if source.root.is_file():
        suffix = source.root.suffix.lower()
        if suffix in (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img"):
            return StudyError(GateCode.UNSUPPORTED, f"{suffix} is not read; convert the volume to NIfTI (.nii.gz)")
        return StudyError(
            GateCode.UNREADABLE,
            f"the file is no image that is read here: {accepted}",
            remedy="give a file of one of these kinds; if it should be one, copy it again from its source",
        )
    count = len(source.others)
    return StudyError(GateCode.NO_IMAGES, f"none of {count} file(s) is an image that is read here: {accepted}")


def _files_at(path: Path) -> Iterator[Path]:
    """One file, or all of a folder, in no order; raises as :func:`find_files`."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        yield path
        return
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"{path} is neither a file nor a folder")
    count = 0
    for count, file in enumerate(_walk(path, 0), start=1):
        if count > MAXIMUM_FILES:
            message = f"the folder holds more than {MAXIMUM_FILES} files; give the folder of one study"
            raise StudyError(GateCode.UNSUPPORTED, message)
        yield file
    if not count:
        message = f"{path} is an empty folder; give a folder with DICOM files, a NIfTI volume or pictures"
        raise StudyError(GateCode.NO_IMAGES, message)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the system says of ``path``, as an error for a person."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist; give a file or a folder with a study") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error


def find_files(path: Path, names: Mapping[Path, PurePath] | None = None) -> SourceFiles:
    """The files at ``path`` (one file, or a folder with everything below it) by kind.

    Links to folders are not followed; hidden files, and results of earlier readings, are left out.

    Args:
        path: What to look at.
        names: What files are called where they came from, for the order and for what they should be.

    Raises:
        ConfigError: nothing there, or it may not be read.
        StudyError: NO_IMAGES when the folder is empty, UNSUPPORTED when it holds too many files.
    """
    names = names or {}
    found: dict[FileKind, list[Path]] = {kind: [] for kind in FileKind}
    with _explained(path):
        for file in sorted(_files_at(path), key=lambda file: natural_key(names.get(file, file))):
            found[file_kind(file, names.get(file))].append(file)
    lost = _lost(found, names)
    known_lost = frozenset(lost)
    return SourceFiles(
        path,
        dicom=tuple(found[FileKind.DICOM]),
        nifti=tuple(found[FileKind.NIFTI]),
        pictures=tuple(found[FileKind.PICTURE]),
        archives=tuple(found[FileKind.ARCHIVE]),
        others=tuple(file for file in found[FileKind.OTHER] if file not in known_lost),
        lost=lost,
        names=names,
    )
