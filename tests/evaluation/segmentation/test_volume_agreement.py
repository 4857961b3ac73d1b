from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jcs_ct.evaluation.pages.page import write_evaluation
from jcs_ct.evaluation.segmentation.lesion_comparison import evaluate_predictions
from jcs_ct.evaluation.segmentation.volume_agreement import (
    LEAST_SLICES,
    find_volumes,
    score_volumes,
    volumes_table,
)
from jcs_ct.experiments.judged_slices import Case, CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.metrics.agreement import limits_of_agreement
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.preprocessing import Window

FEW = Resampling(draws=20)


@pytest.fixture(scope="module")
def phantoms():
    config = {"slices": LEAST_SLICES, "size": 128, "lesions": 6}
    return [make_phantom(PhantomConfig(seed=seed, **config)) for seed in (1, 2, 3)]


@pytest.fixture
def cases(phantoms, tmp_path):
    """Three volumes as PNG under the lung window, and a patient of three slices."""
    found = []
    for number, phantom in enumerate(phantoms):
        for index, (plane, mask) in enumerate(zip(phantom.volume.hu, phantom.lesions.labels > 0)):
            image, truth = tmp_path / f"{number}-{index:02d}.png", tmp_path / f"{number}-{index:02d}-mask.png"
            Image.fromarray(np.round(255 * Window()(plane)).astype(np.uint8)).save(image)
            Image.fromarray(mask.astype(np.uint8) * 255).save(truth)
            found.append(Case(image.stem, image, truth, f"patient-{number}", window=Window()))
    few = [Case(f"few-{case.name}", case.image, case.mask, "few") for case in found[:3]]
    return CaseSet("phantoms", (*few, *found))


def eroded(masks):
    """What a timid method finds: the left half of each mask's columns."""
    return [np.where(np.arange(mask.shape[1]) < mask.shape[1] // 2, 255 * mask, 0).astype(np.uint8) for mask in masks]


def test_dice_and_burden_are_of_all_slices_of_a_volume_together(cases, phantoms):
    masks = [case.read_mask() for case in cases]
    volumes = find_volumes(cases, masks)
    assert [len(members) for members in volumes.members] == [LEAST_SLICES] * 3, "three slices are no volume"
    timid = score_volumes(Predictions("timid", tuple(eroded(masks))), masks, volumes, threshold=0.5)
    for number, phantom in enumerate(phantoms):
        truth = phantom.lesions.labels > 0
        half = truth.copy()
        half[:, :, 64:] = False
        assert timid.dice_percent[number] == pytest.approx(100 * 2 * half.sum() / (half.sum() + truth.sum()))
        lungs = phantom.lungs.labels > 0
        assert timid.true_burden_percent[number] == pytest.approx(100 * truth.sum() / (lungs | truth).sum(), rel=0.1)
        shares = timid.burden_percent[number] / timid.true_burden_percent[number]
        assert shares == pytest.approx(half.sum() / truth.sum())


def test_what_the_dice_of_a_volume_without_a_lesion_is_stands_in_the_notes(cases):
    wells = tuple(replace(case, mask=None) if case.patient == "patient-1" else case for case in cases)
    healthy = CaseSet("x", wells)
    for judged, is_said in ((healthy, True), (cases, False)):
        masks = [case.read_mask() for case in judged]
        volumes = find_volumes(judged, masks)
        scored = score_volumes(Predictions("timid", tuple(eroded(masks))), masks, volumes, threshold=0.5)
        notes = volumes_table([scored], volumes, judged).notes
        assert any("1 of 3 volumes have no lesion: their Dice is 100" in note for note in notes) == is_said


def test_the_page_has_the_volumes_and_how_their_burden_agrees(cases, tmp_path):
    masks = [case.read_mask() for case in cases]
    evaluation = evaluate_predictions(
        [Predictions("timid", tuple(eroded(masks)))], cases, title="phantoms", resampling=FEW
    )
    table = next(table for table in evaluation.tables if table.name == "volumes")
    assert [row["volume"] for row in table.rows] == ["0-00", "1-00", "2-00"]
    assert all(row["difference_percent"] < 0 for row in table.rows)
    assert "limits of agreement" in " ".join(table.notes)
    assert "burden-agreement" in evaluation.figures


def test_without_pictures_dice_is_known_and_burden_is_not(cases):
    bare = CaseSet("bare", tuple(Case(case.name, None, case.mask, case.patient) for case in cases))
    masks = [case.read_mask() for case in bare]
    scores = score_volumes(
        Predictions("all", tuple(255 * mask.astype(np.uint8) for mask in masks)),
        masks,
        find_volumes(bare, masks),
        threshold=0.5,
    )
    assert scores.dice_percent.tolist() == [100.0, 100.0, 100.0]
    assert scores.agreement is None


@pytest.mark.slow
def test_a_volume_without_lung_stays_out_of_the_agreement_and_is_said(cases, tmp_path):
    empty = []
    for index in range(LEAST_SLICES):
        image, truth = tmp_path / f"air-{index:02d}.png", tmp_path / f"air-{index:02d}-mask.png"
        for path in (image, truth):
            Image.fromarray(np.zeros((128, 128), dtype=np.uint8)).save(path)
        empty.append(Case(image.stem, image, truth, "air", window=Window()))
    several = CaseSet("with air", (*cases.cases, *empty))
    masks = [case.read_mask() for case in several]
    # The method calls a part of the empty pictures a lesion.
    planes = [*eroded(masks[: len(cases)]), *[np.full((128, 128), 255, dtype=np.uint8)] * LEAST_SLICES]
    said = [Predictions("timid", tuple(planes))]
    evaluation = evaluate_predictions(said, several, title="with air", resampling=FEW)
    table = next(table for table in evaluation.tables if table.name == "volumes")
    assert [row.get("burden_percent") is None for row in table.rows] == [False, False, False, True]
    assert "1 volume(s) in which no lung is found have no burden" in table.notes[1]
    assert "n = 3." in table.notes[-1]
    write_evaluation(tmp_path / "page", evaluation)
    few = CaseSet("two with lung", (*cases.cases[3 : 3 + 2 * LEAST_SLICES], *empty))
    kept = [*planes[3 : 3 + 2 * LEAST_SLICES], *planes[len(cases) :]]
    evaluation = evaluate_predictions([Predictions("timid", tuple(kept))], few, title="two", resampling=FEW)
    table = next(table for table in evaluation.tables if table.name == "volumes")
    assert table.notes[-1].endswith("no limits of agreement of fewer than 3 volumes with lung.")
    assert "burden-agreement" not in evaluation.figures


def test_patients_of_one_name_in_two_sources_are_two_volumes(cases):
    named = [replace(case, patient="1", source=case.patient) for case in cases if case.patient != "few"]
    alike = CaseSet("alike", tuple(named))
    volumes = find_volumes(alike, [case.read_mask() for case in alike])
    assert [len(members) for members in volumes.members] == [LEAST_SLICES] * 3


def test_two_volumes_are_too_few(cases):
    two = CaseSet("two", cases.cases[3 : 3 + 2 * LEAST_SLICES])
    assert find_volumes(two, [case.read_mask() for case in two]) is None


def test_limits_of_agreement_are_those_of_bland_and_altman():
    # Peak flow by two meters, 17 subjects (Bland and Altman, Lancet 1986, table 1): large meter less mini meter.
    large = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    mini = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    found = limits_of_agreement(np.array(large), np.array(mini))
    assert found.mean == pytest.approx(-2.1, abs=0.05)
    assert (found.high - found.mean) / 1.959964 == pytest.approx(38.8, abs=0.05)
    # The paper: mean -22.0 to 17.8; lower limit -114.3 to -45.1, upper 40.9 to 110.1 (with 2 for 1.96).
    assert found.mean_interval == pytest.approx((-22.0, 17.8), abs=0.2)
    assert found.low_interval == pytest.approx((-112.5, -43.7), abs=1.0)
    with pytest.raises(ValueError, match="at least 2"):
        limits_of_agreement(np.array([1.0]), np.array([1.0]))
