"""What is missed in whole volumes, and what neighbouring slices would add: held-out predictions, read again.

    python benchmarks/volume_lesions.py -p predictions -m volumes.csv [--cut 0.4]

The manifest names the slices of each patient from one end to the other, with masks and folds; the predictions are one
grey PNG a slice, as ``jcs compare`` takes them.

contrast     lesion pixels by how much denser they are than the aerated lung around (HU), and the share of them found
unsuspected  share of the missed lesion pixels whose probability is below 0.02: no cut would find them
averaging    probabilities averaged over neighbouring slices: weights and cut chosen on the other folds, against the
             cut alone chosen alike; and at one cut for all. Dice per volume and per slice with lesion, paired,
             patients resampled. Slices are neighbours only where the manifest leaves none out.

One JSON document is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.data.manifest import read_hu, read_manifest
from jcs_ct.experiments.judged_slices import manifest_cases
from jcs_ct.experiments.lesion_predictions import read_predictions
from jcs_ct.lungs import segment_picture
from jcs_ct.metrics.bootstrap import Resampling, paired_difference
from jcs_ct.metrics.overlap import Counts, dice_score
from jcs_ct.preprocessing import Window

#: Weights of a slice and its neighbours on both sides.
WEIGHTS: dict[str, tuple[float, ...]] = {
    "none": (1.0,),
    "3, light": (0.15, 0.70, 0.15),
    "3": (0.25, 0.50, 0.25),
    "3, alike": (1 / 3, 1 / 3, 1 / 3),
    "5": (0.1, 0.2, 0.4, 0.2, 0.1),
}
CUTS = (0.3, 0.4, 0.5)
#: Lower limits, in HU above the lung around, of the groups of lesion pixels.
CONTRASTS_HU = (-1000, 50, 100, 150, 250, 400)
#: Sigma in pixels over which the lung around is averaged, and how far from a lesion it begins.
_AROUND, _APART = 12.0, 5
#: Denser than the slice's own lung by this much is a vessel or a wall, not lung.
_VESSEL_HU = 250.0
DRAWS = 5000
_UNSUSPECTED = 0.02


@dataclass(frozen=True, eq=False)
class Volume:
    """One patient: (slices, rows, columns) truth, probability and HU."""

    fold: str
    truth: NDArray[np.bool_]
    probability: NDArray[np.float32]
    hu: NDArray[np.float32]


def read_volumes(predictions: Path, manifest: Path) -> dict[str, Volume]:
    """By source and patient, SOURCE/PATIENT: every patient's slices in the manifest's order."""
    cases = manifest_cases(read_manifest(manifest), None)
    levels = read_predictions(predictions, cases)
    volumes = {}
    for patient in sorted(set(cases.patients)):
        own = [index for index, owner in enumerate(cases.patients) if owner == patient]
        chosen = [cases.cases[index] for index in own]
        images = [(case.image, case.window or Window()) for case in chosen if case.image is not None]
        volumes["/".join(patient)] = Volume(
            chosen[0].fold,
            np.stack([case.read_mask() for case in chosen]),
            np.stack([levels.probability(index) for index in own]),
            np.stack([read_hu(image, window) for image, window in images]),
        )
    return volumes


def contrast_hu(hu: NDArray[np.float32], lesion: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(rows, columns) HU above the aerated lung around; NaN on a slice that shows none beside its lesions."""
    healthy = (segment_picture(hu) > 0) & ~ndimage.binary_dilation(lesion, iterations=_APART)
    if not healthy.any():
        return np.full(hu.shape, np.nan, dtype=np.float32)
    middle = np.float32(np.median(hu[healthy]))
    lung = (healthy & (hu < middle + _VESSEL_HU)).astype(np.float32)
    share = ndimage.gaussian_filter(lung, _AROUND)
    around = np.where(share > 0.02, ndimage.gaussian_filter(hu * lung, _AROUND) / np.maximum(share, 1e-6), middle)
    contrast: NDArray[np.float32] = (ndimage.gaussian_filter(hu, 1.0) - around).astype(np.float32)
    return contrast


def by_contrast(volume: Volume, cut: float) -> list[dict[str, float]]:
    """Share of a volume's lesion pixels in every group of contrast, and the share of these that is found."""
    values, found = [], []
    for hu, truth, probability in zip(volume.hu, volume.truth, volume.probability, strict=True):
        if truth.any():
            values.append(contrast_hu(hu, truth)[truth])
            found.append(probability[truth] >= cut)
    pixels, is_found = np.concatenate(values), np.concatenate(found)
    group = np.searchsorted(CONTRASTS_HU, pixels, side="right") - 1
    return [
        {
            "from_hu": low,
            "share": round(float((group == place).mean()), 3),
            "found": round(float(is_found[group == place].mean()), 3) if (group == place).any() else 0.0,
        }
        for place, low in enumerate(CONTRASTS_HU)
    ]


def unsuspected(volume: Volume, cut: float) -> float:
    """Share of the lesion pixels below the cut that are below any cut one would choose."""
    missed = volume.probability[volume.truth & (volume.probability < cut)]
    return round(float((missed < _UNSUSPECTED).mean()), 3) if missed.size else 0.0


def dice(volume: Volume, weights: Sequence[float], cut: float) -> tuple[float, NDArray[np.float64]]:
    """Dice of the volume and of every slice with lesion, per cent."""
    mean = ndimage.convolve1d(volume.probability, weights, axis=0, mode="nearest")
    counts = Counts.stack(Counts.of(found, truth) for found, truth in zip(mean >= cut, volume.truth, strict=True))
    has = volume.truth.any(axis=(1, 2))
    return 100.0 * float(dice_score(counts.pooled()).values), 100.0 * dice_score(counts).values[has]


def paired(
    scores: Mapping[str, tuple[float, NDArray[np.float64]]], before: Mapping[str, tuple[float, NDArray[np.float64]]]
) -> dict[str, Any]:
    """Differences of Dice with 95 % intervals, patients resampled."""

    def said(first: NDArray[np.float64], second: NDArray[np.float64], groups: Sequence[str]) -> list[float | None]:
        resampling = Resampling(draws=DRAWS)
        found = paired_difference(first, second, groups, generator=resampling.generator(), draws=DRAWS).interval
        return [None if one is None else round(one, 2) for one in (found.value, found.low, found.high)]

    volumes = [np.array([one[patient][0] for patient in scores]) for one in (before, scores)]
    slices = [np.concatenate([one[patient][1] for patient in scores]) for one in (before, scores)]
    patients = [patient for patient in scores for _ in scores[patient][1]]
    return {"volumes": said(*volumes, list(scores)), "slices": said(*slices, patients)}


def averaging(volumes: Mapping[str, Volume], cut: float) -> dict[str, Any]:
    """What averaging adds, at one cut for all and with everything chosen on the other folds."""
    scores = {
        (name, one): {patient: dice(volume, weights, one) for patient, volume in volumes.items()}
        for name, weights in WEIGHTS.items()
        for one in sorted({*CUTS, cut})
    }
    fixed = {name: paired(scores[name, cut], scores["none", cut]) for name in WEIGHTS if name != "none"}
    chosen, alone, taken = {}, {}, {}
    for fold in sorted({volume.fold for volume in volumes.values()}):
        others = [patient for patient, volume in volumes.items() if volume.fold != fold]

        def mean(key: tuple[str, float], patients: list[str] = others) -> float:
            return float(np.mean([scores[key][patient][0] for patient in patients]))

        best = max(scores, key=mean)
        cut_alone = max((key for key in scores if key[0] == "none"), key=mean)
        taken[fold] = best
        for patient, volume in volumes.items():
            if volume.fold == fold:
                chosen[patient], alone[patient] = scores[best][patient], scores[cut_alone][patient]
    return {f"at {cut}": fixed, "chosen on the other folds": {"taken": taken, **paired(chosen, alone)}}


def main() -> None:
    """Parse, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--predictions", type=Path, required=True)
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("--cut", type=float, default=0.4)
    options = parser.parse_args()
    volumes = read_volumes(options.predictions, options.manifest)
    contrast = {patient: by_contrast(volume, options.cut) for patient, volume in volumes.items()}
    hopeless = {patient: unsuspected(volume, options.cut) for patient, volume in volumes.items()}
    averaged = averaging(volumes, options.cut)
    print(json.dumps({"contrast": contrast, "unsuspected": hopeless, "averaging": averaged}, indent=1))


if __name__ == "__main__":
    main()
