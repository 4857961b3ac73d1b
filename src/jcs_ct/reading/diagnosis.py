"""The patient rule and the order of work: classify every slice, count, and only then segment (paper, III-C)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.checkpoints import Models
from jcs_ct.engine import ClassifiedSlice, Execution, ReadyNetwork, classify_slices, execution_facts, segment_slices
from jcs_ct.imaging.study import QualityFlag, Study
from jcs_ct.lungs import (
    ASSUMED_PIXEL_MM,
    LEFT,
    RIGHT,
    UNKNOWN_SIDE,
    LungsInView,
    lung_slices,
    lungs_in_view,
    require_lung,
    segment_lungs,
)
from jcs_ct.operating_point import OperatingPoint, PatientRule, Verdict, VerdictBasis
from jcs_ct.reading.burden import Burden, measure_burden
from jcs_ct.reading.densities import split_densities
from jcs_ct.reading.lesions import Lesion, find_lesions
from jcs_ct.reading.zones import SIDES
from jcs_ct.volume import CTVolume

#: Called with the stage's name, what is done and what there is to do.
StageProgress = Callable[[str, int, int], None]
Segment = Literal["positive", "always", "never"]


@dataclass(frozen=True)
class SlicePrediction:
    """What the classifier says of one slice; ``slice_index`` counts from the most superior slice."""

    slice_index: int
    infection_probability: float
    infected: bool
    has_lung: bool


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The result of reading one study.

    Args:
        verdict: Of the patient rule.
        basis: What the verdict rests on.
        positive_slice_count: Infected slices.
        positive_slice_threshold: Positive with more of them than this; None where the verdict is withheld.
        lung_slice_count: Slices that show lung.
        positive_fraction: ``positive_slice_count / lung_slice_count`` (0 without lung).
        slices: One prediction a slice.
        segmented: Whether the segmentation branch ran.
        activation: (slices, rows, columns) float16 in [0, 1]: each slice's normalised activation map times its
            infection probability, on the study's grid; zeros on slices that are not infected.
        lung_labels: (slices, rows, columns) uint8: 0 outside, 1 right lung, 2 left lung (the patient's), 3 lung whose
            side is not known.
        lesion_labels: (slices, rows, columns) uint16: lesion_id, 0 background; all 0 when not segmented.
        density_labels: (slices, rows, columns) uint8: 0 no lesion, 1 ground glass, 2 consolidation; None when not
            segmented, and where lung and soft tissue could not be measured.
        lesions, burden: Findings; ``burden`` is None when not segmented.
        operating_point: What decided.
        flags: The gate's flags and those of the reading.
        timings_s: Seconds a stage.
        models: Facts about the networks: name, preset, sha256, of classifier and segmenter.
        execution: What the networks ran on: backend with version, device, precision, batch size, threads, notes.
    """

    verdict: Verdict
    positive_slice_count: int
    positive_slice_threshold: int | None
    lung_slice_count: int
    positive_fraction: float
    slices: tuple[SlicePrediction, ...]
    segmented: bool
    activation: NDArray[np.float16]
    lung_labels: NDArray[np.uint8]
    lesion_labels: NDArray[np.uint16]
    lesions: tuple[Lesion, ...]
    burden: Burden | None
    operating_point: OperatingPoint
    basis: VerdictBasis = VerdictBasis.SLICE_COUNT
    density_labels: NDArray[np.uint8] | None = None
    flags: tuple[QualityFlag, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)

    @property
    def positive(self) -> bool:
        """Whether the verdict is positive; it may be negative or withheld otherwise."""
        return self.verdict is Verdict.POSITIVE


def diagnose(
    study: Study,
    models: Models,
    *,
    segment: Segment = "positive",
    map_variant: str = "paper",
    execution: Execution | None = None,
    progress: StageProgress | None = None,
) -> Diagnosis:
    """Read one study: lungs, a verdict per slice, the patient rule, and lesions when the patient is positive.

    Args:
        study: From ``open_study``.
        models: From ``load_models``.
        segment: When the segmentation branch runs: ``positive`` (the paper), ``always`` or ``never``.
        map_variant: ``paper`` (Eq. 1-2) or ``grad_cam``.
        execution: Backend, device, precision, batch size.
        progress: Called as the work goes on.

    Raises:
        StudyError: NO_LUNG, when no slice shows lung.
        ConfigError, BackendError: a backend asked for by name that is not installed or cannot run the networks.
    """
    if segment not in ("positive", "always", "never"):
        raise ValueError(f"segment must be positive, always or never, got {segment!r}")
    execution = execution or Execution()
    clock = _Clock(progress)
    volume, point = study.volume, models.operating_point
    with clock.stage("lungs", 1):
        lungs = segment_lungs(
            volume.hu,
            spacing_mm=volume.spacing_mm,
            hu_is_assumed=volume.hu_is_assumed,
        )
        require_lung(lungs, volume.hu, volume.spacing_mm, hu_is_assumed=volume.hu_is_assumed)
        shows_lung = lung_slices(lungs, volume.spacing_mm)
        in_view = lungs_in_view(lungs, volume.hu, volume.spacing_mm)
    with clock.stage("classify", volume.shape[0]) as report:
        indices = range(volume.shape[0])
        classified = classify_slices(
            models.classifier, volume.hu, indices, execution=execution, variant=map_variant, progress=report
        )
    slices = slice_predictions(classified, shows_lung, point)
    spacing = volume.spacing_mm[0] if volume.spacing_mm else None
    lung_count = int(shows_lung.sum())
    rule = point.rule_for(lung_count, spacing)
    count = sum(prediction.infected for prediction in slices)
    verdict = rule.verdict(count)
    with clock.stage("map", 1):
        activation = _activation_volume(classified, slices, models.classifier, volume.shape)
    # Without a verdict on the patient, what infected slices show is all that can be said.
    worth_it = verdict is Verdict.POSITIVE or (verdict is Verdict.WITHHELD and count > 0)
    segmented = segment == "always" or (segment == "positive" and worth_it)
    labels = np.zeros(volume.shape, dtype=np.uint16)
    lesions: tuple[Lesion, ...] = ()
    burden: Burden | None = None
    densities: NDArray[np.uint8] | None = None
    if segmented:
        wanted = [int(index) for index in np.flatnonzero(shows_lung)]
        with clock.stage("segment", len(wanted)) as report:
            mask = _lesion_mask(models, volume, lungs, wanted, execution, report)
        with clock.stage("findings", 1):
            labels, lesions = find_lesions(mask, volume, lungs)
            # In place: without the lesions that were too small, and without another volume in memory.
            np.greater(labels, 0, out=mask)
            densities = split_densities(volume.hu, lungs, mask, _pixel_mm(volume))
            burden = measure_burden(volume, lungs, mask, densities=densities)
        del mask
    return Diagnosis(
        verdict=verdict,
        basis=rule.basis,
        positive_slice_count=count,
        positive_slice_threshold=rule.positive_slice_threshold,
        lung_slice_count=lung_count,
        positive_fraction=count / lung_count if lung_count else 0.0,
        slices=slices,
        segmented=segmented,
        activation=activation,
        lung_labels=lungs,
        lesion_labels=labels,
        lesions=lesions,
        burden=burden,
        density_labels=densities,
        operating_point=point,
        flags=(
            *study.flags,
            *_lung_flags(in_view),
            *_reading_flags(study, point, segmented, verdict),
            *_rule_flags(point, rule, lung_count, spacing),
        ),
        timings_s=clock.seconds,
        models={"classifier": _facts(models.classifier), "segmenter": _facts(models.segmenter)},
        execution=execution_facts((models.classifier, models.segmenter), execution),
    )


def slice_predictions(
    classified: Sequence[ClassifiedSlice], shows_lung: NDArray[np.bool_], point: OperatingPoint
) -> tuple[SlicePrediction, ...]:
    """A verdict per slice; a slice without lung is never infected, whatever its probability."""
    return tuple(
        SlicePrediction(
            slice_index=item.slice_index,
            infection_probability=item.probability,
            infected=bool(item.probability >= point.slice_probability and shows_lung[item.slice_index]),
            has_lung=bool(shows_lung[item.slice_index]),
        )
        for item in classified
    )


class _Clock:
    """Seconds per stage, and the progress of each."""

    def __init__(self, progress: StageProgress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
        def report(done: int, of: int) -> None:
            if self._progress is not None:
                self._progress(name, done, of)

        report(0, total)
        started = time.perf_counter()
        yield report
        self.seconds[name] = round(time.perf_counter() - started, 3)
        report(total, total)


def _activation_volume(
    classified: Sequence[ClassifiedSlice],
    slices: Sequence[SlicePrediction],
    ready: ReadyNetwork,
    shape: tuple[int, int, int],
) -> NDArray[np.float16]:
    activation = np.zeros(shape, dtype=np.float16)
    for item, prediction in zip(classified, slices, strict=True):
        if prediction.infected:
            plane = ready.preprocessor.restore(torch.from_numpy(item.activation), item.region, shape[1:])
            activation[item.slice_index] = np.clip(plane, 0.0, 1.0) * item.probability
    return activation


#: Lesions are kept this far outside the lung mask, in mm:
#: disease that touches the chest wall may lie just outside a mask made from density.
LESION_MARGIN_MM = 3.0


def _pixel_mm(volume: CTVolume) -> float:
    return min(volume.spacing_mm[1:]) if volume.spacing_mm else ASSUMED_PIXEL_MM


def _lesion_mask(
    models: Models,
    volume: CTVolume,
    lungs: NDArray[np.uint8],
    indices: Sequence[int],
    execution: Execution,
    progress: Callable[[int, int], None],
) -> NDArray[np.bool_]:
    """(slices, rows, columns) bool: probability at least the operating point's, inside or just beside the lungs."""
    mask = np.zeros(volume.shape, dtype=bool)
    margin = max(1, round(LESION_MARGIN_MM / _pixel_mm(volume)))
    cut = models.operating_point.lesion_probability
    for index, probability in segment_slices(
        models.segmenter, volume.hu, indices, execution=execution, progress=progress
    ):
        near_lung = ndimage.distance_transform_cdt(lungs[index] == 0, metric="chessboard") <= margin
        mask[index] = (probability >= cut) & near_lung
    return mask


def _lung_flags(in_view: LungsInView) -> Iterator[QualityFlag]:
    """What a reader must know of the lungs before any volume, percentage or side is believed."""
    unknown = in_view.share[UNKNOWN_SIDE]
    if unknown > 0:
        yield QualityFlag(
            "SIDE_UNKNOWN",
            f"{unknown:.0%} of the lung found has no known side: spine, flanks and the other lung do not tell it; "
            "its lesions have side unknown, and the burden of each lung is withheld",
        )
    if in_view.only is not None:
        found, other = SIDES[in_view.only], SIDES[RIGHT + LEFT - in_view.only]
        yield QualityFlag(
            "ONE_LUNG",
            f"only the {found} lung was found: the {other} one is outside the field of view, missing, or without "
            f"air; every lung volume and percentage is of the {found} lung alone",
        )
    cut = {side: slices for side, slices in in_view.cut_slices.items() if slices}
    if cut:
        named = " and ".join(
            f"the {SIDES[side]} lung on {slices} slice(s)"
            if side != UNKNOWN_SIDE
            else f"lung of unknown side on {slices} slice(s)"
            for side, slices in cut.items()
        )
        yield QualityFlag(
            "LUNG_CUT",
            f"the field of view cuts {named}: volumes and percentages are of the part in view",
        )


def _reading_flags(study: Study, point: OperatingPoint, segmented: bool, verdict: Verdict) -> Iterator[QualityFlag]:
    if not study.volume.is_measurable:
        yield QualityFlag("NOT_MEASURED", "the geometry is not known: every volume and mm figure is withheld")
        if point.reference_spacing_mm is not None:
            yield QualityFlag(
                "THRESHOLD_NOT_SCALED",
                f"the slice spacing is not known: the threshold of {point.positive_slice_threshold} slices, chosen "
                f"for {point.reference_spacing_mm:g} mm, is not scaled to it",
            )
    if segmented and verdict is Verdict.NEGATIVE:
        yield QualityFlag("SEGMENTED_ON_REQUEST", "the patient rule is negative; lesions were segmented on request")


def _rule_flags(
    point: OperatingPoint, rule: PatientRule, lung_slice_count: int, slice_spacing_mm: float | None
) -> Iterator[QualityFlag]:
    """Why a verdict does not rest on the paper's count of slices."""
    if rule.basis is VerdictBasis.SLICE_COUNT or point.small_study_share is None:
        return
    if rule.basis is VerdictBasis.TOO_FEW_SLICES:
        yield QualityFlag(
            "VERDICT_WITHHELD",
            f"{lung_slice_count} slice(s) with lung are too few for a verdict on the patient: with fewer than "
            f"{point.least_lung_slices()} a single slice would decide",
        )
        return
    count = point.threshold_for(slice_spacing_mm)
    yield QualityFlag(
        "SMALL_STUDY",
        f"{lung_slice_count} slices with lung are fewer than the {point.least_lung_slices(count)} that a threshold "
        f"of {count} infected slices is meant for: the verdict rests on their share, positive above "
        f"{point.small_study_share:.0%} of the slices with lung",
    )


def _facts(ready: ReadyNetwork) -> dict[str, Any]:
    return {"name": ready.name, "preset": ready.preset, "sha256": ready.sha256}
