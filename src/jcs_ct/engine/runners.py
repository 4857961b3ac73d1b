"""From a network and an Execution to something that runs: chosen, prepared, remembered, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from jcs_ct import __version__
from jcs_ct.engine import openvino_backend
from jcs_ct.engine.cache import CacheEntry
from jcs_ct.engine.execution import Choice, Execution, choose
from jcs_ct.engine.network import ReadyNetwork, StoredNetwork
from jcs_ct.engine.onnxruntime_backend import ONNXRuntimeModel
from jcs_ct.engine.openvino_backend import OpenVINOModel
from jcs_ct.engine.processor import thread_count
from jcs_ct.errors import BackendError

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What a backend makes of a graph. It is remembered, so threads that read at the same time share it."""

    def leaving(self, threads: int) -> Model:
        """The same for a machine on which so many threads of other work run at the same time."""

    def place(self, images: NDArray[np.float32]) -> Any:
        """(N, C, H, W) -> the same where and how the network wants it."""

    def __call__(self, images: Any) -> tuple[NDArray[np.float32], ...]:
        """(N, C, H, W), placed -> the graph's outputs, float32."""


@dataclass(frozen=True, eq=False)
class NetworkRunner:
    """A network prepared on one backend.

    Args:
        model: Runs it.
        choice: What it runs on.
        origin: ``torch``, ``compiled`` (in this process) or ``cache``.
    """

    model: Model
    choice: Choice
    origin: str


#: Threads wait for one another: torch writes one ONNX graph at a time, and one network need not be prepared twice.
_PREPARING = threading.Lock()
_Settings = tuple[object, ...]
#: Network -> input shape and settings -> what was prepared, and of which state of its weights; goes with the network.
_PREPARED: WeakKeyDictionary[nn.Module | StoredNetwork, dict[_Settings, tuple[int, NetworkRunner]]] = (
    WeakKeyDictionary()
)


def runner_for(ready: ReadyNetwork, execution: Execution) -> NetworkRunner:
    """The network prepared as asked for; prepared once for each network, setting and state of the weights.

    Raises:
        ConfigError: a backend that is not installed or cannot use the device, or a part of a network.
        BackendError: a backend asked for by name that cannot run this network. ``auto`` falls back to torch.
    """
    with _PREPARING:
        known = _prepared(ready, execution)
        if known is None:
            known = _prepare(ready, choose(execution), fall_back=execution.backend == "auto")
            _PREPARED.setdefault(ready.source, {})[_settings(ready, execution)] = ready.weights_version, known
            _say(ready, known, execution)
        return known


def execution_facts(networks: Iterable[ReadyNetwork], execution: Execution) -> dict[str, Any]:
    """What ran, for a record: of the networks prepared so far, or what was chosen where none was."""
    runners = [_prepared(ready, execution) for ready in networks]
    choices = [runner.choice for runner in runners if runner is not None] or [choose(execution)]
    return {
        "backend": " + ".join(dict.fromkeys(f"{choice.backend} {choice.version}" for choice in choices)),
        "device": " + ".join(dict.fromkeys(choice.device for choice in choices)),
        "precision": " + ".join(dict.fromkeys(choice.precision for choice in choices)),
        "batch_size": execution.batch_size,
        "threads": thread_count(),
        "notes": list(dict.fromkeys(note for choice in choices for note in choice.notes)),
    }


def _settings(ready: ReadyNetwork, execution: Execution) -> _Settings:
    return ready.input_shape, execution.backend, execution.precision, execution.device_name, thread_count()


def _prepared(ready: ReadyNetwork, execution: Execution) -> NetworkRunner | None:
    found = _PREPARED.get(ready.source, {}).get(_settings(ready, execution))
    return found[1] if found is not None and found[0] == ready.weights_version else None


def _say(ready: ReadyNetwork, runner: NetworkRunner, execution: Execution) -> None:
    logger.info("the %s runs on %s (%s)", ready.task, runner.choice, runner.origin)
    # What was asked for by name and not given is a warning; what auto makes of a machine is not.
    asked = execution.backend != "auto" or execution.precision not in ("auto", "fp32")
    for note in runner.choice.notes:
        logger.log(logging.WARNING if asked else logging.INFO, "%s", note)


def _prepare(ready: ReadyNetwork, choice: Choice, *, fall_back: bool) -> NetworkRunner:
    if choice.backend == "torch":
        from jcs_ct.engine.graphs import graph_of
        from jcs_ct.engine.torch_backend import TorchModel

        return NetworkRunner(TorchModel(graph_of(ready), choice), choice, "torch")
    try:
        return _from_cache_or_compiled(ready, choice)
    except (RuntimeError, ImportError) as error:
        reason = f"{choice.backend} cannot run the {ready.task} {ready.name} ({_first_line(error)})"
        if not fall_back:
            raise BackendError(f"{reason}; use --backend torch or auto") from error
        logger.warning("%s: torch is used", reason)
        other = choice.with_note(f"{reason}: torch is used", backend="torch", precision="fp32")
        return _prepare(ready, other, fall_back=False)


def cache_entry(ready: ReadyNetwork, choice: Choice) -> CacheEntry:
    """Where the network is kept as compiled for a choice, and all that it depends on."""
    weights = ready.weights_digest
    made_of: dict[str, Any] = {
        "task": ready.task,
        "weights_sha256": weights,
        "input_shape": ready.input_shape,
        "backend": choice.backend,
        "backend_version": choice.version,
        "precision": choice.precision,
        "torch": version("torch"),
        "jcs_ct": __version__,
    }
    if choice.backend == "openvino":
        made_of["processor"] = openvino_backend.processor()
    # Versions are not in the name: what an older one compiled is replaced, and does not stay for ever.
    beside = json.dumps([ready.input_shape, made_of.get("processor")])
    digest = hashlib.sha256(beside.encode()).hexdigest()[:8]
    return CacheEntry(f"{ready.task}-{weights[:16]}-{choice.backend}-{choice.precision}-{digest}", made_of)


def _from_cache_or_compiled(ready: ReadyNetwork, choice: Choice) -> NetworkRunner:
    entry = cache_entry(ready, choice)
    kept = entry.read()
    if kept is not None:
        try:
            return NetworkRunner(load_model(kept, choice), choice, "cache")
        except RuntimeError as error:
            logger.warning("cached model %s is not taken (%s): made anew", entry.name, _first_line(error))
    if choice.precision == "int8":
        return _prepare(ready, choice.with_note(_not_calibrated(ready), precision="fp32"), fall_back=False)
    # torch, which writes ONNX, is not imported where a compiled network is kept.
    from jcs_ct.engine.graphs import graph_of
    from jcs_ct.engine.onnx_graph import onnx_bytes

    model, to_keep = compile_onnx(onnx_bytes(graph_of(ready), ready.input_shape), choice)
    entry.write(to_keep)
    return NetworkRunner(model, choice, "compiled")


def load_model(kept: bytes, choice: Choice) -> Model:
    """What the cache holds -> a model.

    Raises:
        RuntimeError: the backend does not take it.
    """
    if choice.backend == "openvino":
        return OpenVINOModel.from_bytes(kept, choice.precision)
    return ONNXRuntimeModel(kept)


def compile_onnx(onnx: bytes, choice: Choice) -> tuple[Model, bytes]:
    """An ONNX model on a backend, and what to keep of it.

    Raises:
        RuntimeError: the backend does not take it.
    """
    if choice.backend == "openvino":
        model = OpenVINOModel.from_onnx(onnx, choice.precision)
        return model, model.to_bytes()
    return ONNXRuntimeModel(onnx), onnx


def _not_calibrated(ready: ReadyNetwork) -> str:
    return (
        f"int8 was asked for and the cache has no calibrated {ready.task} of these weights: it runs in fp32; "
        f"make one with `jcs export openvino WEIGHTS -o OUT --precision int8 -m slices.csv`"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
