"""Files behind fsspec addresses (``s3://bucket/cohort``): listed, looked at by their headers, fetched, stored."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from jcs_ct.batch.cohort_manifest import FoundStudy, Kind
from jcs_ct.batch.local_studies import Gate, find_in_folder
from jcs_ct.batch.store_faults import reading, storing, without_credentials
from jcs_ct.errors import GateCode, NotFoundError, StudyError
from jcs_ct.files import prepare_output_folder, temporary_folder

#: Enough for a CT header; an object whose pixels do not begin in it is fetched whole.
HEAD_BYTES = 32 * 1024
#: Written last beside results in an object store: what lies there is whole.
DONE_MARKER = "_DONE"
_TAIL_BYTES = 16
_AT_ONCE = 500
_PIXEL_DATA, _FRAMES = b"\xe0\x7f\x10\x00", b"\x28\x00\x08\x00"
#: Bytes of one part of a name, as file systems have it, and of a whole one, as S3 has it.
_PART_BYTES, _NAME_BYTES = 255, 1024
_NO_FILE = (
    "an object's name cannot be a file's here: a part of it is empty, '.' or '..', holds a backslash or a NUL, or is "
    "too long, or another object has the name of its folder"
)
_RENAME = "give the object another name in its store"
#: A copy that holds headers only cannot show these.
_NOT_SHOWN = frozenset({str(GateCode.TRUNCATED), str(GateCode.UNREADABLE)})


def is_address(text: str) -> bool:
    """Whether a place is an address rather than a path of this machine."""
    return "://" in text


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it; its credentials come from where the file system looks.

    Raises:
        ConfigError: the address cannot be used, or what it needs is not installed.
        NotFetchedError: what it names does not answer.
    """
    with reading(address):
        system, path = fsspec.core.url_to_fs(address)
    return system, str(path)


def find_at(address: str, gate: Gate, *, progress: Callable[[int], None] | None = None) -> list[FoundStudy]:
    """Every study below an address; of DICOM objects the headers are fetched, other objects are judged when read.

    An object whose name leads out of a folder, or cannot be a file's, is a study that is refused (UNSUPPORTED).

    Raises:
        NotFoundError: nothing is there.
        ConfigError, NotFetchedError: it cannot be read, see :func:`~jcs_ct.batch.store_faults.reading`.
        OutputError: the temporary folder has no room for the headers.
    """
    system, root = file_system(address)
    with reading(address):
        listed: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
    if not listed:
        shown = without_credentials(address)
        raise NotFoundError(f"nothing lies at {shown}; give the address that holds the studies")
    places, refused = _places(listed, root)
    with temporary_folder("jcs-heads-") as mirror:
        with reading(address):
            _mirror_headers(system, places, listed, mirror)
        found = find_in_folder(mirror, gate, has_pixels=False, progress=progress)
        states = {mirror / inside: _state(listed[name]) for name, inside in places.items()}
        below = _by_folder(states)
        found = [_with_objects(one, states, below) for one in found]
    return [*(_at_address(one, mirror, address) for one in found), *map(_refused, refused)]


def _places(names: Iterable[str], root: str) -> tuple[dict[str, PurePosixPath], list[str]]:
    """Where objects lie below an address, as paths below any folder; and those of which no file can be made there.

    Names in a store are only names: ``..`` in one would lead out of the folder that it is fetched into.
    """
    places: dict[str, PurePosixPath] = {}
    refused: list[str] = []
    files: set[PurePosixPath] = set()
    for name in sorted(names):  # a file comes before what lies below its name
        if name.endswith("/"):
            continue  # what some stores keep in place of an empty folder
        inside = _inside(name, root)
        if inside is None or not files.isdisjoint(inside.parents):
            refused.append(name)
            continue
        files.add(inside)
        places[name] = inside
    return places, refused


def _inside(name: str, root: str) -> PurePosixPath | None:
    name, root = name.removeprefix("/"), root.strip("/")
    if name == root:
        inside = name.rpartition("/")[2]
    elif not root or name.startswith(f"{root}/"):
        inside = name[len(root) + 1 :] if root else name
    else:
        return None
    parts = inside.split("/")
    sizes = [len(part.encode(errors="replace")) for part in parts]
    is_file = max(sizes) <= _PART_BYTES and sum(sizes) + len(sizes) <= _NAME_BYTES
    is_plain = not {"", ".", ".."} & set(parts) and not {"\\", "\0"} & set(inside)
    return PurePosixPath(inside) if is_file and is_plain else None


def _refused(name: str) -> FoundStudy:
    return FoundStudy(
        study=hashlib.sha256(name.encode(errors="replace")).hexdigest()[:32],
        kind=Kind.SINGLE,
        where=repr(name)[1:-1],
        code=str(GateCode.UNSUPPORTED),
        message=f"{_NO_FILE}; {_RENAME} ({GateCode.UNSUPPORTED})",
    )


def _state(facts: Mapping[str, Any]) -> str:
    """What tells a changed object from the one it was: its entity tag, else its size and time."""
    tag = facts.get("ETag") or facts.get("etag")
    return str(tag or (facts.get("size"), _seconds(facts)))


def _by_folder(states: Mapping[Path, str]) -> Mapping[Path, Sequence[str]]:
    """The states of what lies below every folder, gathered in one walk."""
    below: dict[Path, list[str]] = defaultdict(list)
    for path, state in states.items():
        for parent in path.parents:
            below[parent].append(state)
    return below


def _with_objects(study: FoundStudy, states: Mapping[Path, str], below: Mapping[Path, Sequence[str]]) -> FoundStudy:
    """A study whose DICOM objects changed is another one: of their pixels the headers say nothing."""
    if study.kind is not Kind.DICOM:
        return study
    where = Path(study.where)
    objects = sorted([states[where / name] for name in study.files] if study.files else below[where])
    return replace(study, study=hashlib.sha256("\n".join([study.study, *objects]).encode()).hexdigest()[:32])


def _at_address(study: FoundStudy, mirror: Path, address: str) -> FoundStudy:
    inside = os.path.relpath(study.where, mirror)
    where = address.rstrip("/") if inside == "." else f"{address.rstrip('/')}/{inside}"
    if study.code in _NOT_SHOWN:
        study = replace(study, code="", message="")
    return replace(study, where=where)


def _mirror_headers(
    system: Any, places: Mapping[str, PurePosixPath], listed: Mapping[str, Mapping[str, Any]], mirror: Path
) -> None:
    """Sparse files of the objects' names and sizes that hold the beginning and the last bytes of each."""
    names = list(places)
    for first in range(0, len(names), _AT_ONCE):
        part = names[first : first + _AT_ONCE]
        sizes = [int(listed[name].get("size") or 0) for name in part]
        heads = _ranges(system, part, [0] * len(part), [min(size, HEAD_BYTES) for size in sizes])
        tails = _ranges(system, part, [max(0, size - _TAIL_BYTES) for size in sizes], sizes)
        for name, size, head, tail in zip(part, sizes, heads, tails, strict=True):
            path = mirror / places[name]
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
    seconds = _seconds(facts)
    os.utime(path, (seconds, seconds))


def _seconds(facts: Mapping[str, Any]) -> float:
    """When an object was stored, in seconds since the epoch; 0 where the store keeps no time."""
    moment = facts.get("LastModified") or facts.get("mtime") or facts.get("created")
    return moment.timestamp() if isinstance(moment, datetime) else float(moment or 0)


def fetched(where: str, files: Sequence[str], folder: Path) -> Path:
    """Fetch a study's objects into a folder; the folder, or the file of a lone object.

    Raises:
        StudyError: the name of one leads out of the folder, or cannot be a file's (UNSUPPORTED).
        OSError, ValueError: they cannot be fetched.
    """
    system, path = file_system(where)
    is_lone = not files and system.isfile(path)
    places, refused = _places([path] if is_lone else [f"{path}/{one}" for one in files] or system.find(path), path)
    if refused:
        raise StudyError(GateCode.UNSUPPORTED, f"{_NO_FILE}; {_RENAME}", remedy=_RENAME)
    if is_lone:
        place = folder / places[path]
        system.get_file(path, str(place))
        return place
    for parent in {(folder / inside).parent for inside in places.values()}:
        prepare_output_folder(parent)
    system.get(list(places), [str(folder / inside) for inside in places.values()])
    return folder


def store_folder(folder: Path, address: str) -> None:
    """Store every file of a folder below an address; where :data:`DONE_MARKER` lies, what is there stays.

    Raises:
        OutputError: the store does not take them.
    """
    system, path = file_system(address)
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    with storing(address):
        system.invalidate_cache(path)
        if system.exists(f"{path}/{DONE_MARKER}"):
            return
        for parent in {f"{path}/{one.relative_to(folder).parent.as_posix()}".removesuffix("/.") for one in files}:
            system.makedirs(parent, exist_ok=True)
        system.put([str(one) for one in files], [f"{path}/{one.relative_to(folder).as_posix()}" for one in files])
