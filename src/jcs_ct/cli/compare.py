"""`jcs compare`: folders of predictions in, tables with paired differences out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json, print_tables
from jcs_ct.cli.crossval import Folds, train_networks


def compare(
    reference: Annotated[
        Path, typer.Option("--reference", "-r", help="Manifest (CSV), CT100 folder, or folder of masks.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures.")],
    predictions: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of grey PNG, as NAME=FOLDER, FOLDER, or NAME=FOLDER+FOLDER (their mean)."),
    ] = None,
    protocol: Annotated[str, typer.Option(help="image, official, miniseg or patient-safe.")] = "image",
    split: Annotated[str, typer.Option(help="Split of a manifest.")] = "test",
    cut_by_folds: Annotated[
        list[str] | None,
        typer.Option(
            "--cut-by-folds", help="Also score this method with the cut that the other folds choose; may be repeated."
        ),
    ] = None,
    networks: Annotated[
        list[str] | None, typer.Option("--train", help="Cross-validate this preset with --recipe; may be repeated.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="With --train: the recipe that all networks share.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="With --train: --set steps=200")] = None,
    width: Annotated[
        float, typer.Option(min=0.01, help="With --train: factor on the comparison networks' channel counts.")
    ] = 1.0,
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="With --train: run this fold only; may be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="With --train: CPU threads; 0 leaves it to torch.")] = 0,
    draws: Annotated[int, typer.Option(min=1, help="Bootstrap draws and permutations.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Score methods by their prediction files and compare each with the first, slice by slice.

    A prediction is an 8-bit grey PNG on its mask's grid, named as the mask: probability times 255, or a mask of
    0/255 or 0/1. The first method is the baseline. Intervals resample patients. Nothing is tuned here, but for
    --cut-by-folds NAME: "NAME, own cut" calls a pixel a lesion from the probability that suits the other folds best,
    and its predictions are written to OUTPUT/NAME-own-cut.

    With --train the networks themselves are cross-validated first, each with the same recipe and budget; a run that
    was stopped continues, and folds may run side by side into the same OUTPUT, each with its --fold. What
    --cut-by-folds NAME writes lies in OUTPUT/NAME/predictions-own-cut then.

    Example:  jcs compare miniseg=downloads/miniseg ours=runs/cv/predictions -r ct100 --protocol miniseg -o compared
    """
    from jcs_ct.errors import ConfigError
    from jcs_ct.evaluation.cases import open_cases
    from jcs_ct.evaluation.comparing import PROTOCOLS, evaluate_predictions
    from jcs_ct.evaluation.cuts import with_own_cuts
    from jcs_ct.evaluation.page import write_evaluation
    from jcs_ct.evaluation.predictions import method_folder, read_given
    from jcs_ct.evaluation.segmentation import Resampling

    if networks:
        if recipe is None:
            raise ConfigError("--train needs --recipe: the budget that all networks share")
        asked = Folds(
            data=reference,
            output=output,
            protocol="patient-safe" if protocol == "image" else protocol,
            only=fold,
            threads=threads,
            draws=draws,
        )
        train_networks(
            asked,
            networks,
            recipe,
            settings,
            width=width,
            others=predictions or [],
            cut_by_folds=cut_by_folds or [],
        )
        return
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    cases = open_cases(reference, protocol=protocol, split=split)
    given = [read_given(one, cases) for one in predictions or []]
    methods, cuts = with_own_cuts(
        given, cut_by_folds or [], cases, lambda name: output / f"{method_folder(name)}-own-cut"
    )
    evaluation = evaluate_predictions(
        methods,
        cases,
        title="Comparison of segmentations",
        protocol=protocol,
        facts={"cuts": cuts} if cuts else None,
        resampling=Resampling(draws=draws, seed=seed),
        progress=lambda name: typer.echo(f"scoring {name} ...", err=True),
    )
    page = write_evaluation(output, evaluation)
    if as_json:
        print_json({t.name: t.to_dict()["rows"] for t in evaluation.tables if t.name != "per_image"})
        return
    print_tables(table for table in evaluation.tables if table.name in ("miniseg", "scores", "differences"))
    typer.echo(f"page: {page}")
