"""Results as one file for a reader: packed on the page's disk, sent, and removed."""

from __future__ import annotations

import secrets
import shutil
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from jcs_ct.disk_space import GIB
from jcs_ct.files import prepare_output_folder, replacing
from jcs_ct.service.problems import Problem

#: Packages of one reader that are packed or sent at a time: each is a copy of a study's results.
MOST_OF_ONE = 2


class Packages:
    """Packages under way.

    Args:
        folder: Where they lie meanwhile; what a killed server left there is removed.
        free_bytes: What must stay free on the disk.
    """

    def __init__(self, folder: Path, *, free_bytes: int) -> None:
        self.folder, self._free_bytes = folder, free_bytes
        self._lock, self._of_readers, self._packing_bytes = threading.Lock(), Counter[str](), 0
        shutil.rmtree(folder, ignore_errors=True)

    def send(
        self, reader: str, results: Path, names: Sequence[str], *, filename: str, when_packed: Callable[[], None]
    ) -> FileResponse:
        """Pack files, uncompressed, and answer with the package.

        Args:
            reader: Who asks.
            results: Folder of the files.
            names: Of the files in it, and in the package.
            filename: What the browser calls it.
            when_packed: Called when all is packed, and before anything is sent; may refuse.

        Raises:
            Problem: TOO_MANY_PACKAGES, DISK_FULL.
            FileNotFoundError: a file is gone.
            OutputError: the package cannot be written.
        """
        self._begin(reader)
        package = self.folder / f"{secrets.token_hex(8)}.zip"
        try:
            self._pack(results, names, package, when_packed)
        except BaseException:
            self._end(reader, package)
            raise
        return _Sent(package, filename, lambda: self._end(reader, package))

    def _pack(self, results: Path, names: Sequence[str], package: Path, when_packed: Callable[[], None]) -> None:
        size = sum((results / name).stat().st_size for name in names)
        with self._lock:
            self._packing_bytes += size
        try:
            self._require_room()
            with replacing(package) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as written:
                for name in names:
                    written.write(results / name, name)
                when_packed()
        finally:
            with self._lock:
                self._packing_bytes -= size

    def _require_room(self) -> None:
        """Room for the package and for those that are being packed; uploads, records and drafts keep theirs."""
        free = shutil.disk_usage(prepare_output_folder(self.folder)).free
        needed = self._packing_bytes + self._free_bytes
        if free < needed:
            message = (
                f"the server's disk has {free / GIB:.1f} GiB free and packing the results needs {needed / GIB:.1f} "
                "GiB; fetch single files, or ask the administrator to free space"
            )
            raise Problem(507, "DISK_FULL", message)

    def _begin(self, reader: str) -> None:
        with self._lock:
            if self._of_readers[reader] >= MOST_OF_ONE:
                message = f"{MOST_OF_ONE} packages of yours are being packed or sent; wait for one of them"
                raise Problem(429, "TOO_MANY_PACKAGES", message, retry_after_s=10)
            self._of_readers[reader] += 1

    def _end(self, reader: str, package: Path) -> None:
        package.unlink(missing_ok=True)
        with self._lock:
            self._of_readers[reader] -= 1


class _Sent(FileResponse):
    """A package that ends when it was sent, or when who asked has gone."""

    def __init__(self, package: Path, filename: str, end: Callable[[], None]) -> None:
        super().__init__(package, media_type="application/zip", filename=filename)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()
