"""`jcs data make table` and `images`: one's own slices as a manifest, in one command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.choices import ContradictionRule
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.data_check import AcceptLeaks, CheckOption, show_counts
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FILE_OUTPUT

if TYPE_CHECKING:
    from jcs_ct.data.sources.own_manifest import MadeManifest
    from jcs_ct.preprocessing import Window

Output = Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet to write."), FILE_OUTPUT]
PatientPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression whose first group, found in an image's path, is the patient: '(c[0-9]+)_'."
    ),
]
LesionLabels = Annotated[str, typer.Option(help="Values of the masks that are lesion, as 1,2; all but 0 without it.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split, where one is drawn.")]
Contradictions = Annotated[
    ContradictionRule | None,
    typer.Option(
        help="What becomes of slices whose label and mask contradict each other. Without it an infected one with an "
        "empty mask is set aside, and an uninfected one with a marked mask is refused. label-from-mask: the label is "
        "the patient's, and every slice was drawn. drop-mask: the label is the slice's, and masks were not drawn "
        "everywhere, or mark something else."
    ),
]
JoinDuplicates = Annotated[
    bool,
    typer.Option(
        "--join-duplicates/--no-join-duplicates",
        help="Keep patients together whose slices are near-duplicates, where splits are dealt.",
    ),
]
OneClass = Annotated[bool, typer.Option("--one-class", help="All slices have one label, and it is meant.")]
Labels = Annotated[
    str,
    typer.Option(help="Meaning of labels that are not recognised (yes, no, covid, normal, ... are): cap=0,ncp=1."),
]


def table(
    table: Annotated[
        Path, typer.Argument(help="Your table, CSV or Parquet, one row per slice (or study)."), SOME_INPUT
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
        Path | None,
        typer.Option(help="Folder that paths count from; else the table's, or the one below it that holds all."),
        SOME_INPUT,
    ] = None,
    mask_root: Annotated[
        Path | None, typer.Option(help="Folder that masks count from; else --root."), SOME_INPUT
    ] = None,
    patient_pattern: PatientPattern = None,
    labels: Labels = "",
    lesion_labels: LesionLabels = "",
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LEVEL WIDTH", help="What the grey levels show in HU, where the table does not say."),
    ] = None,
    source: Annotated[str, typer.Option(help="Name of the data set in the manifest.")] = "",
    deal: Annotated[
        bool,
        typer.Option("--deal", help="Reassign patients to train, val, test even if the table has a split or folds."),
    ] = False,
    seed: Seed = 0,
    contradictions: Contradictions = None,
    join_duplicates: JoinDuplicates = True,
    one_class: OneClass = False,
    check: CheckOption = True,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Make a checked manifest of your own table, or say all that is in the way, with the option that fixes it.

    Columns with usual headings (File name, Patient ID, COVID, Mask, ...) and plain labels (yes and no, positive and
    negative, ...) are recognised, and what each was taken for is reported. Every image and mask is read. Without a
    split or folds, patients are dealt 60/20/20 to train, val and test, with both labels in each where there are
    enough of them; patients whose slices are near-duplicates stay together.

    Example:  jcs data make table labels.csv -o slices.csv

    Example:  jcs data make table labels.csv -o slices.csv --patient-pattern "(c[0-9]+)_" --root images
    """
    from jcs_ct.data.sources.own_manifest import Making
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
        lesion_labels=lesion_numbers(lesion_labels),
        window=_window(window),
        deal=deal,
    )
    making = Making(
        contradictions=contradictions,
        join_duplicates=join_duplicates,
        one_class=one_class,
        accept_leaks=accept_leaks,
        look=check,
        seed=seed,
    )
    with stage_progress() as progress:
        found = make_table(table, wanted, making, progress=lambda done, total: progress("files", done, total))
    typer.echo(f"columns: {', '.join(f'{name} = {column}' for name, column in found.columns.items())}")
    typer.echo(f"labels: {', '.join(_meaning(*one) for one in found.meanings.items())}")
    if found.unread_columns:
        typer.echo(f"not kept: {', '.join(found.unread_columns)}")
    understood = {
        "columns": found.columns,
        "labels": {word: {"label": label, "rows": count} for word, (label, count) in found.meanings.items()},
        "not_kept": found.unread_columns,
    }
    _write_made(found.made, output, is_checked=check, understood=understood)


def images(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with images/ and perhaps masks/, or with COVID/ and non-COVID/."),
        SOME_INPUT,
    ],
    output: Output,
    patient_pattern: PatientPattern = None,
    one_slice_each: Annotated[
        bool, typer.Option("--one-slice-each", help="Slices in no patient's folder are each of another patient.")
    ] = False,
    uninfected: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Slices, or folders of patients, that show no infection, as 'benign*'; may be repeated.",
        ),
    ] = None,
    labels: Labels = "",
    lesion_labels: LesionLabels = "",
    seed: Seed = 0,
    contradictions: Contradictions = None,
    join_duplicates: JoinDuplicates = True,
    one_class: OneClass = False,
    check: CheckOption = True,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Make a checked manifest of a plain folder: images/ and masks/ with a folder for each patient in both.

    Folders called COVID and non-COVID (or so) are classes, with the patients' folders in them. A slice is infected by
    its class, else when its mask has a pixel; without a mask it is not known, unless --uninfected names it. Patients
    are dealt 60/20/20 to train, val and test, as `jcs data make table` does.

    Example:  jcs data make images my-set -o slices.csv

    Example:  jcs data make images my-set -o slices.csv --uninfected "benign*"
    """
    from jcs_ct.data.sources.own_manifest import Making
    from jcs_ct.data.sources.plain_folders import OwnFolder
    from jcs_ct.data.sources.plain_folders import images as make

    wanted = OwnFolder(
        patient_pattern=patient_pattern,
        one_slice_each=one_slice_each,
        lesion_labels=lesion_numbers(lesion_labels),
        uninfected=tuple(uninfected or ()),
        label_words=_label_words(labels),
    )
    making = Making(
        contradictions=contradictions,
        join_duplicates=join_duplicates,
        one_class=one_class,
        accept_leaks=accept_leaks,
        look=check,
        seed=seed,
    )
    with stage_progress() as progress:
        made = make(folder, wanted, making, progress=lambda done, total: progress("files", done, total))
    _write_made(made, output, is_checked=check, understood={})


def _write_made(made: MadeManifest, output: Path, *, is_checked: bool, understood: Mapping[str, Any]) -> None:
    """Write a manifest and say what is in it, to people and as JSON with how its source was ``understood``."""
    from jcs_ct.data.manifest import count_manifest
    from jcs_ct.data.manifest.usable import remember_clean

    manifest = made.manifest
    manifest.write(output)
    if is_checked and not made.leaks:
        remember_clean(manifest)
    for note in (*made.notes, *map(str, made.leaks)):
        typer.echo(f"note: {note}", err=True)
    counts = ", ".join(
        f"{sum(row.label == label for row in manifest)} {word}"
        for label, word in ((1, "infected"), (0, "not infected"), (None, "not known"))
    )
    typer.echo(f"{len(manifest)} rows of {len({row.patient for row in manifest})} patients: {counts}")
    if made.split_is_dealt:
        typer.echo("patients were dealt to the splits; another --seed deals them otherwise")
    show_counts(manifest)
    say_result(
        {
            "manifest": str(output),
            **understood,
            "is_checked": is_checked,
            "counts": count_manifest(manifest),
            "without_label": sum(row.label is None for row in manifest),
            "notes": made.notes,
            "leaks": [leak.record() for leak in made.leaks],
        }
    )
    typer.echo(f"{'checked' if is_checked else 'not checked, read every file with `jcs data check`'} -> {output}")


def _meaning(word: str, meant: tuple[int | None, int]) -> str:
    """``yes = 1, infected (100)``."""
    value, count = meant
    said = {1: "1, infected", 0: "0, not infected", None: "not known"}[value]
    return f"{word or 'empty'} = {said} ({count})"


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


def _label_words(text: str) -> Mapping[str, int]:
    from jcs_ct.errors import ConfigError

    words: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        word, _, value = part.rpartition("=")
        if not word or value.strip() not in ("0", "1"):
            raise ConfigError(f"--labels needs words that mean 0 or 1, as covid=1,normal=0; got {part!r}")
        words[word.strip()] = int(value)
    return words


def lesion_numbers(text: str) -> tuple[int, ...]:
    """``1,2`` as numbers.

    Raises:
        ConfigError: something else.
    """
    from jcs_ct.errors import ConfigError

    parts = text.replace(",", " ").split()
    if any(not part.isdecimal() or int(part) == 0 for part in parts):
        raise ConfigError(f"--lesion-labels needs whole numbers from 1 on, as 1,2; got {text!r}")
    return tuple(int(part) for part in parts)
