"""The patient rule and the order of work, with networks whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from jcs_ct.checkpoints import Models
from jcs_ct.engine import ClassifiedSlice, ReadyClassifier, ReadySegmenter, SegmenterAhead
from jcs_ct.errors import StoppedError, StudyError
from jcs_ct.imaging.nifti_writing import write_array
from jcs_ct.imaging.opening import open_study
from jcs_ct.imaging.study import Study
from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
from jcs_ct.operating_point import OperatingPoint, PatientRule, Verdict, VerdictBasis
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.preprocessing import Region, SlicePreprocessor
from jcs_ct.reading import diagnosis as diagnosis_module
from jcs_ct.reading import lesion_mask as lesion_mask_module
from jcs_ct.reading import second_look as second_look_module
from jcs_ct.reading.diagnosis import diagnose, slice_predictions
from jcs_ct.reading.lesion_mask import LESION_MARGIN_MM
from jcs_ct.reading.lesions import find_lesions
from jcs_ct.reading.quality_flags import agreement_flags
from jcs_ct.reading.second_look import SecondLook
from jcs_ct.volume import CTVolume, evenly_spaced

POINT = OperatingPoint(
    slice_probability=0.5, positive_slice_threshold=3, lesion_probability=0.5, small_study_share=None
)
PREPROCESSOR = SlicePreprocessor(size=32, channels=1, mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(slices=10, lesions=4, seed=1, size=128))


@pytest.fixture
def models():
    with torch.device("meta"):  # the answers are given below, no weight is used
        classifier, segmenter = (
            build_classifier(classifier_preset("compact")),
            build_segmenter(segmenter_preset("compact")),
        )
    return Models(
        ReadyClassifier(classifier, PREPROCESSOR, "compact", "0" * 64, "known"),
        ReadySegmenter(segmenter, PREPROCESSOR, "compact", "1" * 64, "known"),
        POINT,
    )


@pytest.fixture
def know(monkeypatch, phantom):
    """Let the classifier answer ``probabilities``, and the segmenter the phantom's own mask or nothing at all.

    Returns the slices that the segmenter is asked for.
    """
    calls = []

    class Ahead(SegmenterAhead):
        taken = True

        def begin(self, likely):
            self.likely, Ahead.taken = tuple(likely), False

    def set_answers(probabilities, *, outlines=True):
        def classify(ready, hu, indices, **_):
            region = Region(0, hu.shape[1], 0, hu.shape[2])
            grey = np.full((4, 4), 0.5, dtype=np.float32)
            return [ClassifiedSlice(index, probabilities[index], grey, region) for index in indices]

        def segment(ready, hu, indices, *, parts, ahead, **_):
            # A network runs one thing at a time: what has begun ahead is taken first, and is there once.
            assert (ahead is None) == Ahead.taken
            Ahead.taken = True
            for index in indices:
                calls.append(index)
                lesion = phantom.lesions.labels[index] > 0
                yield index, outlines * parts[index].of(lesion).astype(np.float32)

        monkeypatch.setattr(diagnosis_module, "classify_slices", classify)
        monkeypatch.setattr(lesion_mask_module, "segment_slices", segment)
        monkeypatch.setattr(diagnosis_module, "SegmenterAhead", Ahead)
        return calls

    return set_answers


def study_of(volume):
    return Study(volume=volume, identifier="0" * 16, kind="nifti", paths=())


def test_a_slice_without_lung_is_never_infected():
    region = Region(0, 4, 0, 4)
    classified = [ClassifiedSlice(index, 0.9, np.zeros((2, 2), np.float32), region) for index in range(2)]
    first, second = slice_predictions(classified, np.array([True, False]), POINT)
    assert first.infected
    assert not second.infected
    assert second.infection_probability == 0.9


def test_a_positive_study_is_segmented_on_its_lung_slices_only(phantom, models, know):
    calls = know([0.9] * 10)
    result = diagnose(study_of(phantom.volume), models)
    assert result.positive
    assert result.positive_slice_count == result.lung_slice_count
    assert calls == [item.slice_index for item in result.slices if item.has_lung]
    truth = phantom.lesions.labels > 0
    found = result.lesion_labels > 0
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.9
    assert result.burden.opacification_volume_ml == pytest.approx(
        found.sum() * np.prod(phantom.volume.spacing_mm) / 1000, rel=1e-6
    )


def test_lesions_are_kept_as_far_outside_the_lungs_along_rows_as_along_columns(phantom, models, know, monkeypatch):
    know([0.9] * 10)
    volume = CTVolume(np.repeat(phantom.volume.hu, 4, axis=2), phantom.volume.affine * [1.0, 1.0, 0.25, 1.0])

    def everything(ready, hu, indices, *, parts, **_):
        return [(index, np.ones(parts[index].shape, dtype=np.float32)) for index in indices]

    monkeypatch.setattr(lesion_mask_module, "segment_slices", everything)
    result = diagnose(study_of(volume), models)
    margins = [max(1, round(LESION_MARGIN_MM / side)) for side in volume.spacing_mm[1:]]
    size = [2 * margin + 1 for margin in margins]
    near = ndimage.maximum_filter(result.lung_labels > 0, (1, *size), mode="constant")
    assert margins[0] < margins[1]
    assert not (result.lesion_labels > 0)[~near].any()
    assert (result.lesion_labels > 0)[near].mean() > 0.99


@pytest.mark.parametrize(("segment", "likely"), [("positive", [1, 4, 9]), ("always", [1, 4, 9]), ("never", None)])
def test_the_segmenter_begins_with_what_the_classifier_calls_infected(
    phantom, models, know, monkeypatch, segment, likely
):
    know([0.9 if index in (1, 4, 9) else 0.1 for index in range(10)])
    begun, begin = [], diagnosis_module.SegmenterAhead.begin
    monkeypatch.setattr(
        diagnosis_module.SegmenterAhead, "begin", lambda ahead, likely: (begun.append(likely), begin(ahead, likely))
    )
    diagnose(study_of(phantom.volume), models, segment=segment)
    assert begun == ([] if likely is None else [likely])


def test_a_negative_study_in_which_nothing_is_outlined_is_not_segmented(phantom, models, know):
    know([0.1] * 10, outlines=False)
    result = diagnose(study_of(phantom.volume), models)
    assert not result.positive
    assert not result.segmented
    assert "second_look" in result.timings_s
    assert [flag.code for flag in result.flags] == []
    assert result.lesions == ()
    assert result.burden is None
    assert result.activation.max() == 0


@pytest.mark.parametrize("most", [20, 4])
def test_a_negative_study_with_outlined_lesions_is_flagged_and_shows_them(phantom, models, know, monkeypatch, most):
    monkeypatch.setattr(second_look_module, "MOST_SLICES", most)
    calls = know([0.1] * 10)
    result = diagnose(study_of(phantom.volume), models)
    assert result.verdict is Verdict.NEGATIVE
    assert result.segmented
    assert result.lesions
    assert [flag.code for flag in result.flags] == ["NETWORKS_DISAGREE"]
    lung_slices = [item.slice_index for item in result.slices if item.has_lung]
    looked = evenly_spaced(lung_slices, most)
    in_lung = result.lung_labels[looked] > 0
    share = np.count_nonzero(result.lesion_labels[looked][in_lung]) / np.count_nonzero(in_lung)
    assert f"lesions are outlined on {share:.1%} of the lung on the {len(looked)} slice(s)" in result.flags[0].message
    assert calls == looked + [index for index in lung_slices if index not in looked], "none is segmented twice"
    know([0.9] * 10)
    assert np.array_equal(result.lesion_labels, diagnose(study_of(phantom.volume), models).lesion_labels)


def test_a_negative_verdict_is_doubted_alike_whether_all_slices_were_to_be_segmented_or_not(
    phantom, models, know, monkeypatch
):
    monkeypatch.setattr(second_look_module, "MOST_SLICES", 4)
    know([0.1] * 10)
    said = []
    for segment in ("positive", "always"):
        flags = diagnose(study_of(phantom.volume), models, segment=segment).flags
        said.append([flag.message for flag in flags if flag.code == "NETWORKS_DISAGREE"])
    assert len(said[0]) == 1
    assert said[0] == said[1]


def test_nothing_is_segmented_where_that_is_switched_off(phantom, models, know):
    calls = know([0.1] * 10)
    result = diagnose(study_of(phantom.volume), models, segment="never")
    assert (calls, result.segmented, result.flags) == ([], False, ())
    assert "second_look" not in result.timings_s


def test_the_second_look_takes_slices_from_all_over_the_lungs():
    assert evenly_spaced(range(40, 50), 20) == list(range(40, 50))
    assert evenly_spaced(range(100), 4) == [12, 37, 62, 87]
    assert evenly_spaced([], 4) == []


def test_a_negative_verdict_is_doubted_from_half_a_per_cent_of_the_lung():
    lungs, mask = np.ones((2, 20, 50), dtype=np.uint8), np.zeros((2, 20, 50), dtype=bool)
    mask[1, 0, :9] = True  # 9 of 2 000 pixels
    look = SecondLook.of(mask, lungs, [0, 1], 0.01)
    assert (look.slice_count, look.outlined_share, look.doubts_negative) == (2, 0.0045, False)
    assert SecondLook.of(mask, lungs, [1], 0.01).doubts_negative
    assert SecondLook.of(mask, np.zeros_like(lungs), [1], 0.01) == SecondLook((1,), 0.0)


def test_a_second_look_counts_no_speck_and_nothing_outside_the_lungs():
    lungs, mask = np.zeros((6, 20, 50), dtype=np.uint8), np.zeros((6, 20, 50), dtype=bool)
    lungs[:, :, 10:] = 1
    mask[0, 5, 8:14] = True  # 6 voxels, 4 of them in the lungs
    mask[0, 15, 20] = mask[1, 15, 20] = mask[2, 15, 20] = True  # 3 voxels on neighbouring slices
    mask[4, 15, 20:22] = mask[5, 15, 20] = True  # 3 likewise, of which slice 4 alone shows a speck
    kept = mask.copy()
    mask.setflags(write=False)
    assert SecondLook.of(mask, lungs, [0, 1, 2, 4, 5], 0.01).outlined_share == 10 / 4000
    assert SecondLook.of(mask, lungs, [0, 2, 4], 0.01).outlined_share == 4 / 2400
    everything = SecondLook.of(np.ones_like(mask), lungs, [0, 2], None)
    assert everything.outlined_share == 1.0
    assert np.array_equal(mask, kept)


def test_segmentation_can_be_asked_for_and_is_flagged(phantom, models, know):
    know([0.1] * 10, outlines=False)
    result = diagnose(study_of(phantom.volume), models, segment="always")
    assert result.segmented
    assert not result.positive
    assert [flag.code for flag in result.flags] == ["SEGMENTED_ON_REQUEST"]
    with pytest.raises(ValueError, match="segment must be positive, always or never, got 'maybe'"):
        diagnose(study_of(phantom.volume), models, segment="maybe")


def test_activation_is_shown_on_infected_slices_only(phantom, models, know):
    know([0.9 if index % 2 else 0.1 for index in range(10)])
    result = diagnose(study_of(phantom.volume), models, segment="never")
    for item in result.slices:
        expected = 0.45 if item.infected else 0.0
        assert result.activation[item.slice_index].max() == pytest.approx(expected, abs=1e-3)


def test_unknown_geometry_withholds_measurements_and_says_so(phantom, models, know):
    know([0.9] * 10)
    volume = CTVolume(phantom.volume.hu, None)
    result = diagnose(study_of(volume), models)
    assert result.burden.opacification_volume_ml is None
    assert all(lesion.volume_ml is None and lesion.centroid_lps_mm is None for lesion in result.lesions)
    assert "NOT_MEASURED" in [flag.code for flag in result.flags]


def test_a_geometry_that_is_not_trusted_is_said_once(phantom, models, know, tmp_path):
    know([0.9] * 10)
    write_array(tmp_path / "ct.nii", phantom.volume.hu, None, description="phantom")
    result = diagnose(open_study(tmp_path / "ct.nii", lenient=True), models)
    assert [flag.code for flag in result.flags].count("NOT_MEASURED") == 1


def test_a_study_without_lung_is_refused(models, know):
    know([0.9] * 6)
    volume = CTVolume(np.full((6, 64, 64), 40, dtype=np.int16), np.diag([-3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]])
    with pytest.raises(StudyError, match=r"\(NO_LUNG\)"):
        diagnose(study_of(volume), models)


@pytest.mark.parametrize(
    ("infected", "verdict"), [(1, Verdict.NEGATIVE), (2, Verdict.POSITIVE), (9, Verdict.POSITIVE)]
)
def test_a_small_study_is_judged_by_the_share_of_its_slices_and_says_so(phantom, models, know, infected, verdict):
    know([0.9 if 1 <= index <= infected else 0.1 for index in range(10)])
    result = diagnose(study_of(phantom.volume), replace(models, operating_point=OperatingPoint()), segment="never")
    assert (result.verdict, result.basis) == (verdict, VerdictBasis.SLICE_SHARE)
    assert result.positive_slice_threshold == 1
    flags = {flag.code: flag.message for flag in result.flags}
    assert flags["SMALL_STUDY"].startswith(
        f"{result.lung_slice_count} slices with lung are fewer than the 150 that a"
    )
    assert "positive above 17%" in flags["SMALL_STUDY"]
    assert ("NEAR_THRESHOLD" in flags) == (infected < 9)
    if infected == 2:
        assert flags["NEAR_THRESHOLD"] == (
            "2 slice(s) are infected, and more than 1 make the patient positive: with 1 slice(s) judged otherwise "
            "the verdict would be the other"
        )


@pytest.mark.parametrize(
    ("called", "outlined", "message"),
    [
        (range(6), range(2, 8), None),
        (range(6), range(3, 9), "6 slice(s) are infected, but a lesion is outlined on 3 of them only"),
        (range(6), (), "6 slice(s) are infected, but a lesion is outlined on 0 of them only"),
        (range(3), (), None),
    ],
)
def test_slices_with_an_outlined_lesion_are_judged_by_the_rule_that_gave_the_verdict(called, outlined, message):
    infected, drawn = (np.isin(np.arange(10), list(part)) for part in (called, outlined))
    flags = list(agreement_flags(PatientRule(VerdictBasis.SLICE_COUNT, 3), infected, drawn))
    assert [flag.code for flag in flags] == ["NETWORKS_DISAGREE"] * (message is not None)
    assert all(flag.message.startswith(message) for flag in flags)
    assert not list(agreement_flags(PatientRule(VerdictBasis.TOO_FEW_SLICES, None), infected, drawn))


def test_too_few_slices_have_no_verdict_but_their_lesions(phantom, models, know):
    calls = know([0.9] * 10)
    few = study_of(CTVolume(phantom.volume.hu[3:7], phantom.volume.affine))
    result = diagnose(few, replace(models, operating_point=OperatingPoint()))
    assert (result.verdict, result.basis) == (Verdict.WITHHELD, VerdictBasis.TOO_FEW_SLICES)
    assert result.positive_slice_threshold is None
    assert not result.positive
    assert calls
    assert result.segmented
    flags = {flag.code: flag.message for flag in result.flags}
    assert "4 slice(s) with lung are too few for a verdict" in flags["VERDICT_WITHHELD"]
    know([0.1] * 10)
    assert not diagnose(few, replace(models, operating_point=OperatingPoint())).segmented


def test_one_lung_in_view_is_said(models, know):
    whole = make_phantom(PhantomConfig(slices=10, lesions=4, seed=1, size=128)).volume
    know([0.9] * 10)
    left = CTVolume(np.ascontiguousarray(whole.hu[:, :, 64:]), whole.affine)
    result = diagnose(study_of(left), models, segment="never")
    flags = {flag.code: flag.message for flag in result.flags}
    assert "only the left lung was found" in flags["ONE_LUNG"]
    assert "SIDE_UNKNOWN" not in flags
    assert not (result.lung_labels == 1).any()


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (slice(None), None),
        (slice(8, None), "lung still shows on the first slice"),
        (slice(None, 12), "lung still shows on the last slice"),
        (slice(7, 14), "lung still shows on the first and the last slice"),
    ],
)
def test_a_scan_that_begins_or_ends_within_the_lungs_is_said(part, named, models, know):
    whole = make_phantom(PhantomConfig(slices=20, lesions=4, seed=1, size=96)).volume
    scanned = np.ascontiguousarray(whole.hu[part])
    know([0.9] * len(scanned))
    result = diagnose(study_of(CTVolume(scanned, whole.affine)), models, segment="never")
    flags = {flag.code: flag.message for flag in result.flags}
    assert ("LUNG_BEYOND" in flags) == (named is not None)
    assert named is None or named in flags["LUNG_BEYOND"]


def test_lung_whose_side_nothing_tells_is_said_and_its_burden_withheld(models, know, phantom):
    know([0.9] * 10)
    inside = np.s_[:, 20:100, 80:112]
    phantom_lesions = phantom.lesions.labels[inside] > 0
    result = diagnose(
        study_of(CTVolume(np.ascontiguousarray(phantom.volume.hu[inside]), phantom.volume.affine)),
        models,
        segment="never",
    )
    flags = {flag.code: flag.message for flag in result.flags}
    assert flags["SIDE_UNKNOWN"].startswith("100% of the lung found has no known side")
    assert "the field of view cuts lung of unknown side" in flags["LUNG_CUT"]
    _, lesions = find_lesions(phantom_lesions, CTVolume(phantom.volume.hu[inside], None), result.lung_labels)
    assert {lesion.side for lesion in lesions} == {"unknown"}


@pytest.mark.parametrize("looked_again", [False, True])
def test_every_stage_is_timed_and_reported(phantom, models, know, looked_again):
    know([0.1 if looked_again else 0.9] * 10)
    seen = []
    result = diagnose(study_of(phantom.volume), models, progress=lambda stage, done, total: seen.append(stage))
    assert list(result.timings_s) == [
        "classify",
        "lungs",
        "map",
        *["second_look"] * looked_again,
        "segment",
        "findings",
    ]
    assert set(seen) == set(result.timings_s)


@pytest.mark.parametrize("stage", ["lungs", "classify", "map", "second_look", "segment", "findings"])
def test_a_reading_can_be_cancelled_in_every_stage(phantom, models, know, stage):
    know([0.1 if stage == "second_look" else 0.9] * 10)
    study = Study(phantom.volume, "0" * 16, "nifti", ())
    seen = []
    with pytest.raises(StoppedError, match=rf"stopped: cancelled while {stage} was at 0 of \d+; call it again"):
        diagnose(
            study,
            models,
            progress=lambda name, done, total: seen.append(name),
            cancelled=lambda: seen[-1] == stage,
        )
    assert seen.count(stage) == 1
    assert diagnose(study, models, cancelled=lambda: False).segmented
