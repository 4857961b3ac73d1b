"""`jcs calibrate`: two trained networks in, a folder of models ready for diagnosis out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json


def calibrate(
    classifier: Annotated[Path, typer.Option(help="best.safetensors of a classifier run.")],
    segmenter: Annotated[Path, typer.Option(help="best.safetensors of a segmenter run.")],
    manifest: Annotated[Path, typer.Option("--manifest", "-m", help="The manifest they were trained with.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the models.")],
    threshold: Annotated[int, typer.Option(min=0, help="Positive when more slices than this are infected.")] = 25,
    reference_spacing_mm: Annotated[
        float, typer.Option(min=0.0, help="Slice spacing the threshold is meant for; 0 takes it literally.")
    ] = 1.0,
    least_specificity: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Floor under the specificity per slice on validation patients.")
    ] = 0.95,
    lesion_probability: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Cut of lesion pixels, where cross-validation chose one already."),
    ] = None,
) -> None:
    """Choose the operating point on the validation patients and store it in the checkpoints.

    Only the manifest's `val` split is looked at. Writes classifier.safetensors and segmenter.safetensors, which
    `jcs diagnose --models FOLDER` reads.

    Example:  jcs calibrate --classifier c.safetensors --segmenter s.safetensors -m slices.csv -o models
    """
    from dataclasses import asdict, replace

    from jcs_ct.checkpoints import load_classifier, load_segmenter, read_info, save_checkpoint
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.engine import Execution
    from jcs_ct.training.calibration import choose_operating_point

    trained_classifier, trained_segmenter = load_classifier(classifier), load_segmenter(segmenter)
    chosen = choose_operating_point(
        trained_classifier,
        trained_segmenter,
        read_manifest(manifest).split("val"),
        positive_slice_threshold=threshold,
        reference_spacing_mm=reference_spacing_mm or None,
        least_specificity=least_specificity,
        lesion_probability=lesion_probability,
        execution=Execution(),
        progress=lambda name: typer.echo(f"running the {name} over the validation slices ...", err=True),
    )
    for source, ready in ((classifier, trained_classifier), (segmenter, trained_segmenter)):
        info = read_info(source)
        provenance = {**info.provenance, "operating_point_on_validation": chosen.figures}
        if source == classifier:
            provenance["slice_scores_on_validation"] = chosen.scores.by_patient()
        calibrated = replace(info, operating_point=chosen.point, provenance=provenance)
        save_checkpoint(output / f"{ready.task}.safetensors", ready.network, calibrated)
    print_json({"operating_point": asdict(chosen.point), "on_validation": chosen.figures, "models": str(output)})
