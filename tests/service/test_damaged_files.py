"""Files of the page that are not as they were written: said, and never taken for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.errors import DamagedFileError
from jcs_ct.service.app import build_service
from jcs_ct.service.describing import read_grid, read_places, read_report
from jcs_ct.service.settings import ServiceSettings
from jcs_ct.service.stored_diagnosis import load_diagnosis
from jcs_ct.service.tasks import _grid


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("report.json", read_report),
        ("viewer/grid.json", read_grid),
        ("viewer/grid.json", _grid),
        ("viewer/lesion_places.json", read_places),
        ("diagnosis.json", load_diagnosis),
    ],
)
def test_a_damaged_file_of_results_is_said(tmp_path, name, read, damage):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damage(b'{"shape": [1, 2, 3], "affine": []}'))
    with pytest.raises(DamagedFileError, match=rf"{path.name} is damaged: .* or send the study again"):
        read(tmp_path)


def test_damaged_arrays_of_a_diagnosis_are_said(tmp_path, damage):
    (tmp_path / "diagnosis.json").write_text("{}")
    np.savez_compressed(tmp_path / "diagnosis.npz", lung_labels=np.zeros(9))
    path = tmp_path / "diagnosis.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFileError, match=r"diagnosis\.npz beside it is damaged"):
        load_diagnosis(tmp_path)


@pytest.mark.parametrize(
    ("record", "room"), [("service.sqlite", "sent"), ("service.sqlite", "corrections"), ("jobs.sqlite", "results")]
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_record_that_was_emptied_does_not_make_its_studies_nobody_s(tmp_path, jcs, record, room, is_there):
    for name in {"service.sqlite", "jobs.sqlite"} - {record}:
        (tmp_path / name).write_bytes(b"x")
    if is_there:
        (tmp_path / record).touch()
    kept = tmp_path / room / "0123" / "1.dcm"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x")
    with pytest.raises(DamagedFileError, match=rf"{record} is damaged: it is .*, and {room} beside it hold studies"):
        build_service(ServiceSettings(tmp_path))
    added = jcs("serve", "users", "add", "jane", "--folder", tmp_path, "--password-stdin")
    assert isinstance(added.exception, DamagedFileError)
    assert kept.exists()
    assert (tmp_path / record).exists() == is_there
