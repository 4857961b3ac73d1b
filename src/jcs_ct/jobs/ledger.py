"""The ledger: what became of each study, in SQLite, through kills at any moment and with any number of runners.

A runner claims a job for a time (a lease), renews the lease while it works, and finishes, fails or releases it. Each
change is one transaction that is on disk before the call returns. A job is run at least once; its results take effect
once, because only the holder of the lease can move the job on (and see ``results``).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jcs_ct.choices import State
from jcs_ct.errors import JCSError
from jcs_ct.jobs import owners, schema
from jcs_ct.jobs.job import OPEN_STATES, Claim, HistoryEntry, Job, JobKey, RetryPolicy
from jcs_ct.jobs.outcome import FailureCode
from jcs_ct.jobs.sqlite_file import SqliteFile

DEFAULT_LEASE_S = 120.0

_COLUMNS = (
    "study, weights, operating_point, version, request, state, priority, attempts, not_before, code, message, stage, "
    "done, total, owner, cancel_requested, result, added_at, changed_at, seconds, peak_memory_bytes"
)
_OPEN = ", ".join(f"'{state}'" for state in OPEN_STATES)
_FREE = "owner = '', lease_token = '', lease_until = 0"


class LeaseLostError(JCSError):
    """The lease ended and the job may be another runner's: whatever this one did must not count."""


class Ledger:
    """The record of all jobs.

    One object may be used by several threads, and one file by several processes.

    Args:
        path: SQLite file on a local disk; made when missing, readable by its owner only, since it holds identifiers
            of studies.
        retries: What a failure leads to.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path, *, retries: RetryPolicy | None = None) -> None:
        self.retries = retries or RetryPolicy()
        self._file = SqliteFile(path, schema.LEDGER_STEPS, "the ledger")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def change_mark(self) -> tuple[int, int]:
        """Another value whenever a job was changed, by this object or by another program."""
        return self._file.change_mark()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what is to be done ----------------------------------------------------------------------------------------

    def add(self, key: JobKey, request: Mapping[str, Any] | None = None, *, priority: int = 0) -> bool:
        """Queue a job unless its key is known; whether it was new."""
        return self.add_many([(key, request or {})], priority=priority) == 1

    def add_many(self, jobs: Iterable[tuple[JobKey, Mapping[str, Any]]], *, priority: int = 0) -> int:
        """Queue jobs in one transaction; how many were new."""
        new = 0
        with self._file.transaction() as run:
            for key, request in jobs:
                moment = time.time()
                added = run.execute(
                    "INSERT OR IGNORE INTO jobs (job_id, study, weights, operating_point, version, reading_id, "
                    "request, priority, state, added_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (key.job_id, key.study, key.weights, key.operating_point, key.version, key.reading_id,
                     json.dumps(dict(request)), priority, State.QUEUED, moment, moment),
                ).rowcount  # fmt: skip
                if added == 1:
                    new += 1
                    self._record(run, key.job_id, State.QUEUED, 0)
        return new

    def requeue(self, job_id: str, *, request: Mapping[str, Any] | None = None) -> bool:
        """Start a job anew that no runner holds: a closed one is queued, a waiting one is due at once.

        Args:
            job_id: Which.
            request: Replaces the job's request, when given.

        Returns:
            Whether there is such a job and no runner holds it.
        """
        with self._file.transaction() as run:
            changed = run.execute(
                f"UPDATE jobs SET state = CASE WHEN state IN ({_OPEN}) THEN state ELSE ? END, attempts = 0, "
                "not_before = 0, code = '', message = '', stage = '', done = 0, total = 0, cancel_requested = 0, "
                "request = coalesce(?, request), changed_at = ? WHERE job_id = ? AND owner = ''",
                (State.QUEUED, _json(request), time.time(), job_id),
            ).rowcount
            if changed:
                self._record(run, job_id, State.QUEUED, 0, message="queued again")
        return changed == 1

    def cancel(self, job_id: str, *, message: str = "") -> bool:
        """Take an open job out, and say why; a runner that holds it is asked to stop. Whether the job was open."""
        with self._file.transaction() as run:
            free = run.execute(
                f"UPDATE jobs SET state = ?, code = ?, message = ?, changed_at = ?, {_FREE} "
                f"WHERE job_id = ? AND state IN ({_OPEN}) AND lease_until <= ?",
                (State.CANCELLED, FailureCode.CANCELLED, message, time.time(), job_id, time.time()),
            ).rowcount
            if free:
                self._record(run, job_id, State.CANCELLED, 0, FailureCode.CANCELLED, message=message)
                return True
            asked = run.execute(
                f"UPDATE jobs SET cancel_requested = 1 WHERE job_id = ? AND state IN ({_OPEN})", (job_id,)
            ).rowcount
        return asked == 1

    def remove(self, job_id: str) -> bool:
        """Forget a job and its history, unless a runner holds it; whether it was there."""
        with self._file.transaction() as run:
            gone = run.execute(
                "DELETE FROM jobs WHERE job_id = ? AND lease_until <= ?", (job_id, time.time())
            ).rowcount
            if gone:
                run.execute("DELETE FROM history WHERE job_id = ?", (job_id,))
        return gone == 1

    # -- a runner's calls ------------------------------------------------------------------------------------------

    def claim(
        self,
        owner: str | None = None,
        *,
        states: Sequence[State] = OPEN_STATES,
        reading_id: str | None = None,
        lease_s: float = DEFAULT_LEASE_S,
        now: float | None = None,
    ) -> Claim | None:
        """Take the next job that is due, or None; no two runners get the same one.

        A job whose lease ran out is due again, and that attempt counts: one that took its runner down as often as
        the policy allows is set aside (``RUNNER_LOST``) and not offered again. A job that waits is due at once when
        it was last changed in what is now the future: the clock was set back, and the wait could last for years.

        Args:
            owner: Name of the runner; this process by default, so that :meth:`release_lost` can tell it is gone.
            states: Open states to choose from.
            reading_id: Only jobs of these weights, operating point and version.
            lease_s: Time until another runner may take the job, unless the lease is renewed.
            now: Seconds since the epoch.
        """
        moment = time.time() if now is None else now
        token = secrets.token_hex(8)
        wanted = ", ".join("?" * len(states))
        with self._file.transaction() as run:
            self._end_lost_leases(run, moment)
            row = run.execute(
                f"SELECT job_id FROM jobs WHERE state IN ({wanted}) AND lease_until <= ? "
                "AND (not_before <= ? OR changed_at > ?) AND (? IS NULL OR reading_id = ?) "
                "ORDER BY priority DESC, sequence LIMIT 1",
                (*states, moment, moment, moment, reading_id, reading_id),
            ).fetchone()
            if row is None:
                return None
            run.execute(
                "UPDATE jobs SET owner = ?, lease_token = ?, lease_until = ?, attempts = attempts + 1, stage = '', "
                "done = 0, total = 0, changed_at = ? WHERE job_id = ?",
                (owner or owners.this_process(), token, moment + lease_s, moment, row["job_id"]),
            )
            job = self._get(run, row["job_id"])
            self._record(run, job.job_id, "claimed", job.attempts)
        return Claim(job, token, lease_s)

    def progress(self, claim: Claim, stage: str, done: int, total: int) -> bool:
        """Renew the lease and note how far the work is; False when a person asked to stop.

        Raises:
            LeaseLostError: the lease was lost.
        """
        with self._holding(claim) as run:
            run.execute(
                "UPDATE jobs SET stage = ?, done = ?, total = ?, lease_until = ? WHERE job_id = ?",
                (stage, done, total, time.time() + claim.lease_s, claim.job_id),
            )
            return not self._get(run, claim.job_id).cancel_requested

    def renew(self, claim: Claim) -> bool:
        """Renew the lease; False when a person asked to stop.

        Raises:
            LeaseLostError: the lease was lost.
        """
        with self._holding(claim) as run:
            run.execute(
                "UPDATE jobs SET lease_until = ? WHERE job_id = ?", (time.time() + claim.lease_s, claim.job_id)
            )
            return not self._get(run, claim.job_id).cancel_requested

    def advance(self, claim: Claim, state: State, *, result: Mapping[str, Any] | None = None) -> None:
        """Move a job to another open state (``READ``) and keep holding it; its attempts count anew.

        Raises:
            LeaseLostError: the lease was lost.
        """
        if state not in OPEN_STATES:
            raise ValueError(f"advance goes to an open state, got {state}; finish, refuse or fail end a job")
        with self._holding(claim) as run:
            run.execute(
                "UPDATE jobs SET state = ?, attempts = 1, result = coalesce(?, result), changed_at = ?, "
                "lease_until = ? WHERE job_id = ?",
                (state, _json(result), time.time(), time.time() + claim.lease_s, claim.job_id),
            )
            self._record(run, claim.job_id, state, 1)

    def finish(
        self,
        claim: Claim,
        *,
        result: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
        peak_memory_bytes: int = 0,
    ) -> None:
        """The job is done.

        Raises:
            LeaseLostError: the lease was lost; nothing is written.
        """
        with self._holding(claim) as run:
            run.execute(
                "UPDATE jobs SET seconds = ?, peak_memory_bytes = ?, result = coalesce(?, result) WHERE job_id = ?",
                (seconds, peak_memory_bytes, _json(result), claim.job_id),
            )
            self._end(run, claim, State.DONE)

    def refuse(self, claim: Claim, code: str, message: str = "") -> None:
        """The job would fail again: never try it by itself.

        Raises:
            LeaseLostError: the lease was lost.
        """
        with self._holding(claim) as run:
            self._end(run, claim, State.REFUSED, code, message)

    def fail(self, claim: Claim, code: str, message: str = "") -> State:
        """An attempt failed: try again later, or set the job aside when it failed too often.

        Returns:
            Where the job stands: an open state, ``SET_ASIDE``, or ``CANCELLED`` when a person asked for that.

        Raises:
            LeaseLostError: the lease was lost.
        """
        with self._holding(claim) as run:
            job = self._get(run, claim.job_id)
            if job.cancel_requested:
                return self._cancel_held(run, claim)
            if job.attempts >= self.retries.most_attempts:
                return self._end(run, claim, State.SET_ASIDE, code, message)
            return self._end(run, claim, job.state, code, message, wait_s=self.retries.wait_after(job.attempts))

    def release(self, claim: Claim, *, wait_s: float = 0.0, code: str = "", message: str = "") -> State:
        """Give a job back as it was, without counting the attempt (an outage elsewhere, a runner that stops).

        Returns:
            Where the job stands: as it was, or ``CANCELLED`` when a person asked for that.

        Raises:
            LeaseLostError: the lease was lost.
        """
        with self._holding(claim) as run:
            run.execute("UPDATE jobs SET attempts = attempts - 1 WHERE job_id = ?", (claim.job_id,))
            job = self._get(run, claim.job_id)
            if job.cancel_requested:
                return self._cancel_held(run, claim)
            return self._end(run, claim, job.state, code, message, wait_s=wait_s, event="released")

    def acknowledge_cancel(self, claim: Claim) -> None:
        """The runner stopped, as it was asked to.

        Raises:
            LeaseLostError: the lease was lost.
        """
        with self._holding(claim) as run:
            self._cancel_held(run, claim)

    def release_lost(self, *, counts: bool = True) -> int:
        """End the leases of processes of this machine that are gone, without waiting for them; how many jobs.

        Args:
            counts: Whether the attempt counts; not where the runner's end says nothing of the study it held.
        """
        with self._file.transaction() as run:
            held = run.execute("SELECT DISTINCT owner FROM jobs WHERE owner != ''").fetchall()
            gone = [row["owner"] for row in held if owners.is_gone(row["owner"])]
            ended = 0
            for owner in gone:
                ended += run.execute(
                    "UPDATE jobs SET lease_until = 0, attempts = attempts - ? WHERE owner = ?", (not counts, owner)
                ).rowcount
            self._end_lost_leases(run, time.time())
        return ended

    # -- what is known ---------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        """One job."""
        row = self._file.row(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,))
        return None if row is None else _job(row)

    def jobs(
        self,
        *,
        states: Sequence[State] | None = None,
        reading_id: str | None = None,
        limit: int = -1,
        offset: int = 0,
    ) -> list[Job]:
        """Jobs in the order in which they are worked on."""
        chosen = tuple(State) if states is None else tuple(states)
        sql = (
            f"SELECT {_COLUMNS} FROM jobs WHERE state IN ({', '.join('?' * len(chosen))}) "
            "AND (? IS NULL OR reading_id = ?) ORDER BY priority DESC, sequence LIMIT ? OFFSET ?"
        )
        return [_job(row) for row in self._file.rows(sql, (*chosen, reading_id, reading_id, limit, offset))]

    def counts(self, *, reading_id: str | None = None) -> dict[State, int]:
        """Number of jobs in each state."""
        sql = "SELECT state, count(*) AS number FROM jobs WHERE (? IS NULL OR reading_id = ?) GROUP BY state"
        rows = self._file.rows(sql, (reading_id, reading_id))
        found = {State(row["state"]): int(row["number"]) for row in rows}
        return {state: found.get(state, 0) for state in State}

    def result_counts(self, name: str, *, reading_id: str | None = None) -> dict[str, int]:
        """Number of jobs that are done by what their results have under a name; those without it are left out."""
        sql = (
            "SELECT json_extract(result, ?) AS value, count(*) AS number FROM jobs "
            "WHERE state = ? AND (? IS NULL OR reading_id = ?) AND value IS NOT NULL GROUP BY value"
        )
        rows = self._file.rows(sql, (f"$.{name}", State.DONE, reading_id, reading_id))
        return {str(row["value"]): int(row["number"]) for row in rows}

    def running_count(self, *, reading_id: str | None = None) -> int:
        """Number of jobs that a runner holds which still lives, as far as is known here.

        :meth:`counts` has them in the state in which they are held.
        """
        sql = (
            "SELECT owner, count(*) AS number FROM jobs WHERE owner != '' AND (? IS NULL OR reading_id = ?) "
            "GROUP BY owner"
        )
        rows = self._file.rows(sql, (reading_id, reading_id))
        return sum(int(row["number"]) for row in rows if not owners.is_gone(row["owner"]))

    def place_in_queue(self, job_id: str) -> int | None:
        """1 for the job that is taken next; None for one that is held or not queued."""
        sql = (
            "SELECT 1 + count(other.sequence) AS place FROM jobs AS mine LEFT JOIN jobs AS other "
            f"ON other.state IN ({_OPEN}) AND other.owner = '' AND (other.priority > mine.priority "
            "OR (other.priority = mine.priority AND other.sequence < mine.sequence)) "
            f"WHERE mine.job_id = ? AND mine.owner = '' AND mine.state IN ({_OPEN}) GROUP BY mine.sequence"
        )
        row = self._file.row(sql, (job_id,))
        return None if row is None else int(row["place"])

    def places_in_queue(self) -> dict[str, int]:
        """:meth:`place_in_queue` of every job that has one, by job_id."""
        sql = f"SELECT job_id FROM jobs WHERE state IN ({_OPEN}) AND owner = '' ORDER BY priority DESC, sequence"
        return {row["job_id"]: place for place, row in enumerate(self._file.rows(sql), start=1)}

    def history(self, job_id: str) -> list[HistoryEntry]:
        """What happened to a job, the oldest first."""
        sql = "SELECT moment, event, attempt, code, message FROM history WHERE job_id = ? ORDER BY number"
        return [HistoryEntry(*row) for row in self._file.rows(sql, (job_id,))]

    # -- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _holding(self, claim: Claim) -> Iterator[sqlite3.Connection]:
        with self._file.transaction() as run:
            row = run.execute("SELECT lease_token FROM jobs WHERE job_id = ?", (claim.job_id,)).fetchone()
            if row is None or row["lease_token"] != claim.token:
                raise LeaseLostError(f"job {claim.job_id} is no longer held by this runner; its work is dropped")
            yield run

    def _end(
        self,
        run: sqlite3.Connection,
        claim: Claim,
        state: State,
        code: str = "",
        message: str = "",
        *,
        wait_s: float = 0.0,
        event: str = "",
    ) -> State:
        moment = time.time()
        run.execute(
            "UPDATE jobs SET state = ?, code = ?, message = ?, not_before = ?, cancel_requested = 0, "
            f"changed_at = ?, {_FREE} WHERE job_id = ?",
            (state, code, message, moment + wait_s if wait_s else 0.0, moment, claim.job_id),
        )
        self._record(run, claim.job_id, event or state, claim.job.attempts, code, message)
        return state

    def _cancel_held(self, run: sqlite3.Connection, claim: Claim) -> State:
        return self._end(run, claim, State.CANCELLED, FailureCode.CANCELLED)

    def _end_lost_leases(self, run: sqlite3.Connection, moment: float) -> None:
        """Free jobs whose lease ran out; set those aside that lost a runner as often as is allowed."""
        lost = run.execute(
            "SELECT job_id, attempts, state, cancel_requested FROM jobs INDEXED BY jobs_held "
            f"WHERE owner != '' AND lease_until <= ? AND state IN ({_OPEN})",
            (moment,),
        ).fetchall()
        for row in lost:
            state = State(row["state"])
            code, message = FailureCode.RUNNER_LOST, "the program that worked on it ended or went silent"
            if row["attempts"] >= self.retries.most_attempts:
                state = State.SET_ASIDE
            if row["cancel_requested"]:
                state, code, message = State.CANCELLED, FailureCode.CANCELLED, ""
            run.execute(
                f"UPDATE jobs SET state = ?, code = ?, message = ?, cancel_requested = 0, changed_at = ?, {_FREE} "
                "WHERE job_id = ?",
                (state, code, message, moment, row["job_id"]),
            )
            self._record(run, row["job_id"], "lost", row["attempts"], code, message)

    @staticmethod
    def _get(run: sqlite3.Connection, job_id: str) -> Job:
        return _job(run.execute(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,)).fetchone())

    @staticmethod
    def _record(
        run: sqlite3.Connection, job_id: str, event: str, attempt: int, code: str = "", message: str = ""
    ) -> None:
        run.execute(
            "INSERT INTO history (job_id, moment, event, attempt, code, message) VALUES (?, ?, ?, ?, ?, ?)",
            (job_id, time.time(), event, attempt, code, message),
        )


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(dict(value))


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    key = JobKey(*(values.pop(name) for name in ("study", "weights", "operating_point", "version")))
    return Job(
        key=key,
        request=json.loads(values.pop("request")),
        state=State(values.pop("state")),
        result=json.loads(values.pop("result")),
        cancel_requested=bool(values.pop("cancel_requested")),
        **values,
    )
