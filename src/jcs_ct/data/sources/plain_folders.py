"""Folders of images and masks that lie beside each other -> manifests, split by patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, read_mask
from jcs_ct.data.sources.patient_names import compile_patient_pattern, patient_in
from jcs_ct.errors import ConfigError, MaskError
from jcs_ct.progress import CountProgress, counted


def phantom(folder: Path, *, seed: int = 0) -> Manifest:
    """Folders written by ``jcs phantom --format png`` below ``folder``, one patient each, split 90/10/0.

    A slice is infected when its lesion mask has a pixel.
    """
    rows = []
    for image in sorted(folder.rglob("images/*.png")):
        mask = image.parent.parent / "masks" / image.name
        infected = int(read_mask(mask).any())
        patient = f"phantom-{image.parent.parent.relative_to(folder)}"
        rows.append(ManifestRow(image, patient, infected, mask, source="phantom"))
    if not rows:
        raise ConfigError(f"no images/*.png below {folder}; make some with `jcs phantom -o OUT --format png`")
    return Manifest(assign_splits(rows, val=0.10, test=0.0, seed=seed))


def images(
    folder: Path,
    *,
    seed: int = 0,
    patient_pattern: str | None = None,
    one_slice_each: bool = False,
    lesion_labels: tuple[int, ...] = (),
    progress: CountProgress | None = None,
) -> Manifest:
    """A plain folder: ``images/`` and ``masks/`` with equal names but for their endings, split 70/15/15 by patient.

    A folder below ``images/`` is a patient. A slice is infected when its mask has a pixel; without a mask its label
    is not known.

    Args:
        folder: Holds ``images/`` and perhaps ``masks/``.
        seed: Of the split.
        patient_pattern: Regular expression whose first group, found in the path below ``images/``, is the patient.
        one_slice_each: Slices that lie in ``images/`` itself are each of another patient.
        lesion_labels: Values of the masks that are lesion; where there are none, every value but 0 is.
        progress: Called with (slices done, total).

    Raises:
        ConfigError: no image, several slices in ``images/`` itself of which nothing says whose they are, or every
            mask that cannot be read or has no image, at once.
    """
    root = folder / "images"
    inside = [path.relative_to(root) for path in _pictures(root)]
    masks = {path.relative_to(folder / "masks").with_suffix(""): path for path in _pictures(folder / "masks")}
    if not inside:
        raise ConfigError(f"no image in {root}; it takes images/ and masks/, with a folder for each patient in both")
    rows: list[ManifestRow] = []
    stems = {name.with_suffix("") for name in inside}
    problems = [f"{path}: images/ has no slice of this name" for stem, path in masks.items() if stem not in stems]
    source = folder.resolve().name
    for name, patient in counted(_patients(inside, patient_pattern, one_slice_each).items(), progress):
        row = ManifestRow(root / name, patient, None, source=source)
        mask = masks.get(name.with_suffix(""))
        if mask is not None:
            try:
                infected = int(read_mask(mask, lesion_labels).any())
            except (ConfigError, MaskError) as error:
                problems.append(str(error))
                continue
            row = replace(row, label=infected, mask=mask, lesion_labels=lesion_labels)
        rows.append(row)
    if problems:
        raise ConfigError("\n  ".join([f"{folder} cannot be used, {len(problems)} problem(s):", *problems]))
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


def _pictures(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in _IMAGE_SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


def _patients(inside: list[Path], pattern: str | None, one_slice_each: bool) -> dict[Path, str]:
    """The patient of every image."""
    if pattern is not None:
        compiled = compile_patient_pattern(pattern)
        found = {name: patient_in(name.as_posix(), compiled) for name in inside}
        nameless = [name for name, patient in found.items() if not patient]
        if nameless:
            raise ConfigError(f"the patient pattern is not found in {len(nameless)} name(s), as {nameless[0]}")
        return found
    flat = [name for name in inside if name.parent == Path()]
    if len(flat) > 1 and not one_slice_each:
        raise ConfigError(
            f"{len(flat)} slices lie in images/ itself, as {flat[0]} and {flat[1]}, and nothing says whose they are: "
            "neighbouring slices of one patient would part over train, val and test. Put each patient's slices in a "
            "folder, or say which part of a name is the patient, as --patient-pattern '(c[0-9]+)_' for c01_0088.jpg, "
            "or --one-slice-each if every slice is of another patient"
        )
    return {name: str(name.parent) if name.parent != Path() else name.stem for name in inside}


_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
