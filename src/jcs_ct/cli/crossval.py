"""`jcs crossval` and `jcs ablate`: a recipe and folds in, predictions, tables and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.cli.console import parse_settings, print_tables, stage_progress

if TYPE_CHECKING:
    from jcs_ct.evaluation.cases import CaseSet
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


@dataclass(frozen=True, kw_only=True)
class Folds:
    """What every cross-validation is asked for, whatever it trains: data and folds, place and means."""

    data: Path
    output: Path
    protocol: str
    only: Sequence[str] | None
    threads: int
    draws: int
    extra: Path | None = None

    def cases(self) -> CaseSet:
        """The judged slices, each in its fold."""
        from jcs_ct.evaluation.cases import ct100_cases

        return ct100_cases(self.data, self.protocol)


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
    asked = Folds(data=data, output=output, protocol=protocol, only=fold, threads=threads, draws=draws, extra=extra)
    cases = asked.cases()
    others = [read_given(given, cases) for given in against or []]
    own_cut = [method.name] if cut_by_folds else []
    _run(asked, cases, [method], title="Cross-validation", others=others, cut_by_folds=own_cut)


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

    The combination needs a classifier: give its recipe, and with --extra a manifest with uninfected slices. The
    segmenters draw from those, too, unless --set balance=label --set infected_share=1 leaves them to the classifier.

    Example:  jcs ablate recipes/ct100-segmenter.yaml -d ct100 -o runs/ablation --set steps=200
    """
    from jcs_ct.evaluation.published import TABLE_V, TABLE_VI
    from jcs_ct.evaluation.variants import ablation_methods

    methods = ablation_methods(_recipe(recipe, settings), _optional_recipe(classifier_recipe, classifier_settings))
    missing = () if classifier_recipe else ("the combination (Table VI) was left out: no --classifier-recipe",)
    asked = Folds(data=data, output=output, protocol=protocol, only=fold, threads=threads, draws=draws, extra=extra)
    _run(
        asked,
        asked.cases(),
        methods,
        title="Ablation: EFM, AFF, combination",
        beside=(*TABLE_V, *TABLE_VI),
        warnings=missing,
    )


def train_networks(
    asked: Folds,
    presets: Sequence[str],
    recipe: Path,
    settings: Sequence[str] | None,
    *,
    width: float,
    others: Sequence[str],
    cut_by_folds: Sequence[str],
) -> None:
    """What `jcs compare --train` does (Table VII)."""
    from jcs_ct.evaluation.predictions import read_given
    from jcs_ct.evaluation.published import TABLE_VII
    from jcs_ct.evaluation.variants import network_methods

    cases = asked.cases()
    narrow = () if width == 1.0 else (f"comparison networks with {width:g} times their published channel counts",)
    _run(
        asked,
        cases,
        network_methods(_recipe(recipe, settings), presets, width=width),
        title="Comparison of networks (Table VII)",
        others=[read_given(given, cases) for given in others],
        cut_by_folds=cut_by_folds,
        beside=TABLE_VII,
        warnings=narrow,
    )


def _recipe(path: Path, settings: Sequence[str] | None) -> Recipe:
    from jcs_ct.training.config import load_recipe

    return load_recipe(path, parse_settings(settings))


def _optional_recipe(path: Path | None, settings: Sequence[str] | None) -> Recipe | None:
    return None if path is None else _recipe(path, settings)


def _run(asked: Folds, cases: CaseSet, methods: Sequence[Method], **more: Any) -> None:
    import torch

    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.evaluation.page import write_evaluation
    from jcs_ct.evaluation.segmentation import Resampling
    from jcs_ct.evaluation.variants import train_and_compare

    if asked.threads:
        torch.set_num_threads(asked.threads)
    with stage_progress() as progress:
        evaluation = train_and_compare(
            methods,
            cases,
            asked.output,
            protocol=asked.protocol,
            extra=None if asked.extra is None else read_manifest(asked.extra),
            folds=asked.only,
            resampling=Resampling(draws=asked.draws),
            progress=progress,
            **more,
        )
    if evaluation is None:
        typer.echo(f"folds are missing; run the others with the same output folder ({asked.output})")
        return
    page = write_evaluation(asked.output, evaluation)
    print_tables(table for table in evaluation.tables if table.name in ("miniseg", "scores", "differences"))
    for warning in evaluation.warnings:
        typer.echo(warning)
    typer.echo(f"page: {page}")
