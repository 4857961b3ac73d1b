"""From settings to a phantom: draw the patient, grow the trees, paint and scan every slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.phantom.acquisition import Acquisition, Scanner
from jcs_ct.phantom.config import LUNG_NAMES, Phantom, PhantomConfig
from jcs_ct.phantom.distractors import (
    Distractor,
    DistractorKind,
    EmphysemaTexture,
    draw_distractors,
    effusion_share,
    paint_atelectasis,
    paint_nodule,
)
from jcs_ct.phantom.grid import Plane, SliceGrid, SmoothField, paint, stream
from jcs_ct.phantom.opacifications import LesionShape, LesionTexture, draw_lesions, paint_lesions
from jcs_ct.phantom.organs import OrganTexture, paint_organs, paint_trachea
from jcs_ct.phantom.patient import Patient
from jcs_ct.phantom.surfaces import Surfaces
from jcs_ct.phantom.torso import AIR_HU, TorsoTexture, paint_spine, paint_torso
from jcs_ct.phantom.tree import tube_share
from jcs_ct.phantom.trees import LungTrees
from jcs_ct.progress import CountProgress
from jcs_ct.volume import CTVolume, LabelVolume, bounding_box


def make_phantom(config: PhantomConfig, progress: CountProgress | None = None) -> Phantom:
    """Make a chest CT with its truth; equal settings give equal voxels.

    Args:
        config: What to make.
        progress: Called after each slice.
    """
    patient = Patient.draw(config.seed)
    acquisition = Acquisition.draw(
        patient,
        slices=config.slices,
        size=config.size,
        spacing_mm=config.slice_spacing_mm,
        pixel_mm=config.pixel_mm,
    )
    shapes = () if config.negative else draw_lesions(patient, config.lesions)
    distractors = draw_distractors(patient, negative=config.negative)
    painter = _Painter(patient, acquisition, shapes, distractors, config.size)
    shape = (config.slices, config.size, config.size)
    hu = np.empty(shape, dtype=np.int16)
    lungs = np.zeros(shape, dtype=np.uint8)
    lesions = np.zeros(shape, dtype=np.uint8)
    heights = (0.5 * (config.slices - 1) - np.arange(config.slices)) * acquisition.slice_spacing_mm
    for index, z_mm in enumerate(heights):
        hu[index], lungs[index], lesions[index] = painter.slice(index, float(z_mm))
        if progress is not None:
            progress(index + 1, config.slices)
    affine = _affine(config.size, acquisition, float(heights[0]))
    return Phantom(
        config=config,
        volume=CTVolume(hu, affine),
        lesions=LabelVolume(lesions, affine, {one.lesion_id: str(one.kind) for one in shapes}),
        lungs=LabelVolume(lungs, affine, LUNG_NAMES),
        shapes=shapes,
        distractors=distractors,
        acquisition=acquisition,
    )


def _affine(size: int, acquisition: Acquisition, top_mm: float) -> NDArray[np.float64]:
    affine = np.zeros((4, 4))
    affine[2, 0] = -acquisition.slice_spacing_mm
    affine[1, 1] = affine[0, 2] = acquisition.pixel_mm
    corner = -(size - 1) / 2 * acquisition.pixel_mm
    affine[:, 3] = (corner, corner, top_mm, 1.0)
    return affine


class _Painter:
    """Everything of one patient that the slices share."""

    def __init__(
        self,
        patient: Patient,
        acquisition: Acquisition,
        shapes: tuple[LesionShape, ...],
        distractors: tuple[Distractor, ...],
        size: int,
    ) -> None:
        self._patient = patient
        self._acquisition = acquisition
        self._shapes = shapes
        self._distractors = distractors
        self._grid = SliceGrid.centred(size, size, acquisition.pixel_mm, acquisition.pixel_mm)
        self._scanner = Scanner(acquisition, size)
        self._trees = LungTrees.grow(patient)
        self._torso = TorsoTexture(patient.seed)
        self._organs = OrganTexture(patient.seed)
        self._lesions = LesionTexture(patient.seed)
        self._emphysema = EmphysemaTexture(patient.seed)
        self._fine = SmoothField(stream(patient.seed, 10, 0), 1.45)
        self._slow = SmoothField(stream(patient.seed, 10, 1), 16.0)

    def slice(self, index: int, z_mm: float) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.uint8]]:
        """HU, lungs and lesions of one slice."""
        patient, grid = self._patient, self._grid
        surfaces = Surfaces.of(patient, grid, z_mm, self._acquisition.slice_thickness_mm)
        hu = np.full(grid.shape, AIR_HU, dtype=np.float32)
        paint_torso(hu, patient, surfaces, self._torso, arms_up=self._acquisition.arms_up)
        paint_organs(hu, patient, surfaces, self._organs)
        paint_spine(hu, patient, grid, z_mm, self._torso)
        labels = np.zeros(grid.shape, dtype=np.uint8)
        lungs = np.zeros(grid.shape, dtype=np.uint8)
        if surfaces.lung.max() >= 0.01:
            self._paint_lungs(hu, lungs, labels, surfaces)
        self._paint_airways(hu, z_mm, surfaces)
        paint_trachea(hu, patient, grid, z_mm)
        hu = self._moved(hu, z_mm)
        level = float(patient.level(z_mm))
        scanned = self._scanner.reconstruct(
            hu, index, body=_tissue_around(hu), shoulders=float(np.clip((0.10 - level) * 10, 0, 1))
        )
        padding = self._scanner.padding
        labels[padding] = 0
        lungs[padding] = 0
        return scanned, lungs, labels

    def _paint_lungs(self, hu: Plane, lungs: NDArray[np.uint8], labels: NDArray[np.uint8], whole: Surfaces) -> None:
        rows, columns = bounding_box(whole.lung > 0)
        box = (rows, columns)
        s = whole.crop(box)
        grid, z, patient = s.grid, s.z_mm, self._patient
        lung = patient.parenchyma_hu(grid.y, z) + np.zeros(grid.shape, dtype=np.float32)
        fine, slow = self._fine.plane(grid, z), self._slow.plane(grid, z)
        # Unresolved vessels and septa: a skewed fine texture.
        lung += 14 * fine + 15 * np.maximum(fine, 0) ** 2 - 5 + 8 * slow
        self._paint_fissures(lung, s, slow)
        for one in self._distractors:
            if one.kind is DistractorKind.EMPHYSEMA:
                self._emphysema.paint(lung, patient, grid, z, one.strength)
            elif one.kind is DistractorKind.DEPENDENT_ATELECTASIS:
                paint_atelectasis(lung, patient, s, one, slow)
        paint_lesions(lung, labels[box], self._shapes, self._lesions, grid, z, s.costal)
        vessels = self._vessel_share(grid, z)
        lung += vessels * np.maximum(40 - lung, 0)
        for one in self._distractors:
            if one.kind is DistractorKind.NODULE:
                paint_nodule(lung, grid, z, s.thickness_mm, one)
        paint(hu[box], s.lung, lung)
        inside = s.lung >= 0.5
        for one in self._distractors:
            if one.kind is DistractorKind.EFFUSION:
                fluid = effusion_share(patient, s, one)
                paint(hu[box], fluid * s.lung, 9.0)
                inside &= fluid < 0.5
        lungs[box] = np.where(inside, np.where(grid.x < 3, 1, 2), 0)
        labels[box][~inside] = 0

    def _paint_fissures(self, lung: Plane, s: Surfaces, waves: Plane) -> None:
        """Major fissures: thin oblique sheets, faint where the slice is thick."""
        z = np.float32(s.z_mm)
        for side, shift in ((-1, 8.0), (1, 0.0)):
            off = s.grid.y - (np.float32(8 + shift) + np.float32(0.55) * z) + 4 * waves + 0.1 * np.abs(s.grid.x)
            width = np.float32(0.6 + 0.35 * s.thickness_mm)
            line = np.exp(-((off / width) ** 2)) * (s.grid.x * side > 0)
            lung += np.float32(110 / (1 + 0.5 * s.thickness_mm)) * line

    def _vessel_share(self, grid: SliceGrid, z_mm: float) -> Plane:
        """Share of vessels, averaged over the slice's thickness."""
        half = 0.5 * self._acquisition.slice_thickness_mm
        planes = (0.0,) if half < 0.4 else (-0.66 * half, 0.0, 0.66 * half)
        share = np.zeros(grid.shape, dtype=np.float32)
        for offset in planes:
            share += tube_share(grid, self._trees.vessels, z_mm + offset)
        return share / np.float32(len(planes))

    def _paint_airways(self, hu: Plane, z_mm: float, s: Surfaces) -> None:
        """Walls, then lumina: everywhere in the lungs, and in the mediastinum around the hila."""
        allowed = s.lung
        if self._patient.level(z_mm) < 0.46:
            x, y = self._patient.descending_x(z_mm), self._patient.descending_y(z_mm)
            aorta = np.hypot(self._grid.x - x, self._grid.y - y) < self._patient.aorta_radius + 2
            allowed = np.where(aorta, s.lung, np.float32(1))
        half = 0.5 * self._acquisition.slice_thickness_mm
        for offset in (-0.5 * half, 0.5 * half):
            wall = tube_share(self._grid, self._trees.airways.scaled(1.16, 0.25), z_mm + offset)
            hu += np.float32(0.35) * allowed * wall * np.maximum(-160 - hu, 0)
        lumen = np.zeros(hu.shape, dtype=np.float32)
        for offset in (-0.5 * half, 0.5 * half):
            lumen += np.float32(0.5) * tube_share(self._grid, self._trees.airways, z_mm + offset)
        paint(hu, lumen * allowed, -960.0)

    def _moved(self, hu: Plane, z_mm: float) -> Plane:
        """The slice averaged with itself a little displaced, where the patient moved."""
        for one in self._distractors:
            if one.kind is DistractorKind.MOTION and abs(z_mm - one.centre_mm[2]) < 30:
                pixels = one.size_mm / self._grid.pixel_mm
                other = ndimage.shift(hu, (-pixels, 0.5 * pixels), order=1, mode="nearest")
                hu = hu + np.float32(one.strength) * (other - hu)
        return hu


def _tissue_around(hu: Plane) -> Plane:
    """(rows, columns) 0 to 1: how much X-ray stopping tissue lies around each pixel, smooth."""
    step = max(1, hu.shape[0] // 32)
    rows, columns = hu.shape[0] // step, hu.shape[1] // step
    coarse = hu[: rows * step, : columns * step].reshape(rows, step, columns, step).mean(axis=(1, 3))
    coarse = ndimage.gaussian_filter(np.clip(coarse / 1000 + 1, 0, 1.2), 1.6, mode="nearest")
    zoom = (hu.shape[0] / rows, hu.shape[1] / columns)
    tissue: Plane = ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True).astype(np.float32)
    return tissue
