"""Where results go: nothing empty is left of what failed, and nothing lies among what was read."""

import inspect
import json
from pathlib import Path
from typing import Annotated

import pytest

from jcs_ct.cli import main
from jcs_ct.cli.outputs import FILE_OUTPUT, FOLDER_OUTPUT, prepared_outputs
from jcs_ct.errors import OutputError
from jcs_ct.files import prepare_output_folder, write_text


@pytest.fixture
def end(monkeypatch, capsys):
    """Run ``jcs --json`` through its entry point -> (exit code, document)."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["jcs", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, json.loads(capsys.readouterr().out)

    return run


def prepared(output, kind=FOLDER_OUTPUT):
    """As of a command whose option --output is of this kind."""
    annotation = Annotated[Path, kind]
    parameter = inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    return prepared_outputs({"output": parameter}, {"output": output})


def failing(output, *, write=""):
    with prepared(output):
        if write:
            write_text(output / write, "kept")
        raise KeyboardInterrupt


def test_folders_that_were_made_for_nothing_go(tmp_path):
    with pytest.raises(KeyboardInterrupt), prepared(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), prepared(tmp_path / "a" / "b.csv", FILE_OUTPUT):
        assert [path.name for path in tmp_path.rglob("*")] == ["a"]
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_holds_something_stays(tmp_path):
    (tmp_path / "a").mkdir()
    for write in ("", "kept.txt"):
        with pytest.raises(KeyboardInterrupt):
            failing(tmp_path / "a", write=write)
        assert (tmp_path / "a").is_dir()
    with pytest.raises(KeyboardInterrupt):
        failing(tmp_path / "new", write="kept.txt")
    assert (tmp_path / "new" / "kept.txt").read_text() == "kept"


def test_a_study_that_is_refused_late_leaves_no_folder(end, tmp_path, random_models):
    image = tmp_path / "image.dcm"
    image.write_bytes(bytes(128) + b"DICM" + bytes(64))
    code, document = end("diagnose", image, "-o", tmp_path / "made" / "out", "--models", random_models)
    assert (code, document["outcome"]) == (3, "refused")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("command", [("diagnose",), ("batch", "run")])
def test_the_folder_that_is_read_takes_no_results(end, tmp_path, command):
    image = tmp_path / "image.dcm"
    image.write_bytes(bytes(128) + b"DICM")
    code, document = end(*command, tmp_path, "-o", tmp_path / ".." / tmp_path.name)
    assert (code, document["error"]["code"]) == (2, "SETTINGS")
    assert "is the folder that is read" in document["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["image.dcm"]


def test_what_is_in_the_way_is_said(tmp_path):
    (tmp_path / "file").write_text("a file")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="a file of that name is in the way of a folder; ") as refused:
            prepare_output_folder(place)
        assert refused.value.remedy in str(refused.value)
    with pytest.raises(OutputError, match="a folder of that name is in the way of a file; name a file"):
        write_text(tmp_path, "text")


@pytest.mark.parametrize(
    ("command", "kind"),
    [(("evaluate", "patients"), "a file of that name is in the way"), (("data", "join", "{it}"), "a folder of that")],
)
def test_the_output_is_tried_out_before_the_work_begins(end, tmp_path, command, kind):
    place = tmp_path / "place"
    place.write_text("a file") if command[0] == "evaluate" else place.mkdir()
    code, document = end(*(one.format(it=tmp_path) for one in command), "-o", place)
    assert (code, document["error"]["code"]) == (2, "OUTPUT_UNWRITABLE")
    assert kind in document["error"]["message"]


def test_a_model_card_that_is_there_stays(end, tmp_path, random_models):
    (tmp_path / "card").mkdir()
    filled_in = tmp_path / "card" / "MODEL_CARD.md"
    filled_in.write_text("what a person filled in")
    code, said = end("evaluate", "card", tmp_path, "--models", random_models, "-o", tmp_path / "card")
    assert (code, said["error"]["code"]) == (2, "OUTPUT_UNWRITABLE")
    assert f"{filled_in} is there already; name another place, or give --overwrite" in said["error"]["message"]
    assert filled_in.read_text() == "what a person filled in"
