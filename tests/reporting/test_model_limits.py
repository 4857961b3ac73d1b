"""The figures beside the verdict are those of the weights that were used, and of the model card."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest

from jcs_ct.checkpoints import file_sha256, load_models, shipped_checkpoint
from jcs_ct.operating_point import Verdict
from jcs_ct.reporting.limits_in_words import limit_sentences
from jcs_ct.reporting.model_limits import model_limits, shipped_figures
from jcs_ct.reporting.report_json import report_dict


def test_the_figures_are_of_the_weights_in_the_box():
    weights, point = shipped_figures().weights, load_models("compact").operating_point
    assert weights.classifier.sha256 == file_sha256(shipped_checkpoint("classifier"))
    assert weights.segmenter.sha256 == file_sha256(shipped_checkpoint("segmenter"))
    assert weights.classifier.slice_probability == pytest.approx(point.slice_probability)
    assert weights.segmenter.lesion_probability == pytest.approx(point.lesion_probability)


def test_the_figures_are_those_of_the_model_card():
    card = files("jcs_ct").joinpath("weights", "MODEL_CARD.md").read_text(encoding="utf-8")
    weights = shipped_figures().weights
    for row in weights.classifier.slices:
        assert row.source in card
        for share in (row.sensitivity, row.specificity):
            assert share is None or f"{share:.2f}" in card, row
    for row in weights.segmenter.lesions:
        assert f"{row.dice_percent:.1f} %" in card


def test_a_source_of_one_patient_stands_last():
    patients = [row.patients for row in shipped_figures().weights.classifier.slices]
    assert patients[-1] == min(patients) == 1


@pytest.fixture
def shipped(make_study, make_diagnosis):
    weights = shipped_figures().weights
    found = make_diagnosis(make_study())
    return replace(
        found,
        models={
            "classifier": {"sha256": weights.classifier.sha256},
            "segmenter": {"sha256": weights.segmenter.sha256},
        },
        operating_point=replace(
            found.operating_point,
            slice_probability=weights.classifier.slice_probability,
            lesion_probability=weights.segmenter.lesion_probability,
        ),
    )


def test_only_the_measured_weights_at_the_measured_cut_have_figures(shipped):
    weights = shipped_figures().weights
    known = model_limits(shipped)
    assert known.slices == weights.classifier.slices
    assert known.lesions == weights.segmenter.lesions
    assert "children" in known.never_seen
    other_cut = replace(shipped, operating_point=replace(shipped.operating_point, slice_probability=0.5))
    assert model_limits(other_cut).slices == ()
    assert model_limits(other_cut).lesions == weights.segmenter.lesions
    retrained = model_limits(replace(shipped, models={"classifier": {"sha256": "ab" * 32}}))
    assert (retrained.slices, retrained.never_seen) == ((), ())
    assert (retrained.lesions, retrained.burden) == ((), ())
    assert "other_pneumonia" in retrained.not_told_apart, "no network of this kind tells them apart"


def test_the_report_says_the_limits_beside_the_verdict(shipped, make_study):
    known = model_limits(shipped)
    limits = report_dict(make_study(), shipped)["limits"]
    assert [
        (one["source"], one["patient_count"], one["sensitivity"], one["uninfected_slice_count"])
        for one in limits["slice_figures"]
    ] == [(row.source, row.patients, row.sensitivity, row.not_infected) for row in known.slices]
    assert limits["lesion_figures"][0]["mean_dice_percent"] == known.lesions[0].dice_percent
    (burden,) = limits["burden_figures"]
    assert burden["limits_of_agreement_percent"] == [known.burden[0].lowest_percent, known.burden[0].highest_percent]
    assert limits["never_seen"] == list(known.never_seen)
    assert limits["not_told_apart"] == list(known.not_told_apart)


def test_sentences_say_them(shipped):
    said = " ".join(limit_sentences(replace(shipped, verdict=Verdict.POSITIVE)))
    for row in model_limits(shipped).slices:
        assert f"{row.source} (" in said
        assert f", {row.patients} patient" in said
        assert (
            row.sensitivity is None or f"sensitivity {100 * row.sensitivity:.0f} % of {row.infected} slices" in said
        )
    assert "These can look the same as COVID-19: other pneumonias, oedema" in said
    assert "Not evaluated in: children" in said
    assert (
        "(found minus reference): -1.2 percentage points on average, 95 % limits of agreement -7.3 to 5.0 (" in said
    )
    assert "Expected error" not in " ".join(limit_sentences(replace(shipped, burden=None)))
    negative = " ".join(limit_sentences(replace(shipped, verdict=Verdict.NEGATIVE)))
    assert "can be present without visible opacifications" in negative
    assert "was not measured" in " ".join(limit_sentences(replace(shipped, models={})))
