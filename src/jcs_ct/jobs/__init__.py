"""The room of long work: one ledger of jobs, one killable process a study; shared by PACS, page and cohorts.

    ledger = Ledger(folder / "jobs.sqlite")
    ledger.add(reading_key(study_uid, models), {"study": "where it lies"})
    runner = Runner(ledger, ResultFolders(folder / "results"), READ_STUDY, arguments=lambda job, staged: ...)
    while runner.work_once() is not None:
        ...

A program whose work has more stages (fetch, deliver), or many studies at a time, calls :meth:`Ledger.claim` and
:meth:`StudyWorker.run` itself, keeps its claims with :class:`Hold` and ends its attempts with :class:`Attempts`.
"""

from jcs_ct.choices import State
from jcs_ct.jobs.attempts import Attempts
from jcs_ct.jobs.hold import Hold
from jcs_ct.jobs.job import OPEN_STATES, Claim, HistoryEntry, Job, JobKey, RetryPolicy
from jcs_ct.jobs.ledger import LeaseLostError, Ledger
from jcs_ct.jobs.outcome import Ending, FailureCode, Limits, Outcome
from jcs_ct.jobs.result_folders import JOB_RECORD, ResultFolders
from jcs_ct.jobs.runner import Runner
from jcs_ct.jobs.study_reading import READ_STUDY, ReadingRequest, reading_key
from jcs_ct.jobs.worker import StudyWorker, run_study

__all__ = [
    "JOB_RECORD",
    "OPEN_STATES",
    "READ_STUDY",
    "Attempts",
    "Claim",
    "Ending",
    "FailureCode",
    "HistoryEntry",
    "Hold",
    "Job",
    "JobKey",
    "LeaseLostError",
    "Ledger",
    "Limits",
    "Outcome",
    "ReadingRequest",
    "ResultFolders",
    "RetryPolicy",
    "Runner",
    "State",
    "StudyWorker",
    "reading_key",
    "run_study",
]
