"""`jcs data export`: manifests of studies as the data sets that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FOLDER_OUTPUT

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest

app = typer.Typer(
    name="export",
    help="Turn a manifest into a data set that other tools read; all of it, or nothing.",
    no_args_is_help=True,
)

Studies = Annotated[Path, typer.Argument(help="Manifest of studies (CSV or Parquet)."), SOME_INPUT]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to make; empty where it exists."), FOLDER_OUTPUT]


@app.command("nifti")
def nifti(manifest: Studies, output: Output) -> None:
    """Pairs of NIfTI volumes: images/CASE.nii.gz in HU, masks/CASE.nii.gz (0, 1) where lesions are known.

    `jcs data make nifti` reads them back, and manifest.csv beside them is their manifest with patients and splits.

    Example:  jcs data export nifti studies.csv -o pairs
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.exchange.nifti_folders import export_nifti_pairs

    with stage_progress() as progress:
        written = export_nifti_pairs(
            read_manifest(manifest), output, progress=lambda done, total: progress("studies", done, total)
        )
    _say(written, output)


@app.command("nnunet")
def nnunet(
    manifest: Annotated[Path, typer.Argument(help="Manifest of studies or of slices (CSV or Parquet)."), SOME_INPUT],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder to make, called as nnU-Net wants it: DatasetNNN_NAME."),
        FOLDER_OUTPUT,
    ],
    skip_unmasked: Annotated[
        bool, typer.Option("--skip-unmasked", help="Leave out what has no known lesions.")
    ] = False,
) -> None:
    """A raw data set of nnU-Net (version 2), of volumes or of slices; its test cases are the test split.

    Slices are written as PNG of 16 bits in HU + 1024, whatever window they were stored under, for nnU-Net's `2d`.

    splits_final.json keeps each patient's studies together, by the manifest's folds or its val split: copy it into
    nnUNet_preprocessed/DatasetNNN_NAME before training, or nnU-Net deals single cases.

    Example:  jcs data export nnunet studies.csv -o nnUNet_raw/Dataset115_COVID

    Example:  jcs data export nnunet slices.csv -o nnUNet_raw/Dataset116_COVID --skip-unmasked
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.exchange.nifti_folders import export_nnunet

    studies = read_manifest(manifest)
    with stage_progress() as progress:
        written = export_nnunet(
            studies,
            output,
            skip_unmasked=skip_unmasked,
            progress=lambda done, total: progress("cases", done, total),
        )
    _say(written, output)
    if len(written) < len(studies):
        typer.echo(f"{len(studies) - len(written)} left out: their lesions are not known")


@app.command("dicom")
def dicom(manifest: Studies, output: Output) -> None:
    """DICOM studies and their lesions as DICOM Segmentations; the files keep the names that are in them.

    Example:  jcs data export dicom studies.csv -o dicom-seg

    Example:  jcs data make dicom dicom-seg/studies -o again.csv --labels dicom-seg/labels.csv
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.exchange.dicom_folders import export_dicom

    with stage_progress() as progress:
        written = export_dicom(
            read_manifest(manifest), output, progress=lambda done, total: progress("studies", done, total)
        )
    _say(written, output)


def _say(written: Manifest, output: Path) -> None:
    masks = sum(row.mask is not None for row in written)
    patients = len({row.patient for row in written})
    kind = "studies" if all(row.is_study for row in written) else "slices"
    typer.echo(f"{len(written)} {kind} of {patients} patients, {masks} with a mask -> {output}")
