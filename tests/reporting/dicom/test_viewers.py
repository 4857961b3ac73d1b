"""SEG, PM and SR as others' readers see them: highdicom, dcmqi with SimpleITK, and OHIF's parser dcmjs in node.

Every lesion's centre and the maps' centre of mass agree with the diagnosis under the source's own geometry to 0.1 mm.
dcmjs is a tool of tests: ``npm install dcmjs``, its folder in NODE_PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK

from jcs_ct.checkpoints import load_models
from jcs_ct.imaging import open_study
from jcs_ct.imaging.study import Study
from jcs_ct.reading.diagnosis import Diagnosis, diagnose
from jcs_ct.reporting.dicom_results import write_dicom_results

HERE = Path(__file__).parent
COVID = Path(__file__).parents[4] / "shared" / "data" / "volumes" / "covid_002"
#: Number of what is shown -> its weight (voxels, or the sum of a map) and its centre in LPS mm.
Centers = dict[int, tuple[float, np.ndarray]]
#: Where programs are looked for: dcmqi's lie beside the Python that it was installed for, which need not be on PATH.
PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def dcmjs_is_there() -> bool:
    """Whether node finds dcmjs."""
    if shutil.which("node") is None:
        return False
    return (
        subprocess.run(["node", "-e", "require.resolve('dcmjs')"], capture_output=True, check=False).returncode == 0
    )


needs_dcmjs = pytest.mark.skipif(not dcmjs_is_there(), reason="needs node with dcmjs (npm install dcmjs; NODE_PATH)")
needs_dcmqi = pytest.mark.skipif(
    shutil.which("segimage2itkimage", path=PROGRAMS) is None, reason="needs dcmqi (pip install dcmqi)"
)


@dataclass(frozen=True)
class Reader:
    """One reader: how it sees a SEG, a PM, and the volumes (ml) in an SR."""

    segments: Callable[[Path], Centers]
    activation: Callable[[Path], tuple[float, np.ndarray]]
    volumes_ml: Callable[[Path], list[float]]


def center(weights: np.ndarray, affine: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of ``weights`` and their centre of mass, (slice, row, column, 1) -> mm by ``affine``."""
    place = []
    for axis, size in enumerate(weights.shape):
        along = weights.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64)
        place.append(np.average(np.arange(size), weights=along))
    return float(weights.sum(dtype=np.float64)), (affine @ [*place, 1.0])[:3]


def run(*command: object) -> str:
    words = [str(part) for part in command]
    environment = {**os.environ, "PATH": PROGRAMS}
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=True, env=environment).stdout


def segments_by_highdicom(path: Path) -> Centers:
    segmentation = highdicom.seg.segread(path)
    found = {}
    for number in segmentation.segment_numbers:
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True)
        found[int(number)] = center(volume.array > 0, volume.affine)
    return found


def activation_by_highdicom(path: Path) -> tuple[float, np.ndarray]:
    volume = highdicom.imread(path).get_volume(allow_missing_positions=True)
    return center(volume.array, volume.affine)


def volumes_by_highdicom(path: Path) -> list[float]:
    report = highdicom.sr.srread(path)
    return [
        float(measurement.value)
        for group in report.content.get_volumetric_roi_measurement_groups()
        for measurement in group.get_measurements()
        if measurement.unit.value == "cm3"
    ]


def center_by_simpleitk(path: Path) -> tuple[float, np.ndarray]:
    image = SimpleITK.ReadImage(str(path))
    step = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = step[:, ::-1], image.GetOrigin()
    return center(SimpleITK.GetArrayFromImage(image).astype(np.float64), affine)


def segments_by_dcmqi(path: Path) -> Centers:
    folder = path.parent / "dcmqi-seg"
    folder.mkdir()
    run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "lesion")
    found = {}
    for image in folder.glob("*.nrrd"):
        number = int(image.stem.rpartition("-")[2])
        weight, place = center_by_simpleitk(image)
        found[number] = (weight / SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(image))).max(), place)
    return found


def activation_by_dcmqi(path: Path) -> tuple[float, np.ndarray]:
    folder = path.parent / "dcmqi-pm"
    folder.mkdir()
    run("paramap2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd")
    (image,) = folder.glob("*.nrrd")
    return center_by_simpleitk(image)


def volumes_by_dcmqi(path: Path) -> list[float]:
    metadata = path.parent / "dcmqi-sr.json"
    run("tid1500reader", "--inputDICOM", path, "--outputMetadata", metadata)
    return [
        float(item["value"])
        for group in json.loads(metadata.read_text(encoding="utf-8"))["Measurements"]
        for item in group.get("measurementItems", [])
        if "ReferencedSegment" in group and item["units"]["CodeValue"] == "cm3"
    ]


def by_dcmjs(path: Path) -> dict:
    return json.loads(run("node", HERE / "read_with_dcmjs.cjs", path))


def segments_by_dcmjs(path: Path) -> Centers:
    frames = by_dcmjs(path)["frames"]
    numbers = {frame["segment"] for frame in frames}
    return {number: weighted([frame for frame in frames if frame["segment"] == number]) for number in numbers}


def activation_by_dcmjs(path: Path) -> tuple[float, np.ndarray]:
    return weighted(by_dcmjs(path)["frames"])


def volumes_by_dcmjs(path: Path) -> list[float]:
    return by_dcmjs(path)["numbers"]["118565006"]


def weighted(frames: list[dict]) -> tuple[float, np.ndarray]:
    weights = [frame["weight"] for frame in frames]
    return sum(weights), np.average([frame["center"] for frame in frames], axis=0, weights=weights)


READERS = {
    "highdicom": Reader(segments_by_highdicom, activation_by_highdicom, volumes_by_highdicom),
    "dcmqi": Reader(segments_by_dcmqi, activation_by_dcmqi, volumes_by_dcmqi),
    "dcmjs": Reader(segments_by_dcmjs, activation_by_dcmjs, volumes_by_dcmjs),
}
each_reader = pytest.mark.parametrize(
    "name",
    ["highdicom", pytest.param("dcmqi", marks=needs_dcmqi), pytest.param("dcmjs", marks=needs_dcmjs)],
)


def check(reader: Reader, folder: Path, study: Study, diagnosis: Diagnosis) -> None:
    """Compare with the diagnosis."""
    affine, worst = study.volume.affine, 0.0
    assert affine is not None
    found = reader.segments(folder / "lesions.seg.dcm")
    assert sorted(found) == [lesion.lesion_id for lesion in diagnosis.lesions]
    for number, (count, place) in found.items():
        true_count, true_place = center(diagnosis.lesion_labels == number, affine)
        assert count == true_count
        worst = max(worst, float(np.linalg.norm(place - true_place)))
    assert reader.volumes_ml(folder / "findings.sr.dcm") == pytest.approx(
        [lesion.volume_ml for lesion in diagnosis.lesions], rel=1e-4
    )
    assert worst < 0.1
    infected = np.array([one.infected for one in diagnosis.slices])
    true_sum, true_place = center(diagnosis.activation * infected[:, None, None], affine)
    total, place = reader.activation(folder / "activation.pm.dcm")
    assert total == pytest.approx(true_sum, rel=1e-4)
    assert np.linalg.norm(place - true_place) < 0.1


@each_reader
@pytest.mark.parametrize("layout", ["axial, superior to inferior", "rows run to the front", "oblique, about z"])
def test_a_small_series_in_several_geometries(make_series, make_findings, tmp_path, name, layout):
    study = make_series(layout)
    diagnosis = make_findings(study)
    write_dicom_results(study, diagnosis, tmp_path, kinds=("seg", "pm", "sr"))
    check(READERS[name], tmp_path, study, diagnosis)


@each_reader
def test_slices_without_infection_between_others_move_nothing(make_series, make_findings, tmp_path, name):
    study = make_series()
    diagnosis = make_findings(study, infected=(1, 2, 4))
    write_dicom_results(study, diagnosis, tmp_path, kinds=("seg", "pm", "sr"))
    check(READERS[name], tmp_path, study, diagnosis)


@pytest.fixture(scope="module")
def covid(tmp_path_factory):
    """(folder, study, diagnosis) of a real patient, read with the shipped networks."""
    folder = tmp_path_factory.mktemp("covid_002")
    study = open_study(COVID)
    diagnosis = diagnose(study, load_models("compact"))
    write_dicom_results(study, diagnosis, folder, kinds=("seg", "pm", "sr"))
    return folder, study, diagnosis


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not COVID.is_dir(), reason="needs shared/data/volumes/covid_002")
@each_reader
def test_a_real_patient(covid, name):
    folder, study, diagnosis = covid
    assert len(diagnosis.lesions) >= 3
    check(READERS[name], folder, study, diagnosis)
