"""Lesions painted into real lungs: infected slices from the source that uninfected ones come from.

Public infected and uninfected slices come from different places, so a classifier can learn the place. A slice with
painted lesions differs from the slice it was made of in nothing but the lesions, and its mask is exact.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jcs_ct.data.manifest import Manifest, ManifestRow, read_hu
from jcs_ct.data.manifest.slice_names import slice_names
from jcs_ct.errors import ConfigError
from jcs_ct.files import prepare_output_folder, replacing
from jcs_ct.lungs import ASSUMED_WIDTH_MM, segment_picture
from jcs_ct.phantom.grid import Plane, SliceGrid, stream
from jcs_ct.phantom.opacifications import ANYWHERE_MM, LesionKind, LesionShape, LesionTexture, paint_lesions
from jcs_ct.preprocessing import Window
from jcs_ct.progress import CountProgress

_KINDS = (LesionKind.GROUND_GLASS, LesionKind.CONSOLIDATION, LesionKind.CRAZY_PAVING, LesionKind.BAND)
_SHARES = (0.58, 0.17, 0.17, 0.08)
_SMALLEST_LUNG_MM2 = 2500.0
_SMALLEST_LESION_MM2 = 60.0
#: A pixel is lesion only where the paint makes its surroundings this much denser.
SEEN_HU = 60.0


def paint_slice(
    hu: NDArray[np.float32], lungs: NDArray[np.bool_], *, pixel_mm: float, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Paint lesions into one slice.

    Args:
        hu: (rows, columns) HU, the patient's back at the bottom.
        lungs: (rows, columns) where lung is.
        pixel_mm: Pixel spacing.
        count: Lesions.
        seed: Everything random follows from it.

    Returns:
        The slice with lesions and their mask. Vessels stay visible in ground glass, noise stays everywhere.
    """
    generator = stream(seed, 0)
    grid = SliceGrid.centred(hu.shape[0], hu.shape[1], pixel_mm, pixel_mm)
    depth = (ndimage.distance_transform_edt(lungs) * pixel_mm).astype(np.float32)
    chance = _chance(lungs, depth)
    air_hu = float(np.median(hu[lungs]))
    shapes = tuple(_draw_shape(number + 1, grid, chance, air_hu, generator) for number in range(count))
    labels = np.zeros(hu.shape, dtype=np.uint8)
    smooth = ndimage.gaussian_filter(hu, 1.2)
    painted = hu.copy()
    paint_lesions(painted, labels, shapes, LesionTexture(seed), grid, 0.0, depth)
    changed = np.clip((painted - hu) / np.float32(60.0), 0.0, 1.0)
    # What the lesion covers loses its noise; the slice's own fine grain, less the vessels' edges, is given back.
    painted += changed * np.clip(hu - smooth, -70.0, 70.0) * (ndimage.maximum_filter(smooth, 5) < -300)
    outside = ~lungs
    painted[outside] = hu[outside]
    seen = ndimage.gaussian_filter(painted - hu, 2.5) > SEEN_HU
    return painted, (labels > 0) & lungs & seen


def _chance(lungs: NDArray[np.bool_], depth: Plane) -> NDArray[np.float64]:
    """(rows * columns,) chance of a lesion's centre: under the ribs, and at the back more than in front."""
    behind = _signed_share(np.any(lungs, axis=1))[:, None]
    aside = np.abs(_signed_share(np.any(lungs, axis=0)))[None, :]
    costal = 0.1 + np.clip(np.maximum(behind, aside), 0.0, 1.0) ** 2
    chance = lungs * (np.exp(-depth / 9.0) + 0.06) * costal * (0.3 + 1.0 / (1.0 + np.exp(-(behind - 0.05) * 3.0)))
    flat = chance.astype(np.float64).ravel()
    normalised: NDArray[np.float64] = flat / flat.sum()
    return normalised


def _signed_share(present: Any) -> NDArray[np.float64]:
    """Position between the first (-1) and the last (1) line that is present."""
    lines = np.flatnonzero(present)
    middle, half = (lines[0] + lines[-1]) / 2.0, max(1.0, (lines[-1] - lines[0]) / 2.0)
    share: NDArray[np.float64] = (np.arange(present.size) - middle) / half
    return share


def _draw_shape(
    number: int, grid: SliceGrid, chance: NDArray[np.float64], air_hu: float, generator: np.random.Generator
) -> LesionShape:
    row, column = divmod(int(generator.choice(chance.size, p=chance)), grid.shape[1])
    kind = _KINDS[int(generator.choice(len(_KINDS), p=_SHARES))]
    radius = float(np.clip(generator.lognormal(np.log(20.0), 0.55), 5.0, 60.0))
    if kind is LesionKind.CONSOLIDATION:
        radius *= 0.75
    ratio = generator.uniform(0.65, 1.4, 2)
    low, high = {
        LesionKind.GROUND_GLASS: (air_hu + 150.0, air_hu + 420.0),
        LesionKind.CONSOLIDATION: (-120.0, 50.0),
        LesionKind.CRAZY_PAVING: (air_hu + 160.0, air_hu + 380.0),
        LesionKind.BAND: (-420.0, -60.0),
    }[kind]
    angle = generator.uniform(0.0, np.pi)
    band = kind is LesionKind.BAND
    return LesionShape(
        lesion_id=number,
        kind=kind,
        centre_mm=(float(grid.x_mm[column]), float(grid.y_mm[row]), 0.0),
        half_axes_mm=(radius * ratio[0], radius * (1.0 if band else ratio[1]), radius),
        pleural_mm=float(generator.uniform(10.0, 34.0)) if not band and generator.random() < 0.7 else ANYWHERE_MM,
        hu=float(generator.uniform(low, high)),
        softness=float(generator.uniform(0.3, 1.0)),
        ragged=float(generator.uniform(0.12, 0.32)),
        normal=(float(np.cos(angle)), float(np.sin(angle)), 0.0),
    )


def paint_manifest(
    manifest: Manifest,
    folder: Path,
    *,
    per_slice: int = 2,
    seed: int = 0,
    progress: CountProgress | None = None,
) -> Manifest:
    """Painted copies of a manifest's uninfected slices whose window is known, as PNG with masks.

    Args:
        manifest: Rows without label 0, without a known window or with too little lung are left out.
        folder: Gets ``images`` and ``masks``.
        per_slice: Copies of each slice, each with lesions of its own.
        seed: Another seed, other lesions.
        progress: Called with the slices done and to do.

    Returns:
        Rows of label 1, source ``painted``; patients, splits and windows are those of the slices painted on. Files
        are called as :func:`slice_names` calls their slices, with the number of the copy.

    Raises:
        ConfigError: no slice can be painted on, or two rows are one file.
    """
    for name in ("images", "masks"):
        prepare_output_folder(folder / name)
    usable = [row for row in manifest if row.label == 0 and row.level_hu is not None and row.width_hu is not None]
    names = slice_names(usable)
    if len(set(names.values())) < len(usable):
        repeated = len(usable) - len(set(names.values()))
        raise ConfigError(f"{repeated} uninfected row(s) repeat the file of another: keep one row of each file")
    rows: list[ManifestRow] = []
    for done, row in enumerate(usable, start=1):
        rows += _paint_row(row, done, names[row.path], folder, per_slice, seed)
        if progress is not None:
            progress(done, len(usable))
    if not rows:
        raise ConfigError(
            "nothing to paint on: uninfected slices with a known window (level_hu, width_hu) are needed"
        )
    return Manifest(tuple(rows))


def _paint_row(
    row: ManifestRow, number: int, called: str, folder: Path, per_slice: int, seed: int
) -> list[ManifestRow]:
    window = Window(float(row.level_hu or 0.0), float(row.width_hu or 1.0))
    hu = read_hu(row.path, window)
    pixel_mm = ASSUMED_WIDTH_MM / hu.shape[1]
    lungs = segment_picture(hu) > 0
    if lungs.sum() * pixel_mm**2 < _SMALLEST_LUNG_MM2:
        return []
    rows: list[ManifestRow] = []
    for copy in range(per_slice):
        key = int(np.random.SeedSequence([seed, number, copy]).generate_state(1)[0])
        count = 1 + int(stream(key, 1).geometric(0.35))
        painted, mask = paint_slice(hu, lungs, pixel_mm=pixel_mm, count=min(count, 9), seed=key)
        if mask.sum() * pixel_mm**2 < _SMALLEST_LESION_MM2:
            continue
        name = f"{called}-{copy}.png"
        _write_png(folder / "images" / name, np.round(window(painted) * 255.0).astype(np.uint8))
        _write_png(folder / "masks" / name, mask.astype(np.uint8) * np.uint8(255))
        rows.append(
            replace(
                row,
                path=folder / "images" / name,
                mask=folder / "masks" / name,
                label=1,
                source="painted",
                lesion_labels=(),
            )
        )
    return rows


def _write_png(path: Path, plane: NDArray[np.uint8]) -> None:
    with replacing(path) as temporary:
        Image.fromarray(plane).save(temporary, format="PNG")
