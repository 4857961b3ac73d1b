"""The summary of a cohort: a row a study, built anew from the results that lie there, so that it cannot differ."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from jcs_ct.batch.batch_folder import Batch
from jcs_ct.batch.batch_results import BatchResults
from jcs_ct.batch.cohort_manifest import read_manifest
from jcs_ct.batch.cohort_page import write_cohort_page
from jcs_ct.batch.summary_row import COLUMNS, SummaryRow
from jcs_ct.files import replacing
from jcs_ct.jobs import Job, Ledger

CSV, PARQUET = "summary.csv", "summary.parquet"


def summary_rows(batch: Batch, ledger: Ledger, results: BatchResults) -> Iterator[SummaryRow]:
    """A row for every study of the manifest, in its order.

    Of jobs and of records, which are many times a row's size, one at a time is held.

    Args:
        batch: Whose.
        ledger: States of studies without results.
        results: The results; where they lie, they count, whatever the ledger says.
    """
    done = {job_id: _done(job_id, record, ledger.job(job_id)) for job_id, record in results.records()}
    for study in read_manifest(batch.manifest):
        job_id = batch.job_id(study.study)
        if job_id in done:
            yield done[job_id]
        elif study.code:
            yield SummaryRow(job_id, "refused", study.code, scanner=study.scanner, slice_count=study.slice_count)
        else:
            yield _without_results(job_id, ledger.job(job_id), study.scanner, study.slice_count)


def _without_results(job_id: str, job: Job | None, scanner: str, slice_count: int) -> SummaryRow:
    """A study that waits, runs, was refused when it was read, or failed."""
    if job is None:
        return SummaryRow(job_id, "queued", scanner=scanner, slice_count=slice_count)
    state = "running" if job.is_running else str(job.state)
    return SummaryRow(
        job_id,
        state,
        job.code,
        scanner=scanner,
        slice_count=slice_count,
        attempts=job.attempts,
        version=job.key.version,
    )


def _done(job_id: str, record: Mapping[str, Any], job: Job | None) -> SummaryRow:
    value = record["value"]
    threshold, lung = value["positive_slice_threshold"], value["lung_slice_count"]
    margin = None if threshold is None or not lung else (value["positive_slice_count"] - threshold) / lung
    return SummaryRow(
        job_id=job_id,
        state="done",
        verdict=value["verdict"],
        basis=value["basis"],
        positive_slice_count=value["positive_slice_count"],
        positive_slice_threshold=threshold,
        lung_slice_count=lung,
        slice_count=value["slice_count"],
        margin=None if margin is None else round(margin, 6),
        lesion_count=value["lesion_count"],
        opacification_volume_ml=value["opacification_volume_ml"],
        percent_opacity=value["percent_opacity"],
        flags=" ".join(value["flags"]),
        scanner=value["scanner"],
        seconds=record["seconds"],
        peak_memory_mb=round(record["peak_memory_bytes"] / 1024**2, 1),
        attempts=None if job is None else job.attempts,
        input_bytes=value["input_bytes"],
        output_bytes=value["output_bytes"],
        classifier_sha256=value["models"]["classifier"]["sha256"],
        segmenter_sha256=value["models"]["segmenter"]["sha256"],
        version=record["version"],
    )


def write_summary(folder: Path, rows: Iterable[SummaryRow]) -> tuple[Path, ...]:
    """Write ``summary.csv``, and ``summary.parquet`` where pyarrow is installed; the paths written.

    Raises:
        OutputError: they cannot be written.
    """
    listed = list(rows)
    path = folder / CSV
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        table.writerows(["" if (cell := getattr(row, name)) is None else cell for name in COLUMNS] for row in listed)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        return (path,)
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    schema = pa.schema([(one.name, types[str(one.type).split(" ")[0]]) for one in fields(SummaryRow)])
    columns = {name: [getattr(row, name) for row in listed] for name in COLUMNS}
    with replacing(folder / PARQUET) as temporary:
        pq.write_table(pa.Table.from_pydict(columns, schema=schema), temporary)
    return path, folder / PARQUET


def write_all(batch: Batch, ledger: Ledger) -> list[SummaryRow]:
    """Write summary and cohort page from what lies there now; the rows.

    Raises:
        OutputError: they cannot be written.
    """
    results = batch.open_results()
    rows = list(summary_rows(batch, ledger, results))
    write_summary(batch.folder, rows)
    write_cohort_page(batch.folder, rows, results)
    return rows
