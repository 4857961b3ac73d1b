"""The decoding child: limits hold, and one bad item does not take the others along."""

from __future__ import annotations

import errno
import subprocess
import sys
import time

import pytest

from jcs_ct.errors import GateCode, KilledError, OutputError
from jcs_ct.imaging import sandbox
from jcs_ct.imaging.sandbox import SandboxLimits, run_in_child
from jcs_ct.jobs.outcome import Ending, explain


@pytest.fixture
def scripted_child(monkeypatch, tmp_path):
    """Replace the worker by one whose items are Python statements; limits and protocol are the real ones."""
    (tmp_path / "scripted_worker.py").write_text(
        "import jcs_ct.imaging.decoding_child as worker\n"
        "def task(options):\n"
        "    def run(item):\n"
        "        names = {}\n"
        "        exec(item['code'], names)\n"
        "        return names.get('value')\n"
        "    return run\n"
        "worker._TASKS['script'] = task\n"
        "worker.main()\n"
    )
    real = sandbox.subprocess.Popen
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def popen(command, **options):
        return real([*command[:-1], "scripted_worker"], **options)

    monkeypatch.setattr(sandbox.subprocess, "Popen", popen)
    monkeypatch.setattr(sandbox, "_parent", None)

    def run(*codes, **limits):
        done = []
        items = [{"code": code} for code in codes]
        outcomes = run_in_child("script", items, limits=SandboxLimits(**limits), advance=done.append)
        return outcomes, done

    return run


def test_values_come_back_in_order(scripted_child):
    outcomes, done = scripted_child("value = 1", "value = [2, 'b']")
    assert [outcome.value for outcome in outcomes] == [1, [2, "b"]]
    assert done == [1, 2]


def test_children_share_a_job_and_a_crash_costs_one_item(scripted_child):
    done = []
    codes = ["value = 1", "import os; os.kill(os.getpid(), 11)", "value = 3", "import os; value = os.getpid()"]
    items = [{"code": code} for code in codes]
    outcomes = run_in_child("script", items, children=2, advance=done.append)
    assert [outcome.value for outcome in outcomes[:3]] == [1, None, 3]
    assert outcomes[1].code is GateCode.UNREADABLE
    assert isinstance(outcomes[3].value, int)
    assert sorted(done) == done
    assert done[-1] == 3, "an item that is refused is no progress"


def test_a_crash_costs_one_item(scripted_child):
    outcomes, _ = scripted_child("value = 1", "import os; os.kill(os.getpid(), 11)", "value = 3")
    assert [outcome.value for outcome in outcomes] == [1, None, 3]
    assert outcomes[1].code is GateCode.UNREADABLE
    assert "decoding it ended the decoding process" in outcomes[1].message


@pytest.mark.parametrize(
    ("signal", "why"),
    [(9, "SIGKILL.: memory ran out"), (7, "SIGBUS.: the disk is full"), (25, "SIGXFSZ.: .*ulimit -f")],
)
def test_a_child_that_the_system_ends_is_no_damaged_file(scripted_child, signal, why):
    code = f"import os, signal; {signal} == 25 and signal.signal(25, signal.SIG_DFL); os.kill(os.getpid(), {signal})"
    with pytest.raises(KilledError, match=why) as error:
        scripted_child(code)
    assert explain(error.value)[:2] == (Ending.FAILED, "KILLED"), "another attempt may succeed"


def test_an_item_does_not_pay_for_what_others_of_its_child_used(scripted_child):
    """Processor time and memory are a child's, which did other items before."""
    used_up = "import os, signal; signal.signal(24, signal.SIG_DFL); os.kill(os.getpid(), 24)"
    second_of_its_child = f"import sys; done = getattr(sys, 'done', 0); sys.done = 1\nif done: {used_up}\nvalue = 1"
    outcomes, _ = scripted_child(second_of_its_child, second_of_its_child, used_up, "value = 4")
    assert [one.value for one in outcomes] == [1, 1, None, 4]
    assert "more processor time" in outcomes[2].message


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "DISK_FULL", "temporary folder is full"),
        (errno.EFBIG, "OUTPUT_UNWRITABLE", r"ulimit -f"),
    ],
)
def test_an_output_that_cannot_be_written_is_no_fault_of_the_item(scripted_child, tmp_path, number, code, words):
    items = [{"code": f"raise OSError({number}, 'words')"}]
    with (tmp_path / "out").open("w+b") as output, pytest.raises(OutputError, match=words) as error:
        run_in_child("script", items, output=output, output_bytes=10)
    assert error.value.code == code


def test_room_for_decoded_pixels_is_had_before(monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sandbox.os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="temporary folder is full"), sandbox.decoded_pixels(100):
        pytest.fail("the disk is full")


def test_lower_limits_of_the_caller_stay():
    """A child that may not raise them must not die of it."""
    worker = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "from jcs_ct.imaging.decoding_child import _limit\n"
        "_limit(1 << 34, 900, 1 << 30); print(resource.getrlimit(resource.RLIMIT_FSIZE)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", worker], capture_output=True, text=True, check=True)
    assert done.stdout == "5000\n"


def test_a_stall_is_cut_short(scripted_child):
    start = time.monotonic()
    outcomes, _ = scripted_child("import time; time.sleep(60)", "value = 2", seconds_per_item=5.0)
    assert time.monotonic() - start < 40
    assert "took longer than 5 s" in outcomes[0].message
    assert outcomes[1].value == 2


def test_memory_is_limited(scripted_child):
    outcomes, _ = scripted_child("x = bytearray(2 << 30)", "value = 2", memory_bytes=1 << 30)
    assert outcomes[0].message == "reading it takes more memory than is allowed"
    assert outcomes[1].value == 2


def test_files_cannot_be_written(scripted_child, tmp_path):
    target = tmp_path / "written"
    scripted_child(
        f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); open({str(target)!r}, 'w').write('x')"
    )
    assert not target.exists() or target.stat().st_size == 0


def test_too_many_deaths_end_the_job(scripted_child):
    outcomes, _ = scripted_child(*["import os; os._exit(1)"] * 4, deaths=2)
    assert [outcome.code for outcome in outcomes] == [GateCode.UNREADABLE] * 4
    assert "decoding failed too often before it" in outcomes[3].message


def test_limits_are_checked():
    with pytest.raises(ValueError, match="must be greater than 0"):
        SandboxLimits(memory_bytes=0)


@pytest.mark.parametrize(
    "code", ["print('a word')", "import os; os.write(1, b'{\\xff\\n')", "import sys; sys.stdout.write('7')"]
)
def test_what_decoders_print_is_no_answer(scripted_child, code):
    outcomes = run_in_child("script", [{"code": f"{code}\nvalue = 1"}, {"code": "value = 2"}])
    assert [(outcome.code, outcome.value) for outcome in outcomes] == [(None, 1), (None, 2)]


def test_a_child_that_talks_nonsense_costs_its_item_only(scripted_child):
    nonsense = (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'[' * 5000 + b'\\n')\n    except OSError: pass"
    )
    outcomes = run_in_child("script", [{"code": nonsense}, {"code": "value = 2"}])
    assert outcomes[0].code is GateCode.UNREADABLE
    assert outcomes[1].value == 2


def test_a_decoding_child_starts_without_what_writes_files():
    code = "import sys, jcs_ct.imaging.decoding_child; print('jcs_ct.files' in sys.modules, 'numpy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False"]
