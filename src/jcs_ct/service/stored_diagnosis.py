"""A Diagnosis on disk, so that a correction starts from what was found and not from a second reading."""

from __future__ import annotations

import json
import zlib
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints
from zipfile import BadZipFile

import numpy as np
from pydantic import TypeAdapter

from jcs_ct.errors import DamagedFileError
from jcs_ct.files import read_own_json, replacing, write_text
from jcs_ct.reading.diagnosis import Diagnosis
from jcs_ct.service.settings import READ_AGAIN

_ARRAYS, _FACTS = "diagnosis.npz", "diagnosis.json"
#: What in a Diagnosis is an array on the study's grid.
_ARRAY_FIELDS = ("activation", "lung_labels", "lesion_labels", "density_labels")


def store_diagnosis(folder: Path, diagnosis: Diagnosis) -> None:
    """Write ``diagnosis.npz`` (arrays, compressed) and ``diagnosis.json`` (all else)."""
    arrays = {name: getattr(diagnosis, name) for name in _ARRAY_FIELDS if getattr(diagnosis, name) is not None}
    with replacing(folder / _ARRAYS) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    hints = get_type_hints(Diagnosis)
    facts = {
        field.name: TypeAdapter(hints[field.name]).dump_python(getattr(diagnosis, field.name), mode="json")
        for field in fields(Diagnosis)
        if field.name not in _ARRAY_FIELDS
    }
    write_text(folder / _FACTS, json.dumps(facts) + "\n")


def load_diagnosis(folder: Path) -> Diagnosis:
    """What :func:`store_diagnosis` wrote.

    Raises:
        DamagedFileError: it is not as it was written.
    """
    hints = get_type_hints(Diagnosis)
    stored = read_own_json(folder / _FACTS, instead=READ_AGAIN)
    try:
        values = {name: TypeAdapter(hints[name]).validate_python(value) for name, value in stored.items()}
        with (folder / _ARRAYS).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            values.update({name: arrays.get(name) for name in _ARRAY_FIELDS})
        return Diagnosis(**values)
    except (OSError, EOFError, ValueError, LookupError, TypeError, BadZipFile, zlib.error) as error:
        named = f"{folder / _FACTS} or {_ARRAYS} beside it"
        raise DamagedFileError(named, f"it cannot be read ({type(error).__name__})", instead=READ_AGAIN) from error
