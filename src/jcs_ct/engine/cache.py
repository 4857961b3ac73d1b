"""Compiled networks on disk, so that a backend is prepared once for each set of weights and not once a study.

An entry is one file: a line of JSON that says what it was made of and by, then the model. It is taken only when that
line is what would be written today and the model's SHA-256 agrees; else it is made anew and the log says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from jcs_ct.errors import OutputError
from jcs_ct.files import replacing

logger = logging.getLogger(__name__)

#: Environment variable that names another folder; empty switches the cache off.
FOLDER_VARIABLE = "JCS_CT_CACHE"
#: Part of every entry's first line; changes when what the engine compiles changes.
ENTRY_VERSION = 2


def cache_folder() -> Path | None:
    """Where compiled networks are kept (the platform's folder for such files), or None when it is switched off."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    folder = user_cache_path("jcs-ct", appauthor=False)
    return folder if folder.is_absolute() else None  # a user without a home folder


@dataclass(frozen=True)
class CacheEntry:
    """Where one compiled network is kept, and what it must have been made of.

    Args:
        name: File name without suffix: task, weights, backend, precision, and what one folder may hold side
            by side (input size, processor).
        made_of: Everything the model depends on, versions too, as plain values.
    """

    name: str
    made_of: Mapping[str, Any]

    def path_in(self, folder: Path) -> Path:
        """The entry's file."""
        return folder / f"{self.name}.model"

    def read(self) -> bytes | None:
        """The model, or None when there is none that can be used; an old or damaged one is logged."""
        folder = cache_folder()
        path = self.path_in(folder) if folder is not None else None
        if path is None or not path.is_file():
            return None
        try:
            first, _, model = path.read_bytes().partition(b"\n")
            said = json.loads(first)
            made_of, digest = said["made_of"], said["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("cached model %s cannot be read (%s): made anew", path.name, type(error).__name__)
            return None
        if made_of != self._facts():
            logger.info("cached model %s was made by another version: made anew", path.name)
            return None
        if hashlib.sha256(model).hexdigest() != digest:
            logger.warning("cached model %s is damaged (its SHA-256 differs): made anew", path.name)
            return None
        return model

    def write(self, model: bytes) -> None:
        """Keep a model; where the folder cannot be written that is logged once, and the run goes on without."""
        folder = cache_folder()
        if folder is None:
            return
        first = json.dumps({"made_of": self._facts(), "sha256": hashlib.sha256(model).hexdigest()}, sort_keys=True)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(self.path_in(folder)) as temporary:
                temporary.write_bytes(first.encode() + b"\n" + model)
        except (OSError, OutputError) as error:
            _say_unwritable(error)

    def _facts(self) -> dict[str, Any]:
        """As they read after JSON."""
        facts: dict[str, Any] = json.loads(json.dumps({"entry_version": ENTRY_VERSION, **self.made_of}))
        return facts


_unwritable_said = False


def _say_unwritable(error: Exception) -> None:
    global _unwritable_said
    if not _unwritable_said:
        _unwritable_said = True
        logger.warning(
            "compiled networks cannot be kept (%s): each run prepares them anew; name a folder that can be written "
            "in %s",
            error,
            FOLDER_VARIABLE,
        )
