"""OpenVINO brings a package that sends usage data: in jcs it never gets to try. In processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

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

PLAIN = "import openvino, atexit, time; time.sleep(2)"

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
import time; time.sleep(2)
print("done")
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
import time; time.sleep(2)
print("done")
"""


@pytest.fixture
def attempts(tmp_path):
    """Run code with the network watched and an empty home -> what it tried, and the home's content."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHED)
    home = tmp_path / "home"
    home.mkdir()

    def run(code: str) -> tuple[list[str], list[str]]:
        log = tmp_path / "attempts"
        log.write_text("")
        # Telemetry holds back in CI by itself, which would prove nothing.
        environment = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
        path = os.pathsep.join(filter(None, [str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")]))
        environment |= {"HOME": str(home), "PYTHONPATH": path, "ATTEMPTS": str(log), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", code],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return log.read_text().splitlines(), sorted(path.name for path in home.iterdir())

    return run


def test_a_plain_import_does_try_so_that_this_test_can_fail(attempts):
    tried, left = attempts(PLAIN)
    assert tried != []
    assert left == ["intel"]


def test_running_a_network_tries_nothing_and_leaves_nothing_in_the_home(attempts):
    assert attempts(OURS) == ([], [])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nncf") is None, reason="nncf is not installed (optional)")
def test_quantising_tries_nothing_either(attempts):
    assert attempts(QUANTISED) == ([], [])
