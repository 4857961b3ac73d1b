"""The report as a compact PDF, encapsulated in DICOM (PS3.3 A.45.1)."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import highdicom
from highdicom.sr import CodedConcept
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from jcs_ct import NOTICE, __version__
from jcs_ct.operating_point import VerdictBasis
from jcs_ct.reading.second_look import DOUBTED_SHARE, SecondLook
from jcs_ct.reporting.dicom_common import equipment, model_facts, series_description, write_dataset
from jcs_ct.reporting.dicom_identity import ResultIdentity
from jcs_ct.reporting.dicom_sc import render_overlay
from jcs_ct.reporting.dicom_source import SourceSeries
from jcs_ct.reporting.language import Words
from jcs_ct.reporting.limits_in_words import limit_sentences
from jcs_ct.reporting.page_contents import key_slices
from jcs_ct.reporting.page_pictures import shown_slices
from jcs_ct.reporting.report_json import report_dict

if TYPE_CHECKING:
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.burden import Burden
    from jcs_ct.reading.diagnosis import Diagnosis

SERIES_NUMBER = 9105
TITLE = "JCS chest CT report"
_A4_INCHES = (8.27, 11.69)
_LESION_ROWS = 24
_FLAG_LINES, _FLAG_COLUMNS = 10, 125
#: Heights in pages: the plot, the space above it, and the space below it to the top of the table.
_PLOT_HEIGHT, _PLOT_GAP, _TABLE_GAP = 0.1, 0.015, 0.07
_TABLE_BOTTOM = 0.045


def render_pdf(study: Study, diagnosis: Diagnosis) -> bytes:
    """The report as PDF: verdict, numbers, plot, lesion table, and a page of key slices. Holds no patient data."""
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata={"Title": TITLE, "Creator": f"jcs-ct {__version__}", "CreationDate": None}) as pdf:
        pages = [_findings_page(diagnosis)]
        first_looks = key_slices(report_dict(study, diagnosis), shown_slices(study.volume.shape[0]), Words.of("en"))
        if first_looks:
            pages.append(_overlay_page(study, diagnosis, first_looks))
        for number, page in enumerate(pages, start=1):
            _add_footer(page, study, f"page {number} of {len(pages)}")
            pdf.savefig(page)
    return buffer.getvalue()


def build_encapsulated_pdf(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, pdf: bytes
) -> highdicom.SOPClass:
    """A PDF as an Encapsulated PDF object of the source's patient and study."""
    first = source.first
    document = highdicom.SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=identity.uid("series", "pdf"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "pdf"),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        accession_number=first.AccessionNumber,
        study_id=first.StudyID,
        study_date=first.StudyDate,
        study_time=first.StudyTime,
        referring_physician_name=first.ReferringPhysicianName,
        specific_character_set="ISO_IR 192",
        series_description=series_description("report"),
        **equipment(diagnosis),
    )
    document.copy_patient_and_study_information(first)
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = source.burned_in_annotation
    document.DocumentTitle = f"{TITLE}. {NOTICE}"
    document.ConceptNameCodeSequence = [CodedConcept.from_code(codes.DCM.ImagingMeasurementReport)]
    document.SourceInstanceSequence = [_reference(image) for image in source.images]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    document.EncapsulatedDocumentLength = len(pdf)
    return document


def write_encapsulated_pdf(
    study: Study, source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, path: Path
) -> Path:
    """Render and write the report."""
    return write_dataset(build_encapsulated_pdf(source, diagnosis, identity, render_pdf(study, diagnosis)), path)


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return reference


_BY_RULE = {
    VerdictBasis.SLICE_COUNT: "{} by the slice count rule",
    VerdictBasis.SLICE_SHARE: "{} by the share of slices (small study)",
    VerdictBasis.TOO_FEW_SLICES: "verdict {}, too few slices",
}


def _page(heading: str) -> Figure:
    page = Figure(figsize=_A4_INCHES)
    page.text(0.07, 0.955, heading, fontsize=16, weight="bold")
    page.text(0.07, 0.935, NOTICE, fontsize=10, color="firebrick")
    return page


def _add_footer(page: Figure, study: Study, number: str) -> None:
    page.text(0.07, 0.025, f"jcs-ct {__version__}. {NOTICE}", fontsize=8, color="dimgrey")
    page.text(0.07, 0.012, f"Study {study.identifier}", fontsize=7, color="dimgrey")
    page.text(0.93, 0.025, number, fontsize=8, color="dimgrey", ha="right")


def _findings_page(diagnosis: Diagnosis) -> Figure:
    page = _page(f"Chest CT: {_BY_RULE[diagnosis.basis].format(diagnosis.verdict)}")
    facts = page.text(0.07, 0.915, "\n".join(_facts(diagnosis)), fontsize=8, va="top", linespacing=1.5)
    below_facts = facts.get_window_extent().y0 / page.bbox.height
    plot_bottom = below_facts - _PLOT_GAP - _PLOT_HEIGHT
    plot = page.add_axes((0.1, plot_bottom, 0.83, _PLOT_HEIGHT))
    indices = [prediction.slice_index + 1 for prediction in diagnosis.slices]
    plot.bar(
        indices,
        [prediction.infection_probability for prediction in diagnosis.slices],
        width=1.0,
        color=["firebrick" if prediction.infected else "silver" for prediction in diagnosis.slices],
    )
    cut = diagnosis.operating_point.slice_probability
    plot.axhline(cut, color="black", linewidth=0.7, linestyle="--")
    plot.set(
        ylim=(0, 1),
        ylabel="probability",
        xlabel=f"slice, superior to inferior (red: infected; dashed: cut-off {cut:.2f})",
    )
    if diagnosis.lesions:
        _lesion_table(page, diagnosis, plot_bottom - _TABLE_GAP)
    return page


def _zones(burden: Burden) -> str:
    """The zones in one line, or why there are none."""
    if burden.zones is None:
        return "Zones are withheld: the side of some lung cannot be known."
    zones = [
        f"{zone.side} {zone.third} {zone.percent_opacity:.1f} %"
        for zone in burden.zones
        if zone.percent_opacity is not None
    ]
    return "Zonal, not lobar: " + "; ".join(zones) + "."


def _facts(diagnosis: Diagnosis) -> list[str]:
    lines = [
        f"{diagnosis.positive_slice_count} infected slices of {diagnosis.lung_slice_count} with lung "
        f"({100 * diagnosis.positive_fraction:.0f} %); "
        + (
            "too few for a verdict on the patient."
            if diagnosis.positive_slice_threshold is None
            else f"positive when more than {diagnosis.positive_slice_threshold} are infected."
        )
    ]
    for sentence in limit_sentences(diagnosis):
        lines += textwrap.wrap(sentence, _FLAG_COLUMNS)
    burden = diagnosis.burden
    if burden is not None:
        figures = (
            ("opacified", burden.opacification_volume_ml, "ml"),
            ("lung", burden.lung_volume_ml, "ml"),
            ("PO", burden.percent_opacity, "%"),
            (f"PHO (above {burden.high_opacity_cut_hu:g} HU)", burden.percent_high_opacity, "%"),
            ("ground glass", burden.percent_ground_glass, "%"),
            ("consolidation", burden.percent_consolidation, "%"),
        )
        words = Words.of("en")
        stated = [f"{name} {words.amount(value)} {unit}" for name, value, unit in figures if value is not None]
        lines.append("Burden: " + "; ".join(stated) + ".")
        lines += textwrap.wrap(_zones(burden), _FLAG_COLUMNS)
    elif not diagnosis.segmented:
        lines.append(f"Lesions were not segmented{_looked_at(diagnosis.second_look)}.")
    for role in ("classifier", "segmenter"):
        name, sha256 = model_facts(diagnosis, role)
        lines.append(f"{role.capitalize()} {name}, SHA-256 {sha256 or 'not stated'}")
    return lines + _flag_lines(diagnosis)


def _looked_at(look: SecondLook | None) -> str:
    if look is None:
        return ""
    return (
        f" but on {look.slice_count} slices, where {look.outlined_share:.1%} of the lung is outlined "
        f"({DOUBTED_SHARE:.1%} or more would cast doubt)"
    )


def _flag_lines(diagnosis: Diagnosis) -> list[str]:
    """The quality flags, whole, as far as the page has room; how many are left out where it has not."""
    lines: list[str] = []
    for number, flag in enumerate(diagnosis.flags):
        wrapped = textwrap.wrap(f"{flag.code}: {flag.message}", _FLAG_COLUMNS)
        if len(lines) + len(wrapped) > _FLAG_LINES:
            return [*lines, f"{len(diagnosis.flags) - number} more quality flags stand in report.json and in the SR"]
        lines += wrapped
    return lines


def _lesion_table(page: Figure, diagnosis: Diagnosis, top: float) -> None:
    words = Words.of("en")
    shown = diagnosis.lesions[:_LESION_ROWS]
    cells = []
    for lesion in shown:
        position = lesion.centroid_lps_mm
        cells.append(
            [
                str(lesion.lesion_id),
                "withheld" if lesion.volume_ml is None else words.amount(lesion.volume_ml, 2),
                f"{lesion.side} {lesion.third}",
                f"{lesion.slice_first + 1}-{lesion.slice_last + 1}",
                "withheld" if position is None else ", ".join(f"{value:.1f}" for value in position),
                "withheld" if lesion.mean_hu is None else f"{lesion.mean_hu:.0f}",
            ]
        )
    axes = page.add_axes((0.07, _TABLE_BOTTOM, 0.86, top - _TABLE_BOTTOM))
    axes.axis("off")
    axes.set_title(
        f"{len(diagnosis.lesions)} lesions, {len(shown)} shown, largest first; lung and third by the lesion's centre",
        fontsize=9,
        loc="left",
    )
    heads = ["lesion", "ml", "lung, third", "slices", "centre, LPS mm", "mean HU"]
    table = axes.table(cellText=cells, colLabels=heads, loc="upper center", cellLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(7)


def _overlay_page(study: Study, diagnosis: Diagnosis, first_looks: Sequence[tuple[int, str]]) -> Figure:
    page = _page("Key slices: activation map in orange, contours of lesions in cyan")
    spacing = study.volume.spacing_mm or (1.0, 1.0, 1.0)
    unsure = "?" if study.volume.axes_are_assumed or diagnosis.axes_are_contradicted else ""
    for number, (index, why) in enumerate(first_looks):
        axes = page.add_subplot(3, 2, number + 1)
        axes.imshow(render_overlay(study, diagnosis, index), aspect=spacing[1] / spacing[2])
        axes.set_title(f"slice {index + 1}: {why}", fontsize=8)
        for letter, x, side in (("R", 0.01, "left"), ("L", 0.99, "right")):
            axes.text(x, 0.5, letter + unsure, transform=axes.transAxes, ha=side, color="white", weight="bold")
        axes.axis("off")
    page.subplots_adjust(left=0.05, right=0.95, top=0.9, bottom=0.05, wspace=0.05, hspace=0.12)
    return page
