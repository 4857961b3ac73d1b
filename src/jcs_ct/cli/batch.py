"""`jcs batch`: a whole cohort, on one machine or on a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jcs_ct.cli import common_options
from jcs_ct.cli.batch_printing import (
    GO_ON,
    batch_progress,
    counts_line,
    left,
    named_counts,
    print_end,
    print_plan,
    with_running,
)
from jcs_ct.cli.console import counted, print_json
from jcs_ct.cli.documents import EXIT_DONE
from jcs_ct.cli.endings import EXIT_PARTLY, stoppable
from jcs_ct.cli.inputs import COHORT_INPUT, SOME_INPUT
from jcs_ct.cli.options import (
    BackendOption,
    BatchSizeOption,
    DeflatedOption,
    DeviceOption,
    LenientOption,
    MapOption,
    ModelsOption,
    PrecisionOption,
    SegmentOption,
    ThresholdOption,
    first_day,
)
from jcs_ct.cli.outputs import FOLDER_OUTPUT, require_apart
from jcs_ct.disk_space import GIB
from jcs_ct.errors import StoppedError

if TYPE_CHECKING:
    from jcs_ct.batch.batch_folder import Batch
    from jcs_ct.batch.cohort_manifest import ManifestCounts
    from jcs_ct.batch.driver import Standing
    from jcs_ct.batch.executor import Executor
    from jcs_ct.jobs import Limits
    from jcs_ct.reporting.report_parts import Format

app = typer.Typer(name="batch", help="Read a cohort of studies, on one machine or a cluster.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder that the batch was begun in."), SOME_INPUT]
AsJson = Annotated[bool, typer.Option("--json", help="Result on stdout and progress on stderr as JSON.")]
_LISTED = 50


ExecutorName = Literal["local", "ray", "slurm"]


@app.command("run")
@stoppable(lambda options: lambda: f"what is done is in {options['output']}", GO_ON)
def run(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder tree, CSV or Parquet list, s3://... or other address, or DICOMweb root (https://)."
        ),
        COHORT_INPUT,
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the batch, on this machine's disk."), FOLDER_OUTPUT
    ],
    results: Annotated[
        str | None, typer.Option(help="Where results go instead of OUTPUT/results: a shared folder, or s3://...")
    ] = None,
    executor: Annotated[ExecutorName, typer.Option(help="What runs the studies.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Studies side by side on this machine; default: half its cores.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores of each study; default: this machine's, divided.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join: auto, or its address; default: one on this machine.")
    ] = None,
    gpus_per_study: Annotated[float, typer.Option(min=0, help="Share of a GPU for each study (ray, slurm).")] = 0.0,
    partition: Annotated[str, typer.Option(help="Slurm partition.")] = "",
    studies_per_job: Annotated[int, typer.Option(min=1, help="Studies of each Slurm job.")] = 50,
    slurm_jobs: Annotated[int, typer.Option(min=1, help="Slurm jobs that may be out at once.")] = 100,
    job_minutes: Annotated[int, typer.Option(min=1, help="Time limit of each Slurm job.")] = 1440,
    slurm_here: Annotated[
        bool, typer.Option("--slurm-here", help="Run Slurm jobs as processes of this machine, for a trial.")
    ] = False,
    study_minutes: Annotated[float, typer.Option(min=0.01, help="Longest time for one study.")] = 60.0,
    study_gib: Annotated[float, typer.Option(min=0.1, help="Most memory for one study, in GiB.")] = 6.0,
    least_free_gib: Annotated[
        float,
        typer.Option(min=0, help="Begin nothing below so much free space, GiB."),
    ] = 1.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read studies again that failed, or whose results are gone.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the manifest as it lies there; look for no new studies.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the manifest, say what would be done and how long; read nothing.")
    ] = False,
    since: Annotated[str | None, typer.Option(help="First Study Date (YYYY-MM-DD) of a DICOMweb server.")] = None,
    models: ModelsOption = "compact",
    segment: SegmentOption = "positive",
    map_variant: MapOption = "paper",
    threshold: ThresholdOption = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="DICOM results, too, of studies that are DICOM.")] = False,
    formats: Annotated[
        str, typer.Option(help="What is written for each study, separated by commas: html, json, nifti; or none.")
    ] = "html,json,nifti",
    lenient: LenientOption = False,
    allow_deflated: DeflatedOption = False,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = 8,
    as_json: AsJson = False,
) -> None:
    """Read every study of a cohort: a manifest first, then results a study, a summary and a page of the cohort.

    Studies are told apart by their headers and judged by the gate before anything is queued. The same command goes
    on where it was, after any kill; a study is read at least once and its results count once. Each study has its
    own limits and three attempts, and none holds up the others. Exit code 0: every study is done or refused with a
    code; 4: some failed three times (see `jcs batch status`, then --retry-failed); 2: usage, or the disk is full.

    Example:  jcs batch run cohort/ -o batch/ --workers 4
    """
    from jcs_ct.batch import batch_folder as work
    from jcs_ct.batch.batch_reading import BatchOptions
    from jcs_ct.batch.estimate import estimate
    from jcs_ct.jobs import Limits

    require_apart(output, Path(source))
    day = first_day(since)
    machines = _machines(executor, workers, threads, address, gpus_per_study)
    slurm = {
        "partition": partition,
        "studies_per_job": studies_per_job,
        "jobs": slurm_jobs,
        "minutes": job_minutes,
        "cluster": "local" if slurm_here else "slurm",
    }
    options = BatchOptions(
        models=models,
        segment=segment,
        map_variant=map_variant,
        threshold=threshold,
        dicom=dicom,
        formats=_formats(formats),
        lenient=lenient,
        allow_deflated=allow_deflated,
        device=device,
        backend=backend,
        precision=precision,
        batch_size=batch_size,
    )
    os.umask(0o077)  # results of patients
    limits = Limits(memory_bytes=int(study_gib * GIB), seconds=study_minutes * 60)
    with work.only_batch(output):
        batch = work.new_batch(output, options, results)
        with batch.open_ledger() as ledger, batch_progress(as_json, common_options.shown().quiet) as shown:
            counts = (
                work.count_cohort(batch)
                if resume
                else work.find_cohort(batch, source, since=day, progress=shown.found)
            )
            if dry_run:
                side, each = machines.workers, machines.threads
                print_plan(
                    counts, estimate(counts, ledger, batch.key.reading_id, workers=side, threads=each), as_json
                )
                return
            work.queue_cohort(batch, ledger)
            if retry_failed:
                work.retry_failed(batch, ledger)
            with _stop_on_signals() as stopping:
                standing = work.work_off(
                    batch,
                    ledger,
                    machines.start(batch, limits, slurm),
                    limits=limits,
                    least_free_bytes=int(least_free_gib * GIB),
                    on_change=shown.standing,
                    on_failure=shown.failure,
                    keep_going=lambda: not stopping,
                )
            from jcs_ct.batch.summary import write_all

            write_all(batch, ledger)
    _end(output, counts, standing, stopping, as_json)


@app.command("status")
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Say how far a batch is, also while it runs; studies that failed are listed with their codes.

    Example:  jcs batch status batch/
    """
    from jcs_ct.batch.batch_folder import count_cohort, existing_batch
    from jcs_ct.jobs import State

    batch = existing_batch(folder)
    refused = count_cohort(batch).refused if batch.manifest.is_file() else {}
    with batch.open_ledger() as ledger:
        counts = with_running(
            ledger.counts(reading_id=batch.key.reading_id), ledger.running_count(reading_id=batch.key.reading_id)
        )
        closed = [State.SET_ASIDE, State.REFUSED]
        failed = ledger.jobs(states=closed, reading_id=batch.key.reading_id, limit=_LISTED)
    if as_json:
        listed = [{"job": job.job_id, "state": job.state, "code": job.code, "message": job.message} for job in failed]
        print_json({"counts": counts, "failed": listed, "refused_by_headers": refused})
        return
    typer.echo(counts_line(counts, sum(refused.values())))
    for code, count in refused.items():
        typer.echo(f"{count} refused by their headers: {code}; {batch.manifest} names them")
    for job in failed:
        typer.echo(f"{job.job_id}  {job.state:<9}  attempts {job.attempts}  {job.code}  {job.message}".rstrip())
    if sum(counts[str(state)] for state in closed) > len(failed):
        typer.echo(f"... and more; all of them stand in {folder / 'summary.csv'} after `jcs batch summarize`")


@app.command("summarize")
def summarize(folder: Folder, as_json: AsJson = False) -> None:
    """Write summary.csv, summary.parquet and cohort.html anew from the results that lie there now.

    Example:  jcs batch summarize batch/
    """
    from collections import Counter

    from jcs_ct.batch.batch_folder import existing_batch
    from jcs_ct.batch.summary import write_all

    batch = existing_batch(folder)
    with batch.open_ledger() as ledger:
        rows = write_all(batch, ledger)
    states = Counter(row.state for row in rows)
    if as_json:
        print_json({"folder": str(folder), "states": dict(states)})
        return
    typer.echo(f"{counted(len(rows), 'study', 'studies')} in {folder / 'summary.csv'}: {named_counts(states)}")


@dataclass(frozen=True)
class _Machines:
    """What runs the studies: executor, studies side by side, cores and GPUs of each, and a Ray cluster's address."""

    executor: ExecutorName
    workers: int
    threads: int
    address: str | None
    gpus: float

    def start(self, batch: Batch, limits: Limits, slurm: Mapping[str, Any]) -> Executor:
        """The executor; of Slurm with its settings."""
        memory_bytes = limits.memory_bytes
        if self.executor == "ray":
            from jcs_ct.batch.on_ray import RayExecutor

            return RayExecutor(
                address=self.address,
                workers=self.workers,
                threads=self.threads,
                memory_bytes=memory_bytes,
                gpus=self.gpus,
            )
        if self.executor == "slurm":
            from jcs_ct.batch.addresses import is_address
            from jcs_ct.batch.on_slurm import SlurmExecutor, SlurmSettings

            # The machines share the results' disk; where results go to a store, they must share the batch's folder.
            shared = batch.folder if is_address(batch.results) else Path(batch.results)
            settings = SlurmSettings(threads=self.threads, gpus=round(self.gpus), **slurm)
            return SlurmExecutor(shared / ".slurm", settings, memory_bytes=memory_bytes)
        from jcs_ct.batch.local import LocalExecutor

        return LocalExecutor(self.workers, threads=self.threads)


def _machines(
    executor: ExecutorName, workers: int | None, threads: int | None, address: str | None, gpus: float
) -> _Machines:
    from jcs_ct.batch.local import default_workers
    from jcs_ct.engine.processor import cores

    side_by_side = workers or default_workers()
    return _Machines(executor, side_by_side, threads or max(1, cores() // side_by_side), address, gpus)


def _end(output: Path, counts: ManifestCounts, standing: Standing, stopping: Sequence[int], as_json: bool) -> None:
    """Say how the batch ended, with its exit code.

    Raises:
        StoppedError: by a signal.
        typer.Exit: studies failed.
    """
    from jcs_ct.jobs import State

    code = EXIT_PARTLY if standing.counts[State.SET_ASIDE] else EXIT_DONE
    stopped = StoppedError(left(standing), GO_ON, terminated=signal.SIGTERM in stopping) if stopping else None
    print_end(output, counts, standing, code if stopped is None else stopped.exit_code, as_json)
    if stopped is not None:
        raise stopped
    if code != EXIT_DONE:
        raise typer.Exit(code)


def _formats(text: str) -> tuple[Format, ...]:
    from jcs_ct.reporting.report_parts import FORMATS

    wanted = {part.strip() for part in text.split(",")} - {"", "none"}
    if unknown := wanted - set(FORMATS):
        named = f"{', '.join(sorted(unknown))} is not one of {', '.join(FORMATS)}"
        raise typer.BadParameter(named, param_hint="--formats")
    return tuple(one for one in FORMATS if one in wanted)


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM ask for an orderly end, what runs is given back; yields those that came."""
    stopping: list[int] = []
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda number, _: stopping.append(number)) for name in names}
    try:
        yield stopping
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
