"""What is true of a phantom, as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from jcs_ct.phantom.config import Phantom
from jcs_ct.volume import slices_with

#: Of ``truth.json``; raised when a name changes its meaning.
SCHEMA_VERSION = "1.0"
NOTICE = "Procedural phantom, no patient. Research use only, not a medical device."


def truth_record(phantom: Phantom) -> dict[str, Any]:
    """Settings, scanner, lesions and distractors of a phantom, ready for JSON; units in the names."""
    labels = phantom.lesions.labels
    voxels = np.bincount(labels.ravel(), minlength=len(phantom.shapes) + 1)
    voxel_ml = float(phantom.volume.voxel_ml or 0.0)
    infected = [int(index) for index in slices_with(labels)]
    lung = [int(index) for index in slices_with(phantom.lungs.labels)]
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "infected": bool(infected),
        "config": asdict(phantom.config),
        "acquisition": asdict(phantom.acquisition),
        "spacing_mm": phantom.volume.spacing_mm,
        "lung_slices": lung,
        "infected_slices": infected,
        "lung_volume_ml": round(int((phantom.lungs.labels > 0).sum()) * voxel_ml, 3),
        "opacification_volume_ml": round(int((labels > 0).sum()) * voxel_ml, 3),
        "lesions": [
            {
                "lesion_id": shape.lesion_id,
                "kind": str(shape.kind),
                "centre_lps_mm": [round(value, 2) for value in shape.centre_mm],
                "voxel_count": int(voxels[shape.lesion_id]),
                "volume_ml": round(int(voxels[shape.lesion_id]) * voxel_ml, 4),
            }
            for shape in phantom.shapes
        ],
        "distractors": [
            {
                "kind": str(one.kind),
                "side": {-1: "right", 0: "both", 1: "left"}[one.side],
                "size_mm": round(one.size_mm, 2),
            }
            for one in phantom.distractors
        ],
    }
