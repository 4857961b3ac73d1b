"""The watcher: each state of a study once, whatever the server, the study's process or the disk do."""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
from contextlib import ExitStack
from datetime import date
from types import SimpleNamespace

import pytest

from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.files import only_one
from jcs_ct.jobs import Ending, JobKey, Limits, Outcome, RetryPolicy, State, StudyWorker
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.remote import StudyQuery
from jcs_ct.pacs.server import PacsAnswerError, PacsDeniedError, PacsServer, PacsUnavailableError
from jcs_ct.pacs.watch import WatchSettings
from jcs_ct.pacs.watcher_setup import go_on, open_watcher

from .fake_pacs import ct_file
from .played_readings import PlayedWorker, write_results

KEY = JobKey("any", "weights", "point", "1.0")
NO_WAIT = RetryPolicy(most_attempts=3, first_wait_s=0.0)


@pytest.fixture
def worker():
    return PlayedWorker()


@pytest.fixture
def start(pacs, worker, tmp_path):
    """A watcher in the same folder each time, as after a restart; its clock is moved by hand."""
    with ExitStack() as stack:
        running = []
        now = SimpleNamespace(seconds=1e9)

        def make(folder=tmp_path / "watched", *, key=KEY, settings=None, **options):
            for one in running:
                one.close()
            running.clear()
            own = stack.enter_context(ExitStack())
            web = DicomWeb(PacsServer(pacs.url, retries=0), sleep=lambda seconds: None)
            own.callback(web.close)
            settings = settings or WatchSettings(outage_wait_s=0.0, least_free_bytes=0)
            options = {"settle_s": 30.0, "retries": NO_WAIT, **options}
            watcher = own.enter_context(open_watcher(web, folder, key, settings=settings, **options))
            watcher.worker = worker
            watcher.clock = watcher.survey.clock = lambda: now.seconds
            watcher.later = lambda seconds=31.0: (setattr(now, "seconds", now.seconds + seconds), watcher.look())[1]
            running.append(own)
            return watcher

        yield make


def states(watcher):
    return [(str(job.state), job.code) for job in watcher.ledger.jobs()]


def read_to_the_end(start):
    """A watcher that found the one study, read it and stored its results."""
    watcher = start()
    watcher.look()
    watcher.later()
    assert states(watcher) == [("done", "")]
    return watcher


def listed_job(jcs, watcher):
    """The one job, as the command lists it for programs."""
    (job,) = json.loads(jcs("pacs", "jobs", "--folder", watcher.folder.parent, "--json").stdout)
    return job


def left_on_disk(watcher):
    return [path for path in watcher.folder.rglob("*") if path.is_file()]


def results_held(pacs):
    return len(pacs.of_modality("SR")), len(pacs.of_modality("SEG"))


def test_a_study_is_read_when_it_was_at_rest_for_the_stated_time_and_never_again(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    watcher.later(29)
    assert worker.calls == 0, "not at rest for long enough"
    fill("1.2.3", images=4)
    watcher.later(29)
    watcher.later(29)
    assert worker.calls == 0, "it has grown"
    watcher.later(2)
    assert [one["images"] for one in worker.readings] == [4]
    assert states(watcher) == [("done", "")]
    assert results_held(pacs) == (1, 1)
    assert watcher.is_idle()
    watcher.later()
    again = start()
    again.later()
    again.later()
    assert worker.calls == 1
    assert left_on_disk(again) == []


def test_a_study_that_is_not_whole_is_never_read(start, pacs, fill, worker):
    fill("1.2.3", images=8)
    pacs.counts = "+2"
    watcher = start()
    for _ in range(4):
        watcher.later()
    assert worker.calls == 0
    assert not watcher.is_idle()
    pacs.counts = "true"
    watcher.later()
    watcher.later()
    assert worker.calls == 1


def test_images_that_arrive_later_are_read_and_the_old_results_superseded(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    watcher.later()
    first = {key[2] for key in pacs.instances if pacs.modality[key[1]] != "CT"}
    fill("1.2.3", images=3)
    watcher = start()
    watcher.later()
    watcher.later()
    assert [one["images"] for one in worker.readings] == [2, 3]
    assert {one["instance"] for one in worker.readings[1]["supersedes"]} == first
    current = {one.instance for one in watcher.book.results("1.2.3")}
    assert len(current) == 2
    assert not current & first
    watcher.later()
    assert worker.calls == 2, "its own results are no change of the study"


def test_a_study_that_is_again_what_it_was_is_read_again_and_the_results_in_between_superseded(
    start, pacs, fill, worker
):
    """Images that came by mistake are removed: without a new reading the results of all of them stay in force."""
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    watcher.later()
    fill("1.2.3", images=3)
    watcher.later()
    watcher.later()
    between = {one.instance for one in watcher.book.results("1.2.3")}
    (extra,) = [key for key in pacs.of_modality("CT") if key[2].endswith(".3")]
    del pacs.instances[extra]
    held = {key[2] for key in pacs.instances}
    for _ in range(3):
        watcher.later()
    assert [one["images"] for one in worker.readings] == [2, 3, 2]
    assert {one["instance"] for one in worker.readings[2]["supersedes"]} == between
    assert not {one.instance for one in watcher.book.results("1.2.3")} & held, "what was rejected stays rejected"
    again = start()
    again.later(7 * 3600.0)
    assert (again.is_idle(), worker.calls) == (True, 3)


@pytest.mark.parametrize("moment", ["fetching", "reading", "storing"])
def test_images_that_arrive_while_it_is_worked_on_leave_no_result_of_the_part(start, pacs, fill, worker, moment):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()

    def grow(*arguments):
        if moment == "reading" or "/instances/" in arguments[1]:
            pacs.on_request, worker.ending = None, None
            fill("1.2.3", images=3)

    if moment == "storing":
        original = watcher.ledger.advance
        watcher.ledger.advance = lambda *given, **named: (fill("1.2.3", images=3), original(*given, **named))
    elif moment == "reading":
        worker.ending = grow
    else:
        pacs.on_request = grow
    watcher.later()
    assert results_held(pacs) == (0, 0)
    if moment == "storing":
        watcher.ledger.advance = original
    watcher.later()
    watcher.later()
    assert [one["images"] for one in worker.readings][-1] == 3
    assert results_held(pacs) == (1, 1)
    assert left_on_disk(watcher) == []


def test_a_study_deleted_on_the_server_is_forgotten_and_read_when_it_comes_back(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    fill("1.2.4", images=1)
    watcher = start()
    watcher.look()
    worker.ending = Outcome(Ending.FAILED, "CRASHED", "")
    pacs.remove("1.2.4")
    worker.ending = None
    watcher.later()
    assert set(watcher.book.sightings()) == {"1.2.3"}
    pacs.remove("1.2.3")
    watcher.later()
    assert watcher.book.sightings() == {}
    assert watcher.book.results("1.2.3") == []
    fill("1.2.3", images=2)
    watcher.later()
    watcher.later()
    assert worker.calls == 2
    assert results_held(pacs) == (1, 1)


def test_a_study_deleted_before_it_was_read_leaves_nothing(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    pacs.on_request = lambda method, path: pacs.remove("1.2.3") if "/instances/" in path else None
    watcher.later()
    pacs.on_request = None
    assert states(watcher) == [("refused", "PACS_GONE")]
    watcher.later()
    assert watcher.is_idle()
    assert left_on_disk(watcher) == []


def test_an_identifier_used_for_another_patient_is_another_study(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    pacs.patient["1.2.3"] = "ONE"
    watcher = start()
    watcher.look()
    watcher.later()
    pacs.patient["1.2.3"] = "TWO"
    watcher.later()
    watcher.later()
    assert worker.calls == 2


def test_images_replaced_under_the_same_count_are_seen_at_the_recheck(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    watcher.later()
    watcher.later()  # its own results have changed the count
    del pacs.instances["1.2.3", "1.2.3.1", "1.2.3.1.2"]
    pacs.add(ct_file("1.2.3", "1.2.3.1", 7))
    watcher.later()
    watcher.later()
    assert worker.calls == 1
    watcher.later(6 * 3600)
    watcher.later()
    assert worker.calls == 2


def test_two_watchers_on_one_server_leave_one_result_set(start, pacs, fill, worker, tmp_path):
    fill("1.2.3", images=2)
    start().look()
    other = start(tmp_path / "other")
    other.look()
    other.later()
    assert results_held(pacs) == (1, 1)
    first = start()
    first.later()
    first.later()
    assert worker.calls == 1, "the other's results lie on the server"
    assert results_held(pacs) == (1, 1)


def test_two_watchers_at_the_same_moment_leave_one_result_set(start, pacs, fill, worker, tmp_path):
    pacs.stow = "duplicate"
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    original = watcher.pacs.store

    def after_the_other(paths):
        for path in paths:
            pacs.add(path.read_bytes())
        return original(paths)

    watcher.pacs.store = after_the_other
    watcher.later()
    assert states(watcher) == [("done", "")]
    assert results_held(pacs) == (1, 1)


def test_other_weights_read_a_study_again(start, fill, worker):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    watcher.later()
    other = start(key=JobKey("any", "other weights", "point", "1.0"))
    other.look()
    other.later()
    assert worker.calls == 2


def test_a_study_that_the_gate_refuses_is_not_tried_again_and_leaves_nothing(start, fill, worker):
    fill("1.2.3")
    worker.ending = Outcome(Ending.REFUSED, "GAP", "a slice is missing (GAP)")
    watcher = start()
    for _ in range(4):
        watcher.later()
    assert states(watcher) == [("refused", "GAP")]
    assert worker.calls == 1
    assert watcher.is_idle()
    assert left_on_disk(watcher) == []


def test_images_that_may_have_been_damaged_on_the_way_are_fetched_anew(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    worker.ending = lambda: Outcome(Ending.REFUSED, "TRUNCATED", "") if worker.calls == 1 else None
    watcher = start()
    watcher.look()
    watcher.later()
    assert states(watcher) == [("done", "")]
    assert len([line for line in pacs.requests if "/instances/" in line]) == 4


@pytest.mark.parametrize("code", ["OUT_OF_MEMORY", "TIMED_OUT", "KILLED", "CRASHED"])
def test_a_study_that_fails_is_set_aside_in_the_end_and_the_others_are_read(start, pacs, fill, worker, code):
    fill("1.2.3")
    fill("1.2.4")
    bad = []

    def ending():
        bad.append(worker.calls)
        return Outcome(Ending.FAILED, code, "no memory") if len(bad) in (1, 2, 3) else None

    worker.ending = ending
    watcher = start()
    watcher.look()
    for _ in range(4):
        watcher.later()
    assert sorted(states(watcher)) == [("done", ""), ("set_aside", code)]
    assert watcher.is_idle()
    assert left_on_disk(watcher) == []
    (aside,) = watcher.ledger.jobs(states=[State.SET_ASIDE])
    assert watcher.ledger.requeue(aside.job_id)
    watcher.later()
    assert [state for state, _ in states(watcher)] == ["done", "done"]


def test_failures_wait_longer_each_time(start, fill, worker):
    fill("1.2.3")
    worker.ending = Outcome(Ending.FAILED, "CRASHED", "")
    watcher = start(retries=RetryPolicy(most_attempts=5, first_wait_s=3600.0))
    watcher.look()
    for _ in range(5):
        watcher.later()
    assert worker.calls == 1
    (job,) = watcher.ledger.jobs()
    assert job.not_before > job.changed_at + 3500


@pytest.mark.parametrize("error", [RuntimeError("DOE^JANE"), MemoryError(), KeyError("x")])
def test_anything_that_is_raised_is_an_attempt_of_its_study(start, fill, worker, error, caplog):
    def ending():
        raise error

    fill("1.2.3")
    worker.ending = ending
    watcher = start()
    watcher.look()
    for _ in range(3):
        watcher.later()
    assert [state for state, _ in states(watcher)] == ["set_aside"]
    assert "DOE" not in caplog.text + watcher.ledger.jobs()[0].message


@pytest.mark.parametrize("met", ["process", "writing", "results", "quota", "record"])
def test_a_full_disk_counts_no_attempt_and_the_others_are_not_sent_into_it(start, pacs, fill, worker, tmp_path, met):
    def ending():
        if met == "process":
            return Outcome(Ending.FAILED, "DISK_FULL", "the disk is full (DISK_FULL)")
        if met == "writing":
            raise OutputError("the disk is full (DISK_FULL)", code="DISK_FULL")
        if met == "quota":
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return None

    def full(*given):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    fill("1.2.3", images=1)
    fill("1.2.4", images=1)
    worker.ending = ending
    watcher = start(settle_s=0.0)
    begin_results = watcher.book.begin_results
    watcher.book.begin_results = full if met == "record" else begin_results
    if met == "results":
        watcher._remove, removed = full, watcher._remove
    for calls in range(1, 6):
        watcher.later()
        assert worker.calls <= calls, "one attempt between two looks"
        assert json.loads((tmp_path / "watched" / "heartbeat.json").read_text())["doing"] == "disk full"
    assert {job.attempts for job in watcher.ledger.jobs()} == {0}
    assert ("DISK_FULL") in {job.code for job in watcher.ledger.jobs()}
    worker.ending, watcher.book.begin_results = None, begin_results
    if met == "results":
        watcher._remove = removed
    watcher.later()
    watcher.later()
    assert states(watcher) == [("done", ""), ("done", "")]
    assert results_held(pacs) == (2, 2)


def test_the_ledger_hears_what_a_study_is_at(start, fill, worker, monkeypatch):
    fill("1.2.3")
    watcher, heard = start(settle_s=0.0), []

    def note():
        job = watcher.ledger.jobs()[0]
        heard.append((job.stage, job.done, job.total))

    def run(task, arguments, *, on_progress, keep_going, **limits):
        note()
        for done in (0, 140):
            assert keep_going()
            on_progress("classify", done, 140)
            note()
        return Outcome(Ending.DONE, value=write_results(arguments))

    monkeypatch.setattr("jcs_ct.pacs.watch._NOTE_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "run", run)
    watcher.look()
    assert heard == [("fetch", 4, 4), ("classify", 0, 140), ("classify", 140, 140)]


def test_a_real_process_that_runs_out_of_memory_is_an_attempt(start, fill, tmp_path, monkeypatch):
    (tmp_path / "played_crash.py").write_text(
        "def crash(arguments, progress):\n    raise RuntimeError('CUDA out of memory for DOE^JANE')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    fill("1.2.3")
    settings = WatchSettings(
        task="played_crash:crash",
        limits=Limits(seconds=60),
        outage_wait_s=0.0,
        least_free_bytes=0,
    )
    watcher = start(settings=settings, retries=RetryPolicy(most_attempts=1))
    with StudyWorker() as real:
        watcher.worker = real
        watcher.look()
        watcher.later()
    assert states(watcher) == [("set_aside", "OUT_OF_MEMORY")]
    assert "DOE" not in watcher.ledger.jobs()[0].message


def test_an_outage_counts_no_attempt_and_loses_nothing(start, pacs, fill, worker):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    pacs.failures = 1
    assert not watcher.later()
    original = watcher.pacs.store

    def down(paths):
        pacs.failures = 2  # the request, and the look whether the server answers at all
        return original(paths)

    watcher.pacs.store = down
    for _ in range(8):
        watcher.later()
    (job,) = watcher.ledger.jobs()
    assert (job.state, job.code) == (State.READ, "PACS_UNAVAILABLE")
    watcher.pacs.store = original
    assert not watcher.is_idle()
    watcher.later()
    assert states(watcher) == [("done", "")]
    assert worker.calls == 1


@pytest.mark.parametrize("where", ["/series", "/instances/"])
def test_a_server_that_fails_on_one_study_alone_does_not_hold_up_the_others(start, pacs, fill, worker, where):
    fill("1.2.3")
    fill("1.2.4")

    def fail(method, path):
        if path.startswith("/studies/1.2.3/") and (path.endswith(where) or (where in path and where != "/series")):
            pacs.failures = 1

    pacs.on_request = fail
    watcher = start()
    watcher.look()
    for _ in range(4):
        watcher.later()
    aside = [("set_aside", "PACS_UNAVAILABLE")] if where == "/instances/" else []
    assert sorted(states(watcher)) == [("done", ""), *aside]
    assert watcher.is_idle() == bool(aside), "a study that cannot be listed stays open"


def test_work_goes_on_after_a_look_that_took_long(start, pacs, fill, worker):
    for number in range(3):
        fill(f"1.2.{number}", images=1)
    watcher = start(settings=WatchSettings(outage_wait_s=0.0, least_free_bytes=0, look_every_s=1.0))
    watcher.look()
    look = watcher.survey.look
    clock = watcher.clock
    passed = []
    watcher.clock = lambda: clock() + sum(passed)
    watcher.survey.look = lambda: (look(), passed.append(100.0))[0]
    worker.ending = lambda: passed.append(50.0)
    watcher.later()
    assert worker.calls == 3


def test_results_that_the_server_takes_and_does_not_list_are_sent_again_and_said(start, pacs, fill, worker, caplog):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    pacs.stow = "empty"
    add = pacs.add
    taken = []
    pacs.add = taken.append
    watcher.later()
    assert states(watcher) == [("done", "")]
    assert len(taken) == 4, "both results, twice"
    assert watcher.ledger.jobs()[0].result["series_not_listed"] == 2
    assert "took 2 series and does not list them whole" in caplog.text
    pacs.add = add


def test_results_that_are_a_study_of_their_own_are_stored_once_and_said(start, pacs, fill, worker, caplog, jcs):
    fill("1.2.3")
    worker.own_study = "1.2.4"
    watcher = read_to_the_end(start)
    assert [line.split()[0] for line in pacs.requests].count("POST") == 1
    assert "the results are a study of their own" in caplog.text
    job = listed_job(jcs, watcher)
    assert "is no UID (PS3.5 9.1): the results are a study of their own" in job["message"]


def test_results_that_the_server_changes_are_said(start, pacs, fill, worker, caplog, jcs):
    fill("1.2.3")
    pacs.stow = "warned"
    watcher = read_to_the_end(start)
    assert "the PACS warns that it changed 2 results" in caplog.text
    job = listed_job(jcs, watcher)
    assert job["message"] == "the PACS warns that it changed 2 of the results, see its log"


def test_a_series_of_results_that_the_server_keeps_in_part_is_sent_again_and_said(start, pacs, fill, worker, jcs):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    add, taken = pacs.add, []

    def take(content):
        taken.append(content)
        if len(taken) % 3:  # of three objects it loses the last
            add(content)

    def lose_some():
        pacs.add = take
        pacs.stow = "empty"

    worker.ending = lose_some
    worker.more_objects = 1
    watcher.later()
    assert len(taken) == 6, "all results, twice"
    assert states(watcher) == [("done", "")]
    assert watcher.ledger.jobs()[0].result["series_not_listed"] == 1
    said = jcs("pacs", "jobs", "--folder", watcher.folder.parent).output
    assert "the PACS took 1 series of the results and does not list them whole" in said
    pacs.add = add


@pytest.mark.parametrize("moment", ["fetching", "reading", "storing", "closing"])
def test_a_watcher_that_dies_leaves_one_result_set(start, pacs, fill, worker, moment, monkeypatch):
    class Killed(BaseException):
        """What no handler catches, as a kill is."""

    def die(*arguments, **named):
        raise Killed

    fill("1.2.3")
    first = start()
    first.look()
    if moment == "fetching":
        monkeypatch.setattr(first.pacs, "instance", die)
    elif moment == "reading":
        worker.ending = die
    elif moment == "storing":
        monkeypatch.setattr(first.pacs, "store", die)
    else:
        monkeypatch.setattr(first.ledger, "finish", die)
    with pytest.raises(Killed):
        first.later()
    worker.ending = None
    first.ledger._file.change("UPDATE jobs SET lease_until = 0")  # as if its process were gone
    second = start()
    second.later()
    assert states(second) == [("done", "")]
    assert results_held(pacs) == (1, 1)
    assert len(worker.readings) == 1
    assert left_on_disk(second) == []


def test_results_stored_in_part_before_the_study_changed_are_superseded_too(start, pacs, fill, worker, monkeypatch):
    fill("1.2.3", images=2)
    first = start()
    first.look()
    store = first.pacs.store

    def store_the_first(paths):
        store(paths[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(first.pacs, "store", store_the_first)
    with pytest.raises(KeyboardInterrupt):
        first.later()
    assert results_held(pacs) == (0, 1)
    (orphan,) = pacs.of_modality("SEG")
    fill("1.2.3", images=3)
    second = start()
    for _ in range(3):
        second.later()
    assert [one["instance"] for one in worker.readings[1]["supersedes"]] == [orphan[2]], "and not what never came"
    assert len(second.book.results("1.2.3")) == 2
    assert second.book.begun_results("1.2.3") == []


def test_results_that_a_person_removed_and_asked_for_again_do_not_supersede_themselves(start, pacs, fill, worker):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    watcher.later()
    pacs.instances = {key: held for key, held in pacs.instances.items() if pacs.modality[key[1]] == "CT"}
    (job,) = watcher.ledger.jobs()
    assert watcher.ledger.requeue(job.job_id)
    watcher.later()
    assert [one["supersedes"] for one in worker.readings] == [[], []]
    assert results_held(pacs) == (1, 1)


def test_nothing_is_fetched_while_the_disk_is_full(start, fill, worker, tmp_path):
    fill("1.2.3")
    settings = WatchSettings(outage_wait_s=0.0, least_free_bytes=1 << 60)
    watcher = start(settings=settings)
    watcher.look()
    watcher.later()
    assert [str(job.state) for job in watcher.ledger.jobs()] == ["queued"]
    assert json.loads((tmp_path / "watched" / "heartbeat.json").read_text())["doing"] == "disk full"
    watcher.settings = WatchSettings(outage_wait_s=0.0, least_free_bytes=0)
    watcher.later()
    assert states(watcher) == [("done", "")]


def test_images_of_a_study_that_waits_for_long_are_removed(start, fill, worker):
    fill("1.2.3")
    worker.ending = Outcome(Ending.FAILED, "CRASHED", "")
    watcher = start(retries=RetryPolicy(most_attempts=5, first_wait_s=1e9, longest_wait_s=1e9))
    watcher.look()
    watcher.later()
    assert left_on_disk(watcher)
    (place,) = watcher.folder.iterdir()
    os.utime(place, (watcher.clock(), watcher.clock()))
    watcher.later(23 * 3600)
    assert left_on_disk(watcher)
    watcher.later(2 * 3600)
    assert left_on_disk(watcher) == []


def test_signs_of_life(start, fill, tmp_path):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    watcher.later()
    facts = json.loads((tmp_path / "watched" / "heartbeat.json").read_text())
    assert facts["jobs"]["done"] == 1
    assert facts["doing"] == "waiting"
    assert facts["last_look"] > 0
    metrics = (tmp_path / "watched" / "metrics.prom").read_text().splitlines()
    assert 'jcs_watch_jobs{state="done"} 1' in metrics
    assert any(line.startswith("jcs_watch_heartbeat_seconds ") for line in metrics)


def test_filters(start, pacs, fill, worker):
    for number, part in enumerate(("HEAD", "CHEST"), start=3):
        fill(f"1.2.{number}")
        pacs.body_part[f"1.2.{number}.1"] = part
    fill("1.2.9")
    pacs.date["1.2.9"] = "20200101"
    watcher = start(query=StudyQuery(since=date(2026, 1, 1), body_parts=("CHEST",)))
    watcher.look()
    watcher.later()
    assert worker.calls == 1
    assert watcher.is_idle()


def test_studies_that_the_query_leaves_out_are_not_asked_for_at_every_look(start, pacs, fill, worker):
    for number in range(3, 6):
        fill(f"1.2.{number}", images=1)
        pacs.date[f"1.2.{number}"] = "20200101"
    watcher = start(settle_s=0.0)
    watcher.look()
    watcher.later()
    later_ones = {"query": StudyQuery(since=date(2026, 1, 1)), "settle_s": 0.0}

    def asked(watcher, seconds=31.0):
        pacs.requests.clear()
        watcher.later(seconds)
        return len({line.split("/")[2] for line in pacs.requests if line.endswith("/series")})

    watcher = start(**later_ones)
    assert [asked(watcher) for _ in range(3)] == [3, 0, 0], "once"
    watcher = start(**later_ones)
    assert asked(watcher) == 0, "the book knows it"
    pacs.remove("1.2.3")
    assert asked(watcher, 6 * 3600) == 3
    assert set(watcher.book.sightings()) == {"1.2.4", "1.2.5"}
    pacs.date["1.2.4"] = "20260201"
    asked(watcher)
    assert watcher.book.sightings()["1.2.4"].missed_at == 0
    pacs.remove("1.2.4")
    asked(watcher)
    assert set(watcher.book.sightings()) == {"1.2.5"}, "one that was listed and is gone is forgotten at once"
    assert worker.calls == 3


def test_a_large_archive_is_read_only_when_that_is_asked_for(start, fill, worker, monkeypatch):
    monkeypatch.setattr("jcs_ct.pacs.survey.MOST_AT_FIRST", 2)
    for number in range(3):
        fill(f"1.2.{number}", images=1)
    with pytest.raises(ConfigError, match="holds 3 CT studies that match: name the first day with --since"):
        start().look()
    watcher = start(whole_archive=True)
    watcher.look()
    watcher.later()
    assert worker.calls == 3


def test_refused_credentials_stop_the_first_look_and_no_later_one(start, pacs, fill, worker):
    pacs.authorization = "Bearer x"
    with pytest.raises(PacsDeniedError):
        go_on(start(), 1.0, once=True)
    pacs.authorization = ""
    fill("1.2.3")
    watcher = start()
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        pacs.authorization = "Bearer x" if len(waits) == 1 else ""
        watcher.survey.settle_s = 0.0

    go_on(watcher, 1.0, once=True, sleep=sleep)
    assert states(watcher) == [("done", "")]
    assert len(waits) >= 2


def test_one_look_at_a_server_that_is_down_ends_and_says_so(start, pacs, fill, worker):
    fill("1.2.3")
    pacs.failures = 100
    with pytest.raises(PacsUnavailableError):
        go_on(start(), 1.0, once=True)
    pacs.failures = 0
    watcher = start(settle_s=0.0)
    go_on(watcher, 1.0, once=True, sleep=lambda seconds: None)
    assert states(watcher) == [("done", "")]


def test_an_answer_that_is_none_stops_the_first_look_of_a_new_folder_alone(start, pacs, fill, worker):
    pacs.garbled = b"<html>"
    with pytest.raises(PacsAnswerError):
        go_on(start(), 1.0, once=True)
    pacs.garbled = b""
    fill("1.2.3")
    start().look()
    pacs.garbled = b"<html>"
    watcher = start(settle_s=0.0)
    go_on(watcher, 1.0, once=True, sleep=lambda seconds: setattr(pacs, "garbled", b""))
    assert states(watcher) == [("done", "")]


def test_logs_and_names_on_disk_hold_no_identifier(start, fill, caplog, worker):
    caplog.set_level(logging.INFO)
    fill("1.2.840.99")
    watcher = start()
    watcher.look()
    seen = []
    worker.ending = lambda: seen.extend(watcher.folder.rglob("*"))
    watcher.later()
    assert "2 results stored" in caplog.text
    assert "1.2.840" not in caplog.text
    assert seen
    assert not [path for path in seen if "1.2.840" in path.name]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_job_of_images_that_the_study_no_longer_has_is_cancelled_and_says_why(start, pacs, fill, worker, deleted):
    fill("1.2.3", images=2)
    watcher = start(settings=WatchSettings(least_free_bytes=1 << 60))
    watcher.look()
    watcher.later()
    assert states(watcher) == [("queued", "")], "the disk is full"
    pacs.remove("1.2.3")
    if not deleted:
        fill("1.2.3", images=3)
    watcher.later()
    watcher.later()
    assert states(watcher) == [("cancelled", "CANCELLED"), *([] if deleted else [("queued", "")])]
    assert watcher.ledger.jobs()[0].message == "the study changed or was deleted before this was done"
    assert worker.calls == 0


def test_a_job_that_is_cancelled_as_its_reading_ends_is_not_stored(start, pacs, fill, worker):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    worker.ending = lambda: watcher.ledger.cancel(watcher.ledger.jobs()[0].job_id) and None
    watcher.later()
    assert states(watcher) == [("cancelled", "CANCELLED")]
    assert results_held(pacs) == (0, 0)
    assert left_on_disk(watcher) == []


def test_a_clock_that_is_set_back_keeps_no_study_waiting(start, fill, worker):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    watcher.later(-9 * 365 * 86400.0)
    assert worker.calls == 0, "its rest is counted anew"
    watcher.later(29)
    assert worker.calls == 0
    watcher.later(2)
    assert worker.calls == 1


def test_two_watchers_do_not_share_a_folder(tmp_path):
    second = only_one(tmp_path / "lock", "watcher")
    with only_one(tmp_path / "lock", "watcher"), pytest.raises(OutputError, match="another watcher"):
        second.__enter__()
