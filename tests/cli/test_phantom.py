from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jcs_ct.cli.phantom import phantom
from jcs_ct.errors import ConfigError


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(phantom)
    return made


SMALL = ["--slices", "6", "--size", "64", "--seed", "3"]


@pytest.mark.parametrize(
    ("format_", "first"), [("dicom", "dicom/0001.dcm"), ("nifti", "ct.nii.gz"), ("png", "images/0000.png")]
)
def test_writes_the_format_asked_for(app: typer.Typer, tmp_path: Path, format_: str, first: str) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), *SMALL, "--format", format_])
    assert result.exit_code == 0, result.output
    assert (tmp_path / first).is_file()
    assert f"6 slices as {format_}" in result.stdout


def test_json_is_one_document_on_stdout(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), *SMALL, "--negative", "--json", "--format", "png"])
    record = json.loads(result.stdout)
    assert record["infected"] is False
    assert record["lesions"] == []
    assert record["config"]["seed"] == 3


def test_bad_settings_leave_nothing_behind(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "new"), "--slices", "0"])
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "missing: give the folder to write to"),
        (["one", "-o", "two"], "two folders are given; give one to write to"),
    ],
)
def test_one_folder_is_written_to(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*given, *SMALL])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("\u2502", "").split())
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_lesions_is_asked_for_by_its_option(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "new"), "--lesions", "-1"])
    assert "a study without lesions is made by --negative" in str(result.exception)
