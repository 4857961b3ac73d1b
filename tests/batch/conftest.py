from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def tasks_for_children(monkeypatch):
    """Children find the tasks of ``played_studies``."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=":")
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """Six slices of a phantom as DICOM files."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dicom(make_phantom(PhantomConfig(slices=6, size=32, lesions=3, seed=5)), folder)
    return folder / "dicom"


@pytest.fixture
def add_study(drawn):
    """``add_study(folder, "1")``: a copy of the phantom as another study, in one or several folders."""

    def add(*folders: Path, number: str = "1", slices: slice = slice(None), prefix: str = "") -> list[Path]:
        written = []
        for index, path in enumerate(sorted(drawn.glob("*.dcm"))[slices]):
            dataset = dcmread(path)
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                setattr(dataset, name, generate_uid(entropy_srcs=[name, number]))
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=["image", number, str(index)])
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID = f"P{number}"
            folder = folders[index % len(folders)]
            folder.mkdir(parents=True, exist_ok=True)
            dataset.save_as(folder / f"{prefix}{path.name}", enforce_file_format=True)
            written.append(folder / f"{prefix}{path.name}")
        return written

    return add


@pytest.fixture
def cohort(tmp_path, add_study) -> Path:
    """Two studies that can be read and one with a gap."""
    for number in ("1", "2"):
        add_study(tmp_path / "cohort" / f"study-{number}", number=number)
    for path in add_study(tmp_path / "cohort" / "gap", number="3")[2:3]:
        path.unlink()
    return tmp_path / "cohort"


@pytest.fixture
def other_place(tmp_path):
    def move(folder: Path) -> Path:
        return Path(shutil.move(folder, tmp_path / "elsewhere"))

    return move
