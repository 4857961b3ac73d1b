"""Summary and page say what the results say."""

from __future__ import annotations

import csv
import json
import re
import shutil
import weakref
from pathlib import Path

import pytest

from jcs_ct.batch.batch_folder import Batch, existing_batch, retry_failed
from jcs_ct.batch.batch_reading import BatchOptions
from jcs_ct.batch.batch_results import FolderResults
from jcs_ct.batch.cohort_manifest import FoundStudy, Kind, read_manifest, write_manifest
from jcs_ct.batch.cohort_page import burden_histogram, by_margin, verdicts_by_scanner, write_cohort_page
from jcs_ct.batch.summary import COLUMNS, SummaryRow, summary_rows, write_all, write_summary
from jcs_ct.errors import ConfigError, DamagedFileError
from jcs_ct.jobs import JobKey, State


@pytest.fixture
def batch(tmp_path):
    """Two studies with results, one refused by its headers, one that failed, one that waits."""
    from played_studies import FACTS

    made = Batch(tmp_path / "batch", JobKey("any", "w", "p", "v"), BatchOptions(), str(tmp_path / "results"))
    made.folder.mkdir()
    studies = [FoundStudy(f"s{number}", Kind.DICOM, f"/x/{number}", scanner="Maker") for number in range(5)]
    studies[2] = FoundStudy("s2", Kind.DICOM, "/x/DOE^JANE", code="GAP", message="a slice is missing")
    write_manifest(made.manifest, studies)
    results = FolderResults(tmp_path / "results")
    for number, positive in ((0, 4), (1, 1)):
        job_id = made.job_id(f"s{number}")
        staged = results.stage(job_id)
        if number == 0:
            Path(staged["output"], "report.html").write_text("report")
        value = {**FACTS, "positive_slice_count": positive, "verdict": "positive" if positive > 1 else "negative"}
        record = {"value": value, "seconds": 1.5, "peak_memory_bytes": 3 << 20, "version": "v"}
        results.publish(job_id, staged, record)
    with made.open_ledger() as ledger:
        ledger.add_many((JobKey(one.study, "w", "p", "v"), {}) for one in studies if not one.code)
        for _ in range(3):
            while (claim := ledger.claim(now=2e9)) is not None and claim.job.key.study != "s3":
                ledger.finish(claim)
            if claim is None:
                break
            ledger.fail(claim, "CRASHED", "it crashed")
    return made


def test_rows_follow_the_manifest_and_the_results(batch):
    with batch.open_ledger() as ledger:
        rows = list(summary_rows(batch, ledger, batch.open_results()))
    assert [(row.state, row.code, row.verdict) for row in rows[:3]] == [
        ("done", "", "positive"),
        ("done", "", "negative"),
        ("refused", "GAP", None),
    ]
    assert (rows[0].margin, rows[1].margin) == (0.5, 0.0)
    assert (rows[0].peak_memory_mb, rows[0].flags, rows[0].classifier_sha256) == (3.0, "A B", "c")
    assert rows[3].code == "CRASHED"


class Record(dict):
    """A record whose life can be watched."""


def test_one_record_is_held_at_a_time(batch):
    whole = dict(batch.open_results().records())
    whole |= {f"of another list {number}": next(iter(whole.values())) for number in range(3)}
    seen, most = [], []

    class Results:
        def records(self):
            for job_id, content in whole.items():
                record = Record(content)
                seen.append(weakref.ref(record))
                most.append(sum(one() is not None for one in seen))
                yield job_id, record

    with batch.open_ledger() as ledger:
        rows = list(summary_rows(batch, ledger, Results()))
    assert [row.attempts for row in rows if row.state == "done"] == [1, 1]
    assert most == [1, 2, 2, 2, 2], "the one that is made, and the one before"


def test_files_hold_the_same_and_no_place_of_a_study(batch):
    parquet = pytest.importorskip("pyarrow.parquet")
    with batch.open_ledger() as ledger:
        rows = write_all(batch, ledger)
    with (batch.folder / "summary.csv").open() as stream:
        listed = list(csv.DictReader(stream))
    table = parquet.read_table(batch.folder / "summary.parquet").to_pylist()
    assert [row["job_id"] for row in listed] == [row["job_id"] for row in table] == [row.job_id for row in rows]
    assert table[0]["percent_opacity"] == 12.5
    assert table[2]["percent_opacity"] is None
    assert listed[2]["percent_opacity"] == ""
    everything = (batch.folder / "summary.csv").read_text() + (batch.folder / "cohort.html").read_text()
    assert "DOE" not in everything
    assert "/x/" not in everything


def test_the_page_counts_what_the_rows_say(batch):
    with batch.open_ledger() as ledger:
        rows = write_all(batch, ledger)
    page = (batch.folder / "cohort.html").read_text()
    assert "Research use only, not a medical device" in page
    assert re.search(r"GAP</th><td class=\"n\">1<", page)
    assert re.search(r"10 to 15 %</th><td class=\"n\">2<", page)
    assert not re.search(r"src=\"(?!data:)", page), "it needs no network"
    links = set(re.findall(r"href=\"([^\"]*)\"", page))
    assert links == {f"../results/{batch.job_id('s0')}/report.html"}
    assert all((batch.folder / link).is_file() for link in links)
    assert verdicts_by_scanner(rows) == [
        {"scanner": "Maker One", "all": 2, "positive": 1, "negative": 1, "withheld": 0}
    ]


def test_burden_and_certainty():
    rows = [
        SummaryRow(str(n), "done", percent_opacity=value) for n, value in enumerate((0.0, 0.99, 1.0, 99.9, 100.0))
    ]
    counts = {bar.label: bar.count for bar in burden_histogram(rows) if bar.count}
    assert counts == {"0 to 1 %": 2, "1 to 2 %": 1, "75 to 100 %": 2}
    rows = [SummaryRow(str(n), "done", margin=(n - 10.25) / 100) for n in range(30)]
    most, least = by_margin(rows)
    assert [row.job_id for row in most[:3]] == ["29", "28", "27"]
    assert [row.job_id for row in least[:3]] == ["10", "11", "9"]
    assert (len(by_margin(rows[:10])[0]), by_margin(rows[:10])[1]) == (10, [])


def test_a_page_of_nothing(tmp_path):
    write_cohort_page(tmp_path, [], FolderResults(tmp_path / "results"))
    page = (tmp_path / "cohort.html").read_text()
    assert "No study was refused" in page
    assert "0 to 1 %" not in page, "nothing was measured"
    write_summary(tmp_path, [])
    assert (tmp_path / "summary.csv").read_text().strip() == ",".join(COLUMNS)


def test_every_column_is_documented():
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "how-to" / "batch.md"
    missing = [name for name in COLUMNS if f"`{name}`" not in page.read_text(encoding="utf-8")]
    assert not missing


def test_a_folder_without_a_batch(tmp_path):
    with pytest.raises(ConfigError, match="no batch was begun"):
        existing_batch(tmp_path)
    (tmp_path / "batch.json").write_text(json.dumps({}))


def test_what_a_batch_says_of_itself_is_damaged(batch, tmp_path, damage):
    key = batch.key
    facts = {"weights": key.weights, "operating_point": key.operating_point, "version": key.version}
    whole = {**facts, "results": batch.results, "options": batch.options.to_arguments()}
    path = batch.folder / "batch.json"
    path.write_text(json.dumps(whole))
    assert existing_batch(batch.folder) == batch
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFileError, match=r"batch\.json is damaged: .* give the `jcs batch run` that began it"):
        existing_batch(batch.folder)
    path.write_text(json.dumps({**whole, "options": {"colour": "red"}}))
    with pytest.raises(DamagedFileError, match="its options are none of this version"):
        existing_batch(batch.folder)


def test_a_line_of_a_manifest_is_damaged(batch):
    lines = batch.manifest.read_bytes().splitlines(keepends=True)
    for broken in (lines[2][:10], bytes(40), b"\xff,x\n", lines[2].replace(b"dicom", b"nosuch")):
        batch.manifest.write_bytes(b"".join([*lines[:2], broken]))
        with pytest.raises(
            DamagedFileError, match=r"manifest\.csv is damaged: line \d is no study's; .* with its source"
        ):
            list(read_manifest(batch.manifest))
    batch.manifest.write_bytes(b"")
    with pytest.raises(ConfigError, match="is no manifest of this version"):
        list(read_manifest(batch.manifest))


def test_done_studies_whose_results_are_gone_are_read_again(batch, tmp_path):
    shutil.rmtree(tmp_path / "results" / batch.job_id("s0"))
    with batch.open_ledger() as ledger:
        assert retry_failed(batch, ledger) == 2
        assert {job.key.study for job in ledger.jobs() if job.state is State.QUEUED} >= {"s0", "s3"}
        assert ledger.job(batch.job_id("s1")).state is State.DONE
