"""So many requests at a time wait for a process of their own."""

from __future__ import annotations

import pytest

from jcs_ct.service.problems import Problem
from jcs_ct.service.turns import Turns


def test_one_more_is_told_to_come_again_and_a_place_is_given_back_after_a_failure():
    turns = Turns(1, "send results")
    with pytest.raises(ValueError, match="of the work"), turns.taken():
        with pytest.raises(Problem, match="send results at this moment") as refused, turns.taken():
            pass
        assert (refused.value.status, refused.value.code, refused.value.headers()) == (
            503,
            "BUSY",
            {"Retry-After": "5"},
        )
        raise ValueError("of the work")
    with turns.taken():
        pass
