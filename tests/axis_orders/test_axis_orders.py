"""Stored in any of 48 axis orders, as DICOM, enhanced DICOM or NIfTI, a scan gives one result, in its own place.

The truth is a reading of the phantom itself, which was never stored: its verdict, its lesions and their places in the
patient. Every output is read again by pydicom, highdicom, nibabel and SimpleITK, and compared in LPS mm.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from scipy.spatial import cKDTree

from jcs_ct.checkpoints import Models, load_models
from jcs_ct.engine import Execution, segment_slices
from jcs_ct.imaging import Study, open_study
from jcs_ct.imaging.masks import mask_on
from jcs_ct.phantom import Phantom, PhantomConfig, make_phantom
from jcs_ct.reading.diagnosis import Diagnosis, diagnose
from jcs_ct.reporting import write_report
from jcs_ct.reporting.dicom_results import write_dicom_results
from jcs_ct.reporting.dicom_sc import CONTOUR_RGB
from jcs_ct.volume import CTVolume

EXECUTION = Execution(backend="torch", device="cpu", precision="fp32")
ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((False, True), repeat=3))
FORMATS = ("dicom", "enhanced", "nifti")
SEEDS = (11, 12)
#: A quick run: each format with three of the six orders of axes, flipped by chance, from one of the phantoms.
SAMPLED = [
    (SEEDS[number % 2], FORMATS[number % 3], order, random.Random(number).choice(FLIPS))
    for number, order in enumerate([*ORDERS, *ORDERS[1::2]])
]


@dataclass(frozen=True, eq=False)
class Truth:
    """A phantom, the networks, and what they say of it as it is."""

    phantom: Phantom
    volume: CTVolume
    models: Models
    reading: Diagnosis

    def points_of(self, lesion_id: int) -> np.ndarray:
        """(voxels, 3) LPS mm of a lesion's voxels."""
        index = np.argwhere(self.reading.lesion_labels == lesion_id)
        return index @ self.volume.affine[:3, :3].T + self.volume.affine[:3, 3]


@pytest.fixture(scope="module")
def truth_of(random_models):
    """``truth_of(seed)``, made once."""
    return functools.cache(lambda seed: make_truth(seed, random_models))


def make_truth(seed: int, random_models: Path) -> Truth:
    """A phantom read as it is, with a cut that a part of its slices and of its lung passes."""
    phantom = make_phantom(PhantomConfig(slices=16, size=64, lesions=4, seed=seed))
    affine = phantom.volume.affine @ np.diag([1.0, 0.9, 1.0, 1.0])  # rows and columns at two distances
    volume = CTVolume(phantom.volume.hu, affine)
    study = Study(volume=volume, identifier="0" * 16, kind="nifti", paths=())
    models = load_models(random_models)
    probabilities = [p for _, p in segment_slices(models.segmenter, volume.hu, range(4, 12), execution=EXECUTION)]
    first = diagnose(study, models, segment="never", execution=EXECUTION)
    levels = sorted(item.infection_probability for item in first.slices if item.has_lung)
    point = replace(
        models.operating_point,
        slice_probability=(levels[len(levels) // 2 - 1] + levels[len(levels) // 2]) / 2,
        positive_slice_threshold=2,
        lesion_probability=float(np.quantile(np.concatenate(probabilities), 0.93)),
    )
    models = replace(models, operating_point=point)
    reading = diagnose(study, models, execution=EXECUTION)
    assert reading.positive
    assert 0 < reading.positive_slice_count < reading.lung_slice_count
    assert {lesion.side for lesion in reading.lesions} == {"left", "right"}
    return Truth(phantom, volume, models, reading)


def check(truth: Truth, storage, store_scan, folder: Path, *, report_too: bool = True) -> None:
    """Store, read, report; compare the reading and each output; the structured report takes longest."""
    stored = store_scan(truth.volume.hu, truth.volume.affine, storage, folder / "in", 7)
    study = open_study(stored.path)
    diagnosis = diagnose(study, truth.models, execution=EXECUTION)
    _check_reading(truth, study, diagnosis)
    paths = write_report(study, diagnosis, folder / "out", formats=("json", "nifti"))
    report = json.loads(paths.json.read_text(encoding="utf-8"))
    _check_nifti(truth, stored, storage, paths)
    _check_json(report, stored, storage, paths.lesions)
    masks = [_binary(paths.lesions, folder / "mask.nii.gz")]
    if storage.format != "nifti":
        assert "PATIENT_POSITION" in [flag["code"] for flag in report["quality_flags"]]
        kinds = ("seg", "pm", "sr", "sc") if report_too else ("seg", "pm", "sc")
        write_dicom_results(study, diagnosis, folder / "out", kinds=kinds)
        sources = {ds.SOPInstanceUID: ds for ds in map(dcmread, sorted((folder / "in").iterdir()))}
        _check_seg(truth, folder / "out" / "lesions.seg.dcm", sources)
        _check_map(truth, folder / "out" / "activation.pm.dcm", sources)
        _check_overlays(folder / "out" / "overlay", folder / "out" / "lesions.seg.dcm", sources)
        if report_too:
            texts = [e.value for e in dcmread(folder / "out" / "findings.sr.dcm").iterall() if e.VR == "UT"]
            assert any("PATIENT_POSITION: the patient lay prone" in str(text) for text in texts)
        masks.append(folder / "out" / "lesions.seg.dcm")
    for mask in masks:
        assert np.array_equal(mask_on(study.volume, mask), truth.reading.lesion_labels > 0)


def _check_reading(truth: Truth, study: Study, diagnosis: Diagnosis) -> None:
    expected = truth.reading
    assert (diagnosis.positive, diagnosis.positive_slice_count) == (expected.positive, expected.positive_slice_count)
    assert diagnosis.lung_slice_count == expected.lung_slice_count
    for found, known in zip(diagnosis.slices, expected.slices, strict=True):
        assert (found.slice_index, found.infected, found.has_lung) == (
            known.slice_index,
            known.infected,
            known.has_lung,
        )
        assert found.infection_probability == pytest.approx(known.infection_probability, abs=1e-6)
    assert len(diagnosis.lesions) == len(expected.lesions)
    for found, known in zip(diagnosis.lesions, expected.lesions, strict=True):
        assert (found.side, found.third, found.voxel_count) == (known.side, known.third, known.voxel_count)
        assert found.volume_ml == pytest.approx(known.volume_ml, rel=1e-5)
        assert found.centroid_lps_mm == pytest.approx(known.centroid_lps_mm, abs=1e-3)
        _check_side(truth, found.lesion_id, found.side)
    assert diagnosis.burden.lung_volume_ml == pytest.approx(expected.burden.lung_volume_ml, rel=1e-5)
    assert diagnosis.burden.percent_opacity == pytest.approx(expected.burden.percent_opacity, rel=1e-6)
    assert [(zone.side, zone.third, zone.opacity_voxels) for zone in diagnosis.burden.zones] == [
        (zone.side, zone.third, zone.opacity_voxels) for zone in expected.burden.zones
    ]
    assert study.volume.to_lps_mm((1, 2, 3)) == pytest.approx(truth.volume.to_lps_mm((1, 2, 3)), abs=1e-3)
    assert np.array_equal(study.volume.hu, truth.volume.hu)


def _check_side(truth: Truth, lesion_id: int, side: str) -> None:
    """The side is that of the phantom's own lung around the lesion, where it lies in one."""
    lungs = truth.phantom.lungs.labels[truth.reading.lesion_labels == lesion_id]
    if (lungs > 0).mean() > 0.5:
        assert side == ("right" if (lungs == 1).sum() > (lungs == 2).sum() else "left")


def _check_nifti(truth: Truth, stored, storage, paths) -> None:
    """On the source's grid by nibabel, at its place by SimpleITK."""
    image, activation = nibabel.load(paths.lesions), nibabel.load(paths.activation)
    if storage.format == "nifti":
        source = nibabel.load(stored.path)
        assert image.shape == activation.shape == source.shape
        assert np.allclose(image.affine, source.affine, atol=1e-3)
        assert np.allclose(activation.affine, source.affine, atol=1e-3)
    else:
        assert image.shape == stored.array.shape[::-1]
        assert np.allclose(np.abs(image.affine[:3, :2]), np.abs(stored.affine[:3, [2, 1]]), atol=1e-3)
    labels = SimpleITK.ReadImage(str(paths.lesions))
    voxels = SimpleITK.GetArrayViewFromImage(labels)
    for lesion in truth.reading.lesions:
        points = truth.points_of(lesion.lesion_id)
        assert int((voxels == lesion.lesion_id).sum()) == len(points)
        for point in points[:: max(1, len(points) // 40)]:
            assert labels[labels.TransformPhysicalPointToIndex(point.tolist())] == lesion.lesion_id
    values = np.asarray(activation.dataobj)
    to_index = np.linalg.inv(activation.affine)
    for index in np.random.default_rng(3).integers(0, truth.volume.shape, size=(200, 3)):
        ras = np.array(truth.volume.to_lps_mm(tuple(index))) * [-1, -1, 1]
        place = tuple(np.rint(nibabel.affines.apply_affine(to_index, ras)).astype(int))
        assert values[place] == pytest.approx(float(truth.reading.activation[tuple(index)]), abs=3e-3)


def _check_json(report, stored, storage, lesions: Path) -> None:
    """Rows and columns are the stored ones; indices lead to mm; boxes are those of the voxels in the NIfTI."""
    affine = np.array(report["study"]["slice_row_column_to_lps_mm"])
    to_stored = np.linalg.solve(stored.affine, affine)
    for place, axis in enumerate((axis for axis in range(3) if storage.order[axis] != 0), start=1):
        if axis == 0 and storage.format != "nifti":  # DICOM slices come in the order of their positions
            assert abs(to_stored[axis, place]) == pytest.approx(1.0, abs=1e-4)
        else:
            assert to_stored[axis, place] == pytest.approx(1.0, abs=1e-4)
            assert to_stored[axis, 3] == pytest.approx(0.0, abs=1e-4)
    shape = [report["study"][name] for name in ("slice_count", "row_count", "column_count")]
    spacing = [report["study"][f"{name}_spacing_mm"] for name in ("slice", "row", "column")]
    assert spacing == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    image = nibabel.load(lesions)
    labels = np.asarray(image.dataobj)
    to_index = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    for lesion in report["lesions"]:
        centroid = affine[:3] @ [*lesion["centroid_slice_row_column"], 1]
        assert centroid == pytest.approx(lesion["centroid_lps_mm"], abs=1e-3)
        index = nibabel.affines.apply_affine(to_index, np.argwhere(labels == lesion["lesion_id"]))
        assert np.allclose(index, np.rint(index), atol=1e-3)
        index = np.rint(index).astype(int)
        assert (index >= 0).all()
        assert (index < shape).all()
        extent = (np.ptp(index, axis=0) + 1) * spacing
        assert lesion["extent_slice_row_column_mm"] == pytest.approx(extent.tolist(), rel=1e-4)
        for part in lesion["slices"]:
            _, rows, columns = index[index[:, 0] == part["slice_index"]].T
            assert part["area_pixel"] == len(rows)
            assert (part["y0"], part["height"]) == (rows.min(), np.ptp(rows) + 1)
            assert (part["x0"], part["width"]) == (columns.min(), np.ptp(columns) + 1)
            assert (part["position_y"], part["position_x"]) == pytest.approx((rows.mean(), columns.mean()))


def _source_plane(source, frame_number: int):
    """Position, orientation and spacing of a source's slice, from its own header."""
    if "NumberOfFrames" not in source:
        return source.ImagePositionPatient, source.ImageOrientationPatient, source.PixelSpacing
    shared = source.SharedFunctionalGroupsSequence[0]
    plane = source.PerFrameFunctionalGroupsSequence[frame_number - 1].PlanePositionSequence[0]
    return (
        plane.ImagePositionPatient,
        shared.PlaneOrientationSequence[0].ImageOrientationPatient,
        shared.PixelMeasuresSequence[0].PixelSpacing,
    )


def _points_on_source(source, frame_number: int, frame: np.ndarray) -> np.ndarray:
    """LPS mm of a frame's pixels that are not 0, were the frame laid over its source slice."""
    position, orientation, spacing = _source_plane(source, frame_number)
    rows, columns = np.nonzero(frame)
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    steps = np.stack([along_column * float(spacing[0]), along_row * float(spacing[1])])
    return np.array(position, float) + np.stack([rows, columns], axis=1) @ steps


def _derived_from(groups, sources):
    reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
    frame = reference.get("ReferencedFrameNumber", 1)
    return sources[reference.ReferencedSOPInstanceUID], int(frame[0] if isinstance(frame, list) else frame)


def _same_points(found: np.ndarray, known: np.ndarray) -> bool:
    """Whether two sets of points in mm are the same, to 0.01 mm."""
    apart = [cKDTree(one).query(other)[0].max() for one, other in ((found, known), (known, found))]
    return len(found) == len(known) and max(apart) < 0.01


def _check_seg(truth: Truth, path: Path, sources) -> None:
    segmentation = highdicom.seg.segread(path)
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    on_source = {lesion.lesion_id: [] for lesion in truth.reading.lesions}
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        source, frame_number = _derived_from(groups, sources)
        position, _, _ = _source_plane(source, frame_number)
        assert groups.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(position, abs=1e-4)
        on_source[number].append(_points_on_source(source, frame_number, frame))
    for lesion in truth.reading.lesions:
        known = truth.points_of(lesion.lesion_id)
        assert _same_points(np.concatenate(on_source[lesion.lesion_id]), known)
        volume = segmentation.get_volume(segment_numbers=[lesion.lesion_id], combine_segments=True)
        index = np.argwhere(volume.array > 0)
        assert _same_points(index @ volume.affine[:3, :3].T + volume.affine[:3, 3], known)


def _check_map(truth: Truth, path: Path, sources) -> None:
    parametric_map = dcmread(path)
    frames = np.frombuffer(parametric_map.FloatPixelData, "<f4")
    frames = frames.reshape(-1, parametric_map.Rows, parametric_map.Columns)
    to_index = np.linalg.inv(truth.volume.affine)
    total = 0.0
    for frame, groups in zip(frames, parametric_map.PerFrameFunctionalGroupsSequence, strict=True):
        source, frame_number = _derived_from(groups, sources)
        points = _points_on_source(source, frame_number, np.ones_like(frame))
        index = np.rint(points @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        assert np.array_equal(frame.ravel(), truth.reading.activation[tuple(index.T)].astype(np.float32))
        total += float(frame.sum())
    assert total == pytest.approx(float(truth.reading.activation.astype(np.float32).sum()), rel=1e-3)


def _check_overlays(folder: Path, segmentation: Path, sources) -> None:
    """Contours are drawn over pixels of the source slice that the segmentation names."""
    seg = dcmread(segmentation)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    labelled: dict[tuple[str, int], np.ndarray] = {}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source, number = _derived_from(groups, sources)
        key = (source.SOPInstanceUID, number)
        labelled[key] = labelled.get(key, np.zeros(frame.shape, dtype=bool)) | (frame > 0)
    seen = 0
    for path in sorted(folder.iterdir()):
        overlay = dcmread(path)
        reference = overlay.SourceImageSequence[0]
        number = reference.get("ReferencedFrameNumber", 1)
        key = (reference.ReferencedSOPInstanceUID, int(number[0] if isinstance(number, list) else number))
        picture = overlay.pixel_array[: seg.Rows, : seg.Columns]
        contour = (picture == CONTOUR_RGB).all(axis=2)
        mask = labelled.get(key, np.zeros(contour.shape, dtype=bool))
        assert not (contour & ~mask).any()
        assert contour.any() == mask.any()
        seen += int(mask.any())
    assert seen == len(labelled)


def _binary(lesions: Path, path: Path) -> Path:
    """The lesions as a mask of two values, written by nibabel on the grid it was read from."""
    image = nibabel.load(lesions)
    nibabel.save(nibabel.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine), path)
    return path


@pytest.mark.parametrize(("seed", "kind", "order", "flips"), SAMPLED)
def test_a_sample_of_orders(seed, kind, order, flips, truth_of, store_scan, storage_of, tmp_path):
    check(truth_of(seed), storage_of(kind, order, flips), store_scan, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_order(kind, order, truth_of, store_scan, storage_of, tmp_path):
    """All 48 orders in every format, of either phantom by turns."""
    for number, flips in enumerate(FLIPS):
        truth = truth_of(SEEDS[(number + ORDERS.index(order)) % 2])
        storage = storage_of(kind, order, flips)
        check(truth, storage, store_scan, tmp_path / str(number), report_too=number == 0)


def test_info_says_how_a_study_is_stored(store_scan, storage_of, jcs, tmp_path):
    phantom = make_phantom(PhantomConfig(slices=6, size=32, seed=1, lesions=1))
    storage = storage_of("dicom", (0, 1, 2), (False, True, True))
    stored = store_scan(phantom.volume.hu, phantom.volume.affine, storage, tmp_path / "prone", 1)
    said = jcs("info", stored.path).output
    assert "slices to I, rows to A, columns to R: turned to I, P, L; results lie on the stored grid" in said
    assert "the patient lay prone" in said.replace("\n", " ")
    assert json.loads(jcs("info", stored.path, "--json").stdout)["study"]["stored_directions"] == ["I", "A", "R"]
