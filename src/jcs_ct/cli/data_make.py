"""`jcs data make`: data sets, one's own or public ones, as manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct.choices import CT100Folds
from jcs_ct.cli import data_own
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.data_own import LesionLabels, PatientPattern, Seed, lesion_numbers
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FILE_OUTPUT

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.data.sources.dicom_studies import SegmentationRule

app = typer.Typer(
    name="make",
    help="Turn your own data, or a public data set, into a manifest, split by patient.",
    no_args_is_help=True,
)

Output = Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet to write."), FILE_OUTPUT]
Folder = Annotated[Path, typer.Argument(help="Folder of the data set as it is handed out."), SOME_INPUT]
#: Public sets that need no more than their folder, and what they are.
PUBLIC_SETS = {
    "ucsd": "COVID-CT: figures of papers, both labels.",
    "lungs267": "Finding lungs: slices from before COVID.",
    "zenodo20": "Whole COVID volumes with lesion masks (Zenodo 3757476).",
    "sarscov2": "SARS-CoV-2 CT-scan: both labels from one hospital network, in folds.",
    "iq-othnccd": "IQ-OTH/NCCD: normal, benign and malignant slices from before COVID.",
    "pneumonia224": "Pneumonia that is not COVID, 224 x 224 pixels.",
    "covid-cs": "Lists of images and masks as COVID-CS has them.",
    "phantom": "Folders that `jcs phantom --format png` wrote.",
}


app.command("table")(data_own.table)
app.command("images")(data_own.images)


@app.command("nifti")
def nifti(
    folder: Annotated[Path, typer.Argument(help="Folder with images/NAME.nii.gz and masks/NAME.nii.gz."), SOME_INPUT],
    output: Output,
    patient_pattern: PatientPattern = None,
    lesion_labels: LesionLabels = "",
    seed: Seed = 0,
) -> None:
    """Make a manifest of NIfTI volumes and their masks, one row per study; then see `jcs data slices`.

    Example:  jcs data make nifti my-volumes -o studies.csv
    """
    from jcs_ct.data.sources.volume_pairs import VolumePairs, nifti_pairs

    labels = lesion_numbers(lesion_labels)
    wanted = VolumePairs(patient_pattern=patient_pattern, lesion_labels=labels, seed=seed)
    with stage_progress() as progress:
        made = nifti_pairs(folder, wanted, progress=lambda done, total: progress("volumes", done, total))
    _write_studies(made, output)


@app.command("nnunet")
def nnunet(
    folder: Annotated[
        Path, typer.Argument(help="Raw data set of nnU-Net: dataset.json, imagesTr/, labelsTr/."), SOME_INPUT
    ],
    output: Output,
    patient_pattern: PatientPattern = None,
    lesion_labels: LesionLabels = "",
    splits: Annotated[
        Path | None,
        typer.Option(help="splits_final.json of nnU-Net: its folds are kept; one that lies in the folder is found."),
        SOME_INPUT,
    ] = None,
    one_slice_each: Annotated[
        bool, typer.Option("--one-slice-each", help="Slices of a 2-D data set are each of another patient.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Make a manifest of a raw data set of nnU-Net, one row per case; then, for volumes, see `jcs data slices`.

    Example:  jcs data make nnunet nnUNet_raw/Dataset115_COVID -o studies.csv
    """
    from jcs_ct.data.sources.volume_pairs import VolumePairs, nnunet_raw

    labels = lesion_numbers(lesion_labels)
    wanted = VolumePairs(
        patient_pattern=patient_pattern, lesion_labels=labels, one_slice_each=one_slice_each, seed=seed
    )
    with stage_progress() as progress:
        made = nnunet_raw(folder, wanted, splits=splits, progress=lambda done, total: progress("cases", done, total))
    _write_studies(made, output)


@app.command("ct100")
def ct100(
    folder: Folder,
    output: Output,
    folds: Annotated[
        CT100Folds | None,
        typer.Option(help="Put every slice in one of five folds for `jcs crossval`, instead of a split."),
    ] = None,
) -> None:
    """MedSeg COVID data set 1: slices with lesion masks.

    Example:  jcs data make ct100 downloads/ct100 -o ct100.csv

    Example:  jcs data make ct100 downloads/ct100 -o folds.csv --folds patient-safe
    """
    from jcs_ct.data.sources import ct100 as make

    _write(make(folder, folds=folds), output)


@app.command("dicom")
def dicom(
    folder: Annotated[Path, typer.Argument(help="Folder with everything below it."), SOME_INPUT],
    output: Output,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table with patient, study or folder; label; perhaps mask (NIfTI or DICOM SEG), lesion_labels (its "
            "values or segments that are lesion, as 1 2) and split."
        ),
        SOME_INPUT,
    ] = None,
    salt: Annotated[
        Path | None,
        typer.Option(help="File that patients' pseudonyms follow from; made beside the output if absent."),
    ] = None,
    segmentations: Annotated[
        bool,
        typer.Option(
            "--segmentations", help="Take the DICOM SEG that refers to a study's series as its mask, its label as 1."
        ),
    ] = False,
    segment_type: Annotated[
        str | None,
        typer.Option(
            help="With --segmentations: type (or label) of segments that are lesion, as opacity; others are left."
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave studies out that the gate refuses, and say so.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """DICOM studies, a row each, with pseudonyms for the patients.

    A study's row is its best series by the rule of `jcs info`, with scanner, age, sex and thickness from the headers.
    `jcs data slices` then writes the slices.

    Example:  jcs data make dicom archive/ -o studies.csv --labels labels.csv

    Example:  jcs data make dicom archive/ -o studies.csv --segmentations --segment-type opacity
    """
    from jcs_ct.data.sources.dicom_studies import SegmentationRule
    from jcs_ct.errors import ConfigError

    if segment_type is not None and not segmentations:
        raise ConfigError("--segment-type goes with --segmentations")
    rule = SegmentationRule(segment_type) if segmentations else None
    _make_dicom(folder, output, labels, salt or output.with_suffix(".salt"), rule, skip_bad, seed)


def _make_dicom(
    folder: Path,
    output: Path,
    labels: Path | None,
    salt: Path,
    rule: SegmentationRule | None,
    skip_bad: bool,
    seed: int,
) -> None:
    from jcs_ct.data.sources.dicom_studies import find_studies, read_salt
    from jcs_ct.data.sources.study_labels import read_study_labels
    from jcs_ct.errors import ConfigError

    known = None if labels is None else read_study_labels(labels, folder)
    with stage_progress() as progress:
        found = find_studies(
            folder,
            salt=read_salt(salt),
            labels=known,
            segmentations=rule,
            seed=seed,
            progress=lambda done, total: progress("headers", done, total),
        )
    if found.refused:
        listed = "\n  ".join([f"{len(found.refused)} study(ies) cannot be read:", *found.refused])
        if not skip_bad:
            raise ConfigError(f"{listed}\nmend or remove them, or leave them out with --skip-bad")
        typer.echo(f"left out, {listed}", err=True)
    found.manifest.write(output)
    rows = found.manifest.rows
    unlabelled = sum(row.label is None for row in rows)
    typer.echo(f"{len(rows)} studies of {len({row.patient for row in rows})} patients -> {output}")
    if rule is not None:
        masks = sum(row.mask is not None for row in rows)
        typer.echo(f"lesion in the Segmentations: {', '.join(found.lesion_kinds) or 'none'}; {masks} with a mask")
    if unlabelled:
        typer.echo(f"{unlabelled} without a label: give a table with --labels")
    if found.lines_unused:
        typer.echo(f"{found.lines_unused} line(s) of {labels} belong to no study here")
    typer.echo(
        f"pseudonyms follow from {salt}, drawn splits from it and --seed {seed}: keep the file secret, and keep both "
        "for further manifests of these patients"
    )


def _write(manifest: Manifest, output: Path) -> None:
    manifest.write(output)
    typer.echo(f"{len(manifest)} slices -> {output}")
    unknown = sum(row.label is None for row in manifest)
    if unknown:
        typer.echo(f"{unknown} of them without a label: they have no mask, and are not trained on")


def _write_studies(manifest: Manifest, output: Path) -> None:
    manifest.write(output)
    labels = sorted({label for row in manifest for label in row.lesion_labels})
    lesion = f"the value(s) {', '.join(map(str, labels))}" if labels else "every value but 0"
    kind = "studies" if all(row.is_study for row in manifest) else "slices"
    typer.echo(f"{len(manifest)} {kind} of {len({row.patient for row in manifest})} patients -> {output}")
    typer.echo(f"lesion in the masks: {lesion}; infected: {sum(row.label == 1 for row in manifest)}")


def _public_set(name: str) -> Callable[[Path, Path], None]:
    def make(folder: Folder, output: Output) -> None:
        from jcs_ct.data.sources import MAKERS

        _write(MAKERS[name](folder), output)

    return make


for _name, _what in PUBLIC_SETS.items():
    app.command(_name, help=f"{_what}\n\nExample:  jcs data make {_name} downloads/{_name} -o {_name}.csv")(
        _public_set(_name)
    )
