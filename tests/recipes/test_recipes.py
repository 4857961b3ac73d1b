"""The recipes in the package: found by name, described, listed and copied."""

import json

import pytest
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.recipes import describe_recipe, find_recipe, recipe_names
from jcs_ct.training.recipe import load_recipe

runner = CliRunner()


def test_a_name_stands_for_the_file_in_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("compact-classifier") == load_recipe(find_recipe("compact-classifier"))


def test_a_file_of_that_name_comes_before_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compact-joint").write_text("task: classifier\npreset: compact\n")
    assert load_recipe("compact-joint").task == "classifier"


def test_a_folder_of_that_name_does_not(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compact-joint").mkdir()
    assert load_recipe("compact-joint").task == "segmenter"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("recipes/compact-joint.yaml", "give compact-joint, without folder or ending"),
        ("compact-joint.yaml", "give compact-joint, without folder or ending"),
        ("quux", "`jcs recipes list` names those of the package"),
        ("compact-clasifier", r"did you mean compact-classifier\?"),
        ("../compact-joint", "give compact-joint, without folder or ending"),
    ],
)
def test_what_is_no_recipe_says_where_they_are(monkeypatch, tmp_path, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"there is no recipe {given}; .*{said}"):
        find_recipe(given)


def test_every_recipe_says_what_it_is_for():
    assert [name for name in recipe_names() if len(describe_recipe(find_recipe(name))) < 30] == []
    assert describe_recipe(find_recipe("compact-classifier")) == (
        "The shipped classifier: trains from scratch on two CPU cores."
    )


def test_list_names_all_of_them():
    rows = json.loads(runner.invoke(app, ["recipes", "list", "--json"]).stdout)
    assert [row["name"] for row in rows] == list(recipe_names())
    assert {row["task"] for row in rows} == {"classifier", "segmenter"}
    plain = runner.invoke(app, ["recipes", "list"])
    assert "compact-joint  (segmenter, preset compact-joint)" in plain.stdout


def test_show_prints_the_file_or_every_setting():
    assert runner.invoke(app, ["recipes", "show", "paper-joint"]).stdout == find_recipe("paper-joint").read_text()
    settings = json.loads(runner.invoke(app, ["recipes", "show", "paper-joint", "--json"]).stdout)
    assert settings["copy_paste"] == 0.0  # a default that the file does not name


def test_a_copy_is_a_recipe_and_nothing_is_overwritten(tmp_path):
    mine = tmp_path / "mine.yaml"
    assert runner.invoke(app, ["recipes", "copy", "compact-joint", "-o", str(mine)]).exit_code == 0
    assert load_recipe(mine) == load_recipe("compact-joint")
    again = runner.invoke(app, ["recipes", "copy", "paper-joint", "-o", str(mine)])
    assert isinstance(again.exception, JCSError)
    assert "is there already" in str(again.exception)
    assert again.exception.remedy == "name another place, or give --overwrite"
    assert load_recipe(mine) == load_recipe("compact-joint")
