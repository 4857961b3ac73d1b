"""run.json: what ran, on what, with which versions, and how long; never a name, a path or patient data."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from jcs_ct import NOTICE, __version__
from jcs_ct.files import write_text

if TYPE_CHECKING:
    from jcs_ct.imaging.study import Study

RUN_SCHEMA_VERSION = "1.0"

#: Packages whose versions can change a result.
_PACKAGES = (
    "torch",
    "openvino",
    "onnxruntime",
    "lightning-fabric",
    "numpy",
    "scipy",
    "scikit-image",
    "pydicom",
    "highdicom",
    "python-gdcm",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "pyjpegls",
    "nibabel",
    "Pillow",
    "safetensors",
)
#: Arguments that say how a study is read and cannot name it; every other word of a command is left out.
_PLAIN_WORDS = frozenset(
    {"diagnose", "positive", "always", "never", "paper", "grad_cam", "auto", "cpu", "cuda", "fp32", "bf16", "int8"}
    | {"torch", "openvino", "onnxruntime"}
    | {"compact", "official", "en", "de"}
)
_PLAIN_NUMBER = re.compile(r"\d{1,3}(\.\d{1,4})?")
#: Options whose value is a number; after any other a number may be the study's, or the patient's.
_NUMBER_OPTIONS = frozenset({"--threshold", "--reference-spacing-mm", "--batch-size"})
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z-]*")
#: Options whose value names a place or a study, however plain it looks.
_NAMING_OPTIONS = frozenset({"-o", "--output", "--label"})


def redacted_command(arguments: Sequence[str]) -> list[str]:
    """A command line with its options and settings, and ``<value>`` for whatever may name a file or a person."""
    if not arguments:
        return []
    program = "jcs" if PurePath(arguments[0]).name in ("jcs", "jcs.exe", "__main__.py") else "python"
    kept, previous = [program], ""
    for number, argument in enumerate(arguments[1:], start=1):
        if argument == "--":  # no options behind it, whatever they look like
            return [*kept, "--", *["<value>"] * len(arguments[number + 1 :])]
        option, equals, value = argument.partition("=")
        if _OPTION.fullmatch(option):
            kept.append(f"{option}=<value>" if equals else option)
        elif previous not in _NAMING_OPTIONS and _is_plain(value if equals else argument, previous):
            kept.append(argument)
        else:
            kept.append("<value>")
        previous = argument
    return kept


def _is_plain(argument: str, previous: str) -> bool:
    return argument in _PLAIN_WORDS or (previous in _NUMBER_OPTIONS and bool(_PLAIN_NUMBER.fullmatch(argument)))


def write_run_record(
    path: Path,
    study: Study,
    *,
    timings_s: Mapping[str, float],
    execution: Mapping[str, Any] | None = None,
    outputs: Sequence[Path] = (),
    command: Sequence[str] | None = None,
    exit_code: int = 0,
    voxels: str | None = None,
) -> None:
    """Write the record of one finished run, whole or not at all.

    Args:
        path: ``run.json``; writing it is the last act of a run, so its presence means that the outputs are complete.
        study: What was read; it appears by hashes and counts only.
        timings_s: Seconds a stage.
        execution: What the networks ran on, as ``Diagnosis.execution``.
        outputs: Files that were written; they appear with size and SHA-256.
        command: Arguments of the process (default: this process's); names and paths are left out.
        exit_code: The command line's.
        voxels: :func:`voxels_sha256` of the study, where it is known already.
    """
    record = {
        "schema_version": RUN_SCHEMA_VERSION,
        "notice": NOTICE,
        "software": {"name": "jcs-ct", "version": __version__},
        "completed_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "exit_code": exit_code,
        "command": redacted_command(sys.argv if command is None else command),
        "inputs": [_input(study, voxels or voxels_sha256(study))],
        "outputs": [_output(output, path.parent) for output in outputs],
        "timings_s": {stage: round(float(seconds), 3) for stage, seconds in timings_s.items()},
        "execution": dict(execution or {}),
        "versions": _versions(),
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cpu_count": os.cpu_count(),
            "peak_memory_mb": _peak_memory_mib(),
        },
    }
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


def voxels_sha256(study: Study) -> str:
    """SHA-256 of a study's HU (as float32) and affine, hex: what was read, whatever file it came from."""
    digest = hashlib.sha256()
    for plane in study.volume.hu:
        digest.update(plane.astype("<f4").tobytes())
    if study.volume.affine is not None:
        digest.update(study.volume.affine.astype("<f8").tobytes())
    return digest.hexdigest()


def _input(study: Study, voxels: str) -> dict[str, Any]:
    return {
        "identifier": study.identifier,
        "source_kind": study.kind,
        "file_count": len(set(study.paths)),
        "slice_count": study.volume.shape[0],
        "voxels_sha256": voxels,
    }


def _output(path: Path, folder: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return {"file": name, "byte_count": path.stat().st_size, "sha256": digest.hexdigest()}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "jcs-ct": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


#: The largest peak that a record of this process has stated, in MiB.
_peak_stated_mib = 0.0


def _peak_memory_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the system does not tell, or an earlier study made it.

    A process may read many studies, and the system tells the peak of its whole life.
    """
    global _peak_stated_mib
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes per unit of ru_maxrss
    peak_mib = round(peak * unit / 1024**2, 1)
    if peak_mib <= _peak_stated_mib:
        return None
    _peak_stated_mib = peak_mib
    return peak_mib
