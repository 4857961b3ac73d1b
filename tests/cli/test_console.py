"""Progress goes to stderr, a line at a time where no one looks at a bar."""

import json

import pytest

from jcs_ct.cli import console
from jcs_ct.cli.common_options import Shown, showing
from jcs_ct.cli.console import counted, print_json, print_tables, stage_progress
from jcs_ct.cli.hints import hint_once
from jcs_ct.cli.training_progress import step_progress
from jcs_ct.evaluation.pages.tables import Column, Table


def test_json_goes_to_stdout(capsys):
    print_json({"a": 1.5})
    assert json.loads(capsys.readouterr().out) == {
        "schema_version": "1.0",
        "outcome": "done",
        "exit_code": 0,
        "a": 1.5,
    }
    print_json([1, 2])
    assert json.loads(capsys.readouterr().out) == [1, 2]


def test_a_row_that_is_too_wide_is_printed_as_a_block(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    measures = [Column(f"m{number}", f"measure {number} %", interval=True) for number in range(6)]
    cells = {f"m{number}{end}": 70.123 + number for number in range(6) for end in ("", "_low", "_high")}
    columns = (Column("method", "method"), *measures, Column("note", "note"), Column("none", "none"))
    wide = {"method": "jcs", **cells, "note": "words " * 20}
    print_tables([Table("t", "Per image " * 9, columns, (wide, {"method": "short", "m0": 1.0}))])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "  jcs" in lines
    assert "    measure 0 %  70.12 [70.12, 70.12]" in lines
    assert "    measure 5 %  75.12 [75.12, 75.12]" in lines
    assert lines[-1] == "  short: measure 0 % 1.00"
    assert "none" not in " ".join(lines)


def test_stages_as_json_lines_without_repeats(capsys):
    with stage_progress(as_json=True) as progress:
        for done in (0, 1, 1, 2):
            progress("classify", done, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["done"] for line in captured.err.splitlines()] == [0, 1, 2]


def test_quiet_says_nothing(capsys):
    with stage_progress(quiet=True) as progress:
        progress("classify", 1, 2)
    assert capsys.readouterr().err == ""


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(console, "time", found)
    return found


def test_training_without_a_terminal_prints_lines(capsys, clock):
    with step_progress(6, line_every=2) as progress:
        for step in range(1, 6):
            clock.now += 2.0
            progress(step, 5, {"loss": 1.0 / step})
    assert capsys.readouterr().err.splitlines() == [
        "step 1/5: loss 1.0000; time left not known yet",
        "step 2/5: loss 0.5000; about 6 s left",
        "step 4/5: loss 0.2500; about 2 s left",
        "step 5/5: loss 0.2000",
    ]


def test_slow_steps_are_said_one_by_one_and_a_run_that_continues_is_timed_from_there(capsys, clock):
    with step_progress(1000) as progress:
        for step in (501, 502):
            clock.now += 60.0
            progress(step, 1000, {"loss": 0.5})
    assert capsys.readouterr().err.splitlines() == [
        "step 501/1000: loss 0.5000; time left not known yet",
        "step 502/1000: loss 0.5000; about 8 h 18 min left",
    ]


@pytest.mark.parametrize(("done", "said"), [(14, "goes on from step 14 of 40"), (40, "all 40 steps are done")])
def test_a_run_that_goes_on_says_from_where(capsys, tmp_path, done, said):
    log = tmp_path / "runs" / "log.jsonl"
    with step_progress(40, log=log) as progress:
        progress(done, 40, {})
    assert capsys.readouterr().err == f"{log.parent}: {said}\n"
    with showing(Shown(as_json=True)), step_progress(40, log=log) as progress:
        progress(done, 40, {})
        progress(done + 1, 40, {})
    assert json.loads(capsys.readouterr().err) == {"stage": "train", "done": done, "total": 40, "goes_on": True}
    with showing(Shown(quiet=True)), step_progress(40, log=log) as progress:
        progress(done, 40, {})
    assert capsys.readouterr().err == ""


def test_stages_without_a_terminal_are_plain_lines(capsys, clock):
    with stage_progress() as progress:
        for done in range(0, 61, 10):
            progress("segment", done, 60)
            clock.now += 4.0
        progress("findings", 0, 1)
        progress("findings", 1, 1)
        progress("findings", 1, 1)
    assert capsys.readouterr().err.splitlines() == [
        "segment: 30/60, about 12 s left",
        "segment: 60/60 in 24 s",
        "findings: 1/1 in 0 s",
    ]


def test_a_terminal_shows_bars_with_the_time_left(monkeypatch):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with stage_progress() as progress:
        progress("classify", 3, 10)
    with step_progress(10) as steps:
        steps(1, 10, {"loss": 0.5})
    assert "3/10" in shown.getvalue()
    assert "left" in shown.getvalue()
    assert "loss 0.5000" in shown.getvalue()


def test_counts_agree_with_their_nouns():
    assert [counted(count, "job", "jobs") for count in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


def test_a_hint_is_given_once_and_never_to_programs(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("JCS_CT_CACHE", str(tmp_path / "cache"))
    for wanted in (Shown(quiet=True), Shown(as_json=True)):
        with showing(wanted):
            hint_once("faster", "do this")
    assert capsys.readouterr().err == ""
    hint_once("faster", "do this")
    hint_once("faster", "do this")
    assert capsys.readouterr().err == "hint: do this\n"
    (tmp_path / "file").write_text("no folder")
    for nowhere in (str(tmp_path / "file"), ""):
        monkeypatch.setenv("JCS_CT_CACHE", nowhere)
        hint_once("faster", "do this")
    assert capsys.readouterr().err == ""
