"""Foreign weights files -> named tensors. Code in a file is never run (``weights_only``)."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jcs_ct.errors import CheckpointError

#: Keys under which training scripts keep the state dict, looked for in this order.
WRAPPERS = ("state_dict", "model_state_dict", "model")
#: What DataParallel puts in front of every name.
PARALLEL_PREFIX = "module."

#: What torch's reader stumbles over in damaged files, found by changing bytes of good ones.
_DAMAGES = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    OverflowError, struct.error,
)  # fmt: skip
_TORCH_BEGINNINGS = (b"PK\x03\x04", b"\x80")


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """Tensors of a foreign file by their names there.

    Args:
        tensors: Name -> tensor, on the CPU; DataParallel's prefix is gone.
        wrapper: Key the state dict stood under, or None.
        had_prefix: Whether every name began with ``module.``.
    """

    tensors: Mapping[str, Tensor]
    wrapper: str | None
    had_prefix: bool


def read_foreign(path: Path) -> ForeignWeights:
    """Read a state dict written by ``torch.save`` or as safetensors.

    Raises:
        CheckpointError: no such file, damaged, with code in it, or without a state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    with path.open("rb") as stream:
        beginning = stream.read(4)
    content = _torch_content(path) if beginning.startswith(_TORCH_BEGINNINGS) else _safetensors_content(path)
    named, wrapper = _unwrapped(path, content)
    had_prefix = bool(named) and all(name.startswith(PARALLEL_PREFIX) for name in named)
    if had_prefix:
        named = {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in named.items()}
    return ForeignWeights(named, wrapper, had_prefix)


def _safetensors_content(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: neither a torch file nor a readable safetensors file ({error}); it may be truncated, "
            "fetch it again"
        ) from error


def _torch_content(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # A file of an unusual pickle protocol: what matters of it is in the error, or it loads.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = _first_sentence(str(error))
        if "truncated" in reason or "Ran out of input" in reason:
            raise _damaged(path, reason) from error
        raise CheckpointError(
            f"{path}: it holds objects other than tensors, which would need code from the file to be run; "
            f"that is never done ({reason}). Ask for a file written by torch.save(network.state_dict(), ...)"
        ) from error
    except _DAMAGES as error:
        raise _damaged(path, _first_sentence(str(error)) or type(error).__name__) from error


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: not a readable torch file ({reason}); it may be truncated, fetch it again")


def _first_sentence(text: str) -> str:
    """torch explains at length how to switch the protection off; what it found stands in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), lines[0] if lines else "")
    return found.removeprefix("WeightsUnpickler error: ").split(". ")[0].rstrip(".")


def _unwrapped(path: Path, content: object) -> tuple[dict[str, Tensor], str | None]:
    direct = _tensors(content)
    if direct is not None:
        return direct, None
    if isinstance(content, Mapping):
        for key in WRAPPERS:
            inner = _tensors(content.get(key))
            if inner is not None:
                return inner, key
    keys = sorted(str(key) for key in content) if isinstance(content, Mapping) else []
    found = f"a mapping with the keys {', '.join(keys[:8])}" if keys else f"{type(content).__name__}"
    raise CheckpointError(
        f"{path}: expected a state dict (names with tensors), bare or under one of {', '.join(WRAPPERS)}; got {found}"
    )


def _tensors(value: Any) -> dict[str, Tensor] | None:
    """The value as a state dict, or None when it is not one."""
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()):
        return None
    return dict(value)
