"""Fixtures that every test may use."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch  # which reads the number of threads when it is imported

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: What may have become of a file that the software wrote itself.
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "list": lambda content: b"[]",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.fixture(params=DAMAGE.values(), ids=DAMAGE)
def damage(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    """A file's content -> what is left of it."""
    found: Callable[[bytes], bytes] = request.param
    return found


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compiled networks of the tests, their processes included, stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("model-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JCS_CT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches tests and their processes, although a shell that starts tests in its background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def warm_decoding(model_cache: Path) -> Iterator[None]:
    """Decoding children are forked, as every program of the package forks them, not started for each study anew."""
    from jcs_ct.imaging import sandbox

    sandbox.keep_warm()
    yield
    if sandbox._parent is not None:
        sandbox._parent.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real CT data, which is never part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real CT data in ../shared/data, which is absent here")
    return SHARED_DATA


#: What `jcs calibrate` would have kept: two sources, two patients with infected slices and one without.
VALIDATION_PATIENTS = [
    {"source": "a", "infected": [0.9, 0.4], "uninfected": [0.1] * 6},
    {"source": "b", "infected": [0.9] * 4, "uninfected": [0.6, 0.2, 0.2, 0.2]},
    {"source": "b", "infected": [], "uninfected": [0.8] * 5 + [0.1]},
]


@pytest.fixture(scope="session")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``--models``: random compact networks, for which every lung slice is infected."""
    from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint
    from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
    from jcs_ct.operating_point import OperatingPoint
    from jcs_ct.preprocessing import SlicePreprocessor

    folder = tmp_path_factory.mktemp("models")
    preprocessor = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
    point = OperatingPoint(slice_probability=0.0, positive_slice_threshold=1, lesion_probability=0.0)
    networks = {
        "classifier": ("compact", build_classifier, classifier_preset("compact")),
        "segmenter": ("compact-joint", build_segmenter, segmenter_preset("compact-joint")),
    }
    provenance = {"slice_scores_on_validation": VALIDATION_PATIENTS}
    for task, (preset, build, config) in networks.items():
        torch.manual_seed(0)
        info = CheckpointInfo(task, preset, config.to_dict(), preprocessor, point, provenance=provenance)
        save_checkpoint(folder / f"{task}.safetensors", build(config), info)
    return folder


#: Format -> key in the file of published names.
PUBLISHED_NETWORKS = {
    "official-segmentation": "segmentation_alone",
    "official-joint": "joint",
    "official-classifier": "classifier",
}

Shapes = dict[str, list[int]]


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, Shapes]:
    """Format -> name -> shape, as in the published checkpoints."""
    names = Path(__file__).with_name("official-state-dicts.json")
    content = json.loads(names.read_text(encoding="utf-8"))
    return {name: content[key] for name, key in PUBLISHED_NETWORKS.items()}


@pytest.fixture(scope="session")
def seeded_state() -> Callable[[Shapes], dict[str, torch.Tensor]]:
    """Shapes -> a state dict of seeded numbers under which activations stay of order one."""

    def make(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {name: _numbers(name, shape, generator) for name, shape in shapes.items()}

    return make


def _numbers(name: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    module, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return torch.tensor(7)
    if kind == "running_var":
        return 0.5 + torch.rand(shape, generator=generator)
    if kind == "weight" and len(shape) > 1:
        return torch.randn(shape, generator=generator) * (2.0 / math.prod(shape[1:])) ** 0.5
    if kind == "weight":
        # The end of a residual branch is small, or 33 blocks double the activations 33 times.
        scale = 0.2 if module.endswith("bn3") else 1.0
        return scale * (0.5 + torch.rand(shape, generator=generator))
    return 0.1 * torch.randn(shape, generator=generator)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are not worth waking threads for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def jcs() -> Callable[..., Result]:
    """Run ``jcs`` in this process: ``jcs("info", folder)``."""
    from jcs_ct.cli import app

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def save_plane(path: Path, plane) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(plane, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def ct100_like(tmp_path) -> Path:
    """Ten slices of 24 x 20 pixels in the form CT100 is handed out in; 0 and 5 are one acquisition."""
    folder = tmp_path / "ct100"
    y, x = np.mgrid[0:24, 0:20]
    for number in range(10):
        lesion = (x - 6 - number // 3) ** 2 + (y - 12) ** 2 < 9 + 4 * number
        scan = np.random.default_rng(number).integers(0, 80, (12, 10)).repeat(2, axis=0).repeat(2, axis=1)
        save_plane(folder / "images" / f"{number:04d}.png", 30 + 100 * lesion + scan)
        save_plane(folder / "masks" / f"{number:04d}.png", 255 * lesion)
    folds = {f"val{fold}": [fold, fold + 5] for fold in range(5)}
    splits = {"miniseg_folds": folds, "patient_safe_folds": folds, "same_acquisition_groups": [[0, 5]]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


@pytest.fixture
def perfect(ct100_like, tmp_path) -> Path:
    """The masks themselves as predictions."""
    for path in (ct100_like / "masks").glob("*.png"):
        save_plane(tmp_path / "perfect" / path.name, np.asarray(Image.open(path)))
    return tmp_path / "perfect"


@pytest.fixture
def shifted(ct100_like, tmp_path) -> Path:
    """The masks, two pixels to the right, as probabilities of 0.6."""
    for path in (ct100_like / "masks").glob("*.png"):
        save_plane(tmp_path / "shifted" / path.name, np.roll(np.asarray(Image.open(path)), 2, axis=1) * 0.6)
    return tmp_path / "shifted"
