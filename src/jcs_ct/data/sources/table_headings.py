"""What the columns of anyone's table hold, and what the words of its label column mean, where both are plain."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind
from jcs_ct.data.manifest.parsing import LABELS
from jcs_ct.data.manifest.rows import COLUMNS, SPLITS
from jcs_ct.data.manifest.table_files import TextTable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Headings by what the column holds, in the letters and figures alone; the manifest's own name goes before all.
USUAL_HEADINGS: Mapping[str, frozenset[str]] = {
    "path": _words(
        "path image images img file filename imagefile imagefilename imagename imagepath filepath filelocation slice "
        "slicefile slicename slicepath slicefilename picture scan ctslice ctimage png jpg volume ct ctpath ctfile "
        "niftipath nifti datei dateiname dateipfad bild bilddatei bildname schicht schnitt fichier nomfichier coupe "
        "archivo imagen corte"
    ),
    "patient": _words(
        "patient patients patientid patientno patientnumber patientname patientcode pid pseudonym subject subjectid "
        "subj case caseid caseno caseidentifier person patientennummer patientennr patientenid "
        "fall fallnummer fallnr proband sujet paciente"
    ),
    "label": _words(
        "label labels infected infection isinfected covid iscovid hascovid covid19 iscovid19 sarscov2 covidlabel "
        "covidpositive coviddiagnosis covidstatus covidresult covid19label covid19positive "
        "covid19diagnosis covid19status covid19result class classlabel target diagnosis groundtruth positive "
        "ispositive infiziert befund diagnose infecte diagnostic infectado diagnostico etiqueta klasse"
    ),
    "mask": _words(
        "mask masks maskfile maskfilename maskname maskpath lesionmask lesionmaskpath segmentation segmentationmask "
        "segmentationfile segmentationpath seg segfile segpath lesion lesions annotation annotationfile "
        "annotationmask labelmap roi maske maskendatei segmentierung masque mascara"
    ),
    "split": _words("split subset partition set datasplit aufteilung"),
}
_NEEDED = ("path", "label")
SPLIT_WORDS: Mapping[str, str] = {
    **{name: name for name in ("", *SPLITS)},
    **{"training": "train", "tr": "train", "valid": "val", "validation": "val", "dev": "val"},
    **{"testing": "test", "holdout": "test", "hold-out": "test"},
}
_FILE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".gz", ".nii", ".dcm"})

#: Words of a label column that mean one thing in a table that says who is infected; letters and figures alone.
PLAIN_LABELS: Mapping[str, int] = {
    **dict.fromkeys(
        _words(
            "no n negative neg normal healthy false control uninfected notinfected noninfected noninfection noncovid "
            "noncovid19 nocovid nocovid19 notcovid notcovid19 covidnegative covid19negative "
            "nein negativ gesund falsch unauffaellig non negatif sain negativo sano"
        ),
        0,
    ),
    **dict.fromkeys(
        _words(
            "yes y positive pos infected true covid covid19 sarscov2 covidpositive covid19positive infection ncp "
            "ja positiv infiziert wahr oui positif infecte si positivo infectado"
        ),
        1,
    ),
}


@dataclass(frozen=True)
class FoundColumns:
    """Which column holds what.

    Args:
        columns: The table's column by the manifest's name.
        problems: Columns that are missing, or of which several may be meant.
    """

    columns: Mapping[str, str]
    problems: tuple[ManifestProblem, ...]


def letters(text: str) -> str:
    """A heading or word by its letters and figures alone, small, without accents: ``File name`` -> ``filename``."""
    spelled = text.lower()
    for umlaut, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        spelled = spelled.replace(umlaut, plain)
    bare = "".join(sign for sign in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(sign))
    return re.sub(r"[^a-z0-9]", "", bare)


def find_columns(table: TextTable, named: Mapping[str, str], *, has_patients: bool) -> FoundColumns:
    """The column of each thing that a manifest has, by its heading, and by its cells where several may be meant.

    Args:
        table: Headings in small letters.
        named: Columns that the user names, by the manifest's name.
        has_patients: Whether patients are told in another way, so that no column of them is needed.
    """
    columns = {name: name for name in COLUMNS if name in table.columns}
    if "group" in columns and not label_words(_cells(table, "group"), {})[1]:
        del columns["group"]  # cases and controls, not patients that belong together
    problems: list[ManifestProblem] = []
    undecided = set()
    taken = {heading.lower() for heading in named.values()}
    for name in USUAL_HEADINGS:
        if name in named or name in columns or (name == "patient" and has_patients):
            continue
        found = [heading for heading in table.columns if heading not in taken and _may_be(name, heading)]
        found = _by_cells(name, found, table)
        if len(found) == 1:
            columns[name] = found[0]
        elif found:
            undecided.add(name)
            problems.append(_choice(name, [table.typed(heading) for heading in found]))
    columns |= {name: heading.lower() for name, heading in named.items()}
    had = ", ".join(table.typed(heading) for heading in table.columns if heading) or "none"
    problems += [
        ManifestProblem(ProblemKind.COLUMN, f"it has no column {heading}; it has {had}")
        for heading in columns.values()
        if heading not in table.columns
    ]
    problems += [_missing(name, table, columns) for name in _NEEDED if name not in columns and name not in undecided]
    if has_patients:
        columns.pop("patient", None)
    elif "patient" not in columns and "patient" not in undecided:
        problems.append(_missing("patient", table, columns))
    return FoundColumns(columns, tuple(problems))


def label_words(cells: Iterable[str], said: Mapping[str, int]) -> tuple[dict[str, int | None], list[ManifestProblem]]:
    """What each word of a label column means, and a problem that names those of which it is not plain.

    Args:
        cells: Of the column.
        said: What the user says that words mean.
    """
    counts = Counter(cells)
    wanted = {word.lower(): value for word, value in said.items()}
    meanings: dict[str, int | None] = {}
    for word in counts:
        if word.lower() in wanted:
            meanings[word] = wanted[word.lower()]
        elif word.lower() in LABELS:
            meanings[word] = LABELS[word.lower()]
        elif letters(word) in PLAIN_LABELS:
            meanings[word] = PLAIN_LABELS[letters(word)]
    unclear = sorted(word for word in counts if word not in meanings)
    if not unclear:
        return meanings, []
    listed = ", ".join(f"{word!r} ({counts[word]} lines)" for word in unclear[:8])
    more = f" and {len(unclear) - 8} more" if len(unclear) > 8 else ""
    example = ",".join(f"{word}=?" for word in unclear[:8])
    remedy = f"--labels {example} with 1 (infected) or 0 (not infected) for each ?; lines without a label stay empty"
    what = f"label must be 0 (not infected), 1 or empty, and is {listed}{more}: the meaning of each is not recognised"
    return meanings, [ManifestProblem(ProblemKind.LABEL, what, remedy=remedy)]


def _may_be(name: str, heading: str) -> bool:
    return letters(heading) in USUAL_HEADINGS[name]


def _by_cells(name: str, headings: Sequence[str], table: TextTable) -> list[str]:
    """The headings that the cells below them speak for; all where none does, or one alone is there."""
    if name == "path" and all(_are_numbers(_cells(table, one)) for one in headings):
        files = [one for one in table.columns if one and _are_files(_cells(table, one))]
        return [one for one in files if not _may_be("mask", one)]
    if name == "split":  # as a set's name it says nothing of training
        return [one for one in headings if all(cell.lower() in SPLIT_WORDS for cell in _cells(table, one))]
    if name in ("path", "mask"):  # numbers count slices or lesions
        headings = [one for one in headings if not _are_numbers(_cells(table, one))]
    if len(headings) < 2:
        return list(headings)
    if name == "patient":
        return list(headings[:1] if len({_partition(_cells(table, one)) for one in headings}) == 1 else headings)
    if name == "label":
        return [one for one in headings if not label_words(_cells(table, one), {})[1]] or list(headings)
    return [one for one in headings if _are_files(_cells(table, one))] or list(headings)


def _partition(cells: Sequence[str]) -> tuple[int, ...]:
    """Which cells are alike, whatever they say."""
    order: dict[str, int] = {}
    return tuple(order.setdefault(cell, len(order)) for cell in cells)


def _cells(table: TextTable, heading: str) -> list[str]:
    return [values[heading] for _, values in table]


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether the cells that say something are whole numbers."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(cell.isdecimal() for cell in filled)


def _are_files(cells: Sequence[str]) -> bool:
    """Whether the cells that say something are names of pictures or volumes."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(PurePath(cell.lower()).suffix in _FILE_ENDINGS for cell in filled)


def option_of(name: str) -> str:
    """The option that names a column."""
    return f"--{'image' if name == 'path' else name}-column"


def _choice(name: str, found: Sequence[str]) -> ManifestProblem:
    what = f"several columns may hold the {option_of(name)[2:-7]}: {', '.join(found)}"
    remedy = " or ".join(f"{option_of(name)} {_quoted(heading)}" for heading in found)
    return ManifestProblem(ProblemKind.COLUMN, what, remedy=remedy)


def _missing(name: str, table: TextTable, columns: Mapping[str, str]) -> ManifestProblem:
    left = [table.typed(heading) for heading in table.columns if heading and heading not in columns.values()]
    remain = f"the other columns are {', '.join(left)}" if left else "no other columns remain"
    what = f"no column was recognised as the {option_of(name)[2:-7]}; {remain}"
    remedy = f"{option_of(name)} {_quoted(left[0]) if len(left) == 1 else 'NAME'}"
    if name == "patient":
        remedy += ", or --patient-pattern '(c[0-9]+)_' for names as c01_0088.jpg"
    return ManifestProblem(ProblemKind.PATIENT if name == "patient" else ProblemKind.COLUMN, what, remedy=remedy)


def _quoted(heading: str) -> str:
    return heading if heading.isalnum() else f"'{heading}'"
