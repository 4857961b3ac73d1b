"""How long a cohort will take and how much room its results need: from what was read, else from measured figures."""

from __future__ import annotations

from dataclasses import dataclass

from jcs_ct.batch.cohort_manifest import ManifestCounts
from jcs_ct.jobs import Ledger, State

#: Of a positive study: core-seconds without its slices, core-seconds and bytes of results for each 512 x 512 slice.
#: Measured with `benchmarks/batch_cost.py`; see docs/how-to/batch.md.
CORE_SECONDS_A_STUDY, CORE_SECONDS_A_SLICE, OUTPUT_BYTES_A_SLICE = 1.9, 0.066, 76_500
_ENOUGH = 5


@dataclass(frozen=True)
class Estimate:
    """What is expected.

    Args:
        seconds: Until all is read.
        output_bytes: Of all results.
        basis: ``from studies read here`` or ``estimated from timings on another machine``.
    """

    seconds: float
    output_bytes: int
    basis: str


def estimate(counts: ManifestCounts, ledger: Ledger, reading_id: str, *, workers: int, threads: int) -> Estimate:
    """Time and room for the studies of a manifest.

    Args:
        counts: What the manifest holds.
        ledger: Studies that were read before, by the same reading, on this machine.
        reading_id: The reading.
        workers, threads: Studies side by side, cores of each.
    """
    done = ledger.jobs(states=[State.DONE], reading_id=reading_id, limit=200)
    slices = sum(int(job.result.get("slice_count", 0)) for job in done)
    if len(done) >= _ENOUGH and slices:
        seconds = sum(job.seconds for job in done) / slices * counts.slices / workers
        size = sum(int(job.result.get("output_bytes", 0)) for job in done) / slices * counts.slices
        return Estimate(seconds, round(size), "from studies read here")
    core_seconds = CORE_SECONDS_A_STUDY * counts.studies + CORE_SECONDS_A_SLICE * counts.slices
    size = OUTPUT_BYTES_A_SLICE * counts.slices
    return Estimate(core_seconds / (workers * threads), size, "estimated from timings on another machine")
