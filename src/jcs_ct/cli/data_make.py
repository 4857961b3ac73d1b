"""`jcs data make`: data sets, one's own or public ones, as manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct.choices import CT100Folds
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.data_check import AcceptLeaks, CheckOption, look_at_made
from jcs_ct.cli.inputs import SOME_INPUT

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.data.sources.dicom_studies import SegmentationRule
    from jcs_ct.preprocessing import Window

app = typer.Typer(
    name="make",
    help="Turn your own data, or a public data set, into a manifest, split by patient.",
    no_args_is_help=True,
)

Output = Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet to write.")]
Folder = Annotated[Path, typer.Argument(help="Folder of the data set as it is handed out."), SOME_INPUT]
PatientPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression whose first group, found in an image's path, is the patient: '(c[0-9]+)_'."
    ),
]
LesionLabels = Annotated[str, typer.Option(help="Values of the masks that are lesion, as 1,2; all but 0 without it.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split, where one is drawn.")]

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


@app.command("table")
def table(
    table: Annotated[
        Path, typer.Argument(help="Your table, CSV or Parquet, with a line a slice (or a study)."), SOME_INPUT
    ],
    output: Output,
    image_column: Annotated[str | None, typer.Option(help="Column of the image's path.")] = None,
    patient_column: Annotated[str | None, typer.Option(help="Column of the patient.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    mask_column: Annotated[str | None, typer.Option(help="Column of the lesion mask's path.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Column of train, val or test.")] = None,
    fold_column: Annotated[str | None, typer.Option(help="Column of the fold of a cross-validation.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column of patients that splits must keep together, as near-duplicates.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths count from; else the table's."), SOME_INPUT
    ] = None,
    mask_root: Annotated[
        Path | None, typer.Option(help="Folder that masks count from; else --root."), SOME_INPUT
    ] = None,
    patient_pattern: PatientPattern = None,
    labels: Annotated[str, typer.Option(help="What the words of the label column mean, as covid=1,normal=0.")] = "",
    lesion_labels: LesionLabels = "",
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LEVEL WIDTH", help="What the grey levels show in HU, where the table does not say."),
    ] = None,
    source: Annotated[str, typer.Option(help="Name of the data set in the manifest.")] = "",
    seed: Seed = 0,
    check: CheckOption = True,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Make a manifest of your own table, and check it.

    Columns with usual names (image, patient, label, mask, split, fold, group, ...) are found; others are named. It
    says what it took for what. Without a split, patients are dealt 60/20/20 to train, val and test.

    Example:  jcs data make table labels.csv -o slices.csv --patient-pattern "(c[0-9]+)_" --root images
    """
    from jcs_ct.data.sources.own_tables import OwnTable, make_table

    given = {
        "path": image_column,
        "patient": patient_column,
        "label": label_column,
        "mask": mask_column,
        "split": split_column,
        "fold": fold_column,
        "group": group_column,
    }
    wanted = OwnTable(
        columns={name: column for name, column in given.items() if column is not None},
        root=root,
        mask_root=mask_root,
        patient_pattern=patient_pattern,
        label_words=_label_words(labels),
        source=source,
        lesion_labels=_numbers(lesion_labels),
        window=_window(window),
        seed=seed,
    )
    made = make_table(table, wanted)
    made.manifest.write(output)
    typer.echo(f"columns: {', '.join(f'{name} = {column}' for name, column in made.columns.items())}")
    if made.unread_columns:
        typer.echo(f"not kept: {', '.join(made.unread_columns)}")
    rows = made.manifest.rows
    counts = ", ".join(
        f"{sum(row.label == label for row in rows)} {word}"
        for label, word in ((1, "infected"), (0, "not infected"), (None, "not known"))
    )
    typer.echo(f"{len(rows)} rows of {len({row.patient for row in rows})} patients: {counts}")
    for name, part in made.manifest.parts().items():
        how = " (dealt out)" if made.split_is_drawn else ""
        typer.echo(f"{name}: {len({row.patient for row in part})} patients, {len(part)} rows{how}")
    typer.echo(f"-> {output}")
    look_at_made(output, wanted=check, accept_leaks=accept_leaks)


def _window(said: tuple[float, float] | None) -> Window | None:
    from jcs_ct.errors import ConfigError
    from jcs_ct.preprocessing import Window

    if said is None:
        return None
    if not said[1] > 0:
        raise ConfigError(
            f"--window needs a level and a width greater than 0, as -600 1500; got {said[0]:g} {said[1]:g}"
        )
    return Window(*said)


def _label_words(text: str) -> dict[str, int]:
    from jcs_ct.errors import ConfigError

    words: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        word, _, value = part.rpartition("=")
        if not word or value.strip() not in ("0", "1"):
            raise ConfigError(f"--labels needs words that mean 0 or 1, as covid=1,normal=0; got {part!r}")
        words[word.strip()] = int(value)
    return words


def _numbers(text: str) -> tuple[int, ...]:
    from jcs_ct.errors import ConfigError

    parts = text.replace(",", " ").split()
    if any(not part.isdecimal() or int(part) == 0 for part in parts):
        raise ConfigError(f"--lesion-labels needs whole numbers from 1 on, as 1,2; got {text!r}")
    return tuple(int(part) for part in parts)


@app.command("images")
def images(
    folder: Annotated[Path, typer.Argument(help="Folder with images/ and perhaps masks/."), SOME_INPUT],
    output: Output,
    patient_pattern: PatientPattern = None,
    one_slice_each: Annotated[
        bool, typer.Option("--one-slice-each", help="Slices in images/ itself are each of another patient.")
    ] = False,
    lesion_labels: LesionLabels = "",
    seed: Seed = 0,
    check: CheckOption = True,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Make a manifest of a plain folder, and check it: images/ and masks/ with a folder for each patient in both.

    Example:  jcs data make images my-set -o slices.csv
    """
    from jcs_ct.data.sources.plain_folders import images as make

    labels = _numbers(lesion_labels)
    with stage_progress() as progress:
        made = make(
            folder,
            seed=seed,
            patient_pattern=patient_pattern,
            one_slice_each=one_slice_each,
            lesion_labels=labels,
            progress=lambda done, total: progress("slices", done, total),
        )
    _write(made, output)
    look_at_made(output, wanted=check, accept_leaks=accept_leaks)


@app.command("nifti")
def nifti(
    folder: Annotated[Path, typer.Argument(help="Folder with images/NAME.nii.gz and masks/NAME.nii.gz."), SOME_INPUT],
    output: Output,
    patient_pattern: PatientPattern = None,
    lesion_labels: LesionLabels = "",
    seed: Seed = 0,
) -> None:
    """Make a manifest of NIfTI volumes and their masks, a row a study; then see `jcs data slices`.

    Example:  jcs data make nifti my-volumes -o studies.csv
    """
    from jcs_ct.data.sources.volume_pairs import VolumePairs, nifti_pairs

    labels = _numbers(lesion_labels)
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
    seed: Seed = 0,
) -> None:
    """Make a manifest of a raw data set of nnU-Net, a row a case; then see `jcs data slices`.

    Example:  jcs data make nnunet nnUNet_raw/Dataset115_COVID -o studies.csv
    """
    from jcs_ct.data.sources.volume_pairs import VolumePairs, nnunet_raw

    labels = _numbers(lesion_labels)
    wanted = VolumePairs(patient_pattern=patient_pattern, lesion_labels=labels, seed=seed)
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
        typer.Option(help="Table with patient, study or folder; label; perhaps mask (NIfTI or DICOM SEG) and split."),
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
        typer.Option(help="With --segmentations: type of the segments that are lesion, as opacity; others are left."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave studies out that the gate refuses, and say so.")
    ] = False,
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
    _make_dicom(folder, output, labels, salt or output.with_suffix(".salt"), rule, skip_bad)


def _make_dicom(
    folder: Path, output: Path, labels: Path | None, salt: Path, rule: SegmentationRule | None, skip_bad: bool
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
    typer.echo(f"pseudonyms follow from {salt}: keep it secret, and keep it for further manifests of these patients")


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
    typer.echo(f"{len(manifest)} studies of {len({row.patient for row in manifest})} patients -> {output}")
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
