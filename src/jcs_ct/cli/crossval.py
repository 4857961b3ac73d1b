"""`jcs crossval` and `jcs ablate`: a recipe and folds in, predictions, tables and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.cli.console import parse_settings, print_tables, stage_progress

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.evaluation.crossval import Method
    from jcs_ct.training.config import Recipe

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe of a segmenter.")]
DataOption = Annotated[Path, typer.Option("--data", "-d", help="CT100 folder: images/, masks/, splits.json.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder; what is finished in it is kept.")]
ProtocolOption = Annotated[str, typer.Option(help="Folds: patient-safe, or miniseg as published.")]
ClassifierOption = Annotated[
    Path | None, typer.Option(help="Recipe of the classifier that a joint segmenter borrows, trained in every fold.")
]
ExtraOption = Annotated[
    Path | None, typer.Option(help="Manifest whose train and val slices join every fold's; never judged ones.")
]
FoldsOption = Annotated[list[str] | None, typer.Option("--fold", help="Run this fold only; may be repeated.")]
SettingsOption = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set steps=1000")]
ClassifierSettingsOption = Annotated[
    list[str] | None, typer.Option("--set-classifier", help="The same for the classifier's recipe.")
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves the choice to torch.")]
PretrainedOption = Annotated[
    Path | None,
    typer.Option(
        help="Weights that every fold starts from (same preset, never trained on a judged slice), or a method's "
        "folder of an earlier cross-validation (runs/cv/ct100-folds): each fold goes on from its own."
    ),
]
DrawsOption = Annotated[int, typer.Option(min=1, help="Bootstrap draws and permutations.")]


def crossval(
    recipe: RecipeArgument,
    data: DataOption,
    output: OutputOption,
    protocol: ProtocolOption = "patient-safe",
    against: Annotated[
        list[str] | None, typer.Option(help="Prediction folder to compare with, as NAME=FOLDER; may be repeated.")
    ] = None,
    classifier_recipe: ClassifierOption = None,
    extra: ExtraOption = None,
    fold: FoldsOption = None,
    settings: SettingsOption = None,
    classifier_settings: ClassifierSettingsOption = None,
    pretrained: PretrainedOption = None,
    flip_average: Annotated[
        bool, typer.Option("--flip-average", help="Predict each slice and its mirror image, and average.")
    ] = False,
    cut_by_folds: Annotated[
        bool,
        typer.Option("--cut-by-folds", help="Also score with the cut that the other folds choose, not only 0.5."),
    ] = False,
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
) -> None:
    """Train one network a fold, predict the slices it was kept from, and score them all.

    One fold is held out, the next chooses the weights, the others train; with --set choose_weights=last all others
    train. A run that was stopped continues; the predictions are grey PNG that `jcs compare` scores again.

    Example:  jcs crossval recipes/ct100-segmenter.yaml -d ct100 -o runs/cv --against miniseg=downloads/miniseg
    """
    from jcs_ct.evaluation.crossval import Method
    from jcs_ct.evaluation.predictions import read_given

    loaded = _recipe(recipe, settings)
    borrowed = _optional_recipe(classifier_recipe, classifier_settings)
    method = Method(recipe.stem, loaded, borrowed, pretrained, flip_average)
    cases = _cases(data, protocol)
    others = [read_given(given, cases) for given in against or []]
    _run(
        [method],
        cases,
        output,
        "Cross-validation",
        protocol,
        extra,
        fold,
        threads,
        draws,
        others=others,
        cut_by_folds=[method.name] if cut_by_folds else (),
    )


def ablate(
    recipe: RecipeArgument,
    data: DataOption,
    output: OutputOption,
    protocol: ProtocolOption = "patient-safe",
    classifier_recipe: ClassifierOption = None,
    extra: ExtraOption = None,
    fold: FoldsOption = None,
    settings: SettingsOption = None,
    classifier_settings: ClassifierSettingsOption = None,
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
) -> None:
    """Train the segmenter without and with EFM, AFF and the combination (Tables V and VI), alike but for those.

    The combination needs a classifier: give its recipe, and with --extra a manifest with uninfected slices.

    Example:  jcs ablate recipes/ct100-segmenter.yaml -d ct100 -o runs/ablation --set steps=200
    """
    from jcs_ct.evaluation.published import TABLE_V, TABLE_VI
    from jcs_ct.evaluation.variants import ablation_methods

    methods = ablation_methods(_recipe(recipe, settings), _optional_recipe(classifier_recipe, classifier_settings))
    missing = () if classifier_recipe else ("the combination (Table VI) was left out: no --classifier-recipe",)
    _run(
        methods,
        _cases(data, protocol),
        output,
        "Ablation: EFM, AFF, combination",
        protocol,
        extra,
        fold,
        threads,
        draws,
        beside=(*TABLE_V, *TABLE_VI),
        warnings=missing,
    )


def train_networks(
    presets: Sequence[str],
    recipe: Path,
    data: Path,
    output: Path,
    protocol: str,
    settings: Sequence[str] | None,
    width: float,
    draws: int,
    others: Sequence[str],
    threads: int,
    folds: Sequence[str] | None,
    cut_by_folds: Sequence[str],
) -> None:
    """What `jcs compare --train` does (Table VII)."""
    from jcs_ct.evaluation.predictions import read_given
    from jcs_ct.evaluation.published import TABLE_VII
    from jcs_ct.evaluation.variants import network_methods

    cases = _cases(data, protocol)
    read = [read_given(given, cases) for given in others]
    narrow = () if width == 1.0 else (f"comparison networks with {width:g} times their published channel counts",)
    methods = network_methods(_recipe(recipe, settings), presets, width=width)
    _run(
        methods,
        cases,
        output,
        "Comparison of networks (Table VII)",
        protocol,
        None,
        folds,
        threads,
        draws,
        others=read,
        cut_by_folds=cut_by_folds,
        beside=TABLE_VII,
        warnings=narrow,
    )


def _recipe(path: Path, settings: Sequence[str] | None) -> Recipe:
    from jcs_ct.training.config import load_recipe

    return load_recipe(path, parse_settings(settings))


def _optional_recipe(path: Path | None, settings: Sequence[str] | None) -> Recipe | None:
    return None if path is None else _recipe(path, settings)


def _cases(data: Path, protocol: str) -> Any:
    from jcs_ct.evaluation.cases import ct100_cases

    return ct100_cases(data, protocol)


def _run(
    methods: Sequence[Method],
    cases: Any,
    output: Path,
    title: str,
    protocol: str,
    extra: Path | None,
    folds: Sequence[str] | None,
    threads: int,
    draws: int,
    **more: Any,
) -> None:
    import torch

    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.evaluation.page import write_evaluation
    from jcs_ct.evaluation.segmentation import Resampling
    from jcs_ct.evaluation.variants import train_and_compare

    if threads:
        torch.set_num_threads(threads)
    joining: Manifest | None = None if extra is None else read_manifest(extra)
    with stage_progress() as progress:
        evaluation = train_and_compare(
            methods,
            cases,
            output,
            title=title,
            protocol=protocol,
            extra=joining,
            folds=folds,
            resampling=Resampling(draws=draws),
            progress=progress,
            **more,
        )
    if evaluation is None:
        typer.echo(f"folds are missing; run the others with the same output folder ({output})")
        return
    page = write_evaluation(output, evaluation)
    print_tables(table for table in evaluation.tables if table.name in ("miniseg", "scores", "differences"))
    for warning in evaluation.warnings:
        typer.echo(warning)
    typer.echo(f"page: {page}")
