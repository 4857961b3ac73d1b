"""`jcs compare`: folders of predictions in, tables with paired differences out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.choices import EvaluationProtocol, SplitName
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.inputs import PREDICTIONS_INPUT, SOME_INPUT
from jcs_ct.cli.judged_networks import given_predictions, stoppable_evaluation, write_page
from jcs_ct.cli.options import DrawsOption
from jcs_ct.cli.outputs import FOLDER_OUTPUT
from jcs_ct.cli.used_manifests import open_used


@stoppable_evaluation
def compare(
    reference: Annotated[
        Path,
        typer.Option("--reference", "-r", help="The truth: a manifest (CSV), CT100's folder, or a folder of masks."),
        SOME_INPUT,
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures."), FOLDER_OUTPUT],
    predictions: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of grey PNG, as NAME=FOLDER, FOLDER, or NAME=FOLDER+FOLDER (their mean)."),
        PREDICTIONS_INPUT,
    ] = None,
    protocol: Annotated[
        EvaluationProtocol,
        typer.Option(help="How lesions are scored; miniseg adds the figures published for CT100's published folds."),
    ] = "image",
    split: Annotated[
        SplitName | None,
        typer.Option(help="Split of a manifest; by default what stands in folds, and where none does, test."),
    ] = None,
    cut_by_folds: Annotated[
        list[str] | None,
        typer.Option(
            "--cut-by-folds", help="Also score this method with the cut that the other folds choose; may be repeated."
        ),
    ] = None,
    draws: DrawsOption = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Score lesion predictions that lie in folders, and compare each method with the first, slice by slice.

    A prediction is an 8-bit grey PNG on its mask's grid, named as the mask: probability times 255, or a mask of
    0/255 or 0/1. The first method is the baseline. Intervals resample patients. Nothing is tuned here, but for
    --cut-by-folds NAME: "NAME, own cut" calls a pixel a lesion from the probability that suits the other folds best,
    and its predictions are written to OUTPUT/NAME-own-cut.

    Example:  jcs compare miniseg=downloads/miniseg ours=runs/cv/predictions -r ct100 --protocol miniseg -o compared
    """
    from jcs_ct.evaluation.segmentation.lesion_comparison import evaluate_predictions
    from jcs_ct.experiments.judged_slices import open_cases
    from jcs_ct.experiments.lesion_predictions import write_predictions
    from jcs_ct.experiments.methods import method_folder
    from jcs_ct.experiments.own_cut import with_own_cuts
    from jcs_ct.metrics.bootstrap import Resampling

    cases = open_cases(reference, protocol=protocol, split=split)
    # Predictions are scored against masks: the images need not be there.
    warnings = () if reference.is_dir() else open_used(reference, used=(), accept_leaks=accept_leaks).warnings
    given = given_predictions(predictions or [], cases)
    methods, own_cuts = with_own_cuts(given, cut_by_folds or [], cases)
    with stage_progress() as progress:
        evaluation = evaluate_predictions(
            methods,
            cases,
            title="Comparison of segmentations",
            protocol=protocol,
            facts={"cuts": {name: own.cuts for name, own in own_cuts.items()}} if own_cuts else None,
            warnings=warnings,
            resampling=Resampling(draws=draws, seed=seed),
            progress=progress,
        )

    def moved(folder: Path) -> None:
        for name, own in own_cuts.items():
            place = folder / f"{method_folder(name)}-own-cut"
            write_predictions(place, [case.name for case in cases], own.predictions.levels)

    write_page(output, evaluation, beside=moved, printed=("miniseg", "scores", "differences"))
