"""One phantom in many geometries: SEG, NIfTI, JSON and SR say where its lesions are, and agree with the truth.

The truth is the phantom's label volume under the affine that this test itself wrote into the headers; it is read back
by highdicom, nibabel and SimpleITK. Agreement is held to 0.1 % of volume and 0.1 mm of position.
"""

from __future__ import annotations

import json

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from scipy import ndimage

from jcs_ct.imaging import open_study
from jcs_ct.operating_point import OperatingPoint, Verdict
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom
from jcs_ct.reading.burden import measure_burden
from jcs_ct.reading.diagnosis import Diagnosis, SlicePrediction
from jcs_ct.reading.lesions import find_lesions
from jcs_ct.reporting import write_report

PIXEL_MM, STEP_MM, CORNER = 3.0, 8.0, np.array([-150.0, -170.0, 120.5])


def turned(degrees, axis):
    """Rotation about one axis, 3x3."""
    angle = np.deg2rad(degrees)
    first, second = (index for index in range(3) if index != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


#: Columns are the steps to the next slice, row and column in LPS mm.
SUPINE = np.diag([1.0, 1.0, 1.0])[:, [2, 1, 0]] * [-STEP_MM, PIXEL_MM, PIXEL_MM]
GEOMETRIES = {
    "from the top": (SUPINE, False),
    "from the bottom": (SUPINE, True),
    "prone: rows and columns run the other way": (SUPINE * [1, -1, -1], False),
    "non-square pixels": (SUPINE * [1, 0.75, 1.2], False),
    "table turned about x": (turned(17, 0) @ SUPINE, False),
    "table turned about z, from the bottom": (turned(-13, 2) @ SUPINE * [1, 1.1, 1], True),
}


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(slices=14, size=96, lesions=5, seed=6, slice_spacing_mm=STEP_MM))


@pytest.fixture(scope="module", params=sorted(GEOMETRIES))
def case(request, phantom, tmp_path_factory):
    """(true affine, report's paths) of the phantom scanned in one geometry."""
    steps, from_bottom = GEOMETRIES[request.param]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, CORNER
    folder = tmp_path_factory.mktemp("case")
    write_dicom(phantom, folder)
    count = phantom.volume.shape[0]
    spacing = np.linalg.norm(steps, axis=0)
    for index, path in enumerate(sorted((folder / "dicom").iterdir())):
        dataset = dcmread(path)
        dataset.ImagePositionPatient = [round(float(value), 6) for value in affine[:3] @ [index, 0, 0, 1]]
        cosines = [*(steps[:, 2] / spacing[2]), *(steps[:, 1] / spacing[1])]
        dataset.ImageOrientationPatient = [round(float(value), 8) for value in cosines]
        dataset.PixelSpacing = [round(float(value), 6) for value in spacing[1:]]
        dataset.InstanceNumber = count - index if from_bottom else index + 1
        dataset.save_as(folder / "dicom" / f"im{dataset.InstanceNumber:03d}.dcm.new", enforce_file_format=True)
        path.unlink()
    study = open_study(folder / "dicom")
    return affine, write_report(study, reading(study, phantom), folder / "out", dicom=True)


def reading(study, phantom):
    """The diagnosis of networks that never err."""
    lungs = study.turn.turned(phantom.lungs.labels)
    labels, lesions = find_lesions(study.turn.turned(phantom.lesions.labels > 0), study.volume, lungs)
    infected = labels.any(axis=(1, 2))
    return Diagnosis(
        verdict=Verdict.POSITIVE,
        positive_slice_count=int(infected.sum()),
        positive_slice_threshold=1,
        lung_slice_count=len(infected),
        positive_fraction=float(infected.mean()),
        slices=tuple(SlicePrediction(i, 0.9 if f else 0.1, bool(f), True) for i, f in enumerate(infected)),
        segmented=True,
        activation=(labels > 0).astype(np.float16),
        lung_labels=lungs,
        lesion_labels=labels,
        lesions=lesions,
        burden=measure_burden(study.volume, lungs, labels, lesions),
        operating_point=OperatingPoint(),
    )


def truth_of(phantom, affine):
    """(volume in ml, centroid in LPS mm) of every lesion of the phantom, largest first."""
    components, count = ndimage.label(phantom.lesions.labels > 0, structure=np.ones((3, 3, 3)))
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    found = []
    for number in range(1, count + 1):
        index = np.argwhere(components == number)
        found.append((len(index) * voxel_ml, (affine @ [*index.mean(axis=0), 1.0])[:3]))
    return sorted(found, key=lambda lesion: -lesion[0])


def check(found, truth):
    """Every lesion found has a true one at its place with its volume, one to one."""
    assert len(found) == len(truth) >= 2
    left = list(truth)
    for volume_ml, centroid in found:
        place = min(range(len(left)), key=lambda place: np.linalg.norm(left[place][1] - centroid))
        nearest = left.pop(place)
        assert np.linalg.norm(nearest[1] - centroid) < 0.1
        assert volume_ml == pytest.approx(nearest[0], rel=1e-3)


def test_json(case, phantom):
    affine, paths = case
    report = json.loads(paths.json.read_text(encoding="utf-8"))
    check(
        [(one["volume_ml"], np.array(one["centroid_lps_mm"])) for one in report["lesions"]], truth_of(phantom, affine)
    )


def test_seg_by_highdicom(case, phantom):
    affine, paths = case
    segmentation = highdicom.seg.segread(paths.folder / "lesions.seg.dcm")
    found = []
    for number in segmentation.segment_numbers:
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True)
        index = np.argwhere(volume.array > 0)
        found.append((len(index) * volume.voxel_volume / 1000, (volume.affine @ [*index.mean(axis=0), 1.0])[:3]))
    check(found, truth_of(phantom, affine))


def test_nifti_by_nibabel(case, phantom):
    affine, paths = case
    image = nibabel.load(paths.lesions)
    labels = np.asarray(image.dataobj)
    found = []
    for number in range(1, int(labels.max()) + 1):
        index = np.argwhere(labels == number)
        centroid = nibabel.affines.apply_affine(image.affine, index.mean(axis=0)) * [-1, -1, 1]
        found.append((len(index) * np.prod(image.header.get_zooms()[:3]) / 1000, centroid))
    check(found, truth_of(phantom, affine))


def test_nifti_by_simpleitk(case, phantom):
    affine, paths = case
    image = SimpleITK.ReadImage(str(paths.lesions))
    labels = SimpleITK.GetArrayFromImage(image)
    found = []
    for number in range(1, int(labels.max()) + 1):
        index = np.argwhere(labels == number)
        centroid = image.TransformContinuousIndexToPhysicalPoint(index.mean(axis=0)[::-1].tolist())
        found.append((len(index) * np.prod(image.GetSpacing()) / 1000, np.array(centroid)))
    check(found, truth_of(phantom, affine))


def test_sr_by_highdicom(case, phantom):
    affine, paths = case
    report = highdicom.sr.srread(paths.folder / "findings.sr.dcm")
    volumes = [
        measurement.value
        for group in report.content.get_volumetric_roi_measurement_groups()
        for measurement in group.get_measurements()
        if measurement.unit.value == "cm3"
    ]
    assert volumes == pytest.approx([volume_ml for volume_ml, _ in truth_of(phantom, affine)], rel=1e-4)
