"""What this installation can do, found out by trying rather than by guessing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from jcs_ct.checkpoints import load_models
from jcs_ct.disk_space import GIB
from jcs_ct.engine import Execution, choose
from jcs_ct.engine.cache import cache_folder
from jcs_ct.engine.execution import is_installed
from jcs_ct.engine.processor import cpu_features
from jcs_ct.errors import CheckpointError, OutputError
from jcs_ct.files import prepare_output_folder


@dataclass(frozen=True)
class Check:
    """One finding: its name, whether it is good enough to diagnose a study, and the facts."""

    name: str
    ok: bool
    detail: str


_DECODED = {
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
    "RLE": RLELossless,
}
_PACKAGES = ("torch", "pydicom", "nibabel", "safetensors", "numpy", "scipy")


def examine() -> list[Check]:
    """Every check, in the order a user would ask."""
    return [
        _python(),
        *_packages(),
        *_decoders(),
        _processor(),
        _compute(),
        *_backends(),
        _cache(),
        _memory(),
        _weights(),
    ]


def _python() -> Check:
    return Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> list[Check]:
    checks = []
    for name in _PACKAGES:
        try:
            checks.append(Check(name, True, version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, False, f"not installed: pip install {name}"))
    return checks


def _decoders() -> list[Check]:
    checks = []
    for name, uid in _DECODED.items():
        decoder = get_decoder(uid)
        plugins = ", ".join(decoder.available_plugins)
        missing = "; ".join(" and ".join(needs) for needs in decoder.missing_dependencies)
        checks.append(Check(f"decode {name}", decoder.is_available, plugins or f"missing: {missing}"))
    return checks


def _compute() -> Check:
    choice = choose(Execution())
    device = torch.device(choice.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return Check("compute", True, "; ".join([f"auto takes {choice}, {name}", *choice.notes]))


def _processor() -> Check:
    """What speeds networks up, by the names people know; what is missing stands there too."""
    found = cpu_features()
    if found is None:
        return Check("processor", True, "the system does not say what it multiplies fast")
    missing = [name for name in ("AMX-BF16", "AVX512-BF16", "AVX512-VNNI") if name not in found]
    return Check("processor", True, f"{', '.join(found) or 'none of these'}; without {', '.join(missing) or 'none'}")


#: Backend -> the extra that brings it; both are optional.
_OPTIONAL_BACKENDS = {"openvino": "openvino", "onnxruntime": "onnx"}


def _backends() -> list[Check]:
    checks = []
    for name, extra in _OPTIONAL_BACKENDS.items():
        missing = f"not installed, not needed: pip install 'jcs-ct[{extra}]'"
        checks.append(Check(name, True, version(name) if is_installed(name) else missing))
    return checks


def _cache() -> Check:
    folder = cache_folder()
    if folder is None:
        return Check("model cache", True, "switched off: each run prepares its networks anew")
    try:
        prepare_output_folder(folder)
    except OutputError as error:
        return Check("model cache", True, f"each run prepares its networks anew: {error}")
    return Check("model cache", True, str(folder))


def _memory() -> Check:
    free_gib = psutil.virtual_memory().available / GIB
    return Check("memory", free_gib >= 2.0, f"{free_gib:.1f} GiB available (2 GiB are enough for 300 slices)")


def _weights() -> Check:
    try:
        models = load_models()
    except CheckpointError as error:
        return Check("weights", False, str(error))
    point = models.operating_point
    return Check(
        "weights",
        True,
        f"compact {models.classifier.sha256[:12]} + {models.segmenter.sha256[:12]}, slice >= "
        f"{point.slice_probability:.2f}, patient > {point.positive_slice_threshold} slices",
    )
