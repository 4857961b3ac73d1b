"""NIfTI volumes and their lesion masks, as plain folders and nnU-Net's raw data sets have them -> a row a study."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jcs_ct.data.manifest import Manifest, ManifestRow, read_mask
from jcs_ct.data.manifest.dealt_splits import deal_splits
from jcs_ct.data.manifest.listed_masks import without_drawn_words
from jcs_ct.data.manifest.mask_labels import MaskLabels, absent_labels, foreign_masks
from jcs_ct.data.sources.nnunet_splits import SPLITS_NAME, with_splits
from jcs_ct.data.sources.patient_names import compile_patient_pattern, patient_in, suggested_pattern
from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.files import read_json
from jcs_ct.imaging.mask_pictures import mask_labels
from jcs_ct.imaging.masks import open_mask
from jcs_ct.progress import CountProgress, counted

_ENDINGS = (".nii.gz", ".nii")
#: Of slices, in a two-dimensional data set of nnU-Net.
_SLICE_ENDING = ".png"
_OUR_PATTERN = "--patient-pattern '^(p[0-9]+)_', as `jcs data export` names them"
#: A case as our exports name it: the number of its patient, and a hash.
_OUR_CASE = re.compile(r"p\d{4,}_[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class VolumePairs:
    """How volumes and masks become rows.

    Args:
        patient_pattern: Regular expression whose first group, found in a volume's name, is the patient; without one
            every volume is of another patient.
        lesion_labels: Values of the masks that are lesion; where there are none, every value but 0 is.
        one_slice_each: Whether every slice of a two-dimensional data set is of another patient.
        seed: Of the split.
    """

    patient_pattern: str | None = None
    lesion_labels: tuple[int, ...] = ()
    one_slice_each: bool = False
    seed: int = 0


def nifti_pairs(folder: Path, wanted: VolumePairs, *, progress: CountProgress | None = None) -> Manifest:
    """``images/NAME.nii.gz`` and ``masks/NAME.nii.gz``, split 60/20/20 by patient.

    A mask may be called ``NAME_mask``, ``NAME_seg`` or so, too, where it is the only one of its volume.
    A study is infected when its mask has a lesion voxel; without a mask its label is not known.
    ``progress`` is called with (volumes done, total).

    Raises:
        ConfigError: no volume, or every mask without a volume and every one that cannot be read, at once.
    """
    volumes, masks = _volumes(folder / "images"), _volumes(folder / "masks")
    if not volumes:
        raise ConfigError(
            f"no NIfTI volume in {folder / 'images'}; it takes images/NAME.nii.gz and masks/NAME.nii.gz"
        )
    masks = _by_volume(masks, volumes)
    problems = [
        f"{path}: images/ has no volume of this name; call a mask as its volume, or NAME_mask, NAME_seg"
        for name, path in masks.items()
        if name not in volumes
    ]
    held: list[MaskLabels] = []
    rows = _rows(volumes, masks, folder.resolve().name, wanted, problems, held, progress)
    problems += map(str, [*absent_labels(held), *foreign_masks(held)])
    _refuse(folder, problems)
    return Manifest(_dealt(rows, wanted.seed))


def nnunet_raw(
    folder: Path, wanted: VolumePairs, *, splits: Path | None = None, progress: CountProgress | None = None
) -> Manifest:
    """A raw data set of nnU-Net: ``dataset.json``, ``imagesTr/NAME_0000.nii.gz`` and ``labelsTr/NAME.nii.gz``.

    In a two-dimensional one of PNG a case is a slice, and ``patient_pattern`` must say whose it is.

    A case is infected when its mask has a lesion voxel. Cases of ``imagesTs`` test (without ``labelsTs`` their label
    is not known) and the others are dealt to train and val; without ``imagesTs`` all are split 60/20/20. Where no
    labels are wanted, all that ``dataset.json`` names are lesion but the background and the one to ignore.

    Args:
        folder: Of the data set.
        wanted: How volumes and masks become rows.
        splits: nnU-Net's ``splits_final.json``, whose folds (or train and val, where it holds one) replace the
            dealing; the one in ``folder`` where it lies there.
        progress: Called with (cases done, total), for the cases to train on and then for those to test on.

    Raises:
        ConfigError: more than one channel, no NIfTI, or every case without a mask, every mask without a case, every
            mask that cannot be read and what is wrong with the splits, at once.
    """
    facts = _facts(folder / "dataset.json")
    foreground = _foreground(facts)
    labels = wanted.lesion_labels or foreground
    held: list[MaskLabels] = []
    wanted = replace(wanted, lesion_labels=labels)
    source = str(facts.get("name") or folder.resolve().name)
    problems: list[str] = []
    found: dict[str, list[ManifestRow]] = {}
    endings = _ENDINGS if facts.get("file_ending", ".nii.gz") in _ENDINGS else (_SLICE_ENDING,)
    for part in ("Tr", "Ts"):
        volumes = {
            name.removesuffix("_0000"): path for name, path in _volumes(folder / f"images{part}", endings).items()
        }
        masks = _volumes(folder / f"labels{part}", endings)
        needed = volumes if part == "Tr" else {}
        problems += [
            f"{path}: labelsTr has no mask of case {name}" for name, path in needed.items() if name not in masks
        ]
        problems += [
            f"{path}: images{part} has no case {name}" for name, path in masks.items() if name not in volumes
        ]
        found[part] = _rows(volumes, masks, source, wanted, problems, held, progress)
    problems += map(
        str, [*(absent_labels(held) if labels != foreground else []), *foreign_masks(held, _declared(facts))]
    )
    if not found["Tr"]:
        problems.append(f"imagesTr has no {' or '.join(endings)}; give the folder that holds dataset.json")
    problems += _one_slice_problem([*found["Tr"], *found["Ts"]], wanted)
    tested = {row.patient for row in found["Ts"]}
    problems += [
        f"{row.path}: patient {row.patient} is in imagesTs, too" for row in found["Tr"] if row.patient in tested
    ]
    if splits is None and (folder / SPLITS_NAME).is_file():
        splits = folder / SPLITS_NAME
    if splits is None:
        _refuse(folder, problems)
        dealt = _dealt(found["Tr"], wanted.seed, tests=not tested)
    else:
        dealt = with_splits(found["Tr"], splits, problems)
        _refuse(folder, problems)
    return Manifest((*dealt, *(replace(row, split="test") for row in found["Ts"])))


def _facts(path: Path) -> Mapping[str, Any]:
    """What ``dataset.json`` says, of one channel in NIfTI."""
    facts = read_json(path)
    if not isinstance(facts, dict) or not isinstance(facts.get("labels"), dict):
        raise ConfigError(f"{path} names no labels; a raw data set of nnU-Net has them there")
    channels = facts.get("channel_names") or facts.get("modality") or {"0": "CT"}
    if len(channels) != 1:
        raise ConfigError(f"{path} names {len(channels)} channels; one (CT) is read")
    ending = str(facts.get("file_ending", ".nii.gz"))
    if ending not in (*_ENDINGS, _SLICE_ENDING):
        raise ConfigError(f"{path} says files end in {ending}; convert them to NIfTI (.nii.gz), or slices to PNG")
    return facts


def _foreground(facts: Mapping[str, Any]) -> tuple[int, ...]:
    """The labels but background and ignore: ``{"lesion": 1}`` in version 2, ``{"1": "lesion"}`` in version 1."""
    return _declared(facts, but=("background", "ignore"))


def _declared(facts: Mapping[str, Any], but: Collection[str] = ()) -> tuple[int, ...]:
    """The labels that are not 0, without those of the names ``but``."""
    labels: set[int] = set()
    for name, value in facts["labels"].items():
        if str(name).isdecimal():
            name, value = value, int(name)
        if str(name).lower() not in but:
            labels |= {int(one) for one in (value if isinstance(value, list) else [value])}
    return tuple(sorted(labels - {0}))


def _one_slice_problem(rows: Sequence[ManifestRow], wanted: VolumePairs) -> list[str]:
    """That nothing says whose the slices of a two-dimensional data set are."""
    slices = [row.path for row in rows if not row.is_study]
    if len(slices) < 2 or wanted.patient_pattern is not None or wanted.one_slice_each:
        return []
    ours = all(_OUR_CASE.match(path.name) for path in slices)
    pattern = _OUR_PATTERN if ours else suggested_pattern(slices)
    remedy = pattern or "--patient-pattern with a regular expression"
    return [
        f"{len(slices)} slices, as {slices[0].name}, and nothing says whose they are: neighbours of one patient "
        f"would end up in different splits; {remedy}, or --one-slice-each"
    ]


def _volumes(folder: Path, endings: Sequence[str] = _ENDINGS) -> dict[str, Path]:
    """The volumes (or slices) of a folder by their names without ending."""
    return {
        path.name.removesuffix(ending): path
        for ending in endings
        for path in sorted(folder.glob(f"*{ending}"))
        if not path.name.startswith(".")
    }


def _by_volume(masks: Mapping[str, Path], volumes: Collection[str]) -> dict[str, Path]:
    """Masks by their volume's name: their own, or that without ``_mask``, ``_seg``, ... where it has one mask."""
    bare = {name: without_drawn_words(Path(f"{name}.nii")) for name in masks}
    taken = Counter(name if name in volumes else bare[name] for name in masks)
    return {
        bare[name] if name not in volumes and bare[name] in volumes and taken[bare[name]] == 1 else name: path
        for name, path in masks.items()
    }


def _rows(
    volumes: Mapping[str, Path],
    masks: Mapping[str, Path],
    source: str,
    wanted: VolumePairs,
    problems: list[str],
    held: list[MaskLabels],
    progress: CountProgress | None,
) -> list[ManifestRow]:
    pattern = None if wanted.patient_pattern is None else compile_patient_pattern(wanted.patient_pattern)
    rows = []
    for name, path in counted(volumes.items(), progress):
        patient = name if pattern is None else patient_in(name, pattern)
        if not patient:
            problems.append(f"{path}: the patient pattern is not found in {name}")
        mask, label = masks.get(name), None
        try:
            label = None if mask is None else int(_has_lesion(mask, wanted.lesion_labels, held))
        except JCSError as error:
            problems.append(str(error))
        labels = () if mask is None else wanted.lesion_labels
        rows.append(ManifestRow(path, patient, label, mask, source=source, lesion_labels=labels))
    return rows


def _has_lesion(mask: Path, labels: tuple[int, ...], held: list[MaskLabels]) -> bool:
    """Whether a mask shows lesion; what values it has is put to ``held``, where some only are lesion."""
    if mask.name.endswith(_SLICE_ENDING):
        lesions, present = read_mask(mask, labels), frozenset(mask_labels(mask, labels))
    else:
        study = open_mask(mask, labels)
        lesions, present = study.lesions.labels, study.labels
    if labels:
        held.append(MaskLabels(mask, present, labels))
    return bool(lesions.any())


def _dealt(rows: list[ManifestRow], seed: int, *, tests: bool = True) -> tuple[ManifestRow, ...]:
    """The rows with splits; what would test trains where other rows do."""
    dealt = deal_splits(rows, seed=seed)
    return tuple(replace(row, split="train") if row.split == "test" and not tests else row for row in dealt)


def _refuse(folder: Path, problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n  ".join([f"{folder} cannot be used, {len(problems)} problem(s):", *problems]))
