"""OpenVINO brings a package that sends usage data: in jcs it never gets to try. In processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None or find_spec("openvino_telemetry") is None, reason="openvino is not installed"
)

#: Writes down and refuses every use of the network, in whatever thread and whoever catches the error.
WATCHED = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["ATTEMPTS"], "a") as attempts:
            attempts.write(event + "\\n")
        raise RuntimeError("the network is blocked: " + event)

sys.addaudithook(refuse)
"""

#: Says at the end of a process what could still send: threads too, which Python waits for when it ends.
SAY_WHAT_IS_THERE = """

import json, sys, threading
loaded = sorted(name for name, module in sys.modules.items() if module and name.split(".")[0] == "openvino_telemetry")
others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"loaded": loaded, "threads": others}))
"""

PLAIN = "import openvino"

OURS = """
import numpy as np, torch
from jcs_ct.engine import Execution, ReadyClassifier, classify_slices
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.res2net import Res2NetConfig
from jcs_ct.preprocessing import SlicePreprocessor

trunk = Res2NetConfig(in_channels=1, stem_channels=(4, 4, 8), planes=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
preprocessor = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
ready = ReadyClassifier(Classifier(ClassifierConfig(trunk)).eval(), preprocessor, "tiny", "", "tiny")
for backend in ("openvino", "auto"):
    classify_slices(ready, np.zeros((1, 64, 64), np.float32), [0], execution=Execution("cpu", backend=backend))
import openvino  # what comes later in this process is as quiet
"""

QUANTISED = """
from jcs_ct.engine.quantisation import quantised_graph
import numpy as np, torch
from jcs_ct.engine.graphs import SegmenterGraph
from jcs_ct.engine.onnx_graph import onnx_bytes

class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
    def predict(self, x):
        return torch.sigmoid(self.conv(x).mean(1, keepdim=True))

quantised_graph(onnx_bytes(SegmenterGraph(Tiny()), (1, 32, 32)), np.zeros((2, 1, 32, 32), np.float32))
"""


class Attempts(NamedTuple):
    """What a process had at its end, and did until then."""

    loaded: list[str]
    threads: list[str]
    tried: list[str]
    home: list[str]


SILENT = Attempts([], [], [], [])


@pytest.fixture
def attempts(tmp_path):
    """Run code with the network watched and an empty home -> what it has loaded and which threads it has at its end,
    what it tried until then, and the home's content.
    """
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHED)
    home = tmp_path / "home"
    home.mkdir()

    def run(code: str) -> Attempts:
        log = tmp_path / "attempts"
        log.write_text("")
        # Telemetry holds back in CI by itself, which would prove nothing.
        environment = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
        path = os.pathsep.join(filter(None, [str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")]))
        environment |= {"HOME": str(home), "PYTHONPATH": path, "ATTEMPTS": str(log), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", code + SAY_WHAT_IS_THERE],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        there = json.loads(done.stdout.splitlines()[-1])
        return Attempts(
            there["loaded"], there["threads"], log.read_text().splitlines(), [path.name for path in home.iterdir()]
        )

    return run


def test_a_plain_import_does_try_so_that_this_test_can_fail(attempts):
    plain = attempts(PLAIN)
    assert "openvino_telemetry.utils.sender" in plain.loaded
    assert plain.threads != []
    assert plain.tried != []
    assert plain.home == ["intel"]


def test_running_a_network_tries_nothing_and_leaves_nothing_in_the_home(attempts):
    assert attempts(OURS) == SILENT


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nncf") is None, reason="nncf is not installed (optional)")
def test_quantising_tries_nothing_either(attempts):
    assert attempts(QUANTISED) == SILENT
