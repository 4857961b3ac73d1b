"""Every fault of the gate's table, made from a phantom and from a real series, gets the verdict it is stated to get.

The same codes are tested one by one on tiny slices in ``imaging/test_opening.py``; this is the long run.
"""

from __future__ import annotations

import gate_table
import pytest
from pydicom import config as pydicom_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def phantom_slices(tmp_path_factory):
    return gate_table.read_slices(gate_table.phantom_series(tmp_path_factory.mktemp("phantom")))


@pytest.fixture(scope="module")
def real_slices(shared_data):
    with pydicom_config.disable_value_validation():
        return gate_table.read_slices(shared_data / "volumes" / "covid_002")


def _check(fault, slices, folder):
    with pydicom_config.disable_value_validation():
        verdict = gate_table.judge(fault, slices, "test", folder / "series")
    stated = gate_table.FAULTS[fault]
    assert (verdict.code, verdict.lenient) == (stated.expected, stated.lenient), verdict.message
    if stated.expected == gate_table.ACCEPTED:
        assert verdict.hu_right
        assert verdict.voxel_right
    assert stated.flag is None or stated.flag in verdict.flags


@pytest.mark.parametrize("fault", gate_table.FAULTS)
def test_a_phantom_broken_on_purpose(fault, phantom_slices, tmp_path):
    _check(fault, phantom_slices, tmp_path)


@pytest.mark.parametrize("fault", gate_table.FAULTS)
def test_a_real_series_broken_on_purpose(fault, real_slices, tmp_path):
    _check(fault, real_slices, tmp_path)
