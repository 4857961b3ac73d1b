import pytest

from jcs_ct.errors import ConfigError
from jcs_ct.training.config import load_recipe


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_reach_nested_settings(tmp_path):
    path = write(tmp_path, "task: classifier\npreset: compact\n")
    recipe = load_recipe(path, {"optimiser.learning_rate": 0.1, "steps": 7})
    assert recipe.optimiser.learning_rate == 0.1
    assert recipe.steps == 7


def test_every_problem_is_listed_at_once(tmp_path):
    path = write(tmp_path, "task: painter\npreset: compact\nsteps: 0\nlerning_rate: 1\n")
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*task.*steps.*lerning_rate"):
        load_recipe(path)


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be a mapping of settings, got list"):
        load_recipe(write(tmp_path, "- 1\n"))


def test_broken_yaml_says_where(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)not valid YAML.*line 1"):
        load_recipe(write(tmp_path, "task: [classifier"))


def test_shipped_recipes_are_valid(request):
    folder = request.config.rootpath / "recipes"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    assert "compact-classifier" in names
    for name in names:
        assert load_recipe(folder / f"{name}.yaml").steps > 0
