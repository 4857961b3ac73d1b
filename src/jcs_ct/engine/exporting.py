"""A network as a file for other programs, checked against torch before it gets its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jcs_ct import NOTICE, __version__
from jcs_ct.choices import MapVariant
from jcs_ct.engine.execution import Choice, require_installed
from jcs_ct.engine.graphs import INPUT, NetworkGraph, explained_graph_of
from jcs_ct.engine.mixed_precision import JudgingSlices, MixedPrecision, mixed_precision
from jcs_ct.engine.network import ReadyNetwork
from jcs_ct.engine.onnx_graph import BATCH, OPSET, onnx_bytes
from jcs_ct.engine.onnxruntime_backend import ONNXRuntimeModel
from jcs_ct.engine.openvino_backend import OpenVINOModel, openvino, read_onnx
from jcs_ct.engine.quantisation import quantised_graph
from jcs_ct.engine.runners import Model, cache_entry
from jcs_ct.errors import BackendError, ConfigError
from jcs_ct.files import staged_folder, write_bytes, write_text

ExportFormat = Literal["onnx", "openvino"]
#: Format -> the backend that runs it, and its file's suffix.
_FORMATS: Mapping[str, tuple[str, str]] = {"onnx": ("onnxruntime", ".onnx"), "openvino": ("openvino", ".xml")}
#: Slices of the agreement check; more than the exporter's example, so that the batch is proven to be free.
_CHECKED_SLICES = 3

_MEANINGS = {
    INPUT: "slices, prepared as `preprocessing` says",
    "probability": "classifier: of infection, one a slice; segmenter: of lesion, one a pixel",
    "activation_map": "what speaks for infection (paper, Eq. 1-2), 0 to 1 within each slice",
    "logits": "uninfected, infected",
}


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Args:
        paths: Files written; the last is the JSON that describes the others.
        facts: Content of that JSON.
    """

    paths: tuple[Path, ...]
    facts: Mapping[str, Any]


def export_network(
    ready: ReadyNetwork,
    path: Path,
    format: ExportFormat,
    *,
    variant: MapVariant = "paper",
    tolerance: float = 1e-4,
    calibration: NDArray[np.float32] | None = None,
    judging: JudgingSlices | None = None,
    largest_change: float = 0.002,
    described: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a network as ONNX or OpenVINO IR, with a JSON beside it, whole or not at all.

    A classifier gives probability, activation map and logits; a segmenter the lesion probability of its first side
    output. BatchNorm is folded, the batch is free, rows and columns are the preprocessing's.

    Args:
        ready: A classifier or segmenter.
        path: Ends in ``.onnx`` or ``.xml`` (OpenVINO writes a ``.bin`` beside it).
        format: ``onnx`` or ``openvino``.
        variant: Of the activation map: ``paper`` or ``grad_cam``.
        tolerance: Largest absolute difference from torch that is accepted in fp32.
        calibration: (N, C, H, W) prepared training slices: the network is written in int8, for OpenVINO only, and
            kept in the cache as well, where ``precision int8`` finds it. Its difference from torch is stated, not
            held against ``tolerance``.
        judging: For int8: validation slices on which the answer is compared with fp32's. None: nothing is judged.
        largest_change: For int8: limit of that comparison; layers stay in fp32 until it holds.
        described: More facts for the JSON.

    Raises:
        ConfigError: a wrong suffix, a missing package, int8 as ONNX, or a part of a network.
        BackendError: the network cannot be exported, what was exported differs from torch, or int8 changes its
            answers beyond the limit.
        OutputError: the folder cannot be written or the disk is full.
    """
    backend, suffix = _FORMATS[format]
    if path.suffix != suffix:
        raise ConfigError(f"--output must end in {suffix}, got {path.name!r}")
    if calibration is not None and format != "openvino":
        raise ConfigError("int8 is written for OpenVINO only: jcs export openvino")
    require_installed(backend)
    graph = explained_graph_of(ready, variant=variant)
    try:
        # The model itself is taken away first and put in place last: an old graph is never beside new weights.
        with staged_folder(path.parent, last=path.name) as aside:
            onnx = onnx_bytes(graph, ready.input_shape)
            mixed = None
            if calibration is not None:
                mixed = mixed_precision(ready, calibration, judging, largest_change=largest_change)
            model = _write(aside / path.name, onnx, format, calibration, mixed)
            agreement = _agreement(ready, graph, model)
            if calibration is None and max(agreement.values()) > tolerance:
                raise BackendError(
                    f"the exported {ready.task} differs from torch by {max(agreement.values()):.2g}, more than "
                    f"{tolerance:g}; nothing was written"
                )
            facts = _facts(ready, graph, format, agreement, tolerance, calibration, aside)
            facts["mixed_precision"] = None if mixed is None else mixed.facts()
            facts |= dict(described or {})
            write_text(aside / f"{path.stem}.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
            names = sorted((file.name for file in aside.iterdir()), key=lambda name: name.endswith(".json"))
    except RuntimeError as error:
        raise BackendError(f"{ready.name} cannot be exported as {format}: {error}") from error
    if mixed is not None:
        keep_calibrated(ready, mixed.graph)
    return Exported(tuple(path.parent / name for name in names), facts)


def keep_calibrated(ready: ReadyNetwork, quantised: Any) -> None:
    """Keep a quantised ``openvino.Model`` of a network in the cache, where ``precision int8`` looks for it."""
    entry = cache_entry(ready, Choice("openvino", "cpu", "int8"))
    entry.write(OpenVINOModel.from_graph(quantised, "int8").to_bytes())


def _write(
    path: Path,
    onnx: bytes,
    format: ExportFormat,
    calibration: NDArray[np.float32] | None,
    mixed: MixedPrecision | None,
) -> Model:
    """Write the model and read it again as another program would."""
    if format == "onnx":
        write_bytes(path, onnx)
        return ONNXRuntimeModel(path.read_bytes())
    if calibration is None or mixed is None:
        graph = read_onnx(onnx)
    else:  # with the map's closed form, a classifier's graph is not quite what the engine runs
        graph = quantised_graph(onnx, calibration, exact=mixed.fp32_groups)
    openvino().save_model(graph, path, compress_to_fp16=False)
    return OpenVINOModel.from_graph(openvino().Core().read_model(path), "fp32")


def _agreement(ready: ReadyNetwork, graph: NetworkGraph, model: Model) -> dict[str, float]:
    """Largest absolute difference of each output from torch's, on seeded slices of smooth noise."""
    images = _smooth_noise(ready)
    with torch.inference_mode():
        expected = graph(images)
    got = model(images.numpy())
    return {
        name: float(np.abs(one - other.numpy()).max())
        for name, one, other in zip(graph.outputs, got, expected, strict=True)
    }


def _smooth_noise(ready: ReadyNetwork) -> Tensor:
    size = ready.preprocessor.size
    coarse = torch.rand(_CHECKED_SLICES, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    grey = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    return ready.preprocessor.normalise(grey)


def _facts(
    ready: ReadyNetwork,
    graph: NetworkGraph,
    format: ExportFormat,
    agreement: Mapping[str, float],
    tolerance: float,
    calibration: NDArray[np.float32] | None,
    folder: Path,
) -> dict[str, Any]:
    with torch.inference_mode():
        outputs = graph(torch.zeros(1, *ready.input_shape))
    return {
        "notice": NOTICE,
        "software": {"name": "jcs-ct", "version": __version__},
        "format": format,
        "opset": OPSET,
        "precision": "fp32" if calibration is None else "int8",
        "calibration_slices": None if calibration is None else len(calibration),
        "task": ready.task,
        "preset": ready.preset,
        "weights_sha256": ready.sha256,
        "activation_map_variant": getattr(graph, "variant", None),
        "files": [_file(path) for path in sorted(folder.iterdir())],
        "preprocessing": ready.preprocessor.to_dict(),
        "inputs": [_value(INPUT, ready.input_shape)],
        "outputs": [
            _value(name, tuple(output.shape[1:])) for name, output in zip(graph.outputs, outputs, strict=True)
        ],
        "agreement_with_torch": {
            "slices": _CHECKED_SLICES,
            "tolerance": tolerance if calibration is None else None,
            "max_abs_difference": dict(agreement),
        },
    }


def _value(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "shape": [BATCH, *shape], "dtype": "float32", "meaning": _MEANINGS[name]}


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"file": path.name, "byte_count": len(content), "sha256": hashlib.sha256(content).hexdigest()}
