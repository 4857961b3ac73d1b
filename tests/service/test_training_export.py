"""Corrected studies are exported as files of their own, whatever folders they lie in."""

from __future__ import annotations

import os

import pytest

from jcs_ct.data.manifest import read_manifest
from jcs_ct.errors import ConfigError
from jcs_ct.jobs import JobKey, Ledger, ResultFolders
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom
from jcs_ct.service.database import PATIENTS_SALT, RECORD, ServiceDatabase
from jcs_ct.service.studies import Studies
from jcs_ct.service.training_export import export_corrected
from jcs_ct.service.users import LOCAL_USER


def key(study_id: str) -> JobKey:
    return JobKey(study_id, "w", "o", "v")


@pytest.fixture
def page(tmp_path):
    """The folder of a page with a corrected study, whose images lie in a folder of its series, and their paths."""
    folder = tmp_path / "page"
    write_dicom(make_phantom(PhantomConfig(slices=6, size=32, seed=3, negative=True)), tmp_path / "drawn")
    with ServiceDatabase(folder / RECORD) as database, Ledger(folder / "jobs.sqlite") as ledger:
        studies = Studies(database, ledger, ResultFolders(folder / "results"), folder)
        record = studies.record(LOCAL_USER, studies.new_id(), "", files=6, size=1, key=key)
        record = studies.queue(record, key)
        series = studies.sent(record.study_id) / "wgggg+" / "wgggh+"
        series.parent.mkdir(parents=True)
        (tmp_path / "drawn" / "dicom").rename(series)
        ledger.finish(ledger.claim(), result={"kind": "dicom", "identifier": "1"})
        database.change("INSERT INTO corrections VALUES (?, 1, 0, 'local', 0, '', '{}')", (record.study_id,))
    return folder, sorted(series.iterdir())


def test_a_study_in_folders_is_exported_with_them(page, tmp_path):
    folder, images = page
    exported = export_corrected(folder, tmp_path / "out")
    (row,) = read_manifest(exported.manifest)
    assert row.label == 0
    assert row.path == tmp_path / "out" / "studies" / images[0].parents[2].name / "wgggg+" / "wgggh+"
    assert sorted(path.name for path in row.path.iterdir()) == [path.name for path in images]


def test_a_patient_has_one_name_in_every_export(page, tmp_path):
    """With a name of its own in each, a patient of two exports that are joined may be trained on and judged."""
    folder, _ = page
    first, second = (read_manifest(export_corrected(folder, tmp_path / name).manifest) for name in ("one", "two"))
    assert [row.patient for row in first] == [row.patient for row in second]
    key = (tmp_path / "one" / "studies.salt").read_bytes()
    assert key != (folder / PATIENTS_SALT).read_bytes(), "which the export does not give away"


def test_lesions_without_their_segmentation_are_no_uninfected_study(page, tmp_path):
    folder, _ = page
    with ServiceDatabase(folder / RECORD) as database:
        database.change("UPDATE corrections SET facts = ?", ('{"lesion_count": 2}',))
    with pytest.raises(ConfigError, match="no DICOM study"):
        export_corrected(folder, tmp_path / "out")


def test_what_is_done_to_the_export_does_not_reach_the_page(page, tmp_path):
    folder, images = page
    before = [path.read_bytes() for path in images]
    export_corrected(folder, tmp_path / "out")
    for path in (tmp_path / "out" / "studies").rglob("*.dcm"):
        with path.open("r+b") as stream:  # in place, as an anonymiser saves
            stream.write(b"nobody")
    assert [path.read_bytes() for path in images] == before


@pytest.mark.parametrize("stopped_in", ["copy_file", "find_studies"])
def test_an_export_that_is_stopped_leaves_nothing_and_is_given_again(page, tmp_path, monkeypatch, stopped_in):
    folder, out = page[0], tmp_path / "out"

    def stopped(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"jcs_ct.service.training_export.{stopped_in}", stopped)
        export_corrected(folder, out)
    assert list(out.iterdir()) == []
    (out / ".0123abcd.part").mkdir()  # of one that was killed
    os.utime(out / ".0123abcd.part", (0, 0))
    assert export_corrected(folder, out).studies == 1
    assert {path.name for path in out.iterdir()} == {"labels.csv", "manifest.csv", "studies", "studies.salt"}
    with pytest.raises(ConfigError, match="is not empty; choose a new folder"):
        export_corrected(folder, out)
