"""The networks in the box: their size, their card, and their verdicts on studies they have never seen."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from jcs_ct.checkpoints import load_models, read_info
from jcs_ct.imaging import open_study
from jcs_ct.imaging.study import Study
from jcs_ct.lungs.body import find_body
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.diagnosis import diagnose

WEIGHTS = Path(str(resources.files("jcs_ct"))) / "weights"


@pytest.fixture(scope="module")
def models():
    return load_models("compact")


def test_they_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) < 20e6


@pytest.mark.parametrize("task", ["classifier", "segmenter"])
def test_they_say_where_they_come_from(task, models):
    info = read_info(WEIGHTS / f"compact-{task}.safetensors")
    assert info.operating_point == models.operating_point
    assert info.provenance["recipe"]["task"] == task
    assert set(info.provenance["operating_point_on_validation"]) == {"slice", "lesion"}


def test_the_card_states_the_operating_point(models):
    card = (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"from probability {models.operating_point.slice_probability:.2f}" in card
    assert f"from probability {models.operating_point.lesion_probability:.2f}" in card


@pytest.mark.parametrize("negative", [False, True])
def test_phantoms_are_diagnosed_rightly(models, negative):
    phantom = make_phantom(PhantomConfig(slices=16, lesions=9, seed=11, negative=negative))
    study = Study(volume=phantom.volume, identifier="0" * 16, kind="nifti", paths=())
    assert diagnose(study, models).positive is not negative


@pytest.mark.parametrize("negative", [False, True])
def test_what_lies_outside_the_body_changes_neither_verdict_nor_probabilities(models, negative):
    phantom = make_phantom(PhantomConfig(slices=12, size=256, lesions=9, seed=11, negative=negative))
    volume = phantom.volume
    blanked, marked = volume.hu.copy(), volume.hu.copy()
    for index, plane in enumerate(volume.hu):
        outside = ~find_body(plane.astype(np.float32))
        blanked[index][outside] = -1024
        marked[index][outside & (np.arange(plane.shape[0]) < 20)[:, None]] = 1500  # a burned-in band
    as_it_is = verdict(models, volume)
    # A band over the background is nothing at all; a body blanked around is found again, by a row of skin tighter.
    for changed, tolerance in ((blanked, 0.03), (marked, 1e-6)):
        assert (changed != volume.hu).any()
        found = verdict(models, replace(volume, hu=changed))
        assert found.positive is as_it_is.positive is not negative
        for before, after in zip(as_it_is.slices, found.slices, strict=True):
            assert after.infection_probability == pytest.approx(before.infection_probability, abs=tolerance)


def verdict(models, volume):
    study = Study(volume=volume, identifier="0" * 16, kind="nifti", paths=())
    return diagnose(study, models, segment="never")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "positive"), [("covid_002", True), ("normal_002", False)])
def test_real_series_are_diagnosed_rightly(models, shared_data, name, positive):
    assert diagnose(open_study(shared_data / "volumes" / name), models).positive is positive
