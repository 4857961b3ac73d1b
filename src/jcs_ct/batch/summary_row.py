"""What a cohort's summary says of one study."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One study of a cohort; empty cells are not known. Nothing in it names a patient, a path or a study's UID.

    Args:
        job_id: Name of its result folder: a hash of the study's identifier in ``manifest.csv`` and of the reading.
        state: ``done``, ``refused`` (by the gate), ``set_aside`` (failed three times), ``queued`` or ``running``.
        code: Why it was refused or failed.
        verdict: ``positive``, ``negative`` or ``withheld``.
        basis: What the verdict rests on: ``slice_count``, ``slice_share`` or ``too_few_slices``.
        positive_slice_count: Infected slices.
        positive_slice_threshold: Positive with more of them than this.
        lung_slice_count: Slices that show lung.
        slice_count: Slices of the series that was read.
        margin: (positive_slice_count - positive_slice_threshold) / lung_slice_count: how far the count is from the
            threshold.
        lesion_count: Lesions, where they were segmented.
        opacification_volume_ml: Their volume in ml, where the geometry is known.
        percent_opacity: Their share of the lungs in percent.
        flags: Codes of quality flags, separated by spaces.
        scanner: Manufacturer and model.
        seconds: Of the attempt that was finished.
        peak_memory_mb: Largest resident memory of its process in MiB.
        attempts: Times it was begun.
        input_bytes, output_bytes: Size of its images and of its results.
        classifier_sha256, segmenter_sha256: Weights.
        version: Of jcs-ct.
    """

    job_id: str
    state: str
    code: str = ""
    verdict: str | None = None
    basis: str | None = None
    positive_slice_count: int | None = None
    positive_slice_threshold: int | None = None
    lung_slice_count: int | None = None
    slice_count: int | None = None
    margin: float | None = None
    lesion_count: int | None = None
    opacification_volume_ml: float | None = None
    percent_opacity: float | None = None
    flags: str | None = None
    scanner: str | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    attempts: int | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    classifier_sha256: str | None = None
    segmenter_sha256: str | None = None
    version: str | None = None


COLUMNS = tuple(field.name for field in fields(SummaryRow))
