"""The command line as a user types it: help that teaches, clear errors, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jcs_ct import NOTICE
from jcs_ct.cli import app, main
from jcs_ct.recipes import recipe_names

runner = CliRunner()
RECIPE = re.compile(r"jcs (?:train|crossval|ablate|transfer) ([\w./-]+)")
COMMANDS = ("diagnose", "info", "phantom", "train", "calibrate", "doctor", "data")


def test_help_names_every_command_and_the_notice():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    assert NOTICE in " ".join(result.output.split())
    for name in COMMANDS:
        assert name in result.output


def every_help(command, path=("jcs",)):
    yield path, command.help or ""
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_help(inner, (*path, name))


def test_recipes_that_help_names_are_there():
    named = {(path, name) for path, text in every_help(typer.main.get_command(app)) for name in RECIPE.findall(text)}
    assert {path[-1] for path, _ in named} >= {"train", "crossval", "ablate", "transfer"}
    assert [entry for entry in named if entry[1] not in recipe_names()] == []


def every_command(command, path=("jcs",)):
    inner = getattr(command, "commands", {})
    if not inner:
        yield " ".join(path), command
    for name, one in inner.items():
        yield from every_command(one, (*path, name))


ALL = dict(every_command(typer.main.get_command(app)))
#: Train networks or run them; `compare` scores files, `export` and `features write` stay on the CPU.
RUNS_NETWORKS = (
    *("diagnose", "batch run", "train", "calibrate", "crossval", "ablate", "transfer"),
    *(
        f"evaluate {what}"
        for what in ("segmentation", "patients", "explanations", "classifier", "shortcuts", "speed")
    ),
)


@pytest.mark.parametrize("path", [*ALL, "jcs serve"])
def test_every_command_teaches_by_an_example(path):
    result = runner.invoke(app, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    assert f"Example: {path} " in f"{' '.join(result.output.split())} "


@pytest.mark.parametrize("columns", ["60", "80", "100"])
@pytest.mark.parametrize("path", ALL)
def test_names_and_choices_are_whole_in_a_narrow_window(path, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    shown = runner.invoke(app, [*path.split()[1:], "--help"]).output
    for parameter in ALL[path].params:
        for flag in (*parameter.opts, *parameter.secondary_opts):
            assert not flag.startswith("--") or re.search(rf"{flag}(?![\w-])", shown), flag
    for choices in re.findall(r"<(\w+\|[^>]*)>", shown):
        assert "\n" not in choices, choices
    if path == "jcs diagnose":
        assert "One of positive, always, never." in " ".join(re.sub(r"[│\n]", " ", shown).split())


@pytest.mark.parametrize("path", ALL)
def test_one_word_for_one_thing(path):
    options = {parameter.name: parameter for parameter in ALL[path].params}
    output = options.get("output")
    assert output is None or set(output.opts) == {"--output", "-o"}
    manifest = options.get("manifest")
    assert manifest is None or manifest.param_type_name == "argument" or set(manifest.opts) == {"--manifest", "-m"}
    device = options.get("device")
    assert (device is not None) == (path.removeprefix("jcs ") in RUNS_NETWORKS)
    assert device is None or "cuda:N" in device.help
    for name, parameter in options.items():
        said = getattr(parameter, "help", None) or ""
        assert name == "help" or said.endswith("."), f"{path} {name} is not told in a sentence: {said!r}"


@pytest.mark.parametrize(
    ("path", "option", "said"),
    [
        ("jcs batch run", "threshold", "Taken as it is; the stored rule, which it replaces, is scaled"),
        ("jcs data make dicom", "labels", "lesion_labels"),
        ("jcs evaluate patients", "studies", "Either this or --manifest is needed."),
    ],
)
def test_help_says_what_an_option_does_and_needs(path, option, said):
    (help_text,) = (parameter.help for parameter in ALL[path].params if parameter.name == option)
    assert said in help_text


def test_the_map_of_commands_names_every_one_of_them():
    page = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in page.splitlines() if line.startswith("| ")]
    named = {word for row in rows for word in re.findall(r"[a-z][\w-]+", row)}
    assert {word for path in ALL for word in path.split()} - named == set()


def test_a_device_that_is_not_there_is_said_before_anything_is_read(monkeypatch, capsys, tmp_path):
    image = tmp_path / "image.dcm"
    image.write_bytes(bytes(128) + b"DICM")
    status, _, err = call(monkeypatch, capsys, "diagnose", image, "-o", tmp_path / "out", "--device", "gpu7")
    assert (status, "there is no device 'gpu7'; networks run on auto, cpu, cuda or cuda:N" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_the_command_line_starts_without_what_its_commands_need():
    heavy = (
        "torch",
        "numpy",
        "scipy",
        "skimage",
        "matplotlib",
        "pydicom",
        "nibabel",
        "highdicom",
        "pydantic",
        "yaml",
    )
    code = f"import sys, jcs_ct.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_version():
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("jcs-ct ")


def call(monkeypatch, capsys, *arguments):
    """Through the entry point, so that errors become messages and exit codes -> (code, stdout, stderr)."""
    monkeypatch.setattr("sys.argv", ["jcs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def letter(folder):
    (folder / "letter.txt").write_text("dear colleague")
    return folder / "letter.txt"


@pytest.mark.parametrize(
    ("make", "status", "message"),
    [
        (lambda folder: folder, 3, r"is an empty folder; give a folder with .* \(NO_IMAGES\)"),
        (lambda folder: folder / "absent", 2, r"STUDY: .*absent does not exist\nwhat to do: give the path of"),
        (letter, 3, r"the file is no image that is read here: .* \(UNREADABLE\)"),
    ],
    ids=["an empty folder", "no such path", "a text file"],
)
def test_what_is_no_study_is_refused(monkeypatch, capsys, tmp_path, make, status, message):
    ended, _, err = call(monkeypatch, capsys, "info", make(tmp_path))
    assert ended == status
    assert re.search(message, err)
    assert "Traceback" not in err


def test_a_wrong_choice_is_a_usage_error(monkeypatch, capsys, tmp_path):
    status, _, err = call(monkeypatch, capsys, "diagnose", tmp_path, "-o", tmp_path / "out", "--segment", "sometimes")
    assert status == 2
    assert "'sometimes' is not one of 'positive'" in re.sub(r"[\s│]+", " ", err)


def test_models_that_are_not_there_are_named(monkeypatch, capsys, tmp_path):
    status, _, err = call(
        monkeypatch, capsys, "diagnose", tmp_path, "-o", tmp_path / "out", "--models", tmp_path / "none"
    )
    assert status == 2
    assert f"--models: {tmp_path / 'none'} does not exist" in err


def test_a_training_run_given_as_models_is_told_how_they_are_made(monkeypatch, capsys, tmp_path):
    image = tmp_path / "image.dcm"
    image.write_bytes(bytes(128) + b"DICM")
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(b"")
    status, _, err = call(monkeypatch, capsys, "diagnose", image, "-o", tmp_path / "out", "--models", run)
    assert status == 3
    assert f"{run}: no classifier.safetensors and no segmenter.safetensors; make a folder of both" in err
    assert "`jcs calibrate`" in err


def test_phantom_manifest_and_check(monkeypatch, capsys, tmp_path):
    small = ["--slices", "4", "--size", "64", "--format", "png"]
    for name, more in (("001", ["--lesions", "3", "--seed", "1"]), ("002", ["--negative", "--seed", "2"])):
        assert runner.invoke(app, ["phantom", "-o", str(tmp_path / "set" / name), *small, *more]).exit_code == 0
    table = tmp_path / "slices.csv"
    made = runner.invoke(app, ["data", "make", "phantom", str(tmp_path / "set"), "-o", str(table)])
    assert made.exit_code == 0, made.output
    checked = runner.invoke(app, ["data", "check", str(table), "--json"])
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stderr.splitlines()[-1]) == {"stage": "files", "done": 8, "total": 8}
    counts = json.loads(checked.stdout)["counts"]
    assert sum(row["infected"] + row["uninfected"] for row in counts) == 8
    assert sum(row["patients"] for row in counts) == 2
