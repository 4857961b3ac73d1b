"""Few slices lie far apart: what ends between two of them is no damage."""

from __future__ import annotations

import numpy as np

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_whole_slices import LEAST_SLICES_FOR_ENDS, check_unlike


def ending_abruptly(slices: int) -> np.ndarray:
    """(slices, 64, 64) in HU: all alike but for the noise and the last, which is another place of the body."""
    made = np.random.default_rng(5).normal(-300.0, 20.0, (slices, 64, 64)).astype(np.float32)
    made[-1] += 300.0
    return made


def test_the_last_of_few_slices_may_be_unlike_the_others():
    assert check_unlike(ending_abruptly(LEAST_SLICES_FOR_ENDS - 1)) == []
    (finding,) = check_unlike(ending_abruptly(LEAST_SLICES_FOR_ENDS))
    assert finding.code is GateCode.UNREADABLE
    assert f"slice {LEAST_SLICES_FOR_ENDS} differs" in finding.message
