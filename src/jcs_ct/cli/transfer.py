"""`jcs transfer`: a classifier's recipe and a manifest of several sources in, the matrix across sources out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import parse_settings, stage_progress
from jcs_ct.cli.crossval import (
    OutputOption,
    PretrainedOption,
    SettingsOption,
    SpecificityOption,
    WithTestOption,
)
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.endings import Interrupts
from jcs_ct.cli.inputs import RECIPE_INPUT, SOME_INPUT
from jcs_ct.cli.judged_networks import stoppable_experiment, write_page
from jcs_ct.cli.options import DeviceOption, DrawsOption, ThreadsOption
from jcs_ct.cli.used_manifests import kept_together, open_used


@stoppable_experiment
def transfer(
    recipe: Annotated[
        Path, typer.Argument(help="Recipe of a classifier: a name (`jcs recipes list`) or a path."), RECIPE_INPUT
    ],
    manifest: Annotated[
        Path, typer.Option("--manifest", "-m", help="CSV or Parquet of slices of several sources."), SOME_INPUT
    ],
    output: OutputOption,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="Sources that count as one, as lungs=lungs267+painted; may be repeated."),
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option("--train", help="Train this set only, as 'without ucsd'; may be repeated.")
    ] = None,
    with_test: WithTestOption = False,
    pretrained: PretrainedOption = None,
    settings: SettingsOption = None,
    least_specificity: SpecificityOption = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds that patients are dealt to.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Find out whether a classifier carries over: train on all sources, all but each, each alone; judge on every one.

    A classifier may find disease, or only know the place its pictures come from. The result is a matrix of AUC on
    patients that took no part in training. A cell with one class says so instead of a number. A run that was
    stopped continues.

    Example:  jcs transfer compact-classifier -m slices.csv --group lungs=lungs267+painted -o runs/x
    """
    import torch

    from jcs_ct.evaluation.classifier.transfer_matrix import judge_transfer
    from jcs_ct.evaluation.pages.unseen_slices import start_warnings
    from jcs_ct.experiments.fold_runs import labelled_slices
    from jcs_ct.experiments.methods import Method
    from jcs_ct.experiments.source_sets import read_groups
    from jcs_ct.metrics.bootstrap import Resampling
    from jcs_ct.training.recipe import load_recipe

    if threads:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe, parse_settings(settings))
    method = Method(recipe.stem, loaded, pretrained=pretrained, least_specificity=least_specificity)
    opened = open_used(manifest, accept_leaks=accept_leaks)
    judged, notes = kept_together(
        labelled_slices(opened.manifest, None, with_test=with_test), accept_leaks=accept_leaks
    )
    interrupts = Interrupts()
    with interrupts.answered(), stage_progress() as progress:
        evaluation = judge_transfer(
            method,
            judged,
            read_groups(group or [], judged),
            output,
            title=f"Across sources: {recipe.stem} on {manifest.stem}",
            seed=seed,
            train=train,
            device=device,
            facts={"test_split_took_part": with_test},
            warnings=(*start_warnings(pretrained), *opened.warnings, *notes),
            resampling=Resampling(draws=draws),
            progress=progress,
            stopping=interrupts.deferred,
        )
    if evaluation is None:
        say_result({"complete": False, "folder": str(output)})
        typer.echo(f"training sets are missing; run the others with the same output folder ({output})")
        return
    write_page(output, evaluation)
