import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import ConfigError
from jcs_ct.experiments.cross_validation import held_out_lesions
from jcs_ct.experiments.judged_slices import ct100_cases
from jcs_ct.experiments.lesion_predictions import read_given, read_predictions, to_levels, write_predictions
from jcs_ct.experiments.methods import Method
from jcs_ct.training.recipe import Recipe


def test_the_cut_at_a_half_survives_the_file(tmp_path, ct100_like):
    edge = np.nextafter(0.5, 0)
    assert to_levels(np.array([0.0, edge, 0.5, 1.0])).tolist() == [0, 127, 128, 255]
    cases = ct100_cases(ct100_like)
    planes = [np.full((24, 20), 128, dtype=np.uint8)] * len(cases)
    write_predictions(tmp_path / "p", [case.name for case in cases], planes)
    assert (read_predictions(tmp_path / "p", cases).probability(0) >= 0.5).all()


def test_labels_of_several_classes_are_said_not_to_be_probabilities(tmp_path, ct100_like):
    cases = ct100_cases(ct100_like)
    masks = [case.read_mask() for case in cases]
    write_predictions(tmp_path / "p", [case.name for case in cases], [mask * np.uint8(2) for mask in masks])
    read = read_given([tmp_path / "p"], cases)
    assert read.note.startswith("its largest value is 2: read as probabilities times 255, all of them faint")
    assert max(plane.max() for plane in read.levels) == 2


def test_masks_of_0_and_1_are_masks_and_not_faint_probabilities(tmp_path, ct100_like):
    cases = ct100_cases(ct100_like)
    planes = [case.read_mask().astype(np.uint8) for case in cases]
    planes[3] = np.zeros_like(planes[3])
    write_predictions(tmp_path / "p", [case.name for case in cases], planes)
    read = read_given([tmp_path / "p"], cases)
    assert read.probability(0).max() == 1.0
    assert read.probability(3).max() == 0.0
    assert read.note == "its largest value is 1: read as masks of 0 and 1, not as probabilities times 255"
    assert read.note in read_given([tmp_path / "p", tmp_path / "p"], cases, name="twice").note


def test_masks_of_two_kinds_in_one_folder_are_refused(tmp_path, ct100_like):
    """Those of 0 and 1 would be probabilities of 1/255, and their lesions missed."""
    cases = ct100_cases(ct100_like)
    names, masks = [case.name for case in cases], [case.read_mask() for case in cases]
    mixed = [mask * np.uint8(255 if number % 2 else 1) for number, mask in enumerate(masks)]
    write_predictions(tmp_path / "p", names, mixed)
    with pytest.raises(ConfigError, match="masks of 0 and 1 among masks of 0 and 255; write all of one kind"):
        read_given([tmp_path / "p"], cases)
    mixed[0][0, 0] = 7
    write_predictions(tmp_path / "p", names, mixed)
    assert read_given([tmp_path / "p"], cases).probability(2).max() == np.float32(1 / 255)


def test_what_a_collapsed_network_said_is_not_turned_into_certainty(tmp_path, ct100_like):
    cases, method = ct100_cases(ct100_like), Method("quiet", Recipe(task="segmenter", preset="compact", steps=1))
    planes = [np.full((24, 20), to_levels(np.array(0.004)))] * len(cases)
    write_predictions(tmp_path / "quiet" / "predictions", [case.name for case in cases], planes)
    read = held_out_lesions(method, cases, tmp_path)
    assert read.probability(0).max() == np.float32(1 / 255)
    assert read.note == ""


def test_all_problems_are_listed_at_once(perfect, ct100_like):
    (perfect / "0001.png").unlink()
    (perfect / "0002.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(perfect / "0003.png")
    Image.fromarray(np.zeros((24, 20, 3), dtype=np.uint8)).save(perfect / "0004.png")
    with pytest.raises(
        ConfigError,
        match=r"(?s)4 problem.*0001.*no such file.*0002.*not a readable.*8x8 pixels, its mask 24x20.*8-bit grey",
    ):
        read_predictions(perfect, ct100_cases(ct100_like))


def test_the_mean_of_folders_is_an_ensemble_whose_cut_stays_at_a_half(tmp_path, ct100_like):
    cases = ct100_cases(ct100_like)
    for name, level in (("a", 127), ("b", 128), ("c+d", 0)):
        planes = [np.full((24, 20), level, dtype=np.uint8)] * len(cases)
        write_predictions(tmp_path / name, [case.name for case in cases], planes)
    both = read_given([tmp_path / "a", tmp_path / "b"], cases, name="both")
    assert (both.name, both.note) == ("both", "mean of 2: a, b")
    assert set(np.unique(both.levels[0])) == {128}
    assert read_given([tmp_path / "c+d"], cases).name == "c+d"
    assert read_given([tmp_path / "a"], cases, name="x").name == "x"
    with pytest.raises(ConfigError, match="the mean of several folders needs a name: NAME="):
        read_given([tmp_path / "a", tmp_path / "b"], cases)


def test_files_of_no_case_are_named_and_left_alone(perfect, ct100_like):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(perfect / "9999.png")
    assert read_predictions(perfect, ct100_cases(ct100_like)).note.startswith("1 file(s) in the folder belong to no")
