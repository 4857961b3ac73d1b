"""A phantom study on disk, small enough to be diagnosed in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom


@pytest.fixture(scope="session")
def phantom_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DICOM folder of a positive phantom of 10 slices."""
    folder = tmp_path_factory.mktemp("phantom")
    write_dicom(make_phantom(PhantomConfig(slices=10, size=96, lesions=4, seed=5)), folder)
    return folder / "dicom"
