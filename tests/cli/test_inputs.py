"""What a command reads is looked at before anything is imported that takes long; all that is missing is named."""

from __future__ import annotations

import json
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import typer

from jcs_ct.cli import app, common_options
from jcs_ct.cli.endings import EXIT_REFUSED, EXIT_USAGE
from jcs_ct.cli.inputs import COHORT_INPUT, NAMED_INPUT, PREDICTIONS_INPUT, Input, named_file, named_folders
from jcs_ct.cli.outputs import Output
from jcs_ct.imaging.study_files import require_images

HEAVY = ("torch", "numpy", "scipy", "pydicom", "openvino")
#: What required options are given that are not any text.
GIVEN = {"--as": "torchvision-vgg16"}
#: Of a path type, and not read: written, made when missing, or looked for by the command itself.
NOT_READ = {
    "log_file",
    "salt",
    "certificate",
    "tls",
    *("data slices folder", "data paint folder", "phantom folder"),
    *("pacs receive folder", "pacs watch folder", "pacs jobs folder", "pacs requeue folder"),
    *("serve folder", "serve export folder"),
    *(f"serve users {name} folder" for name in ("add", "list", "remove", "token")),
}


def commands(command, path=()):
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield " ".join(path), command
    for name, below in inner.items():
        yield from commands(below, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


def marked(command):
    """Parameters that name what is read -> their markers."""
    return {
        name: one
        for name, parameter in signature(command.callback).parameters.items()
        for one in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(one, Input)
    }


def test_every_path_is_one_that_is_read_or_one_that_is_written():
    unknown = []
    for path, command in ALL.items():
        callback = getattr(command.callback, "__wrapped__", command.callback)
        for name, parameter in signature(callback, eval_str=True).parameters.items():
            is_path = "Path" in str(getattr(parameter.annotation, "__origin__", ""))
            is_told = any(
                isinstance(one, Input | Output) for one in getattr(parameter.annotation, "__metadata__", ())
            )
            if is_path and not is_told and not {name, f"{path} {name}"} & NOT_READ:
                unknown.append(f"{path} {name}")
    assert unknown == []


def arguments_with_nothing_there(path, command):
    """A command line on which everything that is read is missing, and all else is given."""
    given = path.split()
    read = marked(command)
    for parameter in command.params:
        if parameter.name not in read and not parameter.required:
            continue
        value = "absent/file" if parameter.name in read else GIVEN.get(parameter.opts[0], "1.2.3")
        is_argument = parameter.param_type_name == "argument"
        given += [value] if is_argument else [parameter.opts[0], value]
    return [*given, "--json"]


@pytest.fixture(scope="module")
def endings():
    """What every command that reads something says when nothing is there, all in one process -> what was imported."""
    lines = {path: arguments_with_nothing_there(path, one) for path, one in ALL.items() if marked(one)}
    code = f"""
import contextlib, io, json, sys
from jcs_ct.cli import app, endings
found = {{}}
for path, arguments in {lines!r}.items():
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        found[path] = endings.run(app, arguments), json.loads(out.getvalue())
print(json.dumps([found, [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_what_is_not_there_is_said_before_anything_heavy_is_imported(endings):
    found, imported = endings
    assert imported == []
    assert len(found) > 35
    for path, (code, document) in found.items():
        assert code == EXIT_USAGE, (path, document)
        assert document["error"]["code"] == "NOT_FOUND", (path, document)
        names = list(marked(ALL[path]))
        is_recipe_alone = "recipe" in names  # looked for by its name: the first that is said
        spoken = 1 if is_recipe_alone else len(names)
        assert document["error"]["message"].count("absent/file") == spoken, (path, document)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: folder, "NO_IMAGES"),
        (lambda folder: (folder / "slice.dcm").write_text("no DICOM"), "NO_IMAGES"),
        (lambda folder: (folder / "below").mkdir(), "NO_IMAGES"),
    ],
    ids=["an empty folder", "a text file that is called DICOM", "a folder in a folder"],
)
@pytest.mark.parametrize("command", [["diagnose"], ["batch", "run"]], ids=" ".join)
def test_a_folder_without_an_image_is_refused_at_once(tmp_path, make, code, command):
    make(tmp_path)
    arguments = [*command, str(tmp_path), "-o", str(tmp_path / "out")]
    line = (
        f"import sys\nfrom jcs_ct.cli import app, endings\nprint(endings.run(app, {arguments!r}))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(EXIT_REFUSED), "[]"]
    assert f"({code})" in done.stderr
    assert "what to do: " in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_first_image_is_enough(tmp_path, monkeypatch):
    looked = []
    from jcs_ct.imaging import study_files

    kind = study_files.file_kind
    monkeypatch.setattr(study_files, "file_kind", lambda path, name=None: looked.append(path) or kind(path, name))
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400))
    require_images(tmp_path)
    assert len(looked) == 1


def test_addresses_are_no_paths_of_this_machine():
    assert COHORT_INPUT.paths("s3://bucket/cohort") == ()
    assert [str(path) for path in COHORT_INPUT.paths("cohort/")] == ["cohort"]


def test_flags_are_named_as_they_are_typed():
    parameters = signature(ALL["train"].callback).parameters
    assert common_options.flags_of(parameters["manifest"].annotation) == ("--manifest", "-m")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a+b.safetensors", (None, "a+b.safetensors")),
        ("x=a+b.safetensors", ("x", "a+b.safetensors")),
        ("lr=3/best.safetensors", (None, "lr=3/best.safetensors")),
        ("x=lr=3/best.safetensors", ("x", "lr=3/best.safetensors")),
        ("a=b=lr=3/best.safetensors", ("a=b", "lr=3/best.safetensors")),
        ("x=compact", ("x", "compact")),
        ("x=absent/lr=4", ("x", "absent/lr=4")),
        ("absent/lr=4", (None, "absent/lr=4")),
        ("x=", ("x", "")),
    ],
)
def test_a_file_is_found_whatever_signs_its_name_has(tmp_path, monkeypatch, text, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=3").mkdir()
    for name in ("a+b.safetensors", "lr=3/best.safetensors"):
        (tmp_path / name).touch()
    assert named_file(text) == named
    assert NAMED_INPUT.paths(text) == (() if text == "x=compact" else (Path(named[1]),))


def test_folders_are_joined_by_plus_where_predictions_are_given_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c+d", "e=f"):
        (tmp_path / name).mkdir()
    assert named_folders("both=a+b") == ("both", (Path("a"), Path("b")))
    assert named_folders("c+d") == (None, (Path("c+d"),))
    assert named_folders("e=f") == (None, (Path("e=f"),))
    assert named_folders("x=e=f") == ("x", (Path("e=f"),))
    assert PREDICTIONS_INPUT.paths("both=a+absent") == (Path("a"), Path("absent"))
    assert NAMED_INPUT.paths("a+b") == (Path("a+b"),)
