"""Cohorts: found, written down, read side by side on one machine, Ray or Slurm, and summarised.

batch = new_batch(folder, BatchOptions())
with only_batch(folder), batch.open_ledger() as ledger:
    find_cohort(batch, "cohort/")
    queue_cohort(batch, ledger)
    work_off(batch, ledger, LocalExecutor(workers=2))
"""

from jcs_ct.batch.batch_folder import (
    Batch,
    count_cohort,
    existing_batch,
    find_cohort,
    new_batch,
    only_batch,
    queue_cohort,
    retry_failed,
    work_off,
)
from jcs_ct.batch.batch_reading import BatchOptions
from jcs_ct.batch.local import LocalExecutor

__all__ = [
    "Batch",
    "BatchOptions",
    "LocalExecutor",
    "count_cohort",
    "existing_batch",
    "find_cohort",
    "new_batch",
    "only_batch",
    "queue_cohort",
    "retry_failed",
    "work_off",
]
