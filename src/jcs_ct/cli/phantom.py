"""`jcs phantom`: a procedural chest CT with its exact truth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json, stage_progress
from jcs_ct.cli.outputs import FOLDER_OUTPUT


class PhantomFormat(StrEnum):
    """What the phantom is written as."""

    DICOM = "dicom"
    NIFTI = "nifti"
    PNG = "png"


def phantom(
    folder: Annotated[Path | None, typer.Argument(help="Another way to give -o.", metavar="[OUTPUT]")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to; made when missing."), FOLDER_OUTPUT
    ] = None,
    slices: Annotated[
        int, typer.Option(help="Axial slices; they cover the whole chest unless --spacing says otherwise.")
    ] = 60,
    lesions: Annotated[int, typer.Option(help="Lesions of a positive phantom, in both lungs from 2 on.")] = 8,
    seed: Annotated[int, typer.Option(help="Patient, scanner, lesions and noise follow from it.")] = 0,
    format_: Annotated[
        PhantomFormat,
        typer.Option("--format", help="dicom: a CT series; nifti: ct.nii.gz in HU; png: 8-bit lung window slices."),
    ] = PhantomFormat.DICOM,
    negative: Annotated[
        bool, typer.Option("--negative", help="No lesion; nodules, atelectasis and the like may still occur.")
    ] = False,
    size: Annotated[int, typer.Option(help="Rows and columns.")] = 512,
    spacing: Annotated[
        float | None, typer.Option(help="Distance of slices in mm instead of covering the chest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The truth as one JSON document on stdout.")] = False,
) -> None:
    """Make a chest CT that is drawn, not scanned, and know the truth about every voxel.

    The same options give the same bytes. Nothing in it comes from a patient, so it may be shared, put into tests
    and sent to a PACS (patient name "Phantom^JCS").

    \b
    dicom   OUT/dicom/0001.dcm ...   OUT/truth/{lesions,lungs}.nii.gz, truth.json
    nifti   OUT/ct.nii.gz            OUT/truth/ as above
    png     OUT/images/0000.png ...  OUT/masks/ (0, 255), OUT/lungs/ (1 right, 2 left), OUT/truth.json

    Example:  jcs phantom -o study/ --seed 11 && jcs diagnose study/dicom -o report/
    """
    from jcs_ct.files import prepare_output_folder
    from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom, write_nifti, write_png
    from jcs_ct.phantom.truth import truth_record

    config = PhantomConfig(
        slices=slices, lesions=lesions, seed=seed, negative=negative, size=size, slice_spacing_mm=spacing
    )
    if folder is None and output is None:
        raise typer.BadParameter("missing: give the folder to write to", param_hint="--output")
    if folder is not None and output is not None:
        raise typer.BadParameter("two folders are given; give one to write to", param_hint="--output")
    out = prepare_output_folder(output or folder or Path())
    with stage_progress(as_json=as_json) as report:
        made = make_phantom(config, progress=lambda done, total: report("phantom", done, total))
    {PhantomFormat.DICOM: write_dicom, PhantomFormat.NIFTI: write_nifti, PhantomFormat.PNG: write_png}[format_](
        made, out
    )
    record = truth_record(made)
    if as_json:
        print_json(record)
        return
    infected, lung = len(record["infected_slices"]), len(record["lung_slices"])
    volume, of = record["opacification_volume_ml"], record["lung_volume_ml"]
    typer.echo(
        f"{out}: {slices} slices as {format_}, {infected} of {lung} lung slices infected, "
        f"{len(record['lesions'])} lesions, {volume:.0f} ml of {of:.0f} ml lung"
    )
