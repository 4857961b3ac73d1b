"""How commands end: exit codes, one JSON document for every ending, and Ctrl-C in every stage of the long ones."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import jcs_ct
from jcs_ct import errors
from jcs_ct.cli import app, endings, main
from jcs_ct.cli.documents import SCHEMA_VERSION
from jcs_ct.cli.endings import EXIT_INTERRUPTED, EXIT_USAGE, OUTCOMES
from jcs_ct.cli.judged_networks import stoppable_experiment
from jcs_ct.errors import (
    REMEDIES,
    ConfigError,
    GateCode,
    JCSError,
    MissingExtraError,
    NotFoundError,
    StoppedError,
    StudyError,
)
from jcs_ct.jobs import FailureCode


def commands(command=None, path=()):
    command = command or typer.main.get_command(app)
    inner = getattr(command, "commands", {})
    if not inner or (path and command.invoke_without_command):
        yield path, command
    for name, below in inner.items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands())


@pytest.mark.parametrize("is_begun", [False, True])
def test_an_experiment_that_is_stopped_says_what_there_is(tmp_path, is_begun):
    """Before its first file nothing is saved, whether its folder is there or not."""
    folder = tmp_path / "cv"

    @stoppable_experiment
    def experiment(output):
        if is_begun:
            (output / "fold-1").mkdir(parents=True)
        raise KeyboardInterrupt

    with pytest.raises(StoppedError) as stopped:
        experiment(output=folder)
    said = f"folds that are done, and the state of the one in work, are in {folder}; the same command goes on"
    assert str(stopped.value).startswith(
        "stopped: " + (said if is_begun else f"nothing was written to {folder}; run")
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_the_common_options(path):
    flags = [flag for parameter in COMMANDS[path].params for flag in parameter.opts]
    for flag in ("--verbose", "-v", "--quiet", "-q", "--json"):
        assert flags.count(flag) == 1, (flag, flags)
    answer = CliRunner().invoke(app, [*path, "-h"])
    assert answer.exit_code == 0
    assert "--help" in answer.output


@pytest.fixture
def end(monkeypatch, capsys):
    """Run ``jcs`` through its entry point -> (exit code, document or None, stderr)."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["jcs", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code, json.loads(captured.out) if captured.out else None, captured.err

    return run


def check_ending(document, code, error):
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["outcome"] == OUTCOMES[code]
    assert document["exit_code"] == code
    assert document["notice"] == jcs_ct.NOTICE
    assert document["error"]["code"] == error
    assert document["error"]["message"]
    assert document["error"]["remedy"]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("info", "{empty}"), 3, "NO_IMAGES"),
        (("diagnose", "{empty}", "-o", "{out}"), 3, "NO_IMAGES"),
        (("diagnose", "{image}", "-o", "{file}"), 2, "OUTPUT_UNWRITABLE"),
        (("diagnose", "{image}", "-o", "{out}", "--label", ""), 2, "SETTINGS"),
        (("diagnose", "{empty}"), 2, "USAGE"),
        (("train", "no-such-recipe", "-o", "{out}", "-m", "{file}"), 2, "NOT_FOUND"),
        (("evaluate", "patients", "-o", "{out}"), 2, "SETTINGS"),
        (("weights", "show", "{file}"), 3, "CHECKPOINT"),
        (("no-such-command",), 2, "USAGE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_does_not_succeed_says_why_as_json(end, tmp_path, arguments, code, error):
    places = {"empty": tmp_path / "empty", "out": tmp_path / "out", "file": tmp_path / "file"}
    places["empty"].mkdir()
    places["file"].write_text("a file")
    places["image"] = tmp_path / "image.dcm"
    places["image"].write_bytes(bytes(128) + b"DICM")
    found, document, err = end(*(argument.format(**places) for argument in arguments), "--json")
    assert found == code
    check_ending(document, code, error)
    assert err, "people are told, too"
    without, nothing, _ = end(*(argument.format(**places) for argument in arguments))
    assert (without, nothing) == (code, None)


def test_a_command_without_a_document_of_its_own_says_that_it_is_done(end, tmp_path):
    code, document, err = end("recipes", "copy", "compact-classifier", "-o", tmp_path / "mine.yaml", "--json")
    assert (code, document["outcome"], document["exit_code"]) == (0, "done", 0)
    assert "mine.yaml" in err, "what it prints goes to stderr"


def test_a_fault_is_said_before_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr("jcs_ct.installation.examine", lambda: 1 / 0)
    monkeypatch.setattr("sys.argv", ["jcs", "doctor", "--json"])
    with pytest.raises(ZeroDivisionError):
        main()
    check_ending(json.loads(capsys.readouterr().out), 1, "FAULT")


def test_every_error_has_a_code_with_a_remedy():
    package = Path(jcs_ct.__file__).parent
    for file in package.rglob("*.py"):
        if re.search(r"^class \w+Error\(", file.read_text(encoding="utf-8"), flags=re.MULTILINE):
            importlib.import_module(".".join(file.relative_to(package.parent).with_suffix("").parts))

    def below(kind):
        return {kind, *(found for child in kind.__subclasses__() for found in below(child))}

    codes = {str(code) for code in (*GateCode, *FailureCode)} | {"USAGE", "FAULT"}
    drawn = f"{errors.__doc__}{sys.modules['jcs_ct.pacs.server'].__doc__}"
    for kind in below(JCSError):
        assert re.search(rf"\b{kind.__name__}\b", drawn), f"{kind.__name__} is not in the tree of jcs_ct.errors"
        if isinstance(kind.__dict__.get("code"), str):
            codes.add(kind.code)
        assert kind.exit_code in OUTCOMES, kind
    assert codes == {str(code) for code in REMEDIES}


def interrupting(stage, monkeypatch):
    """Real SIGINT at the first progress of ``stage`` -> what was seen of the stages."""
    seen = []

    def lines():
        def line(name, done, total):
            seen.append(name)
            if name == stage and seen.count(name) == 1:
                signal.raise_signal(signal.SIGINT)

        return line

    monkeypatch.setattr("jcs_ct.cli.console._json_lines", lines)
    return seen


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def options(phantom_study, random_models, tmp_path):
    out = tmp_path / "out"
    return ("diagnose", phantom_study, "-o", out, "--models", random_models, "--precision", "fp32", "--json")


@pytest.mark.parametrize("stage", ["read", "lungs", "classify", "map", "segment", "findings", "report"])
def test_ctrl_c_in_a_stage_of_diagnose_leaves_the_earlier_report(end, monkeypatch, tmp_path, options, stage):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("report.html", "run.json"):
        (out / name).write_text("of an earlier run")
    before = content(out)
    assert interrupting(stage, monkeypatch) == []
    code, document, err = end(*options)
    assert code == EXIT_INTERRUPTED
    check_ending(document, EXIT_INTERRUPTED, "INTERRUPTED")
    assert f"the earlier report in {out} is as it was" in document["error"]["message"]
    assert document["error"]["remedy"] == "run the same command again to start over"
    assert "Traceback" not in err
    assert content(out) == before
    assert [path for path in out.rglob("*") if "part" in path.name] == []


def test_ctrl_c_while_the_report_is_put_in_place_leaves_the_new_one(end, monkeypatch, tmp_path, options):
    from pathlib import Path

    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("of an earlier run")
    move, moved = Path.replace, []

    def interrupted(self, target):
        if Path(target).parent == out:
            moved.append(target)
            if len(moved) == 3:
                signal.raise_signal(signal.SIGINT)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    code, document, _ = end(*options)
    assert code == EXIT_INTERRUPTED
    assert f"the new report in {out} is whole" in document["error"]["message"]
    assert {path.name for path in content(out)} >= {"run.json", "report.html", "report.json", "lesions.nii.gz"}
    record = json.loads((out / "run.json").read_text())
    assert {entry["file"] for entry in record["outputs"]} == {str(path) for path in content(out)} - {"run.json"}


def test_ctrl_c_says_when_nothing_was_written(end, monkeypatch, tmp_path, options):
    interrupting("classify", monkeypatch)
    _, document, err = end(*options)
    assert f"nothing was written to {tmp_path / 'out'}" in document["error"]["message"]
    assert err.endswith("run the same command again to start over\n")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_says_so(tmp_path, options, number, code):
    running = subprocess.Popen(
        [sys.executable, "-m", "jcs_ct", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in running.stderr:
            if line.startswith("{") and json.loads(line)["stage"] == "lungs":
                break
        running.send_signal(number)
        out, err = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == code
    check_ending(json.loads(out), code, "INTERRUPTED")
    assert "Traceback" not in err
    time.sleep(0.2)
    assert content(tmp_path / "out") == {}


IMPORTED_LATE = """
import builtins, signal, sys
from jcs_ct import __main__ as process
number, ignored = {number}, {ignored}
if ignored:
    signal.signal(number, signal.SIG_IGN)
imports = builtins.__import__
def importing(name, *more):
    if name == "jcs_ct.cli":
        signal.raise_signal(number)
    return imports(name, *more)
builtins.__import__ = importing
sys.argv = ["jcs", "diagnose", {folder!r}, "-o", {folder!r}, "--json"]
process.enter()
"""


@pytest.mark.parametrize(
    ("number", "ignored", "code"),
    [(signal.SIGINT, False, 130), (signal.SIGTERM, False, 143), (signal.SIGINT, True, 3)],
    ids=["Ctrl-C", "terminated", "Ctrl-C that the shell ignores"],
)
def test_a_signal_while_the_command_line_is_imported_is_answered(tmp_path, number, ignored, code):
    program = IMPORTED_LATE.format(number=int(number), ignored=ignored, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    check_ending(json.loads(done.stdout), code, "NO_IMAGES" if ignored else "INTERRUPTED")


SPARSE = """
import builtins, os, sys
from jcs_ct import __main__ as process
imports = builtins.__import__
def importing(name, *more):
    if name == "jcs_ct.cli":
        import numpy
        held = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        before = held()
        volume = numpy.zeros(128 << 20, dtype=numpy.uint8)
        volume[:: 2 << 20] = 1
        print((held() - before) >> 20, flush=True)
        os._exit(0)
    return imports(name, *more)
builtins.__import__ = importing
process.enter()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_label_here_and_there_takes_no_whole_volume():
    done = subprocess.run([sys.executable, "-c", SPARSE], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 16, "MiB held of 128, with 64 voxels set"


def test_little_is_imported_before_a_signal_can_be_answered():
    program = "import sys; before = set(sys.modules); import jcs_ct.__main__; print(*(set(sys.modules) - before))"
    place = {**os.environ, "PYTHONPATH": str(Path(jcs_ct.__file__).parents[1])}  # without site nothing is installed
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=place
    )
    assert set(done.stdout.split()) & {"typing", "typer", "re", "inspect", "dataclasses", "logging", "json"} == set()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_ends_with_one_document(monkeypatch, end, path):
    """Whatever is wrong or stops it: one document of one form, the message for people on stderr, no traceback."""
    code, document, err = end(*path, "--no-such-option", "--json")
    assert code == EXIT_USAGE
    check_ending(document, EXIT_USAGE, "USAGE")
    assert set(document) == {"schema_version", "outcome", "exit_code", "error", "notice"}
    assert set(document["error"]) == {"code", "message", "remedy"}
    assert err == f"jcs: {document['error']['message']}\n"

    def stopped(parameters, values):
        raise KeyboardInterrupt

    monkeypatch.setattr("jcs_ct.cli.common_options.require_inputs", stopped)
    given = []
    for parameter in COMMANDS[path].params:
        if parameter.required:
            value = "torchvision-vgg16" if parameter.opts[0] == "--as" else "1"
            given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    code, document, err = end(*path, *given, "--json")
    assert code == EXIT_INTERRUPTED, err
    check_ending(document, EXIT_INTERRUPTED, "INTERRUPTED")
    assert err.startswith("jcs: stopped")


def test_a_usage_error_is_a_box_for_people_and_a_line_beside_a_document(end):
    _, _, boxed = end("diagnose")
    assert "╭" in boxed
    _, document, line = end("diagnose", "--json")
    assert line == f"jcs: {document['error']['message']}\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotFoundError("x does not exist"), "what to do: give the path of a file or folder that is there"),
        (MissingExtraError("the page", "service"), ""),
        (StudyError(GateCode.GAP, "a gap"), f"what to do: {REMEDIES[GateCode.GAP]}"),
        (ConfigError("the message says it"), ""),
    ],
    ids=["its code's", "said already", "the gate's", "in the message"],
)
def test_people_are_told_what_to_do_too(monkeypatch, end, error, said):
    def failing():
        raise error

    monkeypatch.setattr("jcs_ct.installation.examine", failing)
    code, document, err = end("doctor", "--json")
    assert (code, document["error"]["remedy"]) == (error.exit_code, error.remedy)
    assert err.splitlines()[1:] == ([said] if said else [])


def test_exit_codes_are_those_that_the_module_lists():
    listed = {int(line.split()[0]) for line in endings.__doc__.splitlines() if line[:1].isdigit()}
    assert listed == set(OUTCOMES)
