"""Folders of images and masks that lie beside each other -> manifests, split by patient."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, read_mask
from jcs_ct.data.manifest.listed_masks import image_of, masks_beside
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind
from jcs_ct.data.sources.own_manifest import MadeManifest, Making, make_manifest
from jcs_ct.data.sources.patient_names import compile_patient_pattern, patient_in, suggested_pattern
from jcs_ct.data.sources.table_headings import PLAIN_LABELS, label_words, letters
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import LUNG_WINDOW
from jcs_ct.progress import CountProgress


def phantom(folder: Path, *, seed: int = 0) -> Manifest:
    """Folders written by ``jcs phantom --format png`` below ``folder``, one patient each, split 90/10/0.

    A slice is infected when its lesion mask has a pixel.
    """
    rows = []
    for image in sorted(folder.rglob("images/*.png")):
        mask = image.parent.parent / "masks" / image.name
        infected = int(read_mask(mask).any())
        patient = f"phantom-{image.parent.parent.relative_to(folder)}"
        level, width = LUNG_WINDOW.level, LUNG_WINDOW.width
        rows.append(ManifestRow(image, patient, infected, mask, source="phantom", level_hu=level, width_hu=width))
    if not rows:
        raise ConfigError(f"no images/*.png below {folder}; make some with `jcs phantom -o OUT --format png`")
    return Manifest(assign_splits(rows, val=0.10, test=0.0, seed=seed))


@dataclass(frozen=True, kw_only=True)
class OwnFolder:
    """How a plain folder is to be read.

    Args:
        patient_pattern: Regular expression whose first group, found in the path below the images' folder, is the
            patient.
        one_slice_each: Slices that lie in no patient's folder are each of another patient.
        lesion_labels: Values of the masks that are lesion; where there are none, every value but 0 is.
        uninfected: Names (``*`` and ``?`` stand for any signs) of slices, or of their folders, without infection.
        label_words: What folders' names mean, where it is not plain.
    """

    patient_pattern: str | None = None
    one_slice_each: bool = False
    lesion_labels: tuple[int, ...] = ()
    uninfected: tuple[str, ...] = ()
    label_words: Mapping[str, int] = field(default_factory=dict)


def images(
    folder: Path,
    wanted: OwnFolder | None = None,
    making: Making | None = None,
    *,
    progress: CountProgress | None = None,
) -> MadeManifest:
    """A plain folder: ``images/`` and perhaps ``masks/`` with equal names but for their endings, dealt by patient.

    Masks may lie beside their images, too, called ``NAME_seg``, ``NAME_mask`` or so.
    A folder below ``images/`` is a patient, in whichever classes it lies; folders called ``COVID`` and ``non-COVID``
    (or in another plain way) are classes, with patients in them, and may lie in ``folder`` itself. A slice is
    infected by its class, else when its mask has a pixel; without either it is what ``uninfected`` says, or unknown.

    Args:
        folder: Holds ``images/``, or the folders of the classes; and perhaps ``masks/``.
        wanted: How it is to be read.
        making: What the user decides.
        progress: Called with (slices done, total).

    Raises:
        ManifestError: no image, slices of which nothing says whose they are, classes that are not plain, and every
            image and mask that cannot be used, at once.
    """
    wanted = wanted or OwnFolder()
    root = folder / "images" if (folder / "images").is_dir() else folder
    drawn = _pictures(folder / "masks")
    in_masks = frozenset(drawn)
    inside = [path.relative_to(root) for path in _pictures(root) if path not in in_masks]
    classes, problems = _classes(inside, wanted)
    if not inside or (root == folder and not classes):
        raise ConfigError(
            f"no image in {folder / 'images'}; it takes images/ and masks/ with a folder for each patient in both, "
            "or two folders that are called as COVID and non-COVID. A table of slices goes to `jcs data make table`"
        )
    beside = masks_beside(inside)
    inside = [name for name in inside if name not in beside]
    stems = {name.with_suffix("") for name in inside}
    masks = {image_of(path.relative_to(folder / "masks"), stems): path for path in drawn}
    masks |= {stem: root / name for name, stem in beside.items() if stem not in masks}
    problems += [
        ManifestProblem(ProblemKind.MASK, f"{root.name}/ has no slice of this name", str(path))
        for stem, path in masks.items()
        if stem not in stems
    ]
    patients, nameless = _patients(inside, classes, wanted)
    clean, unmatched = _uninfected(inside, wanted.uninfected)
    source = folder.resolve().name
    rows = []
    for name, patient in patients.items():
        mask = masks.get(name.with_suffix(""))
        label = 0 if name in clean else classes.get(name.parts[0]) if len(name.parts) > 1 else None
        labels = () if mask is None else wanted.lesion_labels
        rows.append(ManifestRow(root / name, patient, label, mask, source=source, lesion_labels=labels))
    made = make_manifest(
        str(folder),
        rows,
        making or Making(),
        deal=True,
        problems=[*problems, *nameless, *unmatched],
        class_remedy="--uninfected 'NAME*' for slices, or folders of patients, that show no infection; or ",
        progress=progress,
    )
    called = f"{len(beside)} pictures are taken for masks by their names, as {next(iter(beside), '')}"
    return replace(
        made,
        notes=(
            *([called] if beside else []),
            *_in_several_classes(patients, classes),
            *made.notes,
            *_unknown(made.manifest),
        ),
    )


def _pictures(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in _IMAGE_SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


def _classes(inside: Sequence[Path], wanted: OwnFolder) -> tuple[dict[str, int | None], list[ManifestProblem]]:
    """The label of every first folder, where some of them are called as both classes are, or as the user says."""
    tops = [name.parts[0] for name in inside if len(name.parts) > 1]
    bare = {top: _CLASS_AFFIX.sub("", letters(top)) for top in tops}
    words = {bare[top]: value for top, value in wanted.label_words.items() if top in bare}
    plain = {PLAIN_LABELS[word] for word in bare.values() if word in PLAIN_LABELS}
    if len(plain) < 2 and not words:
        return {}, []
    said = {top: words.get(bare[top], PLAIN_LABELS.get(bare[top])) for top in bare}
    known = {top: value for top, value in said.items() if value is not None}
    meanings, problems = label_words(tops, known)
    return dict(meanings), problems


def _patients(
    inside: Sequence[Path], classes: Mapping[str, int | None], wanted: OwnFolder
) -> tuple[dict[Path, str], list[ManifestProblem]]:
    """The patient of every image, and that nothing says whose images are."""
    if wanted.patient_pattern is not None:
        compiled = compile_patient_pattern(wanted.patient_pattern)
        found = {name: patient_in(name.as_posix(), compiled) for name in inside}
        nameless = [name for name, patient in found.items() if not patient]
        if not nameless:
            return found, []
        what = f"the patient pattern is not found in {len(nameless)} name(s), as {nameless[0]}"
        return found, [ManifestProblem(ProblemKind.PATIENT, what)]
    flat = [name for name in inside if len(_below_class(name, classes).parts) == 1]
    alone = frozenset(flat)
    patients = {
        name: name.with_suffix("").as_posix() if name in alone else _below_class(name, classes).parent.as_posix()
        for name in inside
    }
    if len(flat) < 2 or wanted.one_slice_each:
        return patients, []
    where = f"{flat[0].parent.name}/" if flat[0].parent.name else "images/ itself"
    what = (
        f"{len(flat)} slices lie in {where}{' and other classes' if classes else ''}, as {flat[0]} and {flat[1]}, "
        "and nothing says whose they are: neighbouring slices of one patient would end up in different splits"
    )
    example = "say which part of a name is the patient, as --patient-pattern '(c[0-9]+)_' for c01_0088.jpg"
    remedy = (
        f"put each patient's slices in a folder, or, {suggested_pattern(flat) or example}, or --one-slice-each if "
        "every slice is of another patient"
    )
    return patients, [ManifestProblem(ProblemKind.PATIENT, what, remedy=remedy)]


def _below_class(name: Path, classes: Mapping[str, int | None]) -> Path:
    """A slice's path without the folder of its class."""
    return Path(*name.parts[1:]) if len(name.parts) > 1 and name.parts[0] in classes else name


def _in_several_classes(patients: Mapping[Path, str], classes: Mapping[str, int | None]) -> list[str]:
    """How many patients have slices in the folders of several classes."""
    folders: dict[str, set[str]] = {}
    for name, patient in patients.items():
        if name.parts[0] in classes:
            folders.setdefault(patient, set()).add(name.parts[0])
    several = sorted(patient for patient, found in folders.items() if len(found) > 1)
    if not several:
        return []
    return [
        f"{len(several)} patient(s) have slices in the folders of several classes, as {several[0]}: each is one "
        "patient and stays in one split; where folders of one name are of different patients, rename them"
    ]


def _uninfected(inside: Sequence[Path], patterns: Sequence[str]) -> tuple[set[Path], list[ManifestProblem]]:
    """The slices that the patterns name, and patterns that name none."""
    found: set[Path] = set()
    problems = []
    for pattern in patterns:
        named = {name for name in inside if any(_is_named(part, pattern) for part in (name, *name.parents))}
        if not named:
            what = (
                f"--uninfected {pattern!r} names no slice and no folder of them, as {inside[0].parent} or {inside[0]}"
            )
            problems.append(ManifestProblem(ProblemKind.LABEL, what))
        found |= named
    return found, problems


def _is_named(path: Path, pattern: str) -> bool:
    return fnmatchcase(path.as_posix(), pattern.rstrip("/")) or fnmatchcase(path.name, pattern.rstrip("/"))


def _unknown(manifest: Manifest) -> list[str]:
    without = [row for row in manifest if row.label is None and row.mask is None]
    if not without:
        return []
    return [
        f"{len(without)} slices are of no known label, as {without[0].path.name}: they have no mask, and are neither "
        "trained on nor judged. If they show no infection, say so: --uninfected 'NAME*' (of slices or their folders)"
    ]


_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
#: What the name of a class's folder may have around the class: ``CT_COVID``, ``normal_images``.
_CLASS_AFFIX = re.compile(r"^(?:ct|images?|slices?)(?=.)|(?<=.)(?:images?|slices?|cases?|patients?|scans?|cts?)$")
