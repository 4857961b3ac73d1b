"""Folders of images and masks that lie beside each other -> manifests, split by patient."""

from __future__ import annotations

from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, read_mask
from jcs_ct.errors import ConfigError


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
        raise ConfigError(f"no images/*.png below {folder}; make some with `jcs phantom OUT --format png`")
    return Manifest(assign_splits(rows, val=0.10, test=0.0, seed=seed))


def images(folder: Path, *, seed: int = 0) -> Manifest:
    """A plain folder: ``images/`` and ``masks/`` with equal stems, split 70/15/15 by patient.

    A folder below ``images/`` is a patient; slices that lie in ``images/`` itself are a patient each. A slice is
    infected when its mask has a pixel; without a mask its label is not known.
    """
    rows = []
    root = folder / "images"
    for path in sorted(found for found in root.rglob("*") if found.suffix.lower() in _IMAGE_SUFFIXES):
        inside = path.relative_to(root)
        mask = folder / "masks" / inside.with_suffix(".png")
        known = mask.is_file()
        patient = str(inside.parent) if inside.parent != Path() else inside.stem
        label = int(read_mask(mask).any()) if known else None
        rows.append(ManifestRow(path, patient, label, mask if known else None, source=folder.name))
    if not rows:
        raise ConfigError(f"no image in {root}; it takes images/ and masks/, with a folder for each patient in both")
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
