"""Seeded damage to every kind of input ends in a study or a coded refusal."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from io import BytesIO
from types import SimpleNamespace

import fuzz_damage
import fuzz_inputs
import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from jcs_ct.imaging import decoding_child


@pytest.fixture(scope="module")
def seeds():
    return fuzz_inputs.make_seeds()


def test_every_good_input_is_read_with_its_true_geometry(seeds):
    for kind, seed in seeds.items():
        outcome, detail = fuzz_inputs.read(seed.files, seed, lenient=False)
        assert outcome == ("read, no DICOM results" if kind in ("zip", "tar") else "read"), kind
        assert detail == ("no geometry stated" if seed.affine is None else ""), kind


def test_a_wrong_geometry_would_be_noticed(seeds):
    seed = seeds["nifti"]
    moved = seed.affine.copy()
    moved[0, 3] += 0.2
    assert "0.20 mm off" in fuzz_inputs.geometry_error(moved, seed.shape, seed)
    assert fuzz_inputs.geometry_error(seed.affine, seed.shape, seed) == ""
    below = seed.affine @ np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert fuzz_inputs.geometry_error(below, (seed.shape[0] - 1, *seed.shape[1:]), seed) == ""
    assert "shape" in fuzz_inputs.geometry_error(seed.affine, (seed.shape[0] + 1, *seed.shape[1:]), seed)


def test_a_mutation_can_be_made_again(seeds):
    for kind, seed in seeds.items():
        made = [fuzz_damage.mutation(seed, kind, number, 1) for number in range(12)]
        assert made == [fuzz_damage.mutation(seed, kind, number, 1) for number in range(12)]
        assert len({tuple(sorted(files.items())) for files in made}) > 8
        assert made.count(dict(seed.files)) < 3


def test_elements_of_a_header_are_found_as_pydicom_finds_them(seeds):
    for kind in ("dicom", "dicom-implicit", "dicom-big-endian", "dicom-enhanced"):
        content = next(iter(seeds[kind].content.values()))
        dataset = dcmread(BytesIO(content))
        found = {(one.vr, one.end - one.value_at) for one in fuzz_damage.dicom_elements(content)}
        assert len(fuzz_damage.dicom_elements(content)) == len([*dataset.file_meta.iterall(), *dataset.iterall()])
        assert (b"" if kind == "dicom-implicit" else b"US", 2) in found


def test_what_a_reading_process_does_not_survive_is_a_finding(monkeypatch):
    monkeypatch.setattr(fuzz_inputs, "HANG_S", 0.2)

    def one(turn):
        if turn[1] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if turn[1] == 3:
            time.sleep(60)
        return "read", ""

    turns = [("png", number) for number in range(5)]
    first = list(fuzz_inputs.in_process(turns, one))
    assert [finding.outcome for finding in first] == ["read", "CRASH"]
    second = list(fuzz_inputs.in_process(turns[2:], one))
    assert [(finding.number, finding.outcome) for finding in second] == [(2, "read"), (3, "HANG")]


def test_a_decoder_that_panics_costs_the_file_not_the_child(seeds):
    """These four bytes made pylibjpeg-rle index behind its output, which is a panic of Rust."""
    files = dict(seeds["dicom-rle"].files)
    damaged = bytearray(files["0006.dcm"])
    damaged[1930:1934] = b"\xff\x7f\0\0"
    code, message = fuzz_inputs.read({**files, "0006.dcm": bytes(damaged)}, seeds["dicom-rle"], lenient=False)
    assert code == "UNREADABLE"
    assert "a decoder gave up on the pixel data" in message


def test_an_exception_of_the_decoding_child_is_a_finding(seeds, monkeypatch):
    monkeypatch.setitem(decoding_child._TASKS, "headers", lambda options: lambda item: 1 // 0)
    outcome, detail = fuzz_inputs.read(seeds["dicom"].files, seeds["dicom"], lenient=False)
    assert outcome == "CRASH"
    assert "ZeroDivisionError" in detail


def test_a_volume_that_lies_mirrored_in_the_true_grid_is_a_finding(seeds, monkeypatch):
    read = fuzz_inputs.inspect_study
    for kind in ("nifti", "dicom", "dicom-enhanced"):
        for axis in range(3):

            def misread(path, axis=axis, **options):
                study = read(path, **options).result
                flipped = dataclasses.replace(study.volume, hu=np.flip(study.volume.hu, axis))
                return SimpleNamespace(result=dataclasses.replace(study, volume=flipped))

            monkeypatch.setattr(fuzz_inputs, "inspect_study", misread)
            outcome, detail = fuzz_inputs.read(seeds[kind].files, seeds[kind], lenient=False)
            assert (outcome, detail) == ("WRONG GEOMETRY", f"mirrored along axes ({axis},)")


def test_a_file_that_states_one_other_geometry_alone_is_no_finding(seeds, tmp_path):
    (content,) = seeds["nifti"].files.values()
    path = tmp_path / "ct.nii"
    path.write_bytes(content)
    image = nibabel.load(path)
    image.set_qform(None, code=0)
    image.set_sform(np.diag([-1.0, 1.0, 1.0, 1.0]) @ image.affine, code=1)
    nibabel.save(image, tmp_path / "mirrored.nii")
    outcome, detail = fuzz_inputs.read_path(tmp_path / "mirrored.nii", seeds["nifti"], lenient=False)
    assert (outcome, detail) == ("read as stated", "mirrored along axes (2,)")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "real_child"), [(300, False), (110, True)])
def test_damage_ends_in_a_study_or_a_coded_refusal(seeds, count, real_child):
    found = fuzz_inputs.summary(list(fuzz_inputs.fuzz(seeds, count, 20, real_child=real_child)))
    assert found["failures"] == []
    assert {"read", "TRUNCATED", "UNREADABLE"} <= {code for counts in found["outcomes"].values() for code in counts}
