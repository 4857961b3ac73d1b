"""What the page may do, decided when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError
from jcs_ct.jobs import Limits
from jcs_ct.loopback import is_loopback

#: What to do about a damaged file among a study's results, where there is no copy.
READ_AGAIN = "send the study again: what readers saved of it stays with the old one"


@dataclass(frozen=True)
class UploadLimits:
    """Bounds of what readers may send.

    Args:
        total_bytes: Of one study, as sent.
        files: Of one study.
        chunk_bytes: Of one request.
        open_uploads: At a time, by all readers.
        open_uploads_of_one: At a time, by one reader.
        free_bytes: What must stay free on the disk.
        idle_s: An upload that got nothing for so long is removed.
    """

    total_bytes: int = 8 * GIB
    files: int = 20_000
    chunk_bytes: int = 8 * 1024**2
    open_uploads: int = 16
    open_uploads_of_one: int = 4
    free_bytes: int = 2 * GIB
    idle_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        numbers = (self.total_bytes, self.files, self.chunk_bytes, self.open_uploads, self.open_uploads_of_one)
        if min(numbers) < 1 or self.free_bytes < 0 or self.idle_s <= 0:
            raise ConfigError(f"limits of uploads must be greater than 0: {self}")


@dataclass(frozen=True)
class PacsAddress:
    """The PACS that studies may be picked from and results sent to; its credentials stay in the environment.

    Args:
        url: Root of its DICOMweb services.
        ca_bundle: PEM file of certificates to trust in place of the system's, or empty.
    """

    url: str
    ca_bundle: str = ""


@dataclass(frozen=True)
class ServiceSettings:
    """How the page is served.

    Args:
        folder: For the records, uploads, results and corrections; readable by its owner only.
        host: Address to listen on; any but loopback needs users.
        port: 0 takes a free one.
        root_path: Where a proxy mounts the page, such as ``/jcs``.
        models: ``compact``, or a folder made by ``jcs calibrate``.
        uploads: Bounds of what is sent.
        study: What the process of one study may use.
        session_hours: A login ends after so long, and after a quarter of it without a request.
        keep_days: Studies older than that are deleted with all that belongs to them; None keeps them.
        study_folders: Folders of this machine whose studies readers may have read.
        pacs: Where readers may pick studies from and send results to.

    Raises:
        ConfigError: a root path that is none, or a number out of range.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    root_path: str = ""
    models: str = "compact"
    uploads: UploadLimits = field(default_factory=UploadLimits)
    study: Limits = field(default_factory=Limits)
    session_hours: float = 12.0
    keep_days: float | None = None
    study_folders: tuple[Path, ...] = ()
    pacs: PacsAddress | None = None

    def __post_init__(self) -> None:
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(f"a root path starts with / and does not end with one, got {self.root_path!r}")
        if self.session_hours <= 0 or (self.keep_days is not None and self.keep_days <= 0):
            raise ConfigError("hours of a session and days of keeping must be greater than 0")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        return is_loopback(self.host)
