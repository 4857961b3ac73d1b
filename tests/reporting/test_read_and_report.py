"""From a path to a report: what runs beside what changes no answer, and an error anywhere ends all of it."""

from __future__ import annotations

import json
import threading
import time

import pytest

from jcs_ct.beside import Beside
from jcs_ct.checkpoints import load_models
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError, StoppedError, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom, write_nifti
from jcs_ct.reading import diagnosis as diagnosis_module
from jcs_ct.reading.diagnosis import diagnose
from jcs_ct.reporting import write_report
from jcs_ct.reporting.page_pictures import PagePictures
from jcs_ct.reporting.read_and_report import read_and_report

FP32 = Execution(device="cpu", precision="fp32", backend="torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A positive phantom of 10 slices."""
    place = tmp_path_factory.mktemp("phantom")
    write_dicom(make_phantom(PhantomConfig(slices=10, size=96, lesions=4, seed=5)), place)
    return place / "dicom"


@pytest.fixture(scope="module")
def models(random_models):
    return load_models(random_models)


def run(path, out, models, **options):
    with Beside("read") as beside:
        return read_and_report(beside.start(open_study, path), out, models, execution=FP32, **options)


def beside_threads():
    names = ("read", "lungs", "network", "prepare", "parts", "pictures", "volumes")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


def test_the_report_is_that_of_its_steps_one_after_the_other(folder, models, tmp_path):
    reported = run(folder, tmp_path / "beside", models)
    study = open_study(folder)
    write_report(study, diagnose(study, models, execution=FP32), tmp_path / "steps")
    for name in ("report.json", "lesions.nii.gz", "densities.nii.gz", "activation.nii.gz"):
        assert (tmp_path / "beside" / name).read_bytes() == (tmp_path / "steps" / name).read_bytes()
    assert all(path.is_file() for path in reported.paths.written())
    records = [json.loads((tmp_path / way / "run.json").read_text()) for way in ("beside", "steps")]
    assert records[0]["inputs"] == records[1]["inputs"]
    assert not beside_threads()


def test_a_study_without_lung_is_refused_before_it_is_classified_to_its_end(models, tmp_path, monkeypatch, folder):
    refused = threading.Event()

    def no_lung(volume):
        refused.set()
        raise StudyError("NO_LUNG", "no slice shows lung")

    def classify(ready, hu, indices, *, progress, **_):
        refused.wait(10)
        for done in range(len(indices)):
            time.sleep(0.01)
            progress(done, len(indices))
        raise AssertionError("every slice was classified")

    monkeypatch.setattr(diagnosis_module, "_find_lungs", no_lung)
    monkeypatch.setattr(diagnosis_module, "classify_slices", classify)
    with pytest.raises(StudyError, match="NO_LUNG"):
        run(folder, tmp_path, models)
    assert not beside_threads()
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("stage", ["read", "classify", "lungs", "segment", "report"])
def test_stopped_in_a_stage_no_thread_and_no_file_stays(folder, models, tmp_path, stage):
    def progress(name, done, total):
        if name == stage:
            raise StoppedError(f"stopped in {stage}", "start over")

    with pytest.raises(StoppedError, match=f"stopped in {stage}"):
        run(folder, tmp_path, models, progress=progress)
    assert not beside_threads()
    assert not list(tmp_path.iterdir())


def test_an_error_in_a_picture_that_is_drawn_ahead_ends_the_report(folder, models, tmp_path, monkeypatch):
    def fail(hu, window):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr("jcs_ct.reporting.page_pictures.ct_picture", fail)
    with pytest.raises(MemoryError, match="no room for a picture"):
        run(folder, tmp_path, models)
    assert not list(tmp_path.iterdir())


def test_pictures_are_begun_only_for_a_page_and_only_once(folder, models, tmp_path, monkeypatch):
    begun = []
    begin = PagePictures.begin_ct
    monkeypatch.setattr(PagePictures, "begin_ct", lambda *args: (begun.append(1), begin(*args)))
    run(folder, tmp_path / "page", models)
    assert begun == [1]
    run(folder, tmp_path / "data", models, formats=("json",))
    assert begun == [1]


def test_dicom_results_are_left_out_or_refused_where_the_study_is_no_dicom(models, tmp_path):
    write_nifti(make_phantom(PhantomConfig(slices=10, size=96, lesions=4, seed=5)), tmp_path / "phantom")
    study = tmp_path / "phantom" / "ct.nii.gz"
    reported = run(study, tmp_path / "out", models, dicom="where possible")
    assert reported.paths.dicom == ()
    with pytest.raises(ConfigError, match="DICOM"):
        run(study, tmp_path / "none", models, dicom="yes")
    assert not (tmp_path / "none").exists()
