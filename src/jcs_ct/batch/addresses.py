"""Files behind fsspec addresses (``s3://bucket/cohort``): listed, looked at by their headers, fetched, stored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from jcs_ct.batch.cohort_manifest import FoundStudy
from jcs_ct.batch.local_studies import Gate, find_in_folder
from jcs_ct.errors import ConfigError, GateCode
from jcs_ct.files import prepare_output_folder

#: Enough for a CT header; an object whose pixels do not begin in it is fetched whole.
HEAD_BYTES = 32 * 1024
_TAIL_BYTES = 16
_AT_ONCE = 500
_PIXEL_DATA, _FRAMES = b"\xe0\x7f\x10\x00", b"\x28\x00\x08\x00"
#: A copy that holds headers only cannot show these.
_NOT_SHOWN = frozenset({str(GateCode.TRUNCATED), str(GateCode.UNREADABLE)})


def is_address(text: str) -> bool:
    """Whether a place is an address rather than a path of this machine."""
    return "://" in text


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it; its credentials come from where the file system looks.

    Raises:
        ConfigError: the address cannot be used, or what it needs is not installed.
    """
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError(f"the address cannot be used: {error}; for s3:// install 'jcs-ct[cluster]'") from error
    return system, str(path)


def find_at(address: str, gate: Gate, *, progress: Callable[[int], None] | None = None) -> list[FoundStudy]:
    """Every study below an address; of DICOM objects the headers are fetched, other objects are judged when read.

    Raises:
        ConfigError: nothing is there, or it cannot be read.
    """
    system, root = file_system(address)
    try:
        listed: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
        if not listed:
            raise ConfigError(f"nothing lies at {address}; give the address that holds the studies")
        with tempfile.TemporaryDirectory(prefix="jcs-heads-") as mirror:
            _mirror_headers(system, root, listed, Path(mirror))
            found = find_in_folder(Path(mirror), gate, progress=progress)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{address} cannot be read: {type(error).__name__}: {error}") from error
    return [_at_address(one, Path(mirror), address) for one in found]


def _at_address(study: FoundStudy, mirror: Path, address: str) -> FoundStudy:
    inside = os.path.relpath(study.where, mirror)
    where = address.rstrip("/") if inside == "." else f"{address.rstrip('/')}/{inside}"
    if study.code in _NOT_SHOWN:
        study = replace(study, code="", message="")
    return replace(study, where=where)


def _mirror_headers(system: Any, root: str, listed: Mapping[str, Mapping[str, Any]], mirror: Path) -> None:
    """Sparse files of the objects' names and sizes that hold the beginning and the last bytes of each."""
    names = sorted(listed)
    for first in range(0, len(names), _AT_ONCE):
        part = names[first : first + _AT_ONCE]
        sizes = [int(listed[name].get("size") or 0) for name in part]
        heads = _ranges(system, part, [0] * len(part), [min(size, HEAD_BYTES) for size in sizes])
        tails = _ranges(system, part, [max(0, size - _TAIL_BYTES) for size in sizes], sizes)
        for name, size, head, tail in zip(part, sizes, heads, tails, strict=True):
            inside = os.path.relpath(name, root)
            path = mirror / (Path(name).name if inside == "." else inside)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_head(system, name, path, size, head, tail)
            _set_time(path, listed[name])


def _ranges(system: Any, names: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    wanted = [index for index, end in enumerate(ends) if end > starts[index]]
    content = [b""] * len(names)
    if wanted:
        parts = system.cat_ranges(
            [names[i] for i in wanted], [starts[i] for i in wanted], [ends[i] for i in wanted], on_error="raise"
        )
        for index, part in zip(wanted, parts, strict=True):
            content[index] = bytes(part)
    return content


def _write_head(system: Any, name: str, path: Path, size: int, head: bytes, tail: bytes) -> None:
    pixels = head.find(_PIXEL_DATA)
    is_dicom = head[128:132] == b"DICM"
    undefined = b"\xff\xff\xff\xff" in head[pixels : pixels + 12]
    if is_dicom and size > len(head) and (pixels < 0 or (undefined and _FRAMES in head)):
        system.get_file(name, str(path))
        return
    if is_dicom and not undefined and pixels >= 0:
        head = head[: pixels + 16]
    with path.open("wb") as stream:
        stream.write(head)
        if size > len(head):
            stream.seek(size - len(tail))
            stream.write(tail)


def _set_time(path: Path, facts: Mapping[str, Any]) -> None:
    """What tells a changed object from the one it was: its time, where the store keeps one."""
    moment = facts.get("LastModified") or facts.get("mtime") or facts.get("created")
    seconds = moment.timestamp() if isinstance(moment, datetime) else float(moment or 0)
    os.utime(path, (seconds, seconds))


def fetched(where: str, files: Sequence[str], folder: Path) -> Path:
    """Fetch a study's objects into a folder; the folder, or the file of a lone object.

    Raises:
        OSError, ValueError: they cannot be fetched.
    """
    system, path = file_system(where)
    if not files and system.isfile(path):
        place = folder / Path(path).name
        system.get_file(path, str(place))
        return place
    names = [f"{path}/{one}" for one in files] or sorted(system.find(path))
    places = [folder / os.path.relpath(one, path) for one in names]
    for parent in {place.parent for place in places}:
        prepare_output_folder(parent)
    system.get(names, [str(place) for place in places])
    return folder


def store_folder(folder: Path, address: str) -> None:
    """Store every file of a folder below an address."""
    system, path = file_system(address)
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    for parent in {f"{path}/{one.relative_to(folder).parent.as_posix()}".removesuffix("/.") for one in files}:
        system.makedirs(parent, exist_ok=True)
    system.put([str(one) for one in files], [f"{path}/{one.relative_to(folder).as_posix()}" for one in files])
