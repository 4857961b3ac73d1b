"""The decoding child: reads a job from stdin, answers one JSON line an item on stdout.

Started by ``sandbox`` as ``python -P -m jcs_ct.imaging.decoding_child`` under limits on memory, time and file size. A
crash here costs the study, not the caller. Answers: ``{"begin": i}`` before an item is touched, then ``{"done": i,
"value": ...}``, ``{"done": i, "code": ..., "message": ...}``, or ``{"done": i, "errno": ...}`` when the output cannot
be written.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jcs_ct.disk_space import NO_ROOM
from jcs_ct.errors import GateCode, StudyError


def _limit(memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    """Accept limits; lower ones that the caller was started under (``ulimit``) stay."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, wanted in limits.items():
        _, most = resource.getrlimit(kind)
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(kind, (limit, limit))


def _headers_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    import pydicom.config

    from jcs_ct.imaging.dicom_headers import read_headers

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

    def read(item: dict[str, Any]) -> Any:
        headers = read_headers(
            Path(item["path"]),
            item["file_index"],
            allow_deflated=options["allow_deflated"],
            digest_pixels=options["digest_pixels"],
        )
        return [header.to_dict() for header in headers]

    return read


def _pixels_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    import numpy as np
    import pydicom.config

    from jcs_ct.imaging.dicom_voxels import decode_slices
    from jcs_ct.imaging.headers import SliceHeader

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    shape = tuple(options["shape"])
    stream = os.fdopen(options["fd"], "r+b", closefd=False)
    out = np.memmap(stream, dtype=options["dtype"], mode="r+", shape=shape)
    limits = np.iinfo(out.dtype) if out.dtype.kind == "i" else None

    def decode(item: dict[str, Any]) -> Any:
        hu = decode_slices(Path(item["path"]), [SliceHeader.from_dict(header) for header in item["headers"]])
        out[item["places"]] = hu if limits is None else np.clip(np.rint(hu), limits.min, limits.max)
        return None

    return decode


def _nifti_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    from jcs_ct.imaging.nifti import read_nifti

    return lambda item: read_nifti(Path(item["path"]), options["fd"])


def _nifti_labels_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    from jcs_ct.imaging.nifti import read_nifti_labels

    return lambda item: read_nifti_labels(Path(item["path"]), options["fd"], lesion_labels=item["lesion_labels"])


def _segmentation_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    import numpy as np
    import pydicom.config

    from jcs_ct.imaging.headers import SourceKeys
    from jcs_ct.imaging.segmentations import read_segmentation

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

    def read(item: dict[str, Any]) -> Any:
        slices, rows, columns = item["shape"]
        return read_segmentation(
            Path(item["path"]),
            options["fd"],
            affine=np.asarray(item["affine"], dtype=np.float64),
            shape=(slices, rows, columns),
            lesion_labels=item["lesion_labels"],
            source=SourceKeys(**item["source"]),
        )

    return read


def _elements_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    import pydicom.config

    from jcs_ct.imaging.elements import elements_of

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return lambda item: elements_of(Path(item["path"]), options["keywords"])


def _pictures_task(options: dict[str, Any]) -> Callable[[Any], Any]:
    from jcs_ct.imaging.picture_slices import read_pictures

    return lambda item: read_pictures([Path(path) for path in item["paths"]], options["fd"])


_TASKS: dict[str, Callable[[dict[str, Any]], Callable[[Any], Any]]] = {
    "headers": _headers_task,
    "elements": _elements_task,
    "pixels": _pixels_task,
    "nifti": _nifti_task,
    "nifti-labels": _nifti_labels_task,
    "segmentation": _segmentation_task,
    "pictures": _pictures_task,
}


def run_job(job: Mapping[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    """Do the items of a job and answer each, as the module says."""
    work = _TASKS[job["task"]](job["options"])
    for number, item in enumerate(job["items"]):
        answer({"begin": number})
        try:
            answer({"done": number, "value": work(item)})
        except StudyError as error:
            answer({"done": number, "code": error.code, "message": str(error).removesuffix(f" ({error.code})")})
        except MemoryError:
            message = "reading it takes more memory than is allowed"
            answer({"done": number, "code": GateCode.UNREADABLE, "message": message})
        except OSError as error:
            if error.errno not in NO_ROOM or job["options"]["fd"] is None:
                raise
            answer({"done": number, "errno": error.errno})
        except BaseException as error:
            # A decoder written in Rust panics with a BaseException whose class cannot be imported.
            if type(error).__module__ != "pyo3_runtime":
                raise
            message = "a decoder gave up on the pixel data; the file is damaged, export it again"
            answer({"done": number, "code": GateCode.UNREADABLE, "message": message})


def without_downloads() -> None:
    """Keep pydicom from importing requests, to fetch test data with: a tenth of a second, and no business here."""
    sys.modules["requests"] = None  # type: ignore[assignment]


def main() -> None:
    """Take the job from stdin, accept its limits, do it; what decoders print is no answer and goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    without_downloads()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    job = json.load(sys.stdin)
    _limit(job["memory_bytes"], job["cpu_seconds"], job["file_bytes"])
    run_job(job, say)


if __name__ == "__main__":
    main()
