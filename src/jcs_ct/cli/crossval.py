"""`jcs crossval`: recipes and a manifest with folds in, held-out answers, tables and figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.choices import ComparedNetwork, EvaluationProtocol
from jcs_ct.cli.console import parse_settings, stage_progress
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.endings import Interrupts
from jcs_ct.cli.inputs import PREDICTIONS_INPUT, RECIPE_INPUT, SOME_INPUT
from jcs_ct.cli.judged_networks import given_predictions, stoppable_experiment, write_page
from jcs_ct.cli.options import DeviceOption, DrawsOption, ThreadsOption
from jcs_ct.cli.outputs import FOLDER_OUTPUT
from jcs_ct.cli.used_manifests import kept_together, open_used

if TYPE_CHECKING:
    from jcs_ct.evaluation.pages.paper_results import Row
    from jcs_ct.experiments.fold_runs import Folds
    from jcs_ct.experiments.methods import Method
    from jcs_ct.training.recipe import Recipe

ManifestOption = Annotated[
    Path,
    typer.Option("--manifest", "-m", help="CSV or Parquet of slices; its column fold says which fold is whose."),
    SOME_INPUT,
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder for weights, answers and the page; what is finished is kept."),
    FOLDER_OUTPUT,
]
FoldOption = Annotated[
    list[int] | None,
    typer.Option("--fold", help="Train only this fold, where several machines share the work; may be repeated."),
]
ExtraOption = Annotated[
    Path | None,
    typer.Option(help="Manifest of other patients, whose train and val slices are added to those of every fold."),
    SOME_INPUT,
]
PartedOption = Annotated[
    bool,
    typer.Option(
        "--parted-patients",
        help="Accept folds that put slices of one patient into several, as CT100's published ones; the page says so.",
    ),
]
ClassifierRecipeOption = Annotated[
    Path | None,
    typer.Option(
        help="Recipe of the classifier that a joint segmenter borrows: a name or a path; trained in every fold."
    ),
    RECIPE_INPUT,
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of the recipe, as --set steps=1000; may be repeated."),
]
ClassifierSettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set-classifier", help="Change a setting of the classifier's recipe; repeatable."),
]
PretrainedOption = Annotated[
    Path | None,
    typer.Option(
        help="Weights that every fold starts from (same preset, never trained on a judged slice), or a method's "
        "folder of an earlier experiment (runs/cv/ct100-folds): each fold goes on from its own network there."
    ),
    SOME_INPUT,
]
SpecificityOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="For a classifier: least share of uninfected slices that its cut must leave uninfected.",
    ),
]
WithTestOption = Annotated[
    bool,
    typer.Option("--with-test", help="Judge the slices of the test split, too. Choose nothing by figures made so."),
]


@stoppable_experiment
def crossval(
    recipe: Annotated[
        Path,
        typer.Argument(help="Recipe of a segmenter or of a classifier: a name (`jcs recipes list`) or a path."),
        RECIPE_INPUT,
    ],
    manifest: ManifestOption,
    output: OutputOption,
    fold: FoldOption = None,
    folds: Annotated[
        int | None, typer.Option(min=3, help="Deal the patients to so many folds, where the manifest has none.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds that --folds deals.")] = 0,
    parted_patients: PartedOption = False,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Take slices of this source only; may be repeated.")
    ] = None,
    with_test: WithTestOption = False,
    extra: ExtraOption = None,
    network: Annotated[
        list[ComparedNetwork] | None,
        typer.Option(
            help="Train this preset in place of the recipe's, everything else alike; repeat it to compare networks."
        ),
    ] = None,
    width: Annotated[
        float, typer.Option(min=0.01, help="With --network: factor on the channels of the comparison networks.")
    ] = 1.0,
    classifier_recipe: ClassifierRecipeOption = None,
    settings: SettingsOption = None,
    classifier_settings: ClassifierSettingsOption = None,
    pretrained: PretrainedOption = None,
    flip_average: Annotated[
        bool,
        typer.Option(
            "--flip-average", help="For a segmenter: average the answers for each slice and for its mirror image."
        ),
    ] = False,
    least_specificity: SpecificityOption = 0.95,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Folder of others' lesion predictions to compare with, as NAME=FOLDER; may be repeated."),
        PREDICTIONS_INPUT,
    ] = None,
    cut_by_folds: Annotated[
        bool,
        typer.Option(
            "--cut-by-folds",
            help="For a segmenter: score it also with the cut that suits the other folds best, beside 0.5.",
        ),
    ] = False,
    protocol: Annotated[
        EvaluationProtocol,
        typer.Option(help="How lesions are scored; miniseg adds the figures published for CT100's published folds."),
    ] = "image",
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Train one network for each fold and judge it on the slices of that fold, which it has not seen.

    One fold is held out, the next one chooses (the weights, and a classifier's cut), the others train; a segmenter
    with --set choose_weights=last trains on all others. Any manifest with a column fold will do: from `jcs data split
    --folds 5`, from `jcs data make ct100 --folds miniseg`, or dealt here (--folds). A run that was stopped continues.
    A segmenter leaves grey PNG that `jcs compare` scores again, a classifier scores.csv for `jcs evaluate
    classifier`.

    Example:  jcs crossval ct100-segmenter -m folds.csv -o runs/cv --against miniseg=downloads/miniseg

    Example:  jcs crossval compact-classifier -m slices.csv --source ucsd --folds 5 -o runs/ucsd
    """
    from jcs_ct.experiments.methods import Method

    loaded = recipe_with(recipe, settings)
    borrowed = optional_recipe(classifier_recipe, classifier_settings)
    beside: Sequence[Row] = ()
    warnings: Sequence[str] = ()
    if network:
        from jcs_ct.evaluation.pages.paper_results import TABLE_VII
        from jcs_ct.experiments.variants import network_methods

        methods: Sequence[Method] = network_methods(
            loaded, [one.value for one in network], width=width, pretrained=pretrained, flip_average=flip_average
        )
        beside = TABLE_VII
        warnings = () if width == 1.0 else (f"comparison networks with {width:g} times their published channels",)
    else:
        methods = [Method(recipe.stem, loaded, borrowed, pretrained, flip_average, least_specificity)]
    asked = AskedExperiment(
        manifest=manifest, output=output, only=fold, sources=source, with_test=with_test, extra=extra,
        parted=parted_patients, accept_leaks=accept_leaks, count=folds, seed=seed, device=device, threads=threads,
        draws=draws, protocol=protocol,
    )  # fmt: skip
    run_asked(
        asked, methods, title="Cross-validation", against=against or [], own_cuts=cut_by_folds, beside=beside,
        warnings=warnings,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AskedExperiment:
    """What every experiment is asked for, whatever it trains."""

    manifest: Path
    output: Path
    device: str
    threads: int
    draws: int
    only: Sequence[int] | None = None
    sources: Sequence[str] | None = None
    with_test: bool = False
    extra: Path | None = None
    parted: bool = False
    accept_leaks: bool = False
    count: int | None = None
    seed: int = 0
    protocol: EvaluationProtocol = "image"

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the page says of the slices."""
        drawn = {} if self.count is None else {"fold_seed": self.seed}
        return {"test_split_took_part": self.with_test, "sources": list(self.sources or []), **drawn}

    def open_folds(self) -> tuple[Folds, list[str]]:
        """The folds, and what the page must say of their slices.

        Raises:
            ManifestError: what is wrong with the slices.
            ConfigError: folds that cannot be.
        """
        from jcs_ct.experiments.fold_runs import folds_of

        extra = None if self.extra is None else open_used(self.extra, accept_leaks=self.accept_leaks).manifest
        opened = open_used(self.manifest, accept_leaks=self.accept_leaks or self.parted)
        table, notes = opened.manifest, list[str]()
        if self.count is not None:
            table, notes = kept_together(table, accept_leaks=self.accept_leaks)
        folds = folds_of(
            table,
            sources=self.sources,
            with_test=self.with_test,
            extra=extra,
            parted=self.parted,
            count=self.count,
            seed=self.seed,
        )
        return folds, [*opened.warnings, *notes]


def recipe_with(path: Path, settings: Sequence[str] | None) -> Recipe:
    """A recipe with the settings of ``--set``."""
    from jcs_ct.training.recipe import load_recipe

    return load_recipe(path, parse_settings(settings))


def optional_recipe(path: Path | None, settings: Sequence[str] | None) -> Recipe | None:
    """The same, where one is named."""
    return None if path is None else recipe_with(path, settings)


def run_asked(
    asked: AskedExperiment,
    methods: Sequence[Method],
    *,
    title: str,
    against: Sequence[str] = (),
    own_cuts: bool = False,
    beside: Sequence[Row] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Train and judge the methods on every fold, and write the page; what is finished is kept.

    Args:
        asked: Slices, folds, folder.
        methods: All of segmenters, or all of classifiers.
        title: Of the page.
        against: Others' predictions, as NAME=FOLDER.
        own_cuts: Whether segmenters are scored with the cut that the other folds choose, too.
        beside: Rows of the paper's tables.
        warnings: For the page.

    Raises:
        ConfigError: ``against`` or ``own_cuts`` for classifiers, or folds that cannot be.
    """
    import torch

    from jcs_ct.errors import ConfigError
    from jcs_ct.evaluation.held_out_page import evaluate_held_out_lesions, evaluate_held_out_scores
    from jcs_ct.evaluation.pages.unseen_slices import start_warnings
    from jcs_ct.experiments.cross_validation import run_experiment
    from jcs_ct.metrics.bootstrap import Resampling

    if (against or own_cuts) and not methods[0].is_segmenter:
        raise ConfigError("--against and --cut-by-folds are for segmenters, and this recipe trains a classifier")
    if asked.threads:
        torch.set_num_threads(asked.threads)
    folds, notes = asked.open_folds()
    starts = start_warnings(methods[0].pretrained)
    slices = ", ".join([asked.manifest.stem, *(f"source {name}" for name in asked.sources or [])])
    cases = folds.cases(slices) if methods[0].is_segmenter else None
    others = () if cases is None else given_predictions(against, cases)  # read before anything is trained
    interrupts = Interrupts()
    with interrupts.answered(), stage_progress() as progress:
        is_whole = run_experiment(
            methods,
            folds,
            asked.output,
            only=asked.only,
            device=asked.device,
            progress=progress,
            stopping=interrupts.deferred,
        )
    if not is_whole:
        say_result({"complete": False, "folder": str(asked.output)})
        typer.echo(f"folds are missing; run the others with the same output folder ({asked.output})")
        return
    page: dict[str, Any] = {
        "title": f"{title}: {methods[0].name} on {slices}",
        "facts": asked.facts,
        "warnings": (*warnings, *starts, *notes),
        "resampling": Resampling(draws=asked.draws),
    }
    if cases is None:
        evaluation = evaluate_held_out_scores(methods, folds, asked.output, **page)
    else:
        evaluation = evaluate_held_out_lesions(
            methods,
            folds,
            cases,
            asked.output,
            protocol=asked.protocol,
            others=others,
            own_cuts=own_cuts,
            beside=beside,
            **page,
        )
    write_page(asked.output, evaluation)
