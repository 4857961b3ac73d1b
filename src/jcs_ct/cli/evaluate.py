"""`jcs evaluate`: trained networks in, the paper's tables and figures out, on slices they have not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.choices import CT100Folds, SplitName
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.inputs import NAMED_INPUT, PREDICTIONS_INPUT, SOME_INPUT
from jcs_ct.cli.judged_networks import (
    given_predictions,
    judged_manifest,
    named_checkpoints,
    stoppable_evaluation,
    write_page,
)
from jcs_ct.cli.options import DeviceOption, DrawsOption, MapOption, ModelsOption
from jcs_ct.cli.outputs import FOLDER_OUTPUT, OverwriteOption, refuse_to_overwrite

app = typer.Typer(name="evaluate", help="Judge trained networks: tables and figures.", no_args_is_help=True)

ManifestOption = Annotated[
    Path, typer.Option("--manifest", "-m", help="CSV or Parquet of slices; its test split is judged."), SOME_INPUT
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for page, tables and figures."), FOLDER_OUTPUT
]
SplitOption = Annotated[
    SplitName, typer.Option(help="Split that is judged; train and val were looked at in training.")
]


@app.command("segmentation")
@stoppable_evaluation
def segmentation(
    segmenters: Annotated[
        list[str], typer.Argument(help="Checkpoints, as NAME=FILE or FILE; first the baseline."), NAMED_INPUT
    ],
    manifest: ManifestOption,
    output: OutputOption,
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Judge segmenters: Dice, IoU, E-measure and more, with intervals over patients (Tables VI, VII, Fig. 10, 11).

    A pixel is a lesion at the probability that a checkpoint's operating point names, else at 0.5. The predictions
    are kept as PNG, which `jcs compare` scores again.

    Example:  jcs evaluate segmentation models/segmenter.safetensors -m slices.csv -o evaluation
    """
    from jcs_ct.engine import Execution
    from jcs_ct.evaluation.segmentation.judged_segmenters import judge_segmenters, write_all_predictions
    from jcs_ct.metrics.bootstrap import Resampling

    execution = Execution(device=device)
    table, known = judged_manifest(manifest, split, accept_leaks=accept_leaks)
    checkpoints = named_checkpoints(segmenters, "segmenter")
    with stage_progress() as progress:
        evaluation, cases, methods = judge_segmenters(
            checkpoints,
            table,
            split,
            title=manifest.stem,
            execution=execution,
            warnings=known,
            resampling=Resampling(draws=draws),
            progress=progress,
        )

    def predictions(folder: Path) -> None:
        write_all_predictions(folder / "predictions", methods, cases)

    write_page(output, evaluation, beside=predictions)


@app.command("patients")
@stoppable_evaluation
def patients(
    output: OutputOption,
    models: ModelsOption = "compact",
    studies: Annotated[
        Path | None,
        typer.Option(
            help="CSV of whole studies: study, label (1 or 0), and perhaps patient, group, sex, scanner, source. "
            "Either this or --manifest is needed."
        ),
        SOME_INPUT,
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", "-m", help="In place of --studies: slices; those of one patient count together."),
        SOME_INPUT,
    ] = None,
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Judge the verdict on patients: right and wrong ones by threshold, ROC, calibration, subgroups (Table IV).

    The operating point is the one stored with the weights; nothing is chosen here.

    Example:  jcs evaluate patients --studies studies.csv --models models -o evaluation
    """
    from jcs_ct.checkpoints import load_models, model_path, read_info
    from jcs_ct.engine import Execution
    from jcs_ct.errors import ConfigError
    from jcs_ct.evaluation.pages.unseen_slices import manifest_warnings, split_warnings
    from jcs_ct.evaluation.patients.cohort import (
        cohort_of_manifest,
        cohort_of_studies,
        read_study_list,
        refuse_repeated_studies,
    )
    from jcs_ct.evaluation.patients.cohort_tables import evaluate_cohort
    from jcs_ct.metrics.bootstrap import Resampling

    if (studies is None) == (manifest is None):
        raise ConfigError("give --studies (whole studies) or --manifest (slices), and one of them only")
    loaded = load_models(models)
    table, known = (None, []) if manifest is None else judged_manifest(manifest, split, accept_leaks=accept_leaks)
    with stage_progress() as progress:
        if studies is not None:
            listed = read_study_list(studies)
            if listed.unread_columns:
                typer.echo(f"note: columns that are not read: {', '.join(listed.unread_columns)}", err=True)
            refuse_repeated_studies(listed.rows, progress=lambda done, total: progress("look", done, total))
            cohort = cohort_of_studies(
                loaded,
                listed.rows,
                execution=Execution(device=device),
                title=f"{studies.stem}, whole studies",
                progress=lambda done, total: progress("studies", done, total),
            )
        else:
            assert manifest is not None  # checked above
            assert table is not None  # opened then
            cohort = cohort_of_manifest(
                loaded.classifier,
                loaded.operating_point,
                table.split(split),
                execution=Execution(device=device),
                title=f"{manifest.stem}, split {split}",
                progress=lambda done, total: progress("slices", done, total),
            )
            known = [*split_warnings(split), *known]
            for task in ("classifier", "segmenter"):
                known += manifest_warnings(task, read_info(model_path(models, task)).provenance, table)
    facts = {"classifier_sha256": loaded.classifier.sha256}
    if studies is not None:  # diagnosed with both networks
        facts["segmenter_sha256"] = loaded.segmenter.sha256
    evaluation = evaluate_cohort(cohort, facts=facts, resampling=Resampling(draws=draws))
    write_page(output, replace(evaluation, warnings=(*evaluation.warnings, *known)))


@app.command("explanations")
@stoppable_evaluation
def explanations(
    classifiers: Annotated[
        list[str], typer.Argument(help="Checkpoints, as NAME=FILE or FILE; first the baseline."), NAMED_INPUT
    ],
    manifest: ManifestOption,
    output: OutputOption,
    split: SplitOption = "test",
    variant: MapOption = "paper",
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of the deletion and insertion curves; 0 leaves them out.")
    ] = 16,
    device: DeviceOption = "auto",
    draws: DrawsOption = 2000,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Judge activation maps: how well they point at the lesions, beside what their grid allows (Fig. 9 in numbers).

    The map's threshold is tuned on the manifest's train split; the test split is judged.

    Example:  jcs evaluate explanations plain=a.safetensors lseg=b.safetensors -m ct100.csv -o maps
    """
    from jcs_ct.engine import Execution
    from jcs_ct.evaluation.explanations.judged_maps import judge_maps
    from jcs_ct.metrics.bootstrap import Resampling

    # Each classifier sees few slices one by one: compiling would not pay.
    execution = Execution(backend="torch", device=device)
    table, known = judged_manifest(manifest, split, accept_leaks=accept_leaks)
    checkpoints = named_checkpoints(classifiers, "classifier")
    with stage_progress() as progress:
        evaluation = judge_maps(
            checkpoints,
            table,
            split,
            title=manifest.stem,
            variant=variant,
            perturbation_steps=steps,
            execution=execution,
            warnings=known,
            resampling=Resampling(draws=draws),
            progress=progress,
        )
    write_page(output, evaluation)


@app.command("densities")
@stoppable_evaluation
def densities(
    data: Annotated[
        Path, typer.Option("--data", "-d", help="CT100 folder: images/, masks3/, splits.json."), SOME_INPUT
    ],
    output: OutputOption,
    predictions: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of lesion predictions (grey PNG), as NAME=FOLDER or FOLDER."),
        PREDICTIONS_INPUT,
    ] = None,
    folds: Annotated[CT100Folds, typer.Option(help="Which folds of CT100 the cut is chosen by.")] = "patient-safe",
    draws: DrawsOption = 2000,
) -> None:
    """Judge how ground glass and consolidation are told apart, against the readers' three-class masks.

    The readers' own lesions are separated first, then those of every folder of predictions. The cut between lung and
    soft tissue is chosen on the other folds than it is judged on.

    Example:  jcs evaluate densities cv=runs/cv/predictions -d ct100 -o densities
    """
    from jcs_ct.evaluation.segmentation.density_classes import evaluate_densities
    from jcs_ct.experiments.judged_slices import ct100_cases
    from jcs_ct.metrics.bootstrap import Resampling

    cases = ct100_cases(data, folds)
    methods = given_predictions(predictions or [], cases)
    with stage_progress() as progress:
        evaluation = evaluate_densities(data, cases, methods, resampling=Resampling(draws=draws), progress=progress)
    write_page(output, evaluation)


@app.command("card")
def card(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that jcs evaluate, crossval or data stats wrote."), SOME_INPUT
    ],
    models: Annotated[Path, typer.Option(help="Folder of checkpoints (*.safetensors)."), SOME_INPUT],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for MODEL_CARD.md and CLAIM.md."), FOLDER_OUTPUT
    ],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model card (in Hugging Face's form, with hashes) and a CLAIM checklist, from checkpoints and runs.

    A run of other networks than these checkpoints is refused. What no file says is marked as open, never guessed:
    it is for you to fill in, so files that are there are replaced only with --overwrite.

    Example:  jcs evaluate card evaluation maps --models models -o card
    """
    from jcs_ct.checkpoints import read_info
    from jcs_ct.errors import ConfigError
    from jcs_ct.evaluation.pages.model_card import claim_table, model_card, read_evaluation, require_own_weights
    from jcs_ct.files import write_text

    card_file, claim_file = output / "MODEL_CARD.md", output / "CLAIM.md"
    refuse_to_overwrite([card_file, claim_file], overwrite=overwrite)
    infos = {path: read_info(path) for path in sorted(models.glob("*.safetensors"))}
    if not infos:
        raise ConfigError(f"no *.safetensors in {models}; give the folder of the models")
    evaluations = [read_evaluation(run) for run in runs]
    for run, evaluation in zip(runs, evaluations, strict=True):
        require_own_weights(run, evaluation, [*infos])
    write_text(card_file, model_card(infos, evaluations))
    write_text(claim_file, claim_table(infos, evaluations))
    say_result({"model_card": str(card_file), "claim": str(claim_file)})
    typer.echo(f"{card_file}, {claim_file}")
