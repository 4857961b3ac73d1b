"""`--pretrained auto` over HTTP, from a server of this machine in the place of the weights' authors."""

import hashlib
import io
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from jcs_ct.checkpoints.fetching import ADDRESSES, fetch
from jcs_ct.checkpoints.published import PUBLISHED
from jcs_ct.errors import CheckpointError
from jcs_ct.models.vgg import VGGConfig, VGGEncoder
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.training_tasks import make_task

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "torchvision-vgg16"
ENCODER = VGGConfig(channels=(4, 4, 8, 8, 8))
RECIPE = Recipe(task="segmenter", preset="paper", network={"encoder": {"channels": [4, 4, 8, 8, 8]}})


class Authors(BaseHTTPRequestHandler):
    """Answers every request with ``body``, or 404 where there is none; ``cut`` bytes at the end are never sent."""

    def __init__(self, *arguments, state):
        self.state = state
        super().__init__(*arguments)

    def do_GET(self):
        self.state["requests"] += 1
        body = self.state["body"]
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - self.state["cut"]])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def weights():
    """A published VGG-16 with few channels, as its authors hand it out -> (network, bytes)."""
    torch.manual_seed(5)
    donor = VGGEncoder(ENCODER)
    layers = replace(PUBLISHED[NAME], config=ENCODER)
    content = {layers.published_name(name): value for name, value in donor.state_dict().items()}
    content["classifier.6.bias"] = torch.zeros(10)
    stream = io.BytesIO()
    torch.save(content, stream)
    return donor, stream.getvalue()


@pytest.fixture
def authors(weights, tmp_path, monkeypatch):
    """The server's state; the address leads there, and torch's cache is an empty folder."""
    state = {"body": weights[1], "cut": 0, "requests": 0, "cache": tmp_path / "checkpoints"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Authors, state=state))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    beginning = hashlib.sha256(weights[1]).hexdigest()[:8]
    state["url"] = f"http://127.0.0.1:{server.server_port}/vgg16-{beginning}.pth"
    state["server"] = server
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setitem(ADDRESSES, NAME, state["url"])
    monkeypatch.setitem(PUBLISHED, NAME, replace(PUBLISHED[NAME], config=ENCODER))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def left_behind(state) -> list[str]:
    return sorted(path.name for path in state["cache"].iterdir()) if state["cache"].is_dir() else []


def test_auto_downloads_once_and_starts_the_network_from_it(authors, weights):
    fresh = make_task(RECIPE)
    task = make_task(RECIPE, pretrained="auto")
    name = authors["url"].rpartition("/")[2]
    assert left_behind(authors) == [name]
    assert (authors["cache"] / name).read_bytes() == weights[1]
    assert (task.pretrained.part, task.pretrained.origin) == ("encoder", name)
    assert task.pretrained.sha256 == hashlib.sha256(weights[1]).hexdigest()
    started = task.network.encoder.state_dict()
    assert all(torch.equal(started[key], value) for key, value in weights[0].state_dict().items())
    assert not torch.equal(fresh.network.encoder.conv1_1.conv.weight, task.network.encoder.conv1_1.conv.weight)
    make_task(RECIPE, pretrained="auto")
    assert authors["requests"] == 1


@pytest.mark.parametrize("damage", [{"body": b"another file"}, {"cut": 100}], ids=["another file", "cut off"])
def test_what_does_not_hash_to_its_name_is_not_kept(authors, damage):
    authors.update(damage)
    with pytest.raises(
        CheckpointError, match=r"its SHA-256 begins with \w{8}, expected \w{8}; remove it and try again"
    ):
        make_task(RECIPE, pretrained="auto")
    assert left_behind(authors) == []


def test_a_server_without_the_file_says_so(authors):
    authors["body"] = None
    with pytest.raises(
        CheckpointError, match=r"cannot download http.* \(Not Found\); without a network, fetch it else"
    ):
        fetch(NAME)
    assert left_behind(authors) == []


def test_no_server_at_all_says_what_to_do_and_the_cache_still_works(authors, weights):
    fetch(NAME)
    authors["server"].shutdown()
    authors["server"].server_close()
    assert fetch(NAME).read_bytes() == weights[1], "what is in the cache needs no network"
    fetch(NAME).unlink()
    with pytest.raises(CheckpointError, match=rf"Connection refused\).*jcs weights import FILE --as {NAME}"):
        make_task(RECIPE, pretrained="auto")
    assert left_behind(authors) == []
