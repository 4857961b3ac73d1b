"""SEG, PM and SR as OHIF's own parser reads them: dcmjs of npm, a tool of tests (``npm install``, NODE_PATH)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from jcs_ct.reporting.dicom_results import write_dicom_results

HERE = Path(__file__).parent


def dcmjs_is_there() -> bool:
    """Whether node finds dcmjs."""
    if shutil.which("node") is None:
        return False
    return (
        subprocess.run(["node", "-e", "require.resolve('dcmjs')"], capture_output=True, check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(not dcmjs_is_there(), reason="needs node with dcmjs (npm install dcmjs; NODE_PATH)")


def read(path):
    done = subprocess.run(
        ["node", str(HERE / "read_with_dcmjs.cjs"), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("layout", ["axial, superior to inferior", "oblique, about z"])
def test_positions_segments_and_numbers_agree(make_series, make_findings, tmp_path, layout):
    study = make_series(layout)
    diagnosis = make_findings(study)
    write_dicom_results(study, diagnosis, tmp_path, kinds=("seg", "pm", "sr"))
    seg = read(tmp_path / "lesions.seg.dcm")
    expected = highdicom.seg.segread(tmp_path / "lesions.seg.dcm")
    assert seg["segments"] == len(diagnosis.lesions) == expected.number_of_segments
    affine = study.volume.affine
    slices = np.array([affine[:3, 3] + index * affine[:3, 0] for index in range(study.volume.shape[0])])
    by_segment = dict.fromkeys(range(1, len(diagnosis.lesions) + 1), 0)
    for frame, count in zip(seg["frames"], seg["counts"], strict=True):
        distances = np.linalg.norm(slices - frame["position"], axis=1)
        assert distances.min() < 0.1
        index = int(distances.argmin())
        assert count == np.count_nonzero(diagnosis.lesion_labels[index] == frame["segment"])
        by_segment[frame["segment"]] += count
    assert list(by_segment.values()) == [int((diagnosis.lesion_labels == n).sum()) for n in by_segment]
    pm = read(tmp_path / "activation.pm.dcm")
    assert all(np.linalg.norm(slices - frame["position"], axis=1).min() < 0.1 for frame in pm["frames"])
    numbers = read(tmp_path / "findings.sr.dcm")["numbers"]
    assert numbers["JCS003"] == [diagnosis.positive_slice_count]
    assert np.allclose(numbers["118565006"], [lesion.volume_ml for lesion in diagnosis.lesions], atol=1e-5)
    assert dcmread(tmp_path / "findings.sr.dcm").Modality == "SR"
