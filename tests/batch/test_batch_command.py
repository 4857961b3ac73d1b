"""`jcs batch`: what is printed, written and gone on with; results are those of `jcs diagnose`, whatever runs them."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jcs_ct.batch.batch_reading import BatchOptions, NotFetchedError, read_for_batch
from jcs_ct.batch.cohort_manifest import ManifestCounts
from jcs_ct.batch.driver import Failure, Standing
from jcs_ct.cli.batch_printing import BatchProgress, print_end, standing_line
from jcs_ct.errors import ConfigError
from jcs_ct.jobs import Ledger, State

# Ray and submitit leave processes of theirs to the interpreter's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

#: They state times, or are written by a batch only.
RECORDS = ("run.json", "job.json", "picture.png")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_dry_run_counts_and_reads_nothing(cohort, tmp_path, jcs):
    done = jcs("batch", "run", cohort, "-o", tmp_path / "batch", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "2 studies to read, 12 slices" in done.stdout
    assert "1 refused: GAP" in done.stdout
    assert ", estimated from timings on another machine" in done.stdout
    assert (tmp_path / "batch" / "manifest.csv").read_text().count("study-") == 2
    assert not (tmp_path / "batch" / "results").exists()
    plan = json.loads(jcs("batch", "run", cohort, "-o", tmp_path / "batch", "--dry-run", "--json").stdout)
    assert (plan["studies"], plan["refused"]) == (2, {"GAP": 1})
    assert plan["estimate"]["seconds"] > 0


def test_a_precision_that_is_asked_for_makes_another_job_and_the_machine_does_not():
    """Results of another precision were there already, and stood for those that were asked for."""
    assert len({BatchOptions(precision=name).decisive for name in ("auto", "int8", "fp32")}) == 3
    assert BatchOptions(device="cuda", backend="torch", batch_size=2).decisive == ""


@pytest.mark.parametrize("options", [BatchOptions(), BatchOptions(dicom=True, formats=("json",), threshold=3)])
def test_options_survive_the_batchs_file(options):
    assert BatchOptions.from_arguments(json.loads(json.dumps(options.to_arguments()))) == options


def test_credentials_that_end_while_a_batch_runs_are_no_fault_of_the_study(monkeypatch, tmp_path):
    def refuse(url):
        raise ConfigError("the server refuses the credentials")

    monkeypatch.setattr("jcs_ct.batch.cohort_search.connect", refuse)
    study = {"kind": "dicomweb", "where": "https://pacs/studies/1.2.3", "files": [], "series": "", "byte_count": 0}
    with pytest.raises(NotFetchedError, match="refuses the credentials"):
        read_for_batch({"study": study, "options": {}, "output": str(tmp_path)}, lambda *stage: None)


def standing(**given):
    counts = dict.fromkeys(State, 0) | {State.QUEUED: 110, State.DONE: 17, State.REFUSED: 2, State.SET_ASIDE: 1}
    return Standing(**{"counts": counts, "running": 2, "ended_here": 20, "seconds": 1200.0, **given})


def test_a_status_line_fits_and_leaves_out_what_matters_least():
    far = standing(verdicts={"positive": 9, "negative": 8})
    whole = "20 of 130; 9 positive, 8 negative; 2 refused, 1 set aside; 2 running; 1.0 a minute; 1 h 50 min left"
    assert standing_line(far, 200) == whole
    assert standing_line(far, 79) == "20 of 130; 9 positive, 8 negative; 2 refused, 1 set aside; 1 h 50 min left"
    assert standing_line(far, 30) == "20 of 130; 1 h 50 min left"
    full = standing_line(standing(waiting_for="disk"), 79)
    assert full == "20 of 130; 1 h 50 min left; waiting until results can be written"
    assert standing_line(standing(ended_here=0), 79).startswith("20 of 130; 17 done; 2 refused")


@pytest.mark.parametrize("is_live", [True, False])
def test_failures_have_lines_of_their_own(is_live, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_live, raising=False)
    shown = BatchProgress(as_json=False, quiet=False)
    shown.standing(standing())
    shown.failure(Failure("ab12", 3, State.SET_ASIDE, "TIMED_OUT", "it took longer than 60 min"))
    shown.failure(Failure("cd34", 1, State.QUEUED, "CRASHED", ""))
    shown.end()
    said = capsys.readouterr().err
    assert ("\r" in said) is is_live, "a log has no line that changes"
    assert "ab12  attempt 3, set aside  TIMED_OUT  it took longer than 60 min\n" in said
    assert "cd34  attempt 1, tried again  CRASHED\n" in said


@pytest.mark.parametrize(("studies", "is_said"), [(20, False), (18, True)])
def test_jobs_of_studies_that_are_not_in_the_manifest_now_are_told_apart(studies, is_said, capsys):
    """A study that changed on disk, or was taken off the list, was counted beside those of the summary."""
    counts = dict.fromkeys(State, 0) | {State.DONE: 20}
    found = ManifestCounts(studies=studies, slices=0, bytes=0, refused={"GAP": 1}, duplicates=0)
    print_end(Path("batch"), found, standing(counts=counts), 0, as_json=False)
    said = capsys.readouterr().out
    assert said.startswith("20 done; 1 refused by their headers\n")
    assert ("2 of them from an earlier search, not in the manifest now" in said) is is_said


def test_usage(cohort, tmp_path, jcs):
    assert jcs("batch", "run", cohort, "-o", tmp_path / "b", "--formats", "pdf").exit_code == 2
    assert jcs("batch", "run", cohort, "-o", tmp_path / "b", "--since", "soon").exit_code == 2
    assert "does not exist" in str(jcs("batch", "run", tmp_path / "none", "-o", tmp_path / "b").exception)
    assert "no batch was begun" in str(jcs("batch", "status", tmp_path).exception)


def test_a_folder_of_other_files_is_no_batch(cohort, tmp_path, jcs):
    study = tmp_path / "my-study"
    (study / "dicom").mkdir(parents=True)
    asked = jcs("batch", "run", cohort, "-o", study, "--dry-run")
    assert "holds files and no batch (batch.json)" in str(asked.exception)
    assert [path.name for path in study.iterdir()] == ["dicom"]


@pytest.mark.slow
def test_a_cohort_from_end_to_end_and_once_more(cohort, tmp_path, jcs):
    folder = tmp_path / "batch"
    done = jcs("batch", "run", cohort, "-o", folder, "--workers", 1, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["counts"]["done"], result["manifest"]["refused"]) == (2, {"GAP": 1})
    found = rows(folder)
    assert [row["state"] for row in found] == ["refused", "done", "done"]
    assert {row["attempts"] for row in found} == {"", "1"}
    first = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.json")}
    again = jcs("batch", "run", cohort, "-o", folder, "--workers", 1, "--quiet")
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.json")} == first
    status = json.loads(jcs("batch", "status", folder, "--json").stdout)
    assert status["counts"]["done"] == 2
    assert (status["counts"]["refused"], status["refused_by_headers"]) == (0, {"GAP": 1})
    said = jcs("batch", "status", folder).stdout
    assert said.startswith("2 done; 1 refused by their headers\n1 refused by their headers: GAP; ")
    with Ledger(folder / "jobs.sqlite") as ledger:
        for study in ("waits", "runs"):
            key = replace(ledger.jobs(limit=1)[0].key, study=study)
            ledger.add(key, {})
        claim = ledger.claim()
        assert jcs("batch", "status", folder).stdout.startswith("1 running, 1 queued, 2 done; 1 refused")
        ledger.release(claim)
        for study in ("waits", "runs"):
            ledger.remove(replace(claim.job.key, study=study).job_id)
    assert "1 refused, 2 done" in jcs("batch", "summarize", folder).stdout
    (cohort / "study-1").rename(tmp_path / "away")
    resumed = json.loads(jcs("batch", "run", cohort, "-o", folder, "--workers", 1, "--resume", "--json").stdout)
    assert (resumed["manifest"]["studies"], resumed["counts"]["done"]) == (2, 2)


@pytest.mark.slow
def test_other_options_are_another_reading_in_the_same_folder(cohort, tmp_path, jcs):
    folder = tmp_path / "batch"
    for extra in ([], ["--segment", "always"]):
        assert jcs("batch", "run", cohort, "-o", folder, "--workers", 1, "--quiet", *extra).exit_code == 0
    assert {row["lesion_count"] for row in rows(folder) if row["state"] == "done"} != {""}
    assert len(list((folder / "results").glob("*/job.json"))) == 4


def reports(folder: Path) -> dict[str, dict[str, bytes]]:
    """What was written for each study, by the study's identifier, without the times that the page states."""
    found = {}
    for report in sorted(folder.rglob("report.json")):
        identifier = json.loads(report.read_text())["study"]["identifier"]
        written = {path.name: path.read_bytes() for path in report.parent.iterdir() if path.name not in RECORDS}
        stated = rb"<caption>Time</caption>.*?</table>|read \d{4}-\d\d-\d\d \d\d:\d\d UTC"
        page, times = re.subn(stated, b"", written["report.html"], flags=re.S)
        assert times == 2
        found[identifier] = {**written, "report.html": page}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray", "slurm"])
def test_results_are_those_of_diagnose(executor, cohort, tmp_path, jcs):
    pytest.importorskip({"local": "jcs_ct", "ray": "ray", "slurm": "submitit"}[executor])
    extra = ["--slurm-here", "--slurm-jobs", 1] if executor == "slurm" else []
    arguments = ["--executor", executor, "--workers", 1, "--study-gib", 2, "--segment", "always", *extra]
    done = jcs("batch", "run", cohort, "-o", tmp_path / "batch", *arguments)
    assert done.exit_code == 0, done.output
    for name in ("study-1", "study-2"):
        assert jcs("diagnose", cohort / name, "-o", tmp_path / "plain" / name, "--segment", "always").exit_code == 0
    plain, batch = reports(tmp_path / "plain"), reports(tmp_path / "batch" / "results")
    assert len(plain) == 2
    assert set(next(iter(plain.values()))) == {
        "report.html", "report.json", "lesions.nii.gz", "densities.nii.gz", "activation.nii.gz"
    }  # fmt: skip
    assert {name for study in plain for name in plain[study] if plain[study][name] != batch[study][name]} == set()
    assert batch == plain


@pytest.mark.slow
def test_studies_that_fail_end_with_exit_code_4_and_are_read_when_asked(cohort, tmp_path, jcs):
    folder = tmp_path / "batch"
    failed = jcs("batch", "run", cohort, "-o", folder, "--workers", 1, "--study-minutes", 0.01)
    assert failed.exit_code == 4, failed.output
    assert {(row["state"], row["code"]) for row in rows(folder)} == {("refused", "GAP"), ("set_aside", "TIMED_OUT")}
    assert "TIMED_OUT" in jcs("batch", "status", folder).stdout
    assert jcs("batch", "run", cohort, "-o", folder, "--workers", 1).exit_code == 4
    assert jcs("batch", "run", cohort, "-o", folder, "--workers", 1, "--retry-failed").exit_code == 0
