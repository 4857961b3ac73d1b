"""Overlays as a Secondary Capture series, RGB (PS3.3 A.8): what every PACS can show.

Each image is a slice as the source stores it under a lung window, tinted by the activation map, with the lesions'
contours and the letters of its left and right edge; below it, where no anatomy is hidden, a caption with the slice's
verdict and the notice.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from pydicom.valuerep import DS
from scipy import ndimage

from jcs_ct import NOTICE, __version__
from jcs_ct.preprocessing import LUNG_WINDOW
from jcs_ct.reporting.dicom_common import equipment, series_description, write_dataset
from jcs_ct.reporting.dicom_identity import ResultIdentity
from jcs_ct.reporting.dicom_source import SourceSeries
from jcs_ct.reporting.language import Words
from jcs_ct.volume import slices_with

if TYPE_CHECKING:
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis

SERIES_NUMBER = 9104
CONTOUR_RGB = (0, 230, 255)
ACTIVATION_RGB = (255, 110, 0)
#: What the two colours are, in the caption.
_LEGEND = "Cyan line: lesion; orange: activation map (what speaks for infection)."
#: Narrow slices are widened by black columns, so that the caption stays readable.
MIN_WIDTH = 320
_FONT_PX = 13
_LETTER_PX = 16
_OPPOSITE_AXES = (("L", "R"), ("P", "A"), ("H", "F"))


def overlay_slices(diagnosis: Diagnosis) -> list[int]:
    """Slices that are shown: infected ones and those with lesions; the middle slice with lung when there is none."""
    shown = {prediction.slice_index for prediction in diagnosis.slices if prediction.infected}
    shown |= {int(index) for index in slices_with(diagnosis.lesion_labels)}
    with_lung = [prediction.slice_index for prediction in diagnosis.slices if prediction.has_lung]
    if not shown and with_lung:
        shown = {with_lung[len(with_lung) // 2]}
    return sorted(shown)


def source_overlay_slices(source: SourceSeries, diagnosis: Diagnosis) -> list[int]:
    """The same on the source's slices; where they are not axial, all with a map or a lesion, else one with lung."""
    if source.is_axial:
        return overlay_slices(diagnosis)
    shown = {
        int(index)
        for made in (diagnosis.activation, diagnosis.lesion_labels)
        for index in slices_with(source.on_grid(made))
    }
    if shown:
        return sorted(shown)
    with_lung = slices_with(source.on_grid(diagnosis.lung_labels))
    return [int(with_lung[len(with_lung) // 2])] if len(with_lung) else []


def render_overlay(study: Study, diagnosis: Diagnosis, slice_index: int) -> NDArray[np.uint8]:
    """(rows, columns, 3) uint8: one slice of the volume with its activation map and lesion contours."""
    return _draw(*(array[slice_index] for array in (study.volume.hu, diagnosis.activation, diagnosis.lesion_labels)))


def render_source_overlay(
    study: Study, source: SourceSeries, diagnosis: Diagnosis, slice_index: int
) -> NDArray[np.uint8]:
    """The same of one slice of the source, as it stores rows and columns."""
    arrays = (study.volume.hu, diagnosis.activation, diagnosis.lesion_labels)
    return _draw(*(source.on_grid(array)[slice_index] for array in arrays))


def _draw(hu: NDArray[Any], activation: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.uint8]:
    grey = LUNG_WINDOW(hu)
    rgb: NDArray[Any] = np.repeat(grey[..., None], 3, axis=2)
    opacity = 0.55 * np.asarray(activation, dtype=np.float32)[..., None]
    rgb = (1 - opacity) * rgb + opacity * (np.asarray(ACTIVATION_RGB, dtype=np.float32) / 255)
    picture: NDArray[np.uint8] = np.rint(rgb * 255).astype(np.uint8)
    inner = ndimage.minimum_filter(labels, size=3, mode="constant") == ndimage.maximum_filter(labels, size=3)
    picture[(labels > 0) & ~inner] = CONTOUR_RGB
    return picture


def add_caption(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The picture with lines of text below it; its own pixels stay where they are."""
    rows, columns, _ = picture.shape
    width = max(columns, MIN_WIDTH)
    lines = textwrap.wrap(text, width=max(20, width // 7))
    line_px = _FONT_PX + 4
    canvas = Image.new("RGB", (width, rows + 6 + line_px * len(lines)))
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=_FONT_PX)
    for number, line in enumerate(lines):
        draw.text((4, rows + 3 + number * line_px), line, fill=(255, 255, 255), font=font)
    return np.asarray(canvas, dtype=np.uint8)


def add_edge_letters(
    picture: NDArray[np.uint8], orientation: tuple[float, ...], *, unsure: bool = False
) -> NDArray[np.uint8]:
    """The picture with the patient direction of its left and right edge (R, L, A, P, H or F) at half height.

    No letter hides a contour.

    Args:
        picture: (rows, columns, 3).
        orientation: Image Orientation (Patient).
        unsure: A question mark stands by each letter.
    """
    right = patient_orientation(orientation)[0]
    left = next(pair[1 - pair.index(right)] for pair in _OPPOSITE_AXES if right in pair)
    canvas = Image.fromarray(picture)
    rows, columns, _ = picture.shape
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=_LETTER_PX)
    for letter, x, anchor in ((left, 3, "lm"), (right, columns - 4, "rm")):
        draw.text(
            (x, rows // 2),
            letter + "?" * unsure,
            fill=(255, 255, 255),
            font=font,
            anchor=anchor,
            stroke_width=1,
            stroke_fill=0,
        )
    lettered = np.array(canvas, dtype=np.uint8)
    lettered[(picture == CONTOUR_RGB).all(axis=2)] = CONTOUR_RGB
    return lettered


def patient_orientation(orientation: tuple[float, ...]) -> tuple[str, str]:
    """Patient Orientation (PS3.3 C.7.6.1.1.1): where rows and columns run to, by their main direction."""
    letters = []
    for cosines in (orientation[:3], orientation[3:]):
        axis = int(np.argmax(np.abs(cosines)))
        letters.append(_OPPOSITE_AXES[axis][0 if cosines[axis] > 0 else 1])
    return letters[0], letters[1]


def build_overlay(
    study: Study, source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, slice_index: int
) -> highdicom.sc.SCImage:
    """One overlay as a Secondary Capture image; ``slice_index`` counts the source's slices."""
    picture = render_source_overlay(study, source, diagnosis, slice_index)
    picture = add_edge_letters(picture, source.geometry.orientation, unsure=diagnosis.axes_are_contradicted)
    picture = add_caption(picture, caption(source, diagnosis, slice_index))
    image = highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=source.first,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=identity.uid("series", "sc"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "sc", str(slice_index)),
        instance_number=slice_index + 1,
        patient_orientation=patient_orientation(source.geometry.orientation),
        transfer_syntax_uid=RLELossless,
        series_description=series_description("overlay"),
        **equipment(diagnosis),
    )
    image.copy_patient_and_study_information(source.first)
    image.BodyPartExamined = "CHEST"
    image.PixelSpacing = [DS(value, auto_format=True) for value in source.geometry.pixel_spacing_mm]
    image.BurnedInAnnotation = source.burned_in_annotation  # the caption identifies nobody
    image.ImageComments = " ".join([NOTICE, *(f"{flag.code}: {flag.message}." for flag in diagnosis.flags)])[:10240]
    sop_class, sop_instance, frames = source.reference(slice_index)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, sop_instance
    if frames:
        reference.ReferencedFrameNumber = frames
    image.SourceImageSequence = [reference]
    return image


def caption(source: SourceSeries, diagnosis: Diagnosis, slice_index: int) -> str:
    """What stands below a slice of the source; a verdict of its own only where the slices are axial."""
    study_verdict = diagnosis.verdict.upper()
    threshold = diagnosis.positive_slice_threshold
    against = "too few for a verdict" if threshold is None else f"more than {threshold} needed"
    verdict = ""
    if source.is_axial:
        prediction = next(item for item in diagnosis.slices if item.slice_index == slice_index)
        infected = "infected" if prediction.infected else "not infected"
        cut = diagnosis.operating_point.slice_probability
        verdict = f": {infected}, probability {Words.of('en').probability(prediction.infection_probability, cut)}"
    count = diagnosis.positive_slice_count
    return (
        f"Slice {slice_index + 1} of {len(source.geometry.positions_mm)}{verdict}. "
        f"Study: {study_verdict}, {count} infected {'slice' if count == 1 else 'slices'} ({against}). "
        f"{_LEGEND} JCS {__version__}. {NOTICE}"
    )


def write_overlays(
    study: Study, source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, folder: Path
) -> list[Path]:
    """Write one Secondary Capture a shown slice; ``slice-0001.sc.dcm`` is the most superior of an axial source."""
    return [
        write_dataset(
            build_overlay(study, source, diagnosis, identity, index), folder / f"slice-{index + 1:04d}.sc.dcm"
        )
        for index in source_overlay_slices(source, diagnosis)
    ]
