import numpy as np
import pytest

from jcs_ct.evaluation.pages.paired_methods import mean_interval
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.metrics.overlap import PerImage


@pytest.mark.parametrize(("defining", "has_interval"), [(1, False), (4, False), (5, True)])
def test_an_interval_needs_enough_patients_that_define_the_measure(defining, has_interval):
    """Ten patients of three slices; sensitivity is defined where there is a lesion."""
    patients = [f"p{number // 3}" for number in range(30)]
    defined = np.arange(30) < 3 * defining
    values = np.where(defined, np.linspace(0.2, 0.9, 30), 0.0)
    found = mean_interval(PerImage(values, defined), patients, Resampling(draws=200))
    assert found.value == pytest.approx(values[defined].mean())
    assert (found.low is not None, found.high is not None) == (has_interval, has_interval)
