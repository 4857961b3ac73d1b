"""Seeded damage to every kind of input ends in a study or a coded refusal."""

from __future__ import annotations

import fuzz_inputs
import numpy as np
import pytest


@pytest.fixture(scope="module")
def seeds():
    return fuzz_inputs.make_seeds()


def test_every_good_input_is_read_with_its_true_geometry(seeds, tmp_path):
    for kind, seed in seeds.items():
        folder = tmp_path / kind
        folder.mkdir()
        for name, data in seed.files.items():
            (folder / name).write_bytes(data)
        with fuzz_inputs.forked_children() as child:
            child.crashes = 0
            outcome = fuzz_inputs.read(folder, seed, lenient=False)
        assert outcome == ("read", "no geometry stated" if seed.affine is None else ""), kind
        assert child.crashes == 0


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
    first, again = (fuzz_inputs.mutation(seeds["dicom"], "dicom", 5, 1) for _ in range(2))
    assert first == again
    assert first != fuzz_inputs.mutation(seeds["dicom"], "dicom", 6, 1)
    assert first != dict(seeds["dicom"].files)


def test_a_decoder_that_panics_costs_the_file_not_the_child(seeds, tmp_path):
    """Mutation 16 of seed 1 made pylibjpeg-rle index behind its output, which is a panic of Rust."""
    for name, data in fuzz_inputs.mutation(seeds["dicom-rle"], "dicom-rle", 16, 1).items():
        (tmp_path / name).write_bytes(data)
    with fuzz_inputs.forked_children() as child:
        child.crashes = 0
        code, message = fuzz_inputs.read(tmp_path, seeds["dicom-rle"], lenient=False)
    assert (code, child.crashes) == ("UNREADABLE", 0)
    assert "a decoder gave up on the pixel data" in message


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damage_ends_in_a_study_or_a_coded_refusal(seeds):
    found = fuzz_inputs.summary(list(fuzz_inputs.fuzz(seeds, 154, 20)))
    assert found["failures"] == []
    assert {"read", "TRUNCATED", "UNREADABLE"} <= {code for counts in found["outcomes"].values() for code in counts}
