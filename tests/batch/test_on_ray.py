"""Ray: processes, machines and the whole of Ray die, and every study ends once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from jcs_ct.batch.batch_results import FolderResults
from jcs_ct.batch.driver import Driver
from jcs_ct.jobs import JobKey, Ledger, Limits, RetryPolicy, State

# Ray leaves its own processes and sockets to the interpreter's end.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
ray = pytest.importorskip("ray")

MEMORY = 400 << 20
KEY = JobKey("any", "w", "p", "v")


def queued(folder: Path, count: int, **facts) -> Ledger:
    ledger = Ledger(folder / "jobs.sqlite", retries=RetryPolicy(3, first_wait_s=0.0))
    note = str(folder / "notes")
    jobs = [(JobKey(f"s{n}", "w", "p", "v"), {"name": f"s{n}", "note": note, **facts}) for n in range(count)]
    ledger.add_many(jobs)
    return ledger


def driver(folder: Path, ledger: Ledger, executor, **options) -> Driver:
    limits = Limits(memory_bytes=MEMORY, seconds=60.0)
    results = FolderResults(folder / "results")
    return Driver(
        ledger,
        results,
        executor,
        "played_studies:play",
        {},
        KEY.reading_id,
        limits=limits,
        least_free_bytes=0,
        **options,
    )


def begun(folder: Path) -> int:
    return len((folder / "notes").read_text().split()) if (folder / "notes").exists() else 0


def check(folder: Path, ledger: Ledger, count: int) -> None:
    assert ledger.counts()[State.DONE] == count
    assert len(dict(FolderResults(folder / "results").records())) == count
    assert not list((folder / "results" / ".staging").iterdir())


@pytest.fixture
def on_ray():
    from jcs_ct.batch.on_ray import RayExecutor

    made = []

    def make(**options):
        made.append(RayExecutor(threads=1, memory_bytes=MEMORY, **options))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def test_killed_processes_are_tried_again(tmp_path, on_ray):
    """Of Ray, and of the study in it."""
    ledger = queued(tmp_path, 6, seconds=0.2)
    note = str(tmp_path / "notes")
    # Two wait to be killed, so that each kill meets a study at work.
    waiting = [
        (JobKey(name, "w", "p", "v"), {"name": name, "note": note, "act": "hang once"})
        for name in ("worker", "study")
    ]
    ledger.add_many(waiting)
    executor = on_ray(workers=2)
    killed = []

    def kill(standing):
        for name in {"worker", "study"}.difference(killed):
            process = waiting_study(tmp_path / f"notes.{name}")
            if process is not None:
                of_ray = [parent for parent in process.parents() if "ray::" in " ".join(parent.cmdline())]
                (of_ray[0] if name == "worker" else process).kill()
                killed.append(name)

    driver(tmp_path, ledger, executor, on_change=kill).run()
    check(tmp_path, ledger, 8)
    assert len(killed) == 2
    assert 8 + 2 <= begun(tmp_path) <= 8 + 2 * 2


def waiting_study(written: Path) -> psutil.Process | None:
    """The process of a study that waits to be killed, once it has written its number."""
    text = written.read_text() if written.exists() else ""
    return psutil.Process(int(text)) if text else None


def test_a_machine_of_a_cluster_dies(tmp_path):
    from ray.cluster_utils import Cluster

    from jcs_ct.batch.on_ray import RayExecutor

    node = {"num_cpus": 1, "memory": 2 * MEMORY, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    lost = [cluster.add_node(**node) for _ in range(2)]
    executor = None
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        executor = RayExecutor(threads=1, memory_bytes=MEMORY)
        ledger = queued(tmp_path, 12, seconds=1.0)

        def kill(standing):
            if lost and begun(tmp_path) >= 4:
                cluster.remove_node(lost.pop(), allow_graceful=False)
                lost.clear()

        driver(tmp_path, ledger, executor, on_change=kill).run()
        check(tmp_path, ledger, 12)
        assert not lost, "a machine has to die in the middle"
        assert 12 <= begun(tmp_path) <= 12 + 2
    finally:
        if executor is not None:
            executor.close()
        ray.shutdown()
        cluster.shutdown()


def test_without_an_address_a_batch_has_a_ray_of_its_own(tmp_path):
    """A cluster that runs on the same machine, for another's work, is not joined."""
    from ray.cluster_utils import Cluster

    from jcs_ct.batch.on_ray import RayExecutor

    node = {"num_cpus": 1, "memory": 2 * MEMORY, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    executor = None
    try:
        executor = RayExecutor(workers=1, threads=1, memory_bytes=MEMORY)
        assert ray.get_runtime_context().gcs_address != cluster.address
        ledger = queued(tmp_path, 2)
        driver(tmp_path, ledger, executor).run()
        check(tmp_path, ledger, 2)
    finally:
        if executor is not None:
            executor.close()
        ray.shutdown()
        cluster.shutdown()


def test_the_raylet_dies_and_the_driver_starts_again(tmp_path):
    """With the last raylet of a machine the driver ends, too; it is started again and finds everything."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_on_ray import KEY, MEMORY, driver, queued\n"
        "from jcs_ct.batch.on_ray import RayExecutor\n"
        "folder = Path(sys.argv[1])\n"
        "executor = RayExecutor(workers=1, threads=1, memory_bytes=MEMORY)\n"
        "driver(folder, queued(folder, 8, seconds=0.5), executor).run()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while begun(tmp_path) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    raylets = [child for child in psutil.Process(first.pid).children(recursive=True) if child.name() == "raylet"]
    assert raylets
    os.kill(raylets[0].pid, signal.SIGKILL)
    try:
        first.wait(60)
    except subprocess.TimeoutExpired:
        first.kill()
        first.wait()
    ledger = Ledger(tmp_path / "jobs.sqlite")
    assert ledger.counts()[State.SET_ASIDE] == 0  # no study is blamed
    if ledger.counts()[State.DONE] < 8:
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True, timeout=180)
    check(tmp_path, ledger, 8)
    assert 8 <= begun(tmp_path) <= 8 + 2
