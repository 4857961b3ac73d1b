"""The recipes in the package: one YAML file each; its name stands for its path wherever a recipe is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from jcs_ct.errors import NotFoundError

_FOLDER = Path(__file__).parent


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def find_recipe(recipe: Path | str) -> Path:
    """The file of a recipe that was named or given by its path; a file that is there comes before a name.

    Args:
        recipe: A path, or a name out of ``recipe_names``.

    Raises:
        NotFoundError: neither a file nor such a name.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    if str(recipe) in recipe_names():
        return _FOLDER / f"{recipe}.yaml"
    if path.stem in recipe_names():
        hint = f"the package has one of this name: give {path.stem}, without folder or ending"
    elif near := get_close_matches(path.stem, recipe_names(), n=1):
        hint = f"did you mean {near[0]}? `jcs recipes list` names those of the package"
    else:
        hint = "`jcs recipes list` names those of the package"
    raise NotFoundError(f"there is no recipe {recipe}; {hint}", remedy=hint)


def describe_recipe(path: Path) -> str:
    """What a recipe is for: the comment at its top, as one line; empty where there is none."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)
