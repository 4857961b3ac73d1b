"""Names for a reader of what report.json, the gate and the run call by code; each is translated where it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from jcs_ct.reporting.language import Words, marked

#: ``jcs_ct.NOTICE``, for the catalogue.
RESEARCH_USE = marked("Research use only, not a medical device.")

VERDICTS = {
    "positive": marked("Positive"),
    "negative": marked("Negative"),
    "withheld": marked("Withheld"),
}
SIDES = {"right": marked("right"), "left": marked("left"), "unknown": marked("side unknown")}
THIRDS = {"upper": marked("upper"), "middle": marked("middle"), "lower": marked("lower")}
SOURCE_KINDS = {
    "dicom": marked("DICOM series"),
    "nifti": marked("NIfTI volume"),
    "slices": marked("pictures of slices"),
}
LOOK_ALIKES = {
    "other_pneumonia": marked("other pneumonias"),
    "oedema": marked("oedema"),
    "haemorrhage": marked("haemorrhage"),
    "atelectasis": marked("atelectasis"),
}
NEVER_SEEN = {
    "children": marked("children"),
    "contrast_agent": marked("contrast-enhanced scans"),
    "metal": marked("metal"),
    "motion": marked("motion"),
    "prone": marked("prone scans"),
}
HELD_OUT = {
    "series_never_trained_on": marked("source never trained on"),
    "patients_held_out": marked("held-out patients"),
}
ACQUISITION = {
    "manufacturer": marked("Manufacturer"),
    "model": marked("Scanner"),
    "kernel": marked("Reconstruction kernel"),
    "body_part": marked("Body part"),
    "patient_position": marked("Patient position"),
    "slice_thickness_mm": marked("Slice thickness (mm)"),
    "kvp": marked("Tube voltage (kV)"),
    "transfer_syntax": marked("Transfer syntax"),
}
STAGES = {
    "read": marked("Reading"),
    "lungs": marked("Lungs"),
    "classify": marked("Slices classified"),
    "map": marked("Activation maps"),
    "second_look": marked("Negative verdict checked"),
    "segment": marked("Lesions outlined"),
    "findings": marked("Lesions measured"),
    "report": marked("Report"),
}
ROLES = {"classifier": marked("Classifier"), "segmenter": marked("Segmenter")}

#: What each flag is about, by its code: those of the gate (read in spite of them), then those of the reading.
FLAGS = {
    "GAP": marked("Slices are missing or unevenly spaced"),
    "GAP_SUSPECTED": marked("Slices may be missing"),
    "TILT": marked("The gantry was tilted"),
    "DUPLICATE_POSITION": marked("Several slices lie at one position"),
    "MIXED_SERIES": marked("Slices of several series"),
    "MIXED_ORIENTATION": marked("Slices are turned against each other"),
    "MIXED_SPACING": marked("Pixels of different sizes"),
    "MIXED_SIZE": marked("Slices of different sizes"),
    "SLICE_ORDER": marked("Slices lie in another order than the body's"),
    "NO_POSITION": marked("Slices without a position"),
    "TRUNCATED": marked("Files that end too early"),
    "NOT_CT": marked("Not a CT"),
    "LOCALIZER": marked("A localizer, not a volume"),
    "NOT_AXIAL": marked("Slices are not axial"),
    "HU_VARIES": marked("Grey levels are scaled differently from slice to slice"),
    "NO_LUNG": marked("No lung was found"),
    "TOO_FEW_SLICES": marked("Too few slices"),
    "NO_IMAGES": marked("No images"),
    "UNREADABLE": marked("Files that cannot be read"),
    "UNSUPPORTED": marked("Files of an unsupported kind"),
    "NO_HU": marked("Grey levels cannot be turned into HU"),
    "OTHER_FILES": marked("Other files lay beside the study"),
    "NOT_MEASURED": marked("Nothing is measured in mm or ml"),
    "ASSUMED_ORDER": marked("The order of the slices is assumed"),
    "ASSUMED_AXES": marked("Right and left are assumed"),
    "ASSUMED_HU": marked("HU are assumed from grey levels"),
    "LARGER_SERIES_REFUSED": marked("A larger series was refused"),
    "PART_LEFT_ASIDE": marked("Part of the study was left aside"),
    "SIDE_UNKNOWN": marked("The side of some lung is not known"),
    "AXES_CONTRADICTED": marked("The stated axes are not the patient's"),
    "AXES_NOT_CHECKED": marked("The stated axes could not be checked"),
    "HEART_RIGHT": marked("The heart lies to the right"),
    "HU_SHIFTED": marked("Grey levels seem shifted"),
    "NOISY": marked("The slices are noisy"),
    "ONE_LUNG": marked("Only one lung was found"),
    "LUNGS_UNEQUAL": marked("One lung is much smaller than the other"),
    "LITTLE_AIR": marked("The lungs hold little air: percentages may be of too small a lung"),
    "GAS_IN_LUNG": marked("Gas alone in what was taken for lung"),
    "SIZE_DOUBTED": marked("Size of the lungs doubted"),
    "LUNG_CUT": marked("The field of view cuts the lung"),
    "LUNG_BEYOND": marked("The scan begins or ends within the lungs"),
    "THRESHOLD_NOT_SCALED": marked("The threshold is not scaled to the slice spacing"),
    "SEGMENTED_ON_REQUEST": marked("Lesions were outlined on request"),
    "VERDICT_WITHHELD": marked("Too few slices for a verdict"),
    "SMALL_STUDY": marked("A small study, judged by the share of its slices"),
    "NEAR_THRESHOLD": marked("A few slices would turn the verdict"),
    "NETWORKS_DISAGREE": marked("Outlined lesions do not bear the verdict out"),
    "PARTIAL_CHEST": marked("Perhaps only part of the chest"),
    "SPARSE_SLICES": marked("Space between thin slices"),
    "OBLIQUE": marked("Slices lean over or are turned"),
    "CORONAL_SLICES": marked("Cut out of coronal slices"),
    "SAGITTAL_SLICES": marked("Cut out of sagittal slices"),
    "PATIENT_POSITION": marked("The patient lay prone or on a side"),
    "SEVERAL_ACQUISITIONS": marked("Several acquisitions in one series"),
    "JOINED_SERIES": marked("One scan, joined from several series"),
    "BLANK_SLICES": marked("Slices at the ends hold nothing"),
    "NOT_IMAGED": marked("Part of the grid was not imaged"),
    "LOSSY_COMPRESSION": marked("Lossy compression: HU are approximate"),
    "DERIVED_SERIES": marked("A reformatted or averaged series"),
    "NO_MODALITY": marked("No modality is stated"),
    "BURNED_IN": marked("Text is burned into the slices"),
    "CHILD": marked("A child's chest"),
}

#: What each field that may be withheld is, by its name in report.json.
WITHHELD_FIELDS = {
    "reader.co_rads": marked("CO-RADS category"),
    "study.slice_spacing_mm": marked("Slice spacing"),
    "study.row_spacing_mm": marked("Row spacing"),
    "study.column_spacing_mm": marked("Column spacing"),
    "study.slice_row_column_to_lps_mm": marked("Position of the slices in the patient"),
    "verdict.positive_slice_threshold": marked("Threshold of infected slices"),
    "slices[].lesion_count": marked("Lesions of each slice"),
    "segmentation.lesion_count": marked("Number of lesions"),
    "lesions": marked("Lesions"),
    "burden": marked("Burden"),
    "lesions[].volume_ml": marked("Volume of each lesion"),
    "lesions[].centroid_lps_mm": marked("Position of each lesion"),
    "lesions[].extent_slice_row_column_mm": marked("Size of each lesion"),
    "lesions[].mean_hu": marked("Mean HU of each lesion"),
    "burden.lung_volume_ml": marked("Lung volume"),
    "burden.opacification_volume_ml": marked("Lesion volume"),
    "burden.percent_opacity": marked("Lung opacified (PO)"),
    "burden.percent_high_opacity": marked("High opacity (PHO)"),
    "burden.percent_ground_glass": marked("Ground glass"),
    "burden.percent_consolidation": marked("Consolidation"),
    "burden.zones": marked("Zones of each lung"),
    "burden.zones[].percent_opacity": marked("Zones without lung"),
}


def named(words: Words, names: Mapping[str, str], key: str) -> str:
    """The reader's name of a code; a code that has none (only from other software) stands for itself."""
    return words.text(names[key]) if key in names else key


def script_words(words: Words) -> dict[str, str]:
    """The texts of page.js; ``{name}`` is filled in there."""
    return {
        "infected": words.text(marked("infected")),
        "clear": words.text(marked("not infected")),
        "outside": words.text(marked("no lung")),
        "picture": words.text(marked("CT slice {slice}, {state}")),
        "where": words.text(marked("slice {slice} of {count}")),
        "probability": words.text(marked("probability {probability} ({state})")),
        "no_map": words.text(marked("no activation on this slice")),
        "decimal_mark": words.decimal_mark,
    }
