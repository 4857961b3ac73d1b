"""A few hundred damaged answers of a PACS; `scripts/fuzz_answers.py` does thousands."""

from __future__ import annotations

from fuzz_answers import run


def test_damaged_answers_end_in_a_result_or_an_error_of_our_own():
    outcomes, failed = run(250, seed=7)
    assert failed == []
    assert outcomes["read"] > 50
    assert outcomes["PACS_ANSWER"] + outcomes["PACS_UNAVAILABLE"] > 50, "the damage is seen"
