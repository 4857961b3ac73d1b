"""`jcs pacs watch`, `jobs` and `requeue`: beside a PACS, unattended."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import closing, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct import NOTICE
from jcs_ct.choices import State
from jcs_ct.cli.console import counted, print_json
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.options import ModelsOption, first_day
from jcs_ct.cli.pacs import AeTitle, CaBundle, Certificate, MovePort, Url, connect
from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError

if TYPE_CHECKING:
    from jcs_ct.jobs import Job

Folder = Annotated[Path, typer.Option(help="Folder for the ledger, fetched studies and results.")]
_LOG_BYTES, _LOGS = 10 * 1024**2, 5


def watch(
    url: Url,
    folder: Folder,
    models: ModelsOption = "compact",
    since: Annotated[
        str | None,
        typer.Option(help="Read studies of this day (YYYY-MM-DD) and later; 'all' for a large archive as a whole."),
    ] = None,
    body_part: Annotated[
        list[str] | None, typer.Option(help="Body part that a CT series states, if any; may be given several times.")
    ] = None,
    description: Annotated[str, typer.Option(help="Text in the study's or a series' description, any case.")] = "",
    settle_s: Annotated[float, typer.Option(min=0, help="Seconds that a study must not have changed for.")] = 30.0,
    every_s: Annotated[float, typer.Option(min=0.1, help="Seconds from one look at the PACS to the next.")] = 30.0,
    attempts: Annotated[int, typer.Option(min=1, help="Failed attempts after which a study is set aside.")] = 5,
    retry_s: Annotated[float, typer.Option(min=0, help="Wait after a failure; doubled for each further one.")] = 30.0,
    study_minutes: Annotated[float, typer.Option(min=0.1, help="Longest time for one study.")] = 60.0,
    study_gb: Annotated[float, typer.Option(min=0.1, help="Most memory for one study, in GiB.")] = 6.0,
    least_free_gb: Annotated[float, typer.Option(min=0, help="Fetch nothing below so much free space, GiB.")] = 2.0,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Longest time that the images of a study that waits stay on disk.")
    ] = 24.0,
    log_file: Annotated[
        Path | None, typer.Option(help="Log here, too; rotated at 10 MiB, five old ones are kept.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Work until no job is open, then stop.")] = False,
    ca_bundle: CaBundle = None,
    ae_title: AeTitle = "JCS",
    move_port: MovePort = None,
    certificate: Certificate = None,
) -> None:
    """Diagnose every new or changed CT study and store its results, each state of a study once for these weights.

    A study is read when the PACS lists as many images as it counts and none has come for --settle-s. Can be killed
    and started again at any moment. Nothing of a study stays on disk once its results are stored. Refused and
    set-aside studies stay in the ledger with their codes (`jcs pacs jobs`). heartbeat.json and metrics.prom in the
    folder are for monitors. Credentials come from the environment: JCS_PACS_TOKEN, or JCS_PACS_USER and
    JCS_PACS_PASSWORD.

    Example:  jcs pacs watch http://localhost:8042/dicom-web --folder watched/ --since 2026-01-01
    """
    from jcs_ct.checkpoints import load_models
    from jcs_ct.jobs import Limits, RetryPolicy, reading_key

    day = None if since == "all" else first_day(since)
    with closing(connect(url, ca_bundle, ae_title, move_port, certificate)) as archive:
        from jcs_ct.pacs.remote import StudyQuery
        from jcs_ct.pacs.watch import WatchSettings
        from jcs_ct.pacs.watcher_setup import go_on, open_watcher

        os.umask(0o077)  # images and results of patients
        _log_to(log_file)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        settings = WatchSettings(
            models=models,
            limits=Limits(memory_bytes=int(study_gb * GIB), seconds=study_minutes * 60),
            outage_wait_s=every_s,
            look_every_s=every_s,
            least_free_bytes=int(least_free_gb * GIB),
            keep_s=keep_hours * 3600,
        )
        worked_on: list[Job] = []
        # SIGTERM is how a service is stopped: it ends as --once does, with what was worked on.
        with (
            suppress(SystemExit),
            open_watcher(
                archive,
                folder,
                reading_key("any", load_models(models)),
                query=StudyQuery(day, tuple(body_part or ()), description),
                whole_archive=since is not None,
                settle_s=settle_s,
                retries=RetryPolicy(most_attempts=attempts, first_wait_s=retry_s),
                settings=settings,
            ) as watcher,
        ):
            typer.echo(f"watching for CT studies; {NOTICE}")
            before = {job.job_id: job.changed_at for job in watcher.ledger.jobs()}
            try:
                go_on(watcher, every_s, once=once)
            finally:
                worked_on = [job for job in watcher.ledger.jobs() if job.changed_at != before.get(job.job_id)]
    for job in worked_on:
        typer.echo(_line(job, _verdict(job)))
    typer.echo(f"{counted(len(worked_on), 'study', 'studies')} worked on")
    say_result({"worked_on": [{**_facts(job), "verdict": _verdict(job)} for job in worked_on]})


def jobs(
    folder: Folder,
    state: Annotated[State | None, typer.Option(help="Jobs in this state only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List a watcher's jobs with their states and codes; no identifier of a patient or a study is shown.

    Example:  jcs pacs jobs --folder watched/ --state set_aside
    """
    from jcs_ct.jobs import Ledger

    with Ledger(_existing(folder)) as ledger:
        found = ledger.jobs(states=None if state is None else [state])
    if as_json:
        print_json([_facts(job) for job in found])
        return
    for job in found:
        typer.echo(_line(job, f"attempts {job.attempts}"))
    typer.echo(counted(len(found), "job", "jobs"))


def _facts(job: Job) -> dict[str, Any]:
    """A job for programs; no identifier of a patient or a study is in it."""
    return {
        "job": job.job_id,
        "state": job.state,
        "code": job.code,
        "attempts": job.attempts,
        "message": _message(job),
    }


def _message(job: Job) -> str:
    """Why a job is not done, or what is to be known of one that is."""
    if job.state is not State.DONE:
        return job.message
    said = []
    if changed := job.result.get("changed"):
        said.append(f"the PACS warns that it changed {changed} of the results, see its log")
    if job.result.get("own_study"):
        said.append("the Study Instance UID on the PACS is no UID (PS3.5 9.1): the results are a study of their own")
    if unlisted := job.result.get("series_not_listed"):
        said.append(f"the PACS took {unlisted} series of the results and does not list them whole")
    return "; ".join(said) or job.message


def _verdict(job: Job) -> str:
    return str(job.result.get("verdict", ""))


def _line(job: Job, of_interest: str) -> str:
    """A job in a line; no identifier of a patient or a study is in it."""
    return f"{job.job_id}  {job.state:<9}  {of_interest}  {job.code}  {_message(job)}".rstrip()


def requeue(
    folder: Folder,
    job: Annotated[list[str] | None, typer.Argument(help="Jobs, as `jcs pacs jobs` lists them.")] = None,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="All jobs that were set aside.")] = False,
) -> None:
    """Read studies again that were set aside or refused; also while the watcher runs.

    Example:  jcs pacs requeue --folder watched/ --set-aside
    """
    from jcs_ct.jobs import Ledger

    with Ledger(_existing(folder)) as ledger:
        wanted = [*(job or []), *(one.job_id for one in ledger.jobs(states=[State.SET_ASIDE]) if set_aside)]
        if not wanted and not set_aside:
            raise ConfigError("name jobs, or --set-aside for all that were set aside; `jcs pacs jobs` lists them")
        unknown = [one for one in wanted if not ledger.requeue(one)]
    typer.echo(f"{counted(len(wanted) - len(unknown), 'job', 'jobs')} queued again")
    if unknown:
        raise ConfigError(f"no such jobs, or they are being worked on: {', '.join(unknown)}")


def _log_to(path: Path | None) -> None:
    """Log to a file that is rotated, besides stderr.

    Raises:
        ConfigError: it cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOGS, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the log {path} cannot be written ({error.strerror}); choose another --log-file"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("jcs_ct")
    package.addHandler(handler)
    package.setLevel(logging.INFO)


def _existing(folder: Path) -> Path:
    ledger = folder / "jobs.sqlite"
    if not ledger.is_file():
        raise ConfigError(f"no watcher has worked in {folder}: it holds no jobs.sqlite")
    return ledger
