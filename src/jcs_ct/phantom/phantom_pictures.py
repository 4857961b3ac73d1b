"""Phantoms as 8-bit PNG slices under the lung window, with masks beside them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.files import prepare_output_folder, write_bytes, write_text
from jcs_ct.phantom.config import Phantom
from jcs_ct.phantom.phantom_volumes import drop_earlier_slices
from jcs_ct.phantom.truth import truth_record
from jcs_ct.preprocessing import LUNG_WINDOW


def lung_window(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """HU of any shape -> grey 0 to 255 under the lung window (-1350 to 150 HU)."""
    level, width = LUNG_WINDOW.level, LUNG_WINDOW.width
    grey = (hu.astype(np.float32) - np.float32(level - width / 2)) * np.float32(255 / width)
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def write_png(phantom: Phantom, folder: Path) -> None:
    """Write ``images/0000.png``, ``masks/`` (0 or 255), ``lungs/`` (0, 1 right, 2 left) and ``truth.json``.

    Slice 0 is the most superior one.

    Args:
        phantom: What to write.
        folder: Made when missing; a phantom that is there is replaced.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    planes = {
        "images": lung_window(phantom.volume.hu),
        "masks": np.where(phantom.lesions.labels > 0, np.uint8(255), np.uint8(0)),
        "lungs": phantom.lungs.labels,
    }
    prepare_output_folder(folder)
    for name, stack in planes.items():
        for index, plane in enumerate(stack):
            stream = io.BytesIO()
            Image.fromarray(plane).save(stream, format="PNG", compress_level=4)
            write_bytes(folder / name / f"{index:04d}.png", stream.getvalue())
        drop_earlier_slices(folder / name, ".png", len(stack), first=0)
    write_text(folder / "truth.json", json.dumps(truth_record(phantom), indent=2, allow_nan=False) + "\n")
