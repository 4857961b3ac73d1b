"""Studies that are already somewhere: in a folder that an administrator listed, or in a PACS."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jcs_ct.errors import ConfigError, JCSError, needing_extra
from jcs_ct.service.problems import Problem
from jcs_ct.service.settings import PacsAddress

if TYPE_CHECKING:
    from jcs_ct.pacs.dicomweb import DicomWeb

logger = logging.getLogger(__name__)

#: Entries of a folder, and studies of a PACS, that are shown at a time.
MOST_SHOWN = 500
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_IMAGES = (".nii", ".nii.gz", ".dcm")


@dataclass(frozen=True)
class ListedStudy:
    """An entry of a listed folder that may be a study.

    Args:
        folder: Name of the listed folder.
        name: Of the entry in it.
        kind: ``folder`` or ``file``.
        changed_at: Seconds since the epoch.
    """

    folder: str
    name: str
    kind: str
    changed_at: float


class ListedFolders:
    """The folders that an administrator listed; what lies directly in them may be read, and nothing else.

    Args:
        paths: Their paths; each is shown under its own name.

    Raises:
        ConfigError: one is no folder, or two have one name.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = {path.resolve().name: path.resolve() for path in paths}
        absent = [str(path) for path in paths if not path.is_dir()]
        if absent:
            raise ConfigError(f"no folder of studies there: {', '.join(absent)}")
        if len(self._paths) < len(paths):
            raise ConfigError("two folders of studies have one name; rename one")

    @property
    def names(self) -> list[str]:
        """What they are called."""
        return sorted(self._paths)

    def entries(self, folder: str) -> list[ListedStudy]:
        """Folders and files in a listed folder, the newest first, at most :data:`MOST_SHOWN`.

        Raises:
            Problem: UNKNOWN_FOLDER, FOLDER_GONE.
        """
        found = [
            ListedStudy(folder, path.name, kind, state.st_mtime)
            for path in self._inside(folder)
            if (state := _state(path)) is not None and (kind := _kind_of_study(path, state))
        ]
        return sorted(found, key=lambda entry: -entry.changed_at)[:MOST_SHOWN]

    def find(self, folder: str, name: str) -> Path:
        """Where an entry lies.

        Raises:
            Problem: UNKNOWN_FOLDER, FOLDER_GONE, UNKNOWN_ENTRY (no such entry, a link, or a path instead of a name).
        """
        path = next((path for path in self._inside(folder) if path.name == name), None)
        state = None if path is None else _state(path)
        if path is None or state is None or not _kind_of_study(path, state):
            raise Problem(404, "UNKNOWN_ENTRY", "there is no such study in the folder; reload the list")
        return path

    def _inside(self, folder: str) -> list[Path]:
        if folder not in self._paths:
            raise Problem(404, "UNKNOWN_FOLDER", "the administrator listed no such folder")
        try:
            return list(self._paths[folder].iterdir())
        except OSError as error:  # a share that is not mounted, or no longer allowed
            logger.error("a listed folder cannot be read: %s", error)
            message = "the folder cannot be read now; tell the administrator, whose log says why"
            raise Problem(503, "FOLDER_GONE", message) from error


def _state(path: Path) -> os.stat_result | None:
    """Of an entry itself, never of what a link leads to; None where it was moved away since it was listed."""
    try:
        return path.lstat()
    except OSError:  # of a shared folder ESTALE, too
        return None


def _kind_of_study(path: Path, state: os.stat_result) -> str:
    """``folder`` or ``file`` for what may be a study, empty for anything else."""
    if path.name.startswith("."):
        return ""
    if stat.S_ISDIR(state.st_mode):
        return "folder"
    is_named_so = path.name.lower().endswith((*_ARCHIVES, *_IMAGES))
    return "file" if stat.S_ISREG(state.st_mode) and is_named_so else ""


def find_in_pacs(address: PacsAddress, *, patient_id: str, accession_number: str) -> list[dict[str, Any]]:
    """CT studies of one patient or one order, the newest first, without anything that names the patient.

    Raises:
        Problem: TOO_WIDE (neither was given), BAD_SEARCH, and what the PACS came to.
    """
    from jcs_ct.pacs.remote import StudyQuery

    if not patient_id.strip() and not accession_number.strip():
        raise Problem(422, "TOO_WIDE", "give the whole Patient ID or Accession Number; the PACS is not listed")
    try:
        query = StudyQuery(patient_id=patient_id.strip(), accession_number=accession_number.strip())
        with closing(open_pacs(address, patient=False)) as web:
            found = web.studies(query, most=MOST_SHOWN)
    except ConfigError as error:
        raise Problem(422, "BAD_SEARCH", str(error)) from error
    except JCSError as error:
        raise Problem(502, str(error.code), str(error).removesuffix(f" ({error.code})")) from error
    shown = [
        {"study_uid": one.uid, "date": one.date, "description": one.description, "object_count": one.instance_count}
        for one in found
    ]
    return sorted(shown, key=lambda one: str(one["date"]), reverse=True)


def open_pacs(address: PacsAddress, *, patient: bool = True) -> DicomWeb:
    """A connection with the credentials of the environment.

    Args:
        address: Where.
        patient: Whether failed requests are tried again and slow ones waited for; not while a reader waits.
    """
    from jcs_ct.pacs.dicomweb import DicomWeb
    from jcs_ct.pacs.server import PacsServer

    patience = {} if patient else {"retries": 0, "timeout_s": 20.0, "answer_s": 60.0}
    return DicomWeb(PacsServer.from_environment(address.url, address.ca_bundle, **patience))


def check_pacs(address: PacsAddress) -> None:
    """Refuse an address, credentials or certificates that cannot be used, before a reader meets them.

    Raises:
        ConfigError: they cannot be used, or the extra ``jcs-ct[pacs]`` is not installed.
    """
    with needing_extra("a PACS beside the page", "service,pacs", ("requests", "defusedxml")):
        open_pacs(address).close()
