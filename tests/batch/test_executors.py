"""Executors: a fault beside a study's process is that study's attempt, and the others are read."""

from __future__ import annotations

import json
from types import SimpleNamespace

from jcs_ct.batch import local, on_ray, on_slurm
from jcs_ct.batch.executor import Order, outcome_from_dict
from jcs_ct.jobs import Ending, Limits, Outcome


class FailingWorker:
    """Raises for the first study, reads the others."""

    def __init__(self, **options):
        self.failures = ["once"]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Nothing to end."""

    def run(self, task, arguments, **options):
        if self.failures:
            raise OSError(self.failures.pop(), "DOE^JANE")
        return Outcome(Ending.DONE)


def orders(*names):
    return [Order(name, "played_studies:play", {}, Limits()) for name in names]


def check(first: Outcome, second: Outcome, logged: str) -> None:
    assert (first.ending, first.code, second.ending) == (Ending.FAILED, "CRASHED", Ending.DONE)
    assert "OSError at test_executors.py" in first.message
    assert "OSError at test_executors.py" in logged
    assert "DOE" not in first.message + logged


def test_a_thread_of_this_machine(monkeypatch, caplog):
    monkeypatch.setattr(local, "StudyWorker", FailingWorker)
    executor = local.LocalExecutor(1, threads=1)
    for order in orders("first", "second"):
        executor.submit(order)
    ended = {}
    for _ in range(2):
        ended |= dict(executor.collect(10.0) if len(ended) < 2 else [])
    executor.close()
    check(ended["first"], ended["second"], caplog.text)


def test_a_system_that_does_not_say_which_cores_are_ours(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert local.default_workers() == 3
    executor = local.LocalExecutor(2)
    assert executor._threads == 3
    executor.close()


def test_a_group_of_slurm(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(on_slurm, "StudyWorker", FailingWorker)
    on_slurm.run_orders([order.to_dict() for order in orders("first", "second")], str(tmp_path), 1)
    first, second = (
        outcome_from_dict(json.loads((tmp_path / f"{name}.json").read_text())) for name in ("first", "second")
    )
    check(first, second, caplog.text)


def test_a_task_of_ray(monkeypatch, caplog):
    worker = FailingWorker()
    monkeypatch.setattr(on_ray, "_worker", lambda threads: worker)
    first, second = (outcome_from_dict(on_ray.run_order(order.to_dict(), 1)) for order in orders("first", "second"))
    check(first, second, caplog.text)


def test_a_task_of_ray_that_cannot_write(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    order = Order("token", "played_studies:play", {"output": str(tmp_path / "file" / "below")}, Limits())
    outcome = outcome_from_dict(on_ray.run_order(order.to_dict(), 1))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "CRASHED")


def test_orders_that_may_be_out_grow_with_a_ray_cluster(monkeypatch):
    cluster = {"CPU": 4.0}
    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: cluster,
        remote=lambda function: SimpleNamespace(options=lambda **options: function),
    )
    monkeypatch.setattr(on_ray, "_import_ray", lambda: ray)
    executor = on_ray.RayExecutor(threads=2, memory_bytes=1 << 30)
    assert (executor.workers, executor.window) == (2, 4)
    cluster["CPU"] = 16.0
    assert (executor.workers, executor.window) == (8, 16)
    assert on_ray.RayExecutor(threads=2, memory_bytes=1 << 30, window=3).window == 3
