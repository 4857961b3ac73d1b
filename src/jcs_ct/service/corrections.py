"""Readers' corrections: each a version of its own that names what it was made from; none is ever written over."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcs_ct.files import write_bytes
from jcs_ct.jobs import Ending, Limits, StudyWorker
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.problems import Problem
from jcs_ct.service.studies import LONGEST_REASON, Studies, StudyRecord
from jcs_ct.service.tasks import MEASURE_CORRECTION, STATE
from jcs_ct.service.turns import Turns
from jcs_ct.service.users import User

#: Bytes of a painted mask as it is sent (gzip); one of 40 million voxels that are noise takes 6 million.
MOST_MASK_BYTES = 32 * 1024**2


#: Readers that save at a time; one is measured after the other.
MOST_SAVING = 8


@dataclass(frozen=True)
class CorrectionRecord:
    """A saved correction; ``parent`` 0 is the automatic reading."""

    version: int
    parent: int
    user: str
    moment: float
    note: str
    facts: Mapping[str, Any]


class Corrections:
    """Corrections of every study, and the process that measures them.

    Args:
        database: Of the page.
        studies: Whose lesions are corrected.
        limits: Of one measurement.
    """

    def __init__(self, database: ServiceDatabase, studies: Studies, limits: Limits) -> None:
        self._database, self._studies, self._limits = database, studies, limits
        self._worker, self._lock = StudyWorker(), threading.Lock()
        self._turns = Turns(MOST_SAVING, "save corrections")

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def of(self, study_id: str) -> list[CorrectionRecord]:
        """Versions of a study, the oldest first."""
        rows = self._database.rows(
            "SELECT version, parent, user, moment, note, facts FROM corrections WHERE study_id = ? ORDER BY version",
            (study_id,),
        )
        return [CorrectionRecord(**{**dict(row), "facts": json.loads(row["facts"])}) for row in rows]

    def counts(self, study_ids: Sequence[str]) -> dict[str, int]:
        """Number of versions of each study that has one, by study_id."""
        rows = self._database.rows(
            "SELECT study_id, count(*) AS versions FROM corrections "
            "WHERE study_id IN (SELECT value FROM json_each(?)) GROUP BY study_id",
            (json.dumps(study_ids),),
        )
        return {row["study_id"]: row["versions"] for row in rows}

    def folder(self, record: StudyRecord, version: int) -> Path:
        """Where a version lies; 0 is the automatic reading.

        Raises:
            Problem: UNKNOWN_VERSION, NOT_READ.
        """
        results = self._studies.require_done(record)
        if version == 0:
            return results
        if version not in [known.version for known in self.of(record.study_id)]:
            raise Problem(404, "UNKNOWN_VERSION", f"the study has no version {version}")
        return self._studies.corrections(record.study_id) / f"{version:04d}"

    def keep_draft(self, user: User, record: StudyRecord, parent: int, mask: bytes) -> None:
        """Keep what a reader is painting, so that a closed browser loses nothing; each reader has one draft a study.

        Raises:
            Problem: MASK_TOO_LARGE, UNKNOWN_VERSION; UNKNOWN_STUDY, of one that was deleted meanwhile.
        """
        self._require_size(mask)
        self.folder(record, parent)
        write_bytes(self._draft(user, record), parent.to_bytes(4, "big") + mask)
        self._studies.require_kept(record)

    def draft(self, user: User, record: StudyRecord) -> tuple[int, bytes] | None:
        """The reader's draft: version that is painted on, and the mask."""
        path = self._draft(user, record)
        if not path.is_file():
            return None
        content = path.read_bytes()
        return int.from_bytes(content[:4], "big"), content[4:]

    def drop_draft(self, user: User, record: StudyRecord) -> None:
        """Forget the reader's draft."""
        self._draft(user, record).unlink(missing_ok=True)

    def _draft(self, user: User, record: StudyRecord) -> Path:
        return self._studies.corrections(record.study_id) / f"draft-{user.name}.bin"

    @staticmethod
    def _require_size(mask: bytes) -> None:
        if len(mask) > MOST_MASK_BYTES:
            raise Problem(413, "MASK_TOO_LARGE", f"the mask has {len(mask)} bytes, {MOST_MASK_BYTES} are allowed")

    def save(
        self, user: User, record: StudyRecord, *, parent: int, mask: bytes, note: str, although_newer: bool = False
    ) -> CorrectionRecord:
        """Measure a painted mask and keep it as the next version.

        Args:
            user: Who painted; the observer in the results.
            record: The study.
            parent: Version that was painted on.
            mask: gzip of the viewer's bytes, x fastest, not 0 where there is lesion.
            note: What the reader says of it.
            although_newer: Save beside versions that others saved meanwhile.

        Raises:
            Problem: NEWER_VERSION, BAD_MASK, MASK_TOO_LARGE, UNKNOWN_STUDY (it was deleted meanwhile), BUSY (too many
                save), and what the measuring process came to.
        """
        self._require_size(mask)
        results, source = self._studies.require_done(record), self.folder(record, parent)
        with self._turns.taken(), self._lock:
            known = self.of(record.study_id)
            latest = known[-1].version if known else 0
            if latest != parent and not although_newer:
                newer = known[-1]
                message = (
                    f"{newer.user} saved version {newer.version} while you worked on version {parent}; look at it, "
                    "or save yours beside it: nothing is written over"
                )
                raise Problem(409, "NEWER_VERSION", message, latest=latest)
            version = latest + 1
            place = self._studies.corrections(record.study_id) / f"{version:04d}"
            staged = place.with_name(f"{version:04d}.part")
            try:
                facts = self._measure(user, record, results, source, staged, mask, version)
                shutil.rmtree(place, ignore_errors=True)  # of a server that was killed before the next lines' end
                moment = time.time()
                with self._studies.holding(record) as run:
                    staged.rename(place)
                    run.execute(
                        "INSERT INTO corrections VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            record.study_id,
                            version,
                            parent,
                            user.name,
                            moment,
                            note[:LONGEST_REASON],
                            json.dumps(facts),
                        ),
                    )
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        self.drop_draft(user, record)
        return CorrectionRecord(version, parent, user.name, moment, note[:LONGEST_REASON], facts)

    def _measure(
        self,
        user: User,
        record: StudyRecord,
        results: Path,
        parent: Path,
        staged: Path,
        mask: bytes,
        version: int,
    ) -> Mapping[str, Any]:
        shutil.rmtree(staged, ignore_errors=True)
        write_bytes(staged / STATE / "painted.gz", mask)
        arguments = {
            "study": str(self._studies.sent(record.study_id)),
            "results": str(results),
            "parent": str(parent),
            "mask": str(staged / STATE / "painted.gz"),
            "output": str(staged),
            "reader": user.name,
            "version": version,
        }
        outcome = self._worker.run(MEASURE_CORRECTION, arguments, limits=self._limits)
        self._studies.require_kept(record)
        if outcome.ending is Ending.REFUSED:
            raise Problem(422, "BAD_MASK", outcome.message)
        if outcome.ending is not Ending.DONE:
            raise Problem(
                500, outcome.code, f"{outcome.message}; what you painted is kept in the browser, save again"
            )
        return outcome.value
