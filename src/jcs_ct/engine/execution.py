"""How networks are run: what was asked for, and what this machine makes of it."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from ctypes import CDLL
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, get_args

from jcs_ct.choices import Backend, Precision
from jcs_ct.engine.processor import cpu_multiplies_bf16
from jcs_ct.errors import ConfigError, DeviceError, MissingExtraError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

BACKENDS: tuple[Backend, ...] = get_args(Backend)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

#: What ``auto`` takes on a CPU, first to last, by the measurements in docs/reference/backends.md.
_FASTEST_ON_CPU = ("openvino", "onnxruntime", "torch")
#: Backend (or a precision that needs more) -> packages, and the extra that brings them.
_NEEDS = {
    "openvino": (("openvino", "onnx"), "openvino"),
    "onnxruntime": (("onnxruntime", "onnx"), "onnx"),
    "int8": (("openvino", "onnx", "nncf"), "int8"),
}


@dataclass(frozen=True)
class Choice:
    """What networks are run with.

    Args:
        backend: ``torch``, ``openvino`` or ``onnxruntime``.
        device: As torch names it.
        precision: ``fp32``, ``bf16`` or ``int8``.
        notes: Where this is not what was asked for, or not the fastest there is, and why.
    """

    backend: str
    device: str
    precision: str
    notes: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Of the backend's package."""
        return version(self.backend)

    def __str__(self) -> str:
        return f"{self.backend} {self.version}, {self.device}, {self.precision}"

    def with_note(self, note: str, **changes: str) -> Choice:
        """The same with other fields and one more note."""
        return replace(self, notes=(*self.notes, note), **changes)


@dataclass(frozen=True)
class Execution:
    """How networks are run.

    Args:
        device: ``auto`` takes a GPU where there is one.
        precision: ``auto`` is bf16 where the hardware multiplies it natively, else fp32; ``int8`` is never taken by
            ``auto`` and needs a calibrated model (``jcs export --precision int8``).
        batch_size: Slices a forward pass.
        backend: ``auto`` is torch on a GPU; on a CPU the first of openvino, onnxruntime and torch that is installed.
    """

    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int = 8
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be auto, fp32, bf16 or int8, got {self.precision!r}")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be auto, torch, openvino or onnxruntime, got {self.backend!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def device_name(self) -> str:
        """The device as torch names it; torch is imported only where it may have to say."""
        if self.device in ("auto", "cpu"):
            return "cuda" if self.device == "auto" and _has_gpu() else "cpu"
        return str(self.torch_device)

    @property
    def torch_device(self) -> torch.device:
        """The device that torch uses.

        Raises:
            ConfigError: no such device, or none here.
        """
        return usable_device(self.device)

    @property
    def uses_bf16(self) -> bool:
        """Whether torch runs networks in bf16; asked for where the hardware lacks it, it is fp32 and is logged."""
        if self.precision not in ("auto", "bf16"):
            return False
        native = multiplies_bf16(self.device_name)
        if self.precision == "bf16" and not native:
            _warn_once(_no_bf16(self.device_name))
        return native


def usable_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` -> the device; ``auto`` is a GPU where there is one.

    Raises:
        ConfigError: no such device, or none here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if _has_gpu() else "cpu")
    if re.fullmatch(r"cpu|cuda(:[0-9]+)?", name) is None:
        raise DeviceError(f"there is no device {name!r}; networks run on auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"{name} was asked for and torch finds {count} GPU(s) here")
    return device


#: What a choice says where torch runs the networks for want of anything faster, and what a person may do then.
WITHOUT_OPENVINO = "openvino is not installed: torch runs the networks"
FASTER_WITH_OPENVINO = "pip install 'jcs-ct[openvino]' reads the same faster on a CPU"
#: The driver's library of NVIDIA GPUs; without it no build of torch for CUDA finds one.
_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


@cache
def _has_gpu() -> bool:
    """Whether torch has a GPU; torch is not imported where its build or the missing driver already tells."""
    build = version("torch").partition("+")[2]
    if "torch" not in sys.modules and not build.startswith("rocm"):
        if build == "cpu" or sys.platform not in _DRIVERS:
            return False
        try:
            CDLL(_DRIVERS[sys.platform])
        except OSError:
            return False
    import torch

    return torch.cuda.is_available()


def multiplies_bf16(device: str | torch.device) -> bool:
    """Whether a device multiplies bf16 natively, so that it is faster than fp32."""
    if _kind(device) != "cuda":
        return cpu_multiplies_bf16()
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _kind(device: str | torch.device) -> str:
    """``cuda:1`` -> ``cuda``."""
    return str(device).partition(":")[0]


def is_installed(backend: str) -> bool:
    """Whether every package that a backend needs is there; nothing is imported."""
    packages, _ = _NEEDS.get(backend, ((), ""))
    return all(importlib.util.find_spec(package) is not None for package in packages)


def require_installed(backend: str) -> None:
    """Raise unless a backend's packages are there.

    Raises:
        ConfigError: names what is missing and the extra that brings it.
    """
    if not is_installed(backend):
        packages, extra = _NEEDS[backend]
        raise MissingExtraError(f"{backend} ({' and '.join(packages)})", extra, instead="leave --backend out")


def choose(execution: Execution) -> Choice:
    """What an :class:`Execution` comes to on this machine.

    Raises:
        ConfigError: a backend that is not installed, or that cannot use the device asked for.
    """
    chosen = _choose_backend(execution)
    if execution.precision == "int8":
        if chosen.backend != "openvino":
            return chosen.with_note(f"int8 needs the openvino backend: {chosen.backend} runs in fp32")
        return replace(chosen, precision="int8")
    device = chosen.device
    if execution.precision == "fp32" or (execution.precision == "auto" and not multiplies_bf16(device)):
        return chosen
    if chosen.backend == "onnxruntime":
        note = "onnxruntime has no bf16 on a CPU: it runs in fp32"
        return chosen.with_note(note) if execution.precision == "bf16" else chosen
    if not multiplies_bf16(device):
        return chosen.with_note(_no_bf16(device))
    return replace(chosen, precision="bf16")


def _choose_backend(execution: Execution) -> Choice:
    device = execution.device_name
    if execution.backend == "torch" or (execution.backend == "auto" and _kind(device) != "cpu"):
        return Choice("torch", device, "fp32")
    if execution.backend != "auto":
        require_installed(execution.backend)
        if execution.device not in ("auto", "cpu"):
            raise ConfigError(
                f"{execution.backend} runs on the CPU here, not on {execution.device!r}; use --device cpu, "
                "or --backend torch"
            )
        return Choice(execution.backend, "cpu", "fp32")
    # In bf16 torch on a CPU that has it is ahead of onnxruntime, which has none.
    in_bf16 = execution.precision in ("auto", "bf16") and multiplies_bf16(device)
    wanted = [name for name in _FASTEST_ON_CPU if not (in_bf16 and name == "onnxruntime")]
    found = next(name for name in wanted if is_installed(name))
    if found == "torch":
        return Choice("torch", "cpu", "fp32", (WITHOUT_OPENVINO,))
    return Choice(found, "cpu", "fp32")


@cache
def _warn_once(message: str) -> None:
    """``inference`` asks once a batch; a person is told once."""
    logger.warning("%s", message)


def _no_bf16(device: str) -> str:
    return f"bf16 was asked for and this {_kind(device).upper()} does not multiply it natively: fp32 is used"
