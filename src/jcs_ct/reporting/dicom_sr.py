"""Findings as a Comprehensive 3D SR with TID 1500, Measurement Report (PS3.3 A.35.13, PS3.16).

One measurement group for the whole study (TID 1501: verdict, counts, burden) and one for each lesion (TID 1411),
tied to its segment of the segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import sr
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from jcs_ct import NOTICE, __version__
from jcs_ct.operating_point import Verdict, VerdictBasis
from jcs_ct.reporting import dicom_common as common
from jcs_ct.reporting.dicom_identity import Correction, ResultIdentity, derived_uid
from jcs_ct.reporting.dicom_seg import tracking_id
from jcs_ct.reporting.dicom_source import SourceSeries
from jcs_ct.reporting.limits_in_words import limit_sentences

if TYPE_CHECKING:
    from jcs_ct.reading.burden import Burden
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reading.lesions import Lesion

SERIES_NUMBER = 9103
_CT_CHEST = Code("24627-2", "LN", "CT Chest")
#: Body Part Examined of a chest, as PS3.16 Annex L and scanners write it.
_CHEST = frozenset({"CHEST", "THORAX", "LUNG"})
_CM3 = codes.UCUM.CubicCentimeter
_NUMBER = codes.UCUM.NoUnits
_VOXEL_SUM = codes.DCM.SumOfSegmentedVoxelMethodForVolume


def _procedure(source: SourceSeries) -> Code:
    """What was done, as far as the source says which part of the body was imaged (CID 100 is extensible)."""
    part = str(source.images[0].get("BodyPartExamined") or "").upper()
    return _CT_CHEST if part in _CHEST else codes.LN.CTUnspecifiedBodyRegion


def build_report(
    source: SourceSeries,
    diagnosis: Diagnosis,
    identity: ResultIdentity,
    segmentation: Segmentation | None,
    correction: Correction | None = None,
    *,
    predecessors: Sequence[Dataset] = (),
) -> sr.Comprehensive3DSR:
    """The findings as a structured report.

    Args:
        source: The series they were found in.
        diagnosis: The findings.
        identity: Names of the result set.
        segmentation: The object of ``build_segmentation``; None when there is no lesion.
        correction: Who corrected the lesions, if anyone; an observer beside the device.
        predecessors: Results that these take the place of (Predecessor Documents, PS3.3 C.17.2).
    """
    groups: list[sr.MeasurementsAndQualitativeEvaluations | sr.VolumetricROIMeasurementsAndQualitativeEvaluations]
    groups = [_study_group(diagnosis, identity, correction)]
    if segmentation is not None:
        groups += [
            _lesion_group(lesion, source, diagnosis, identity, segmentation, correction)
            for lesion in diagnosis.lesions
        ]
    report = sr.MeasurementReport(
        observation_context=_observation_context(diagnosis, correction),
        procedure_reported=_procedure(source),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=_comment(source, diagnosis, correction),
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
    )
    return sr.Comprehensive3DSR(
        evidence=[*source.images, *([segmentation] if segmentation is not None else [])],
        content=report[0],
        series_instance_uid=identity.uid("series", "sr"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "sr"),
        instance_number=1,
        is_complete=True,
        coding_schemes=common.coding_schemes(),
        previous_versions=list(predecessors) or None,
        series_description=common.series_description("findings"),
        specific_character_set="ISO_IR 192",
        **common.equipment(diagnosis),
    )


def _against_threshold(diagnosis: Diagnosis) -> str:
    if diagnosis.positive_slice_threshold is None:
        return "which is too few slices for a verdict on the patient"
    compared = "above" if diagnosis.positive else "not above"
    small = " (small study: a share of its slices)" if diagnosis.basis is VerdictBasis.SLICE_SHARE else ""
    return f"{compared} the threshold of {diagnosis.positive_slice_threshold}{small}"


def _comment(source: SourceSeries, diagnosis: Diagnosis, correction: Correction | None) -> str:
    text = (
        f"{NOTICE} {diagnosis.positive_slice_count} of {diagnosis.lung_slice_count} slices with lung were classified "
        f"as infected, {_against_threshold(diagnosis)}."
    )
    if not diagnosis.segmented:
        text += " Lesions were not segmented."
    text += " " + " ".join(limit_sentences(diagnosis))
    if correction is not None:
        text += f" The lesions were corrected by a reader (version {correction.version}); the verdict was not."
    if diagnosis.flags:
        text += " Quality flags: " + "; ".join(f"{flag.code}: {flag.message}" for flag in diagnosis.flags) + "."
    if source.replaced:
        names = ", ".join(sorted(source.replaced))
        text += f" Values of the source images that DICOM does not allow were replaced or left empty: {names}."
    return text


def _observation_context(diagnosis: Diagnosis, correction: Correction | None) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", *common.software_versions(diagnosis)),
        name=common.MODEL_NAME,
        manufacturer_name=common.MANUFACTURER,
        model_name=f"{common.MODEL_NAME} {__version__}",
        serial_number=common.serial_number(diagnosis),
    )
    person = None
    if correction is not None:
        person = sr.ObserverContext(
            observer_type=codes.DCM.Person,
            observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(name=correction.reader),
        )
    return sr.ObservationContext(
        observer_person_context=person,
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        ),
    )


def _algorithm(diagnosis: Diagnosis, role: str, *parameters: str) -> sr.AlgorithmIdentification:
    name, sha256 = common.model_facts(diagnosis, role)
    return sr.AlgorithmIdentification(
        name=f"jcs-ct {role} {name}",
        version=__version__,
        parameters=[f"sha256={sha256}", *parameters],
        family=codes.DCM.ArtificialIntelligence,
    )


def _outlined_by(diagnosis: Diagnosis, correction: Correction | None) -> sr.AlgorithmIdentification:
    """What a lesion's figures come from: the segmenter, or the measuring of what a person outlined."""
    if correction is None:
        return _algorithm(diagnosis, "segmenter")
    return sr.AlgorithmIdentification(
        name=common.CORRECTED_BY_READER,
        version=__version__,
        parameters=[_corrected_in(correction)],
    )


def _corrected_in(correction: Correction) -> str:
    return f"correction_version={correction.version}"


_VERDICTS = {
    Verdict.POSITIVE: codes.SCT.Positive,
    Verdict.NEGATIVE: codes.SCT.Negative,
    Verdict.WITHHELD: codes.SCT.Undetermined,
}


def _study_group(
    diagnosis: Diagnosis, identity: ResultIdentity, correction: Correction | None
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Verdict, counts and burden; an opacity is a finding only of a positive study (TID 1501 rows 3 and 4 are U)."""
    point = diagnosis.operating_point
    parameters = [f"slice_probability={point.slice_probability:g}"]
    measurements = [
        sr.Measurement(common.POSITIVE_SLICE_COUNT, diagnosis.positive_slice_count, _NUMBER),
        sr.Measurement(common.LUNG_SLICE_COUNT, diagnosis.lung_slice_count, _NUMBER),
    ]
    if diagnosis.positive_slice_threshold is not None:
        measurements.insert(
            1, sr.Measurement(common.POSITIVE_SLICE_THRESHOLD, diagnosis.positive_slice_threshold, _NUMBER)
        )
    if diagnosis.segmented:
        by_network = f"lesion_probability={point.lesion_probability:g}"
        parameters.append(by_network if correction is None else _corrected_in(correction))
        measurements.append(sr.Measurement(common.LESION_COUNT, len(diagnosis.lesions), _NUMBER))
    if diagnosis.burden is not None:
        parameters.append(f"high_opacity_cut_hu={diagnosis.burden.high_opacity_cut_hu:g}")
        measurements.extend(_burden(diagnosis.burden))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=identity.uid("study findings"), identifier="Whole study"),
        finding_category=common.CATEGORY if diagnosis.positive else None,
        finding_type=common.OPACITY if diagnosis.positive else None,
        finding_sites=[sr.FindingSite(common.LUNG)],
        algorithm_id=_algorithm(diagnosis, "classifier", *parameters),
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(common.VERDICT, _VERDICTS[diagnosis.verdict]),
            sr.QualitativeEvaluation(common.INTENDED_USE, common.RESEARCH_ONLY),
        ],
    )


def _burden(burden: Burden) -> Iterator[sr.Measurement]:
    figures: tuple[tuple[sr.CodedConcept, float | None, Code, Code | None], ...] = (
        (common.LUNG_VOLUME, burden.lung_volume_ml, _CM3, _VOXEL_SUM),
        (common.OPACIFICATION_VOLUME, burden.opacification_volume_ml, _CM3, _VOXEL_SUM),
        (common.PERCENT_OPACITY, burden.percent_opacity, codes.UCUM.Percent, None),
        (common.PERCENT_HIGH_OPACITY, burden.percent_high_opacity, codes.UCUM.Percent, None),
        (common.PERCENT_GROUND_GLASS, burden.percent_ground_glass, codes.UCUM.Percent, None),
        (common.PERCENT_CONSOLIDATION, burden.percent_consolidation, codes.UCUM.Percent, None),
    )
    for name, value, unit, method in figures:
        if value is not None:
            yield sr.Measurement(name, _rounded(value), unit, method=method)


def _rounded(value: float) -> float:
    """Five significant digits: no program that adds lesions up loses anything, and nobody reads noise."""
    return float(f"{value:.5g}")


def _source_of(lesion: Lesion, source: SourceSeries, diagnosis: Diagnosis) -> dict[str, Any]:
    """What a lesion's segment was made from: the series, or the lesion's images where they lie in several series."""
    if len({str(image.SeriesInstanceUID) for image in source.images}) == 1:
        return {"source_series": sr.SourceSeriesForSegmentation(source.series_uid)}
    holds = (source.on_grid(diagnosis.lesion_labels) == lesion.lesion_id).any(axis=(1, 2))
    references = [source.reference(int(index)) for index in np.flatnonzero(holds)]
    return {"source_images": [sr.SourceImageForSegmentation(*reference) for reference in references]}


def _lesion_group(
    lesion: Lesion,
    source: SourceSeries,
    diagnosis: Diagnosis,
    identity: ResultIdentity,
    segmentation: Segmentation,
    correction: Correction | None,
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    measurements = []
    if lesion.volume_ml is not None:
        measurements.append(sr.Measurement(codes.SCT.Volume, _rounded(lesion.volume_ml), _CM3, method=_VOXEL_SUM))
    if lesion.mean_hu is not None:
        measurements.append(
            sr.Measurement(
                codes.DCM.AttenuationCoefficient,
                round(lesion.mean_hu, 1),
                codes.UCUM.HounsfieldUnit,
                derivation=codes.SCT.Mean,
            )
        )
    site = sr.FindingSite(common.ZONES.get(lesion.third, common.LUNG), laterality=common.SIDES.get(lesion.side))
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=identity.uid("lesion", str(lesion.lesion_id)), identifier=tracking_id(lesion)
        ),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            segment_number=lesion.lesion_id,
            **_source_of(lesion, source, diagnosis),
        ),
        finding_category=common.CATEGORY,
        finding_type=common.OPACITY,
        finding_sites=[site],
        algorithm_id=_outlined_by(diagnosis, correction),
        measurements=measurements,
    )
