"""`jcs crossval-classifier` and `jcs transfer`: a classifier's recipe and a manifest in, held-out figures out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct.cli.console import parse_settings, stage_progress
from jcs_ct.cli.judging import write_page

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.evaluation.classifier_runs import ClassifierMethod

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe of a classifier.")]
ManifestOption = Annotated[Path, typer.Option("--manifest", "-m", help="CSV of slices with patients and sources.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder; what is finished in it is kept.")]
WithTestOption = Annotated[
    bool,
    typer.Option("--with-test", help="Also the manifest's test slices: then choose nothing by these figures."),
]
PretrainedOption = Annotated[
    Path | None,
    typer.Option(help="Weights that every run starts from, of the same preset; never trained on a judged slice."),
]
SettingsOption = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set steps=1000")]
SpecificityOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Floor under the specificity where the cut is chosen.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the folds of patients.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves the choice to torch.")]
DrawsOption = Annotated[int, typer.Option(min=1, help="Bootstrap draws.")]


def crossval_classifier(
    recipe: RecipeArgument,
    manifest: ManifestOption,
    output: OutputOption,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Slices of this source only; may be repeated.")
    ] = None,
    folds: Annotated[int, typer.Option(min=3, help="Folds of patients.")] = 5,
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="Run this fold only, as fold0; may be repeated.")
    ] = None,
    extra: Annotated[
        Path | None,
        typer.Option(help="Manifest whose train and val slices join every fold's; of other patients."),
    ] = None,
    with_test: WithTestOption = False,
    pretrained: PretrainedOption = None,
    settings: SettingsOption = None,
    least_specificity: SpecificityOption = 0.95,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
) -> None:
    """Train one classifier a fold of patients and score the slices it was kept from.

    One fold is held out, the next chooses the weights and the cut, the others train. Of one source with both labels
    (--source) this says whether disease is found: two sources could be told apart by other things. A run that was
    stopped continues; scores.csv holds every slice's probability.

    Example:  jcs crossval-classifier recipes/compact-classifier.yaml -m slices.csv --source ucsd -o runs/ucsd
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.evaluation.classifier_crossval import (
        cross_validate_classifier,
        evaluate_folds,
        fold_runs,
        judged_slices,
    )
    from jcs_ct.evaluation.segmentation import Resampling

    method = _method(recipe, settings, pretrained, least_specificity, threads)
    judged = judged_slices(read_manifest(manifest), source, with_test=with_test)
    runs = fold_runs(judged, folds=folds, seed=seed, extra=None if extra is None else read_manifest(extra))
    with stage_progress() as progress:
        scores = cross_validate_classifier(method, runs, output, only=fold, progress=progress)
    if scores is None:
        typer.echo(f"folds are missing; run the others with the same output folder ({output})")
        return
    evaluation = evaluate_folds(
        scores,
        method,
        title=f"Cross-validation: {recipe.stem} on {_named(manifest, source)}",
        folds=folds,
        seed=seed,
        with_test=with_test,
        resampling=Resampling(draws=draws),
    )
    write_page(output, evaluation)


def transfer(
    recipe: RecipeArgument,
    manifest: ManifestOption,
    output: OutputOption,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="Sources that count as one, as lungs=lungs267+painted; may be repeated."),
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option("--train", help="This training set only, as 'without ucsd'; may be repeated.")
    ] = None,
    with_test: WithTestOption = False,
    pretrained: PretrainedOption = None,
    settings: SettingsOption = None,
    least_specificity: SpecificityOption = 0.95,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
) -> None:
    """Train on all sources, on all but each, and on each alone; judge every one on every source.

    Whether a classifier finds disease, or the place its pictures come from: the matrix of AUC on patients that took
    no part. A cell with one class says so instead of a number. A run that was stopped continues.

    Example:  jcs transfer recipes/compact-classifier.yaml -m slices.csv --group lungs=lungs267+painted -o runs/x
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.evaluation.classifier_crossval import judged_slices
    from jcs_ct.evaluation.segmentation import Resampling
    from jcs_ct.evaluation.transfer import read_groups, run_transfer, training_sets
    from jcs_ct.evaluation.transfer_tables import evaluate_transfer

    method = _method(recipe, settings, pretrained, least_specificity, threads)
    judged: Manifest = judged_slices(read_manifest(manifest), None, with_test=with_test)
    group_of = read_groups(group or [], judged)
    sets = training_sets(judged, group_of, seed=seed)
    with stage_progress() as progress:
        cells = run_transfer(method, sets, group_of, output, only=train, progress=progress)
    if cells is None:
        typer.echo(f"training sets are missing; run the others with the same output folder ({output})")
        return
    evaluation = evaluate_transfer(
        cells,
        sets,
        method,
        title=f"Across sources: {recipe.stem} on {manifest.stem}",
        facts={"groups": group_of, "fold_seed": seed, "test_split_took_part": with_test},
        resampling=Resampling(draws=draws),
    )
    write_page(output, evaluation)


def _method(
    recipe: Path, settings: list[str] | None, pretrained: Path | None, least_specificity: float, threads: int
) -> ClassifierMethod:
    import torch

    from jcs_ct.evaluation.classifier_runs import ClassifierMethod
    from jcs_ct.training.config import load_recipe

    if threads:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe, parse_settings(settings))
    return ClassifierMethod(recipe.stem, loaded, pretrained, least_specificity)


def _named(manifest: Path, sources: list[str] | None) -> str:
    return f"{manifest.stem}, source {', '.join(sources)}" if sources else manifest.stem
