"""`jcs pacs watch` as a service: options, log, signals, the unit in the documentation."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jcs_ct.cli import pacs_watch
from jcs_ct.jobs import JobKey

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pacs.md"
UNIT = re.compile(r"```ini\n(.*?)```", re.DOTALL)


def watch(url, folder, *options):
    command = [sys.executable, "-m", "jcs_ct", "pacs", "watch", url, "--folder", str(folder), "--settle-s", "0"]
    return subprocess.Popen(
        [*command, "--every-s", "0.1", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_options_choose_studies_and_all_that_is_written_is_the_owners(pacs, fill, jcs, tmp_path):
    for number in range(1, 5):
        fill(f"1.2.77.{number}", images=1)
        pacs.date[f"1.2.77.{number}"] = "20200101" if number == 1 else "20260102"
        pacs.body_part[f"1.2.77.{number}.1"] = "HEAD" if number == 2 else "CHEST"
        pacs.description[f"1.2.77.{number}"] = "follow-up" if number == 3 else "COVID"
    folder, log = tmp_path / "watched", tmp_path / "log" / "watch.log"
    options = ["--since", "2026-01-01", "--body-part", "chest", "--description", "covid", "--attempts", "1"]
    said, _ = (process := watch(pacs.url, folder, *options, "--once", "--log-file", str(log))).communicate(
        timeout=120
    )
    assert process.returncode == 0, said
    (job,) = json.loads(jcs("pacs", "jobs", "--folder", folder, "--json").stdout)
    assert (job["state"], job["attempts"]) == ("set_aside", 1), "three are not wanted; the fourth holds no pixels"
    assert f"{job['job']}  set_aside" in said
    assert "1 study worked on" in said
    assert "1.2.77" not in log.read_text() + json.dumps(job)
    assert job["job"] in log.read_text()
    assert not list((folder / "studies").iterdir())
    written = [path for path in [*folder.rglob("*"), log] if path.is_file()]
    assert {"heartbeat.json", "metrics.prom", "jobs.sqlite", "studies.sqlite", "watch.log"} <= {
        p.name for p in written
    }
    assert [path.name for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    said = jcs("pacs", "requeue", "--folder", folder, "--set-aside")
    assert said.exit_code == 0
    assert "1 job queued again" in said.output


@pytest.mark.slow
def test_a_watcher_that_is_told_to_end_ends_at_once_and_leaves_its_job_queued(pacs, fill, jcs, tmp_path):
    fill("1.2.3")
    pacs.on_request = lambda method, path: time.sleep(1.0) if "/instances/" in path else None
    process = watch(pacs.url, tmp_path)
    deadline = time.monotonic() + 120
    while not any("/instances/" in line for line in pacs.requests):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    (job,) = json.loads(jcs("pacs", "jobs", "--folder", tmp_path, "--json").stdout)
    assert (job["state"], job["attempts"]) == ("queued", 0)


def test_a_watcher_that_is_told_to_end_says_in_its_document_what_it_worked_on(pacs, fill, jcs, tmp_path, monkeypatch):
    def end(watcher, every_s, *, once):
        watcher.ledger.add(JobKey("any", "weights", "point", "1.0"))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("jcs_ct.pacs.watcher_setup.go_on", end)
    umask, before = os.umask(0o077), signal.getsignal(signal.SIGTERM)
    try:
        said = jcs("pacs", "watch", pacs.url, "--folder", tmp_path, "--json")
    finally:
        signal.signal(signal.SIGTERM, before)
        os.umask(umask)
    assert said.exit_code == 0
    document = json.loads(said.stdout)
    assert (document["outcome"], document["exit_code"]) == ("done", 0)
    (job,) = document["worked_on"]
    assert (job["state"], job["verdict"]) == ("queued", "")


def test_the_log_is_rotated(tmp_path, monkeypatch):
    monkeypatch.setattr(pacs_watch, "_LOG_BYTES", 2000)
    package = logging.getLogger("jcs_ct")
    before, level = list(package.handlers), package.level
    try:
        pacs_watch._log_to(tmp_path / "log" / "watch.log")
        for number in range(500):
            logging.getLogger("jcs_ct.pacs.watch").info("line %d of a log that grows for a month", number)
    finally:
        for handler in set(package.handlers) - set(before):
            package.removeHandler(handler)
            handler.close()
        package.setLevel(level)
    files = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert files == ["watch.log", *(f"watch.log.{number}" for number in range(1, 6))]
    assert max(path.stat().st_size for path in (tmp_path / "log").iterdir()) <= 2000
    assert "line 499 " in (tmp_path / "log" / "watch.log").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_documented_unit_is_one(tmp_path):
    (unit,) = UNIT.findall(PAGE.read_text(encoding="utf-8"))
    path = tmp_path / "jcs-watch.service"
    path.write_text(unit.replace("/opt/jcs/bin/jcs", "/bin/true"), encoding="utf-8")
    said = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_the_documented_unit_calls_the_command_as_it_is(jcs):
    (unit,) = UNIT.findall(PAGE.read_text(encoding="utf-8"))
    (command,) = re.findall(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
    options = re.findall(r"--[a-z-]+", command)
    known = jcs("pacs", "watch", "--help").output
    assert options
    assert [one for one in options if one not in known] == []
