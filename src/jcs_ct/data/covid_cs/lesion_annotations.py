"""Annotations of lesions as COVID-CS has them (Fig. 6): read from files, or measured on a mask."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.covid_cs.slice_annotations import annotate_mask
from jcs_ct.errors import ConfigError


@dataclass(frozen=True)
class LesionAnnotation:
    """One opacification as COVID-CS annotates it (Fig. 6), in pixels of its slice.

    Args:
        area_pixel: Pixels.
        position_x: ``left`` or ``right``: half of the picture its centre lies in.
        position_y: ``up`` or ``down``.
        x0, y0: Column and row of the box's upper left corner.
        width, height: Of the box.
    """

    area_pixel: int
    position_x: str
    position_y: str
    x0: int
    y0: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.position_x not in ("left", "right") or self.position_y not in ("up", "down"):
            raise ValueError(
                f"position_x must be left or right and position_y up or down, got {self.position_x!r}, "
                f"{self.position_y!r}"
            )
        if not 0 < self.area_pixel <= self.width * self.height:
            raise ValueError(
                f"area_pixel must be above 0 and fit the box of {self.width}x{self.height}, got {self.area_pixel}"
            )
        if self.x0 < 0 or self.y0 < 0:
            raise ValueError(f"the box's corner must not be negative, got ({self.x0}, {self.y0})")


def annotate(mask: NDArray[np.bool_]) -> tuple[LesionAnnotation, ...]:
    """(rows, columns) bool -> an annotation a lesion (8-connected), from top to bottom."""
    rows, columns = mask.shape
    return tuple(
        LesionAnnotation(
            area_pixel=lesion.area_pixel,
            position_x="left" if lesion.position_x < (columns - 1) / 2 else "right",
            position_y="up" if lesion.position_y < (rows - 1) / 2 else "down",
            x0=lesion.x0,
            y0=lesion.y0,
            width=lesion.width,
            height=lesion.height,
        )
        for lesion in sorted(annotate_mask(mask), key=lambda lesion: (lesion.y0, lesion.x0))
    )


def read_annotations(path: Path) -> dict[str, tuple[LesionAnnotation, ...]]:
    """Read annotations -> image name -> its lesions.

    Two forms are read, with the field names of Fig. 6: CSV with an ``image`` column and a row a lesion, and JSON with
    a list of lesions for each image.

    Raises:
        ConfigError: unreadable, fields missing or impossible values; all at once.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        records = _json_records(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    except OSError as error:
        raise ConfigError(f"cannot read the annotations {path}: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: not annotations of the form image -> list of lesions ({error})") from error
    annotations: dict[str, list[LesionAnnotation]] = {}
    problems: list[str] = []
    for number, record in enumerate(records, start=1):
        try:
            annotations.setdefault(record["image"], []).append(_lesion(record))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"lesion {number}: {reason}")
    if problems:
        raise ConfigError("\n  ".join([f"the annotations {path} have {len(problems)} problem(s):", *problems[:20]]))
    return {image: tuple(lesions) for image, lesions in annotations.items()}


def _json_records(text: str) -> list[dict[str, Any]]:
    return [{"image": image, **lesion} for image, lesions in json.loads(text).items() for lesion in lesions]


def _lesion(record: dict[str, Any]) -> LesionAnnotation:
    return LesionAnnotation(
        area_pixel=int(record["area_pixel"]),
        position_x=str(record["position_x"]).strip(),
        position_y=str(record["position_y"]).strip(),
        x0=int(record["x0"]),
        y0=int(record["y0"]),
        width=int(record["width"]),
        height=int(record["height"]),
    )
