"""`jcs recipes`: the recipes in the package, to look at, to use by name and to copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json
from jcs_ct.cli.inputs import RECIPE_INPUT
from jcs_ct.cli.outputs import FILE_OUTPUT, OverwriteOption, refuse_to_overwrite

app = typer.Typer(
    name="recipes", help="List, show and copy the recipes that come with the package.", no_args_is_help=True
)

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe's name, or the path of one.", metavar="RECIPE"), RECIPE_INPUT
]


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Name, task, preset and purpose as JSON.")] = False,
) -> None:
    """List the recipes that `jcs train`, `crossval`, `ablate` and `transfer` know by name.

    Example:  jcs recipes list
    """
    from jcs_ct.recipes import describe_recipe, find_recipe, recipe_names
    from jcs_ct.training.recipe import load_recipe

    rows = []
    for name in recipe_names():
        path = find_recipe(name)
        loaded = load_recipe(path)
        rows.append({"name": name, "task": loaded.task, "preset": loaded.preset, "purpose": describe_recipe(path)})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']}  ({row['task']}, preset {row['preset']})\n    {row['purpose']}")


@app.command("show")
def show(
    recipe: RecipeArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Every setting, defaults too, as JSON.")] = False,
) -> None:
    """Print a recipe as it is written, or with --json every setting that a run with it has.

    Example:  jcs recipes show compact-classifier
    """
    from jcs_ct.files import read_text
    from jcs_ct.recipes import find_recipe
    from jcs_ct.training.recipe import load_recipe

    path = find_recipe(recipe)
    if as_json:
        print_json(load_recipe(path).model_dump(mode="json"))
        return
    typer.echo(read_text(path), nl=False)


@app.command("copy")
def copy(
    recipe: RecipeArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write."), FILE_OUTPUT],
    overwrite: OverwriteOption = False,
) -> None:
    """Copy a recipe to a file of your own, to change it there.

    Example:  jcs recipes copy compact-classifier -o mine.yaml
    """
    from jcs_ct.files import replacing
    from jcs_ct.recipes import find_recipe

    path = find_recipe(recipe)
    refuse_to_overwrite([output], overwrite=overwrite)
    with replacing(output) as temporary:
        temporary.write_bytes(path.read_bytes())
    typer.echo(f"recipe: {output}")
