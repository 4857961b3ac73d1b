"""Studies come in by pieces: announced, sent in chunks that may be cut and resumed, taken over whole.

The files of a study travel one after the other as one stream; an upload's state is the number of bytes that lie on
disk, so a browser or a server that dies loses at most the piece under way. Names that a browser gives never reach the
disk: files get neutral ones, under which a study is judged as under its own (:mod:`~jcs_ct.imaging.neutral_names`).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from starlette.concurrency import run_in_threadpool

from jcs_ct.disk_space import GIB
from jcs_ct.files import explain_unwritable
from jcs_ct.imaging.neutral_names import neutral_paths
from jcs_ct.imaging.study_files import natural_key
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.problems import Problem
from jcs_ct.service.settings import UploadLimits
from jcs_ct.service.users import User

logger = logging.getLogger(__name__)

_PACK = "pack.part"
_LONGEST_NAME = 1024


@dataclass(frozen=True)
class Upload:
    """An upload under way.

    Args:
        upload_id: Its random name.
        user: Whose.
        label: What the reader calls the study.
        sizes: Bytes of each file, in the order of sending.
        places: Where each file will lie in the study's folder, under a neutral name.
        received: Bytes on disk.
        total_bytes: Bytes announced.
    """

    upload_id: str
    user: str
    label: str
    sizes: tuple[int, ...]
    places: tuple[str, ...]
    received: int
    total_bytes: int


class Uploads:
    """Uploads under way and their folder."""

    def __init__(self, database: ServiceDatabase, folder: Path, limits: UploadLimits) -> None:
        self._database, self._folder, self.limits = database, folder, limits
        self._busy: set[str] = set()
        self._taking = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def announce(self, user: User, label: str, files: Sequence[Mapping[str, Any]]) -> tuple[Upload, list[int]]:
        """Begin an upload.

        Args:
            user: Who sends.
            label: What the reader calls the study.
            files: ``name`` (with folders) and ``size`` of each file.

        Returns:
            The upload, and in which order its files must be sent (indices into ``files``).

        Raises:
            Problem: NO_FILES, BAD_NAME, TOO_MANY_FILES, UPLOAD_TOO_LARGE, DISK_FULL, TOO_MANY_UPLOADS.
        """
        total = self._check_announced(files)
        self.sweep()
        names = [str(file["name"]) for file in files]
        order = sorted(range(len(files)), key=lambda index: natural_key(Path(names[index])))
        places = neutral_paths(names)
        kept = [[int(files[index]["size"]), str(places[index])] for index in order]
        upload_id = secrets.token_hex(16)
        with self._database.transaction() as run:
            everyone = run.execute("SELECT count(*) FROM uploads").fetchone()[0]
            mine = run.execute("SELECT count(*) FROM uploads WHERE user = ?", (user.name,)).fetchone()[0]
            if everyone >= self.limits.open_uploads or mine >= self.limits.open_uploads_of_one:
                raise Problem(
                    429,
                    "TOO_MANY_UPLOADS",
                    f"{mine} uploads of yours and {everyone} of all readers are under way; "
                    f"{self.limits.open_uploads_of_one} and {self.limits.open_uploads} may be: finish one first",
                    retry_after_s=10,
                )
            self._require_space(total)
            run.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?)",
                (upload_id, user.name, label, json.dumps(kept), total, time.time()),
            )
        place = self._folder / upload_id
        place.mkdir(mode=0o700)
        (place / _PACK).touch()
        return self.find(user, upload_id), order

    def find(self, user: User, upload_id: str) -> Upload:
        """An upload of this user.

        Raises:
            Problem: UNKNOWN_UPLOAD.
        """
        row = self._database.row("SELECT * FROM uploads WHERE upload_id = ? AND user = ?", (upload_id, user.name))
        if row is None:
            raise _unknown_upload()
        files = json.loads(row["files"])
        pack = _state(self._folder / row["upload_id"] / _PACK)
        return Upload(
            upload_id=row["upload_id"],
            user=row["user"],
            label=row["label"],
            sizes=tuple(size for size, _ in files),
            places=tuple(place for _, place in files),
            received=pack.st_size if pack else 0,
            total_bytes=row["total_bytes"],
        )

    async def receive(self, upload: Upload, offset: int, body: AsyncIterator[bytes]) -> int:
        """Add a chunk at ``offset``; bytes on disk afterwards. What came before a cut is kept.

        Raises:
            Problem: WRONG_OFFSET (another chunk is due, or one is being received), UNKNOWN_UPLOAD (another request
                ended it), CHUNK_TOO_LARGE, DISK_FULL.
        """
        if upload.upload_id in self._busy:
            raise _wrong_offset(offset, upload.received)
        self._busy.add(upload.upload_id)
        try:
            with (self._folder / upload.upload_id / _PACK).open("ab", buffering=0) as pack:
                if offset != pack.tell():  # more may have come since the upload was found
                    raise _wrong_offset(offset, pack.tell())
                return await self._append(pack, upload, offset, body)
        except FileNotFoundError as error:
            raise _unknown_upload() from error
        finally:
            self._busy.discard(upload.upload_id)

    async def _append(self, pack: RawIOBase, upload: Upload, offset: int, body: AsyncIterator[bytes]) -> int:
        most = min(self.limits.chunk_bytes, upload.total_bytes - offset)
        written = 0
        async for block in body:
            written += len(block)
            if written > most:
                pack.truncate(offset)
                raise Problem(413, "CHUNK_TOO_LARGE", f"at most {most} bytes are expected in this chunk")
            try:
                await run_in_threadpool(_write_all, pack, block)
            except OSError as error:
                pack.truncate(offset)
                raise Problem(507, "DISK_FULL", str(explain_unwritable(Path("the upload"), error))) from error
        return offset + written

    @contextmanager
    def taking_over(self, upload: Upload, place: Path) -> Iterator[None]:
        """Lay a whole upload's files into ``place``, which appears whole; after the block the upload is ended.

        The block records whose the files are. Where it fails they are removed and the upload is as it was; where the
        server is killed in it, too, for what nobody recorded is removed at the next start.

        Raises:
            Problem: INCOMPLETE, UNKNOWN_UPLOAD (another request ended it), DISK_FULL.
        """
        if upload.received != upload.total_bytes:
            message = f"{upload.received} of {upload.total_bytes} bytes are here; send the rest first"
            raise Problem(409, "INCOMPLETE", message, received=upload.received)
        with self._taking:
            self._lay_out(upload, place)
            try:
                yield
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            self.drop(upload.upload_id)

    def drop(self, upload_id: str) -> None:
        """End an upload and remove what came of it."""
        self._database.change("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))
        shutil.rmtree(self._folder / upload_id, ignore_errors=True)

    def count(self) -> int:
        """Uploads under way."""
        return len(self._database.rows("SELECT upload_id FROM uploads"))

    def sweep(self) -> int:
        """Remove uploads that got nothing for too long, and folders of none; how many."""
        known = {row["upload_id"]: row["created_at"] for row in self._database.rows("SELECT * FROM uploads")}
        removed = 0
        for upload_id, created in known.items():
            pack = _state(self._folder / upload_id / _PACK)
            last = max(created, pack.st_mtime) if pack else created
            if upload_id not in self._busy and time.time() - last > self.limits.idle_s:
                self.drop(upload_id)
                removed += 1
        for place in self._folder.iterdir():
            state = None if place.name in known else _state(place)
            if state and time.time() - state.st_mtime > self.limits.idle_s:
                shutil.rmtree(place, ignore_errors=True)
        return removed

    def _lay_out(self, upload: Upload, place: Path) -> None:
        staged = self._folder / upload.upload_id / "files"
        try:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(mode=0o700)
            with (self._folder / upload.upload_id / _PACK).open("rb") as pack:
                for size, kept in zip(upload.sizes, upload.places, strict=True):
                    (staged / kept).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    with (staged / kept).open("xb", buffering=0) as out:
                        _copy(pack, out, size)
                        os.fsync(out.fileno())
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged.rename(place)
        except FileNotFoundError as error:
            raise _unknown_upload() from error
        except OSError as error:
            raise Problem(507, "DISK_FULL", str(explain_unwritable(Path("the study"), error))) from error

    def _check_announced(self, files: Sequence[Mapping[str, Any]]) -> int:
        if not files:
            raise Problem(422, "NO_FILES", "the upload names no file; choose a folder, a zip or files of one study")
        if len(files) > self.limits.files:
            message = f"{len(files)} files are announced, {self.limits.files} are allowed; send one study at a time"
            raise Problem(413, "TOO_MANY_FILES", message)
        for file in files:
            name, size = file.get("name"), file.get("size")
            if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
                raise Problem(422, "BAD_NAME", f"a file's name has 1 to {_LONGEST_NAME} characters")
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise Problem(422, "BAD_SIZE", "each file needs its size in bytes")
        total = sum(int(file["size"]) for file in files)
        if total > self.limits.total_bytes:
            announced, allowed = total / GIB, self.limits.total_bytes / GIB
            message = f"{announced:.1f} GiB are announced, {allowed:.1f} GiB are allowed; send one series only"
            raise Problem(413, "UPLOAD_TOO_LARGE", message)
        return total

    def _require_space(self, total: int) -> None:
        """Room for the upload, the same again while it is taken over and unpacked, and what must stay free."""
        open_bytes = sum(row["total_bytes"] for row in self._database.rows("SELECT total_bytes FROM uploads"))
        free = shutil.disk_usage(self._folder).free
        needed = 3 * (total + open_bytes) + self.limits.free_bytes
        if free < needed:
            message = (
                f"the server's disk has {free / GIB:.1f} GiB free and this upload needs "
                f"{needed / GIB:.1f} GiB; ask the administrator to free space"
            )
            raise Problem(507, "DISK_FULL", message)


def _wrong_offset(offset: int, received: int) -> Problem:
    message = f"the next byte is {received}, the chunk starts at {offset}; go on from there"
    return Problem(409, "WRONG_OFFSET", message, received=received)


def _unknown_upload() -> Problem:
    return Problem(404, "UNKNOWN_UPLOAD", "there is no such upload; it was finished or cancelled, or timed out")


def _state(path: Path) -> os.stat_result | None:
    """None where nothing is, also if another request has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _write_all(out: RawIOBase, block: bytes) -> None:
    """Write without a buffer: an error is this block's, and what is on disk is what was counted."""
    view = memoryview(block)
    while view:
        view = view[out.write(view) or 0 :]


def _copy(source: IO[bytes], target: RawIOBase, size: int) -> None:
    while size:
        block = source.read(min(size, 1 << 20))
        if not block:
            raise OSError("the upload's file is shorter than it was")
        _write_all(target, block)
        size -= len(block)
