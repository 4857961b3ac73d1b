"""The threshold means a length of lung, whatever the slice spacing."""

from jcs_ct.operating_point import OperatingPoint


def test_the_threshold_scales_with_the_slice_spacing():
    point = OperatingPoint(positive_slice_threshold=25, reference_spacing_mm=1.0)
    assert [point.threshold_for(spacing) for spacing in (1.0, 2.0, 5.0)] == [25, 12, 5]


def test_a_scaled_threshold_is_at_least_one():
    assert OperatingPoint(positive_slice_threshold=25, reference_spacing_mm=1.0).threshold_for(1000.0) == 1


def test_without_a_spacing_or_a_reference_the_threshold_is_literal():
    assert OperatingPoint(positive_slice_threshold=25, reference_spacing_mm=1.0).threshold_for(None) == 25
    assert OperatingPoint(positive_slice_threshold=25).threshold_for(5.0) == 25
