"""The patient rule: the paper's count in whole studies, a share in small ones, nothing in the smallest."""

import pytest

from jcs_ct.operating_point import OperatingPoint, PatientRule, Verdict, VerdictBasis

PAPER = OperatingPoint(positive_slice_threshold=25, reference_spacing_mm=1.0)
POINTS = [
    PAPER,
    OperatingPoint(),
    OperatingPoint(positive_slice_threshold=18),
    OperatingPoint(positive_slice_threshold=1),
    OperatingPoint(positive_slice_threshold=0),
    OperatingPoint(small_study_share=0.1),
    OperatingPoint(small_study_share=None),
]
SPACINGS = [None, 0.7, 1.0, 2.0, 5.0, 6.9, 10.0]


def test_the_threshold_scales_with_the_slice_spacing():
    assert [PAPER.threshold_for(spacing) for spacing in (1.0, 2.0, 5.0)] == [25, 12, 5]


@pytest.mark.parametrize("spacing", [0.625, 0.7, 0.9, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.67, 4.5, 5.0, 7.0, 10.0])
def test_the_scaled_count_is_exceeded_where_the_length_of_lung_is(spacing):
    for count in range(1, 60):
        positive = PAPER.rule_for(400, spacing).verdict(count) is Verdict.POSITIVE
        assert positive == (count * spacing > 25.0 + 1e-6), count


@pytest.mark.parametrize(("spacing", "threshold"), [(2.5, 10), (2.5000004, 10), (1.0000002, 25), (0.9999998, 25)])
def test_a_spacing_worked_out_from_positions_is_not_cut_to_one_slice_less(spacing, threshold):
    assert PAPER.threshold_for(spacing) == threshold


def test_a_scaled_threshold_is_at_least_one():
    assert PAPER.threshold_for(1000.0) == 1


def test_without_a_spacing_or_a_reference_the_threshold_is_literal():
    assert PAPER.threshold_for(None) == 25
    assert OperatingPoint(positive_slice_threshold=25).threshold_for(5.0) == 25


def test_a_threshold_that_a_person_gives_is_not_changed_afterwards():
    literal = PAPER.with_threshold(3)
    assert [literal.rule_for(slices, 5.0).positive_slice_threshold for slices in (4, 12, 400)] == [3, 3, 3]
    scaled = PAPER.with_threshold(10, 5.0)
    assert scaled.threshold_for(1.0) == 50
    assert scaled.rule_for(12, 5.0).basis is VerdictBasis.SLICE_SHARE


@pytest.mark.parametrize("lung_slices", [150, 151, 250, 400])
@pytest.mark.parametrize(("count", "verdict"), [(24, "negative"), (25, "negative"), (26, "positive")])
def test_a_whole_study_is_judged_as_in_the_paper(lung_slices, count, verdict):
    rule = PAPER.rule_for(lung_slices, 1.0)
    assert (rule.basis, rule.verdict(count)) == (VerdictBasis.SLICE_COUNT, verdict)


@pytest.mark.parametrize(
    ("lung_slices", "threshold"), [(149, 24), (144, 24), (143, 23), (22, 3), (12, 2), (11, 1), (6, 1)]
)
def test_a_small_study_is_judged_by_the_share_of_its_slices(lung_slices, threshold):
    rule = PAPER.rule_for(lung_slices, None)
    assert (rule.basis, rule.positive_slice_threshold) == (VerdictBasis.SLICE_SHARE, threshold)
    assert rule.verdict(threshold) is Verdict.NEGATIVE
    assert rule.verdict(threshold + 1) is Verdict.POSITIVE


@pytest.mark.parametrize("lung_slices", range(6))
def test_where_one_slice_would_decide_there_is_no_verdict(lung_slices):
    rule = PAPER.rule_for(lung_slices, None)
    assert rule.basis is VerdictBasis.TOO_FEW_SLICES
    assert {rule.verdict(count) for count in range(lung_slices + 1)} == {Verdict.WITHHELD}


def test_the_boundary_is_where_the_count_is_the_share():
    assert PAPER.least_lung_slices(25) == 150
    assert PAPER.least_lung_slices() == 6
    assert OperatingPoint(small_study_share=None).least_lung_slices(25) == 0


@pytest.mark.parametrize("point", POINTS, ids=repr)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_rule_is_monotone_and_continuous(point, spacing):
    """More disease never makes a verdict negative, more health never positive; the threshold takes no jump."""
    order = [Verdict.NEGATIVE, Verdict.POSITIVE]
    for slices in range(1, 200):
        rule, larger = point.rule_for(slices, spacing), point.rule_for(slices + 1, spacing)
        assert rule.positive_slice_threshold is None or rule.positive_slice_threshold <= point.threshold_for(spacing)
        if rule.positive_slice_threshold is None:
            assert larger.positive_slice_threshold in (None, 1)
            continue
        assert larger.positive_slice_threshold - rule.positive_slice_threshold in (0, 1)
        verdicts = [order.index(rule.verdict(count)) for count in range(slices + 1)]
        assert verdicts == sorted(verdicts)
        for count, verdict in enumerate(verdicts):
            assert order.index(larger.verdict(count + 1)) >= verdict
            assert order.index(larger.verdict(count)) <= verdict


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slice_probability": 50.0}, "slice_probability must be from 0 to 1, got 50"),
        ({"slice_probability": float("nan")}, "slice_probability must be from 0 to 1"),
        ({"lesion_probability": -0.1}, "lesion_probability must be from 0 to 1"),
        ({"positive_slice_threshold": -1}, "positive_slice_threshold must be 0 or more"),
        ({"reference_spacing_mm": 0.0}, "reference_spacing_mm must be above 0"),
        ({"reference_spacing_mm": float("inf")}, "reference_spacing_mm must be above 0"),
    ],
)
def test_a_rule_that_would_decide_every_study_alike_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        OperatingPoint(**fields)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_that_is_none_is_an_error(share):
    with pytest.raises(ValueError, match=r"small_study_share must be above 0 and below 1"):
        OperatingPoint(small_study_share=share)


@pytest.mark.parametrize(
    ("threshold", "near"),
    [(0, {1}), (1, {1, 2}), (5, {5, 6}), (12, set(range(10, 16))), (25, set(range(20, 32)))],
)
def test_a_verdict_is_near_where_a_few_slices_would_turn_it(threshold, near):
    rule = PatientRule(VerdictBasis.SLICE_COUNT, threshold)
    assert {count for count in range(100) if rule.is_near(count)} == near


@pytest.mark.parametrize("threshold", [0, 1, 12])
def test_the_margin_is_how_many_slices_turn_the_verdict(threshold):
    rule = PatientRule(VerdictBasis.SLICE_COUNT, threshold)
    for count in range(40):
        margin, turned = rule.margin(count), rule.verdict(count) is not Verdict.POSITIVE
        towards = 1 if turned else -1
        assert (rule.verdict(count + towards * margin) is Verdict.POSITIVE) == turned
        assert (rule.verdict(count + towards * (margin - 1)) is Verdict.POSITIVE) != turned


def test_a_withheld_verdict_has_no_margin():
    rule = PatientRule(VerdictBasis.TOO_FEW_SLICES, None)
    assert rule.margin(3) is None
    assert not rule.is_near(3)
