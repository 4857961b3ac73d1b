"""Lesions read back from the SEG by other software lie where they were, to 0.1 mm and 0.1 %."""

from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.reporting.dicom import write_dicom_results

highdicom = pytest.importorskip("highdicom", reason="DICOM results need highdicom")


def _read_lesion(path, lesion_id):
    """Volume in ml and centroid in LPS mm of one segment, by highdicom alone."""
    volume = highdicom.seg.segread(path).get_volume(segment_numbers=[lesion_id], combine_segments=True)
    index = np.argwhere(volume.array > 0)
    centroid = volume.affine @ [*index.mean(axis=0), 1.0]
    return len(index) * volume.voxel_volume / 1000.0, centroid[:3]


def test_lesions_keep_volume_and_position_in_every_geometry(make_series, make_findings, layout_name, tmp_path):
    study = make_series(layout_name)
    diagnosis = make_findings(study)
    (path,) = write_dicom_results(study, diagnosis, tmp_path / "out", kinds=("seg",))
    assert path.name == "lesions.seg.dcm"
    for lesion in diagnosis.lesions:
        volume_ml, centroid = _read_lesion(path, lesion.lesion_id)
        assert volume_ml == pytest.approx(lesion.volume_ml, rel=1e-3)
        assert np.abs(centroid - lesion.centroid_lps_mm).max() < 0.1
