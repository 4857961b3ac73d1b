"""The patient rule and the order of work: classify every slice, count, and only then segment (paper, III-C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from jcs_ct.beside import Beside
from jcs_ct.checkpoints import Models
from jcs_ct.choices import MapVariant, SegmentRule
from jcs_ct.engine import (
    ClassifiedSlice,
    Execution,
    ReadyClassifier,
    ReadyNetwork,
    SegmenterAhead,
    classify_slices,
    execution_facts,
    runner_for,
)
from jcs_ct.imaging.study import QualityFlag, Study
from jcs_ct.lungs import LungsInView, lung_slices, lungs_in_view, require_lung, segment_lungs
from jcs_ct.operating_point import OperatingPoint, PatientRule, Verdict, VerdictBasis
from jcs_ct.preprocessing import enlarged
from jcs_ct.progress import CountProgress, Progress, silent, stopping
from jcs_ct.reading.burden import Burden
from jcs_ct.reading.lesion_findings import LesionFindings, measure_findings
from jcs_ct.reading.lesion_mask import LesionSegmentation
from jcs_ct.reading.lesions import Lesion
from jcs_ct.reading.quality_flags import (
    agreement_flags,
    doubt_flags,
    lung_flags,
    margin_flags,
    request_flags,
    rule_flags,
)
from jcs_ct.reading.second_look import SecondLook, look_again
from jcs_ct.reading.stage_clock import StageClock
from jcs_ct.volume import CTVolume


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
        second_look: What the segmenter says of a negative verdict; None of others, and where it was not asked.
        density_labels: (slices, rows, columns) uint8: 0 no lesion, 1 ground glass, 2 consolidation; None when not
            segmented, and where lung and soft tissue could not be measured.
        lesions, burden: Findings; ``burden`` is None when not segmented.
        operating_point: What decided.
        flags: The gate's flags and those of the reading.
        timings_s: Seconds a stage; of the lungs, which are found beside the classifier, what they took after it, and
            of segmenting, which begins while they are found, what it took after them.
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
    second_look: SecondLook | None = None
    density_labels: NDArray[np.uint8] | None = None
    flags: tuple[QualityFlag, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)

    @property
    def positive(self) -> bool:
        """Whether the verdict is positive; it may be negative or withheld otherwise."""
        return self.verdict is Verdict.POSITIVE

    @property
    def axes_are_contradicted(self) -> bool:
        """Whether the anatomy says that the stated axes are not the patient's: then no letter on a picture holds."""
        return any(flag.code == "AXES_CONTRADICTED" for flag in self.flags)


class Onlooker(Protocol):
    """Told what stands as soon as it stands, by the thread that reads: what takes long belongs in another."""

    def lungs_found(self) -> None:
        """Every slice is classified, and the lungs stand; no lesion was sought."""

    def segmented(self, activation: NDArray[np.float16]) -> None:
        """Every slice is segmented, and the activation volume stands; the lesions are not measured yet."""

    def found(self, lungs: NDArray[np.uint8], labels: NDArray[np.uint16], lesions: tuple[Lesion, ...]) -> None:
        """Lungs and lesions stand, all (slices, rows, columns); densities and burden do not."""


class _Nobody:
    """Looks on and does nothing."""

    def lungs_found(self) -> None:
        return

    def segmented(self, activation: NDArray[np.float16]) -> None:
        return

    def found(self, lungs: NDArray[np.uint8], labels: NDArray[np.uint16], lesions: tuple[Lesion, ...]) -> None:
        return


NOBODY: Onlooker = _Nobody()


def diagnose(
    study: Study,
    models: Models,
    *,
    segment: SegmentRule = "positive",
    map_variant: MapVariant = "paper",
    execution: Execution | None = None,
    onlooker: Onlooker = NOBODY,
    progress: Progress = silent,
    cancelled: Callable[[], bool] | None = None,
) -> Diagnosis:
    """Read one study: lungs, a verdict per slice, the patient rule, and lesions when the patient is positive.

    A negative verdict is held against the segmenter on some of the slices; where these show lesions the study is
    segmented all the same, and flagged.

    Args:
        study: From ``open_study``.
        models: From ``load_models``.
        segment: When the segmentation branch runs: ``positive`` (the paper), ``always`` or ``never``.
        map_variant: ``paper`` (Eq. 1-2) or ``grad_cam``.
        execution: Backend, device, precision, batch size.
        onlooker: Told what stands while the rest is still sought.
        progress: Called as the work goes on.
        cancelled: Asked as the work goes on, after every stage and batch of slices; True stops it.

    Raises:
        StoppedError: it was cancelled.
        StudyError: NO_LUNG, when no slice shows lung.
        ConfigError, BackendError: a backend asked for by name that is not installed or cannot run the networks.
    """
    if segment not in get_args(SegmentRule):
        raise ValueError(f"segment must be positive, always or never, got {segment!r}")
    execution = execution or Execution()
    clock = StageClock(progress if cancelled is None else stopping(progress, cancelled))
    volume, point = study.volume, models.operating_point
    with SegmenterAhead(models.segmenter, volume.hu, execution=execution) as ahead:

        def begin_likely(found: Sequence[ClassifiedSlice]) -> None:
            if segment != "never":
                ahead.begin([item.slice_index for item in found if item.probability >= point.slice_probability])

        classified, lungs = _classify_beside_lungs(
            volume, models.classifier, map_variant, execution, clock, begin_likely
        )
        onlooker.lungs_found()
        slices = slice_predictions(classified, lungs.shown, point)
        spacing = volume.spacing_mm[0] if volume.spacing_mm else None
        patient = _judge_patient(slices, point, spacing)
        with clock.stage("map", 1):
            activation = _activation_volume(classified, slices, volume.shape)
        lesions = LesionSegmentation(models.segmenter, volume, lungs.labels, point.lesion_probability, execution)
        with_lung = [int(index) for index in np.flatnonzero(lungs.shown)]
        mask, look = _seek_lesions(lesions, with_lung, segment, patient, ahead, clock)
    findings = LesionFindings.not_sought(volume.shape)
    agreement: tuple[QualityFlag, ...] = ()
    if mask is not None:
        onlooker.segmented(activation)
        with clock.stage("findings", 1):
            found = partial(onlooker.found, lungs.labels)
            findings = measure_findings(mask, volume, lungs.labels, found=found)
        if look is None and patient.verdict is Verdict.NEGATIVE:
            look = SecondLook.of(mask, lungs.labels, with_lung, volume.voxel_ml)
        agreement = tuple(_agreement(patient, slices, findings, look))
    return Diagnosis(
        verdict=patient.verdict,
        basis=patient.rule.basis,
        positive_slice_count=patient.positive_slice_count,
        positive_slice_threshold=patient.rule.positive_slice_threshold,
        lung_slice_count=patient.lung_slice_count,
        positive_fraction=patient.positive_fraction,
        slices=slices,
        segmented=mask is not None,
        activation=activation,
        lung_labels=lungs.labels,
        lesion_labels=findings.labels,
        lesions=findings.lesions,
        burden=findings.burden,
        second_look=look,
        density_labels=findings.densities,
        operating_point=point,
        flags=(
            *study.flags,
            *lung_flags(lungs.in_view),
            *request_flags(study, point, segment == "always", patient.rule, patient.verdict),
            *rule_flags(point, patient.rule, patient.lung_slice_count, spacing),
            *margin_flags(patient.rule, patient.positive_slice_count),
            *agreement,
        ),
        timings_s=clock.seconds,
        models={"classifier": _facts(models.classifier), "segmenter": _facts(models.segmenter)},
        execution=execution_facts((models.classifier, models.segmenter), execution),
    )


def _seek_lesions(
    lesions: LesionSegmentation,
    with_lung: Sequence[int],
    segment: SegmentRule,
    patient: _Patient,
    ahead: SegmenterAhead,
    clock: StageClock,
) -> tuple[NDArray[np.bool_] | None, SecondLook | None]:
    """The lesion mask, None where the study is not segmented; and the second look, where one was taken.

    Without a verdict on the patient, what infected slices show is all that can be said. A negative patient is
    segmented where a second look at some of the slices finds what should not be there.
    """
    look = None
    if segment == "positive" and patient.verdict is Verdict.NEGATIVE:
        with clock.stage("second_look", 1) as report:
            look, seen = look_again(lesions, with_lung, ahead, report)
    wanted = patient.may_be_infected or (look is not None and look.doubts_negative)
    if segment == "never" or (segment == "positive" and not wanted):
        return None, look
    others = [index for index in with_lung if look is None or index not in look.indices]
    with clock.stage("segment", len(others)) as report:
        mask = lesions.mask(others, report, ahead=ahead if look is None else None)
    return mask if look is None else mask | seen, look


def _agreement(
    patient: _Patient, slices: Sequence[SlicePrediction], findings: LesionFindings, look: SecondLook | None
) -> Iterator[QualityFlag]:
    """Whether what the segmenter outlined bears the verdict out; a look was taken where it is negative."""
    if look is not None:
        yield from doubt_flags(look, patient.positive_slice_count)
    else:
        infected = np.array([prediction.infected for prediction in slices], dtype=bool)
        outlined = np.array([bool(plane.any()) for plane in findings.labels], dtype=bool)
        yield from agreement_flags(patient.rule, infected, outlined)


def prepare_networks(models: Models, execution: Execution) -> None:
    """Make ready what the first slices would wait for; done once for each network and setting.

    Raises:
        ConfigError, BackendError: as of :func:`diagnose`.
        CheckpointError: weights that do not fit their network, where it has to be built.
    """
    runner_for(models.classifier, execution)
    runner_for(models.segmenter, execution)


@dataclass(frozen=True, eq=False)
class _Lungs:
    """Lung labels on the study's grid, which slices show lung, and how much of each lung is in view."""

    labels: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    in_view: LungsInView


def _classify_beside_lungs(
    volume: CTVolume,
    classifier: ReadyClassifier,
    variant: MapVariant,
    execution: Execution,
    clock: StageClock,
    done: Callable[[Sequence[ClassifiedSlice]], None],
) -> tuple[list[ClassifiedSlice], _Lungs]:
    """Every slice classified, while the lungs are found on a thread beside; ``done`` hears of it before they are."""
    with Beside("lungs") as beside:
        finding = beside.start(_find_lungs, volume)
        with clock.stage("classify", volume.shape[0]) as report:
            classified = classify_slices(
                classifier,
                volume.hu,
                range(volume.shape[0]),
                execution=execution,
                variant=variant,
                threads_beside=1,
                progress=_unless_failed(finding, report),
            )
        done(classified)
        with clock.stage("lungs", 1):
            return classified, finding.result()


def _find_lungs(volume: CTVolume) -> _Lungs:
    labels = segment_lungs(volume.hu, spacing_mm=volume.spacing_mm, hu_is_assumed=volume.hu_is_assumed)
    require_lung(labels, volume.hu, volume.spacing_mm, hu_is_assumed=volume.hu_is_assumed)
    in_view = lungs_in_view(labels, volume.hu, volume.spacing_mm, hu_is_assumed=volume.hu_is_assumed)
    return _Lungs(labels, lung_slices(labels, volume.spacing_mm), in_view)


def _unless_failed(beside: Future[_Lungs], report: CountProgress) -> CountProgress:
    """Progress that raises what the work beside has raised: a study without lungs is not classified to its end."""

    def told(done: int, total: int, /) -> None:
        if beside.done():
            beside.result()
        report(done, total)

    return told


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


@dataclass(frozen=True)
class _Patient:
    """The patient by the paper's rule: what was counted, by which rule, and what follows."""

    rule: PatientRule
    positive_slice_count: int
    lung_slice_count: int

    @property
    def verdict(self) -> Verdict:
        return self.rule.verdict(self.positive_slice_count)

    @property
    def positive_fraction(self) -> float:
        return self.positive_slice_count / self.lung_slice_count if self.lung_slice_count else 0.0

    @property
    def may_be_infected(self) -> bool:
        """Positive; or withheld, with infected slices."""
        return self.verdict is Verdict.POSITIVE or (
            self.verdict is Verdict.WITHHELD and self.positive_slice_count > 0
        )


def _judge_patient(
    slices: Sequence[SlicePrediction], point: OperatingPoint, slice_spacing_mm: float | None
) -> _Patient:
    lung_slice_count = sum(prediction.has_lung for prediction in slices)
    rule = point.rule_for(lung_slice_count, slice_spacing_mm)
    return _Patient(rule, sum(prediction.infected for prediction in slices), lung_slice_count)


def _activation_volume(
    classified: Sequence[ClassifiedSlice],
    slices: Sequence[SlicePrediction],
    shape: tuple[int, int, int],
) -> NDArray[np.float16]:
    activation = np.zeros(shape, dtype=np.float16)
    for item, prediction in zip(classified, slices, strict=True):
        if prediction.infected:
            plane = enlarged(item.activation, item.region.shape)
            item.region.of(activation[item.slice_index])[...] = np.clip(plane, 0.0, 1.0) * item.probability
    return activation


def _facts(ready: ReadyNetwork) -> dict[str, Any]:
    return {"name": ready.name, "preset": ready.preset, "sha256": ready.sha256}
