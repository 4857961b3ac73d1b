"""For those who run the page: is it well, and Prometheus figures (text format 0.0.4); nothing of any patient."""

from __future__ import annotations

import shutil

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from jcs_ct import __version__
from jcs_ct.jobs import State
from jcs_ct.service.web import Admin, TheService

router = APIRouter()


@router.get("/health", tags=["administration"])
def health(service: TheService) -> JSONResponse:
    """200 while the queue is worked off and the disk has room, else 503 and why."""
    free = shutil.disk_usage(service.settings.folder).free
    problems = []
    if not service.work.is_alive:
        problems.append("the queue is not worked off")
    if free < service.settings.uploads.free_bytes:
        problems.append("the disk is nearly full")
    status = 503 if problems else 200
    return JSONResponse({"ok": not problems, "problems": problems, "version": __version__}, status_code=status)


@router.get("/metrics", tags=["administration"])
def metrics(user: Admin, service: TheService) -> PlainTextResponse:
    """Jobs by state, seconds and memory of readings, uploads under way, free disk.

    All are of what is kept now: deleted studies leave every sum, so none is a counter.
    """
    lines = ["# HELP jcs_jobs Jobs by state.", "# TYPE jcs_jobs gauge"]
    lines += [f'jcs_jobs{{state="{state}"}} {count}' for state, count in service.ledger.counts().items()]
    done = service.ledger.jobs(states=(State.DONE,))
    free = shutil.disk_usage(service.settings.folder).free
    running = [job for job in service.ledger.jobs(states=(State.QUEUED, State.READ)) if job.is_running]
    figures = (
        ("jcs_jobs_running", "Jobs that are being worked on.", len(running)),
        ("jcs_reading_seconds_sum", "Seconds of the readings that are kept.", sum(job.seconds for job in done)),
        ("jcs_reading_seconds_count", "Readings that are kept.", len(done)),
        (
            "jcs_reading_peak_memory_bytes",
            "Largest resident memory of a reading that is kept.",
            max((job.peak_memory_bytes for job in done), default=0),
        ),
        ("jcs_uploads_open", "Uploads under way.", service.uploads.count()),
        ("jcs_disk_free_bytes", "Free on the disk of the folder.", free),
    )
    for name, text, value in figures:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
