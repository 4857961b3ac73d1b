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
