"""Results of earlier readings that lie in a study's folder are none of its images, and hide none."""

import json

import pytest

from jcs_ct.imaging.earlier_results import earlier_results
from jcs_ct.imaging.study_files import find_files


def record(folder, files, name="jcs-ct"):
    outputs = [{"file": file, "byte_count": size, "sha256": ""} for file, size in files]
    (folder / "run.json").write_text(json.dumps({"software": {"name": name}, "outputs": outputs}))


@pytest.fixture
def folder(tmp_path):
    for name in ("slice.dcm", "overlay/0001.dcm", "other.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    return tmp_path


def test_what_the_record_names_is_left_out_also_below(folder):
    record(folder, [("overlay/0001.dcm", 132), ("other.dcm", 132)])
    assert find_files(folder).dicom == (folder / "slice.dcm",)
    assert find_files(folder).others == ()


@pytest.mark.parametrize(
    "files", [[("slice.dcm", 131)], [("../slice.dcm", 132)], [("/slice.dcm", 132)], [("absent.dcm", 132)]]
)
def test_a_file_that_was_replaced_or_lies_elsewhere_is_not(folder, files):
    record(folder, files)
    assert earlier_results(folder) == {folder / "run.json"}
    assert len(find_files(folder).dicom) == 3


@pytest.mark.parametrize("text", ["", "[]", '{"software": 1}', '{"software": {"name": "jcs-ct"}, "outputs": [1]}'])
def test_a_record_that_is_none_names_nothing(folder, text):
    (folder / "run.json").write_text(text)
    assert earlier_results(folder) == frozenset()
    record(folder, [("slice.dcm", 132)], name="another")
    assert earlier_results(folder) == frozenset()
