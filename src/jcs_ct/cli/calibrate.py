"""`jcs calibrate`: two trained networks in, a folder of models ready for diagnosis out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import counted, print_json, stage_progress
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.options import DeviceOption, ReferenceSpacingOption
from jcs_ct.cli.outputs import FOLDER_OUTPUT, OverwriteOption, refuse_to_overwrite
from jcs_ct.cli.used_manifests import open_used
from jcs_ct.operating_point import SHARE_SLACK

#: Share of infected validation slices found below which a warning is given.
LEAST_SENSITIVITY = 0.5
#: Mean Dice of the validation slices with lesions below which a warning is given.
LEAST_DICE = 0.3


def calibrate(
    classifier: Annotated[Path, typer.Option(help="Trained classifier: best.safetensors of its run."), SOME_INPUT],
    segmenter: Annotated[Path, typer.Option(help="Trained segmenter: best.safetensors of its run."), SOME_INPUT],
    manifest: Annotated[
        Path, typer.Option("--manifest", "-m", help="The manifest they were trained with."), SOME_INPUT
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the models."), FOLDER_OUTPUT],
    threshold: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The patient is positive when more slices than this are infected. Default: the paper's 25, meant "
            "for slices 1 mm apart.",
        ),
    ] = None,
    reference_spacing_mm: ReferenceSpacingOption = None,
    least_specificity: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Least share of uninfected validation slices that must be called uninfected; the cut of a slice is "
            "chosen among those that reach it.",
        ),
    ] = 0.95,
    lesion_probability: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Probability from which a pixel is a lesion, where it is chosen already."
        ),
    ] = None,
    device: DeviceOption = "auto",
    accept_leaks: AcceptLeaks = False,
    overwrite: OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="The operating point and its figures as JSON.")] = False,
) -> None:
    """Choose from which probability a slice is infected and a pixel a lesion, and store that with two networks.

    Both cuts are chosen on the manifest's `val` split alone. Writes classifier.safetensors and
    segmenter.safetensors, which `jcs diagnose --models FOLDER` reads; both together, and over others that are there
    only with --overwrite.

    Example:  jcs calibrate --classifier c.safetensors --segmenter s.safetensors -m slices.csv -o models
    """
    from dataclasses import asdict, replace

    from jcs_ct.checkpoints import load_classifier, load_segmenter, read_info, save_checkpoint
    from jcs_ct.checkpoints.ancestry import ANCESTORS, OPERATING_POINT, ancestor_manifests
    from jcs_ct.engine import Execution
    from jcs_ct.evaluation.pages.unseen_slices import manifest_warnings
    from jcs_ct.experiments.operating_point_choice import choose_operating_point
    from jcs_ct.files import staged_folder

    names = [f"{task}.safetensors" for task in ("classifier", "segmenter")]
    refuse_to_overwrite([output / name for name in names], overwrite=overwrite)
    trained_classifier, trained_segmenter = load_classifier(classifier), load_segmenter(segmenter)
    table = open_used(manifest, used=("val",), accept_leaks=accept_leaks).manifest
    with stage_progress() as progress:
        chosen = choose_operating_point(
            trained_classifier,
            trained_segmenter,
            table.split("val"),
            least_specificity=least_specificity,
            lesion_probability=lesion_probability,
            execution=Execution(device=device),
            progress=progress,
        )
    point = chosen.point
    if threshold is not None or reference_spacing_mm is not None:
        count = point.positive_slice_threshold if threshold is None else threshold
        point = point.with_threshold(count, reference_spacing_mm)
    warnings = []
    with staged_folder(output, last=names[-1]) as staging:  # a classifier and a segmenter that belong together
        for source, ready in ((classifier, trained_classifier), (segmenter, trained_segmenter)):
            info = read_info(source)
            behind = ancestor_manifests(info.provenance)
            behind.pop(OPERATING_POINT, None)  # replaced
            warnings += manifest_warnings(ready.task, {**info.provenance, ANCESTORS: behind}, table)
            provenance = {**info.provenance, "operating_point_on_validation": chosen.figures}
            provenance[ANCESTORS] = {**behind, OPERATING_POINT: table.sha256}
            if source == classifier:
                provenance["slice_scores_on_validation"] = chosen.scores.by_patient()
            calibrated = replace(info, operating_point=point, provenance=provenance)
            save_checkpoint(staging / f"{ready.task}.safetensors", ready.network, calibrated)
    warnings += _warnings(chosen.figures["slice"], chosen.figures["lesion"]["dice"], least_specificity)
    if as_json:
        print_json(
            {
                "operating_point": asdict(point),
                "on_validation": chosen.figures,
                "validation_patients": chosen.patients,
                "models": str(output),
                "warnings": warnings,
            }
        )
        return
    for name, value in asdict(point).items():
        typer.echo(f"{name.replace('_', ' ')}: {'none' if value is None else f'{value:.4g}'}")
    for name, figures in chosen.figures.items():
        said = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
        typer.echo(f"{name}, on validation: {said} ({counted(chosen.patients[name], 'patient', 'patients')})")
    typer.echo(f"models: {output}")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _warnings(slices: Mapping[str, float], dice: float, least_specificity: float) -> list[str]:
    """What makes the models useless, as far as the validation patients tell."""
    warnings = []
    sensitivity, specificity = slices["sensitivity"], slices["specificity"]
    if specificity < least_specificity - SHARE_SLACK:
        warnings.append(
            f"no cut keeps {least_specificity:.0%} specificity: the most specific one has {specificity:.0%} on the "
            "validation slices, and healthy studies may be called positive. Train the classifier longer, or on more "
            "uninfected slices"
        )
    if sensitivity < LEAST_SENSITIVITY:
        warnings.append(
            f"the classifier finds {sensitivity:.0%} of the infected validation slices at this cut: a study full of "
            "lesions may be called negative. Train it longer, on more patients, or lower --least-specificity"
        )
    if dice < LEAST_DICE:
        warnings.append(
            f"the segmenter's mean Dice on the validation slices with lesions is {dice:.3f} at this cut: what it "
            "outlines is hardly the lesions, and volumes and percentages mean nothing. Train it longer, or on more "
            "patients"
        )
    return warnings
