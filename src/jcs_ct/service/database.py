"""The page's record beside the ledger of jobs: users, sessions, studies, opinions, corrections, and the audit log."""

from __future__ import annotations

from pathlib import Path

from jcs_ct.errors import DamagedFileError, NotFoundError
from jcs_ct.jobs.sqlite_file import SqliteFile

#: Name of the file in the page's folder.
RECORD = "service.sqlite"
#: Name of the ledger of jobs beside it.
JOBS = "jobs.sqlite"
#: File with the secret that the patients' pseudonyms follow from.
PATIENTS_SALT = "patients.salt"
#: Folders whose files belong to studies of the record, or to jobs of the ledger; of no study they are removed.
_KEPT = {RECORD: ("sent", "corrections"), JOBS: ("results",)}

STEPS = (
    """
    CREATE TABLE users (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, password_hash TEXT NOT NULL, created_at REAL NOT NULL
    );
    CREATE TABLE tokens (token_hash TEXT PRIMARY KEY, user TEXT NOT NULL, created_at REAL NOT NULL);
    CREATE TABLE sessions (
        token_hash TEXT PRIMARY KEY, user TEXT NOT NULL, csrf TEXT NOT NULL, created_at REAL NOT NULL,
        seen_at REAL NOT NULL
    );
    CREATE TABLE login_failures (
        subject TEXT PRIMARY KEY, failures INTEGER NOT NULL, not_before REAL NOT NULL, changed_at REAL NOT NULL
    );
    CREATE TABLE uploads (
        upload_id TEXT PRIMARY KEY, user TEXT NOT NULL, label TEXT NOT NULL, files TEXT NOT NULL,
        total_bytes INTEGER NOT NULL, created_at REAL NOT NULL
    );
    CREATE TABLE studies (
        study_id TEXT PRIMARY KEY, owner TEXT NOT NULL, label TEXT NOT NULL, added_at REAL NOT NULL,
        file_count INTEGER NOT NULL, byte_count INTEGER NOT NULL, job_id TEXT NOT NULL
    );
    CREATE INDEX studies_by_age ON studies (added_at);
    CREATE TABLE shares (study_id TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (study_id, user));
    CREATE TABLE opinions (
        number INTEGER PRIMARY KEY, study_id TEXT NOT NULL, user TEXT NOT NULL, moment REAL NOT NULL,
        agrees INTEGER NOT NULL, reason TEXT NOT NULL
    );
    CREATE TABLE corrections (
        study_id TEXT NOT NULL, version INTEGER NOT NULL, parent INTEGER NOT NULL, user TEXT NOT NULL,
        moment REAL NOT NULL, note TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (study_id, version)
    );
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, moment REAL NOT NULL, user TEXT NOT NULL, action TEXT NOT NULL,
        study_id TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL
    );
    CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'append-only'); END;
    CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'append-only'); END;
    """,
    # 2: where a study's process gets its files, as JSON; null for those that were sent
    "ALTER TABLE studies ADD COLUMN source TEXT NOT NULL DEFAULT 'null';",
    # 3: who had a study deleted; empty but for the moment until nothing of it is left, or since a kill in between
    "ALTER TABLE studies ADD COLUMN deleted_by TEXT NOT NULL DEFAULT '';",
    # 4: the upload that a study was sent by; empty for those that were picked
    """
    ALTER TABLE studies ADD COLUMN upload_id TEXT NOT NULL DEFAULT '';
    CREATE UNIQUE INDEX studies_by_upload ON studies (upload_id) WHERE upload_id != '';
    """,
    # 5: else each study of a list reads every opinion of all
    "CREATE INDEX opinions_of_study ON opinions (study_id, number);",
)


class ServiceDatabase(SqliteFile):
    """The file of these tables.

    Args:
        path: See :class:`~jcs_ct.jobs.sqlite_file.SqliteFile`.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, STEPS, "the page's record", folder_mode=0o700)


def require_record(folder: Path) -> None:
    """Refuse a folder that is no page's, before a record is begun in it.

    Raises:
        NotFoundError: it holds no record.
    """
    if not (folder / RECORD).is_file():
        raise NotFoundError(f"{folder} is not the folder of a page: it holds no {RECORD}; give that of `jcs serve`")


def require_whole(folder: Path) -> None:
    """Refuse a folder whose studies would be taken for nobody's, because a record of them was emptied or removed.

    Raises:
        DamagedFileError: it is empty or gone, and there are files of studies.
    """
    for name, rooms in _KEPT.items():
        path = folder / name
        if path.is_file() and (path.stat().st_size or path.with_name(f"{name}-wal").is_file()):
            continue
        held = [room for room in rooms if _holds_studies(folder / room)]
        if held:
            why = f"it is {'empty' if path.exists() else 'gone'}, and {' and '.join(held)} beside it hold studies"
            raise DamagedFileError(path, why, instead=f"move {' and '.join(held)} elsewhere to begin anew")


def _holds_studies(folder: Path) -> bool:
    return folder.is_dir() and any(not place.name.startswith(".") for place in folder.iterdir())
