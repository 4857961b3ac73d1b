"""Work beside other work: its results and errors arrive, and no thread outlives its owner."""

from __future__ import annotations

import threading
import time

import pytest

from jcs_ct.beside import Beside


def threads_named(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_results_come_from_the_futures_and_no_thread_stays():
    with Beside("adding", threads=2) as beside:
        sums = [beside.start(lambda a, b: a + b, number, b=1) for number in range(5)]
        assert [future.result() for future in sums] == [1, 2, 3, 4, 5]
        assert threads_named("adding")
    assert not threads_named("adding")


def test_work_really_goes_on_beside_the_block():
    met = threading.Barrier(2, timeout=10)
    with Beside("meeting") as beside:
        beside.start(met.wait)
        met.wait()


def test_an_error_that_nobody_asked_for_is_raised_at_the_end():
    done = []
    with pytest.raises(ZeroDivisionError), Beside("failing") as beside:
        beside.start(lambda: 1 // 0)
        beside.start(done.append, "the next is done all the same")
    assert done


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_block_ends_what_runs_drops_what_waits_and_passes(error):
    begun, dropped = threading.Event(), []

    def until_stopped():
        begun.set()
        while not beside.is_stopping:
            time.sleep(0.001)
        raise RuntimeError("what ends early may end anyhow: the block's error is the one that counts")

    with pytest.raises(error), Beside("stopping") as beside:
        running = beside.start(until_stopped)
        waiting = beside.start(dropped.append, "never")
        begun.wait(10)
        raise error
    assert running.done()
    assert waiting.cancelled()
    assert not dropped
    assert not threads_named("stopping")


def test_nothing_is_stopping_in_a_block_that_goes_well():
    with Beside("fine") as beside:
        assert beside.start(lambda: beside.is_stopping).result() is False
    assert not beside.is_stopping
