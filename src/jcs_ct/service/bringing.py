"""In a study's process: bring its files in from where they are, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError, GateCode, JCSError, OutputError, StudyError
from jcs_ct.files import copy_file, prepare_output_folder
from jcs_ct.imaging.neutral_names import neutral_paths
from jcs_ct.imaging.study_files import natural_key
from jcs_ct.service.listed_studies import open_pacs
from jcs_ct.service.settings import PacsAddress

if TYPE_CHECKING:
    from jcs_ct.progress import Progress

#: What lies there is weighed after so many fetched images, and at the end.
_WEIGHED_EVERY = 32


def bring_in(source: Mapping[str, Any], place: Path, progress: Progress) -> None:
    """Lay the files of a study into ``place``, which appears whole; nothing when it is there.

    Args:
        source: ``place`` (folder or file of this machine) or ``study_uid`` (in the PACS at ``url``, with
            ``ca_bundle``); ``most_files``, ``most_bytes`` and ``free_bytes`` bound what is brought.
        place: Of the study.
        progress: Files.

    Raises:
        StudyError: it is gone (NO_IMAGES, UNREADABLE), or larger than may be sent (UNSUPPORTED).
        OutputError: the disk is full.
        JCSError: what a PACS comes to.
    """
    if place.is_dir():
        return
    staged = place.with_name(f"{place.name}.part")
    if "study_uid" in source:
        _fetch(source, prepare_output_folder(staged), progress)  # what a killed fetch left is not fetched again
    else:
        shutil.rmtree(staged, ignore_errors=True)
        try:
            _copy(source, prepare_output_folder(staged), progress)
        except JCSError:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    staged.rename(place)


def _fetch(source: Mapping[str, Any], staged: Path, progress: Progress) -> None:
    """Fetch from the PACS; of what turns out too large nothing is kept."""

    def advance(done: int, total: int) -> None:
        progress("fetch", done, total)
        if total > source["most_files"]:
            message = f"the study has {total} images, {source['most_files']} may be read"
            raise StudyError(GateCode.UNSUPPORTED, message)
        _require_space(staged, source["free_bytes"])
        if done % _WEIGHED_EVERY == 0:
            _require_size(staged, source["most_bytes"])

    progress("fetch", 0, 1)
    try:
        with closing(open_pacs(PacsAddress(source["url"], source["ca_bundle"]))) as web:
            web.fetch_study(source["study_uid"], staged, advance=advance)
        _require_size(staged, source["most_bytes"])
    except StudyError:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _require_size(folder: Path, most_bytes: int) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > most_bytes:
        raise StudyError(
            GateCode.UNSUPPORTED,
            f"the study has {size / GIB:.1f} GiB or more, {most_bytes / GIB:.1f} GiB may be read at a time; "
            "send the one series that is to be read",
        )


def _copy(source: Mapping[str, Any], staged: Path, progress: Progress) -> None:
    """Copies, which what happens to the folder later does not reach; named as what is sent by a browser."""
    root = Path(source["place"])
    if not root.exists():
        raise StudyError(GateCode.NO_IMAGES, "the study is no longer in its folder; choose another one")
    try:
        below = [root] if root.is_file() else root.rglob("*")
        found = [path for path in below if path.is_file() and (path == root or not path.is_symlink())]
        paths = sorted(found, key=natural_key)
        sizes = [path.stat().st_size for path in paths]
    except OSError as error:
        raise _cannot_be_read() from error
    size = sum(sizes)
    if len(paths) > source["most_files"] or size > source["most_bytes"]:
        raise StudyError(
            GateCode.UNSUPPORTED,
            f"the folder holds {len(paths)} files with {size / GIB:.1f} GiB, {source['most_files']} files and "
            f"{source['most_bytes'] / GIB:.1f} GiB may be read at a time; choose one study",
        )
    places = neutral_paths([str(path.relative_to(root.parent)) for path in paths])
    for folder in {kept.parent for kept in places}:
        prepare_output_folder(staged / folder)
    for done, (path, kept) in enumerate(zip(paths, places, strict=True)):
        progress("fetch", done, len(paths))
        _require_space(staged, source["free_bytes"], sizes[done])
        try:
            copy_file(path, staged / kept)
        except ConfigError as error:
            raise _cannot_be_read() from error


def _cannot_be_read() -> StudyError:
    """Without the file's name, which may be a patient's."""
    message = "files of the study cannot be read in its folder any more; look there, and choose it again"
    return StudyError(GateCode.UNREADABLE, message, remedy="look into the folder, and choose the study again")


def _require_space(folder: Path, free_bytes: int, coming_bytes: int = 0) -> None:
    free = shutil.disk_usage(folder).free
    if free < free_bytes + coming_bytes:
        coming = f"{coming_bytes / GIB:.1f} GiB are to come and " if coming_bytes else ""
        raise OutputError(
            f"the server's disk has {free / GIB:.1f} GiB free, {coming}{free_bytes / GIB:.1f} GiB must stay free; "
            "ask the administrator to free space (DISK_FULL)",
            code="DISK_FULL",
            remedy="ask the administrator to free space",
        )
