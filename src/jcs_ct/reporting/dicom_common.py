"""What every DICOM result shares: who made it, its identity, its codes, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from jcs_ct import NOTICE, __version__
from jcs_ct.files import replacing
from jcs_ct.reporting.dicom_identity import weights

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

MANUFACTURER = "jcs-ct"
MODEL_NAME = "JCS chest CT"
#: Takes the segmenter's place as what made lesions that a person corrected, or drew where it found none.
CORRECTED_BY_READER = "jcs-ct, lesions corrected by a reader"

CATEGORY = codes.SCT.MorphologicallyAbnormalStructure
#: Neither ground glass nor consolidation: the networks do not tell the two apart (CID 6104).
OPACITY = codes.DCM.Opacity
LUNG = codes.SCT.Lung
SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right}
ZONES = {
    "upper": codes.SCT.UpperZoneOfLung,
    "middle": codes.SCT.MiddleZoneOfLung,
    "lower": codes.SCT.LowerZoneOfLung,
}


def _private(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator="99JCS", meaning=meaning)


#: Concepts for which DICOM's context groups have no code; listed in the conformance statement.
PERCENT_OPACITY = _private("JCS001", "Percentage of lung volume opacified")
PERCENT_HIGH_OPACITY = _private("JCS002", "Percentage of lung volume highly opacified")
POSITIVE_SLICE_COUNT = _private("JCS003", "Number of slices classified as infected")
POSITIVE_SLICE_THRESHOLD = _private("JCS004", "Slice count above which the study is positive")
LUNG_SLICE_COUNT = _private("JCS005", "Number of slices showing lung")
OPACIFICATION_VOLUME = _private("JCS006", "Volume of pulmonary opacification")
LUNG_VOLUME = _private("JCS007", "Volume of both lungs")
LESION_COUNT = _private("JCS008", "Number of separate opacities")
PERCENT_GROUND_GLASS = _private("JCS012", "Percentage of lung volume with ground glass opacity")
PERCENT_CONSOLIDATION = _private("JCS013", "Percentage of lung volume with consolidation")
VERDICT = _private("JCS009", "Verdict of the positive slice count rule")
INTENDED_USE = _private("JCS010", "Intended use")
RESEARCH_ONLY = _private("JCS011", "Research use only, not a medical device")


def coding_schemes() -> list[CodingSchemeIdentificationItem]:
    """Identification of the private coding scheme (PS3.3 C.12.1.1.1)."""
    return [
        CodingSchemeIdentificationItem(
            designator="99JCS", name="jcs-ct private concepts", responsible_organization=MANUFACTURER
        )
    ]


def model_facts(diagnosis: Diagnosis, role: str) -> tuple[str, str]:
    """Name and SHA-256 of one network; ``unnamed`` and an empty text where they are not known."""
    facts: Mapping[str, Any] = diagnosis.models.get(role, {})
    return str(facts.get("name", "unnamed")), str(facts.get("sha256", ""))


def software_versions(diagnosis: Diagnosis) -> list[str]:
    """Version of jcs-ct and the weights' hashes, each within the 64 characters of LO."""
    hashes = (f"{role} sha256 {sha256[:40]}" for role, sha256 in weights(diagnosis).items() if sha256)
    return [f"jcs-ct {__version__}", *hashes]


def serial_number(diagnosis: Diagnosis) -> str:
    """What tells one installed system from another: the whole SHA-256 of the classifier's weights."""
    return model_facts(diagnosis, "classifier")[1][:64] or "no weights stated"


def series_description(subject: str) -> str:
    """Series Description with the notice, within the 64 characters of LO."""
    text = f"JCS {subject}. {NOTICE}"
    if len(text) > 64:
        raise ValueError(f"series description is longer than 64 characters: {text!r}")
    return text


def equipment(diagnosis: Diagnosis) -> dict[str, Any]:
    """Arguments of highdicom's constructors for the General Equipment module (PS3.3 C.7.5.1)."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": software_versions(diagnosis),
        "device_serial_number": serial_number(diagnosis),
    }


def write_dataset(dataset: Dataset, path: Path) -> Path:
    """Write a DICOM file whole or not at all, with 128 zero bytes of preamble (PS3.10 7.1).

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    dataset.preamble = b"\0" * 128
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return path
