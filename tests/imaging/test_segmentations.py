"""DICOM Segmentations come to lie on their CT, frame by frame, or are refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pack_bits
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from jcs_ct.errors import MaskError
from jcs_ct.imaging.headers import SourceKeys, identity_hash
from jcs_ct.imaging.masks import mask_on, study_mask
from jcs_ct.imaging.segmentations import LABEL_MAP_SEGMENTATION_STORAGE
from jcs_ct.volume import CTVolume

#: (slices, rows, columns); a frame has 143 pixels, so that bits of two frames share a byte.
SHAPE = (6, 11, 13)
TRUTH = np.zeros(SHAPE, dtype=bool)
TRUTH[1, 2:5, 3:9] = TRUTH[4, 7:, :4] = TRUTH[5, 0, 12] = True


@pytest.fixture
def volume() -> CTVolume:
    affine = np.array([[0, 0, 0.7, -10.0], [0, 0.8, 0, -20.0], [-2.5, 0, 0, 100.0], [0, 0, 0, 1.0]])
    return CTVolume(np.zeros(SHAPE, dtype=np.int16), affine)


def code(meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = meaning[:16], "99TEST", meaning
    return item


def frame_groups(index: int, *, rows_up: bool = False, columns_left: bool = False) -> Dataset:
    """Where slice ``index`` lies; its rows and columns may be stored the other way round."""
    groups, position, orientation, measures = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [
        -10.0 + (0.7 * (SHAPE[2] - 1) if columns_left else 0.0),
        -20.0 + (0.8 * (SHAPE[1] - 1) if rows_up else 0.0),
        100.0 - 2.5 * index,
    ]
    orientation.ImageOrientationPatient = [-1 if columns_left else 1, 0, 0, 0, -1 if rows_up else 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.7], 2.5
    groups.PlanePositionSequence, groups.PlaneOrientationSequence = [position], [orientation]
    groups.PixelMeasuresSequence = [measures]
    return groups


def segmentation(
    frames: Sequence[tuple[int, np.ndarray]], *, kind: str = "BINARY", types: Sequence[str] = ("Lesion",)
) -> Dataset:
    """A segmentation of (slice, stored levels) frames as other software may write it."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = LABEL_MAP_SEGMENTATION_STORAGE if kind == "LABELMAP" else SegmentationStorage
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.Modality, ds.SegmentationType = "SEG", kind
    ds.Rows, ds.Columns, ds.NumberOfFrames = SHAPE[1], SHAPE[2], len(frames)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    segments = []
    for number, meaning in enumerate(types, start=1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, f"{meaning} {number}"
        segment.SegmentedPropertyTypeCodeSequence = [code(meaning)]
        segments.append(segment)
    ds.SegmentSequence = segments
    shared = frame_groups(0)
    del shared.PlanePositionSequence
    ds.SharedFunctionalGroupsSequence = [shared]
    own = []
    for index, _ in frames:
        groups = frame_groups(index)
        del groups.PlaneOrientationSequence, groups.PixelMeasuresSequence
        own.append(groups)
    ds.PerFrameFunctionalGroupsSequence = own
    stored = np.stack([levels for _, levels in frames]).astype(np.uint8)
    ds.PixelData = pack_bits(stored) if bits == 1 else stored.tobytes() + b"\0" * (stored.size % 2)
    return ds


@pytest.fixture
def written(tmp_path) -> Callable[[Dataset], Path]:
    def write(ds: Dataset) -> Path:
        path = tmp_path / "mask.dcm"
        ds.save_as(path, enforce_file_format=True)
        return path

    return write


def in_any_order() -> list[tuple[int, np.ndarray]]:
    return [(index, TRUTH[index]) for index in (5, 1, 4)]


def test_frames_lie_where_they_say(volume, written):
    assert np.array_equal(mask_on(volume, written(segmentation(in_any_order()))), TRUTH)


def test_several_lesions_are_one_mask(volume, written):
    first, second = TRUTH[1].copy(), TRUTH[1].copy()
    first[:, 6:] = second[:, :5] = False
    frames = [(1, first), (1, second), (4, TRUTH[4]), (5, TRUTH[5])]
    mask = mask_on(volume, written(segmentation(frames, types=("Lesion", "Lesion"))))
    assert np.array_equal(mask, TRUTH)


def test_fractions_count_from_a_half(volume, written):
    levels = np.where(TRUTH, 100, 99).astype(np.uint8)
    ds = segmentation([(index, levels[index]) for index in range(6)], kind="FRACTIONAL")
    ds.MaximumFractionalValue, ds.SegmentationFractionalType = 200, "PROBABILITY"
    assert np.array_equal(mask_on(volume, written(ds)), TRUTH)


def test_a_label_map_is_read_and_its_background_is_no_lesion(volume, written):
    labels = TRUTH.astype(np.uint8)
    labels[4] *= 2
    ds = segmentation(
        [(index, labels[index]) for index in range(6)], kind="LABELMAP", types=("Background", "Lesion", "Lesion")
    )
    for number, segment in enumerate(ds.SegmentSequence):
        segment.SegmentNumber = number
    assert np.array_equal(mask_on(volume, written(ds)), TRUTH)


def test_compressed_frames_are_read(volume, written):
    ds = segmentation([(index, TRUTH[index] * np.uint8(255)) for index in (5, 1, 4)], kind="FRACTIONAL")
    ds.MaximumFractionalValue = 255
    ds.compress(RLELossless, encoding_plugin="pylibjpeg")
    assert np.array_equal(mask_on(volume, written(ds)), TRUTH)


@pytest.mark.parametrize(("rows_up", "columns_left"), [(True, False), (False, True), (True, True)])
def test_frames_that_are_stored_the_other_way_round_are_turned(volume, written, rows_up, columns_left):
    steps = (slice(None, None, -1 if rows_up else 1), slice(None, None, -1 if columns_left else 1))
    ds = segmentation([(index, TRUTH[index][steps]) for index in (5, 1, 4)])
    ds.SharedFunctionalGroupsSequence = [Dataset()]
    ds.PerFrameFunctionalGroupsSequence = [
        frame_groups(index, rows_up=rows_up, columns_left=columns_left) for index in (5, 1, 4)
    ]
    assert np.array_equal(mask_on(volume, written(ds)), TRUTH)


@pytest.mark.parametrize("axes", [(1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("back", [False, True])
def test_frames_along_any_two_axes_of_the_ct_are_placed(volume, written, axes, back):
    steps = volume.affine[:3, :3] * (-1 if back else 1)
    lengths = np.linalg.norm(steps, axis=0)
    across, down, along = axes
    array = TRUTH.transpose(axes)[:, ::-1, ::-1] if back else TRUTH.transpose(axes)
    frames = [(index, plane) for index, plane in enumerate(array) if plane.any()]
    ds = segmentation(frames)
    ds.Rows, ds.Columns = array.shape[1:]
    ds.SharedFunctionalGroupsSequence = [Dataset()]
    ds.PerFrameFunctionalGroupsSequence = []
    for index, _ in frames:
        groups = frame_groups(0)
        first = np.zeros(3)
        first[across] = index
        if back:
            first[down], first[along] = SHAPE[down] - 1, SHAPE[along] - 1
        groups.PlanePositionSequence[0].ImagePositionPatient = [round(v, 6) for v in volume.to_lps_mm(tuple(first))]
        groups.PlaneOrientationSequence[0].ImageOrientationPatient = [
            *(steps[:, along] / lengths[along]),
            *(steps[:, down] / lengths[down]),
        ]
        groups.PixelMeasuresSequence[0].PixelSpacing = [lengths[down], lengths[along]]
        ds.PerFrameFunctionalGroupsSequence.append(groups)
    assert np.array_equal(mask_on(volume, written(ds)), TRUTH)


def moved(axis: int, mm: float) -> Dataset:
    ds = segmentation(in_any_order())
    for groups in ds.PerFrameFunctionalGroupsSequence:
        position = list(groups.PlanePositionSequence[0].ImagePositionPatient)
        position[axis] += mm
        groups.PlanePositionSequence[0].ImagePositionPatient = position
    return ds


def stretched() -> Dataset:
    ds = segmentation(in_any_order())
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.8]
    return ds


def without_places() -> Dataset:
    ds = segmentation(in_any_order())
    del ds.PerFrameFunctionalGroupsSequence
    return ds


def of_another_size() -> Dataset:
    ds = segmentation(in_any_order())
    ds.Rows, ds.Columns = 13, 11
    return ds


def of_no_size() -> Dataset:
    ds = segmentation(in_any_order())
    ds.Columns = 14
    return ds


def cut_off() -> Dataset:
    ds = segmentation(in_any_order())
    ds.PixelData = ds.PixelData[:20]
    return ds


def without_pixels() -> Dataset:
    ds = segmentation(in_any_order())
    del ds.PixelData
    return ds


def damaged_frames() -> Dataset:
    ds = segmentation([(1, TRUTH[1] * np.uint8(255))], kind="FRACTIONAL")
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.PixelData = encapsulate([b"\x01\x00\x00\x00" + b"\xff" * 70])
    return ds


def too_many_frames() -> Dataset:
    ds = segmentation(in_any_order())
    ds.NumberOfFrames = 40_000_000
    return ds


def inverted() -> Dataset:
    return segmentation([(index, ~TRUTH[index]) for index in range(6)])


def labelled(ds: Dataset, *labels: str) -> Dataset:
    for segment, label in zip(ds.SegmentSequence, labels, strict=True):
        segment.SegmentLabel = label
    return ds


def lungs_and_lesions(kind: str) -> Dataset:
    """Segment 1 is all of three slices but the lesions, segment 2 is the lesions, and both are called Tissue."""
    if kind == "LABELMAP":
        frames = [(index, np.where(TRUTH[index], 2, index % 2)) for index in range(6)]
    else:
        frames = [*((index, ~TRUTH[index]) for index in (0, 1, 4)), *in_any_order()]
    ds = labelled(segmentation(frames, kind=kind, types=("Tissue", "Tissue")), "Lung", "COVID lesion")
    for number, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        if kind != "LABELMAP":
            groups.SegmentIdentificationSequence = [Dataset()]
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1 if number < 3 else 2
    return ds


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_are_lesion_that_are_named(volume, written, kind):
    path = written(lungs_and_lesions(kind))
    found = study_mask(volume, path, (2,))
    assert found.label_count == 2
    assert found.labels == {1, 2}
    assert np.array_equal(found.lesions.labels, TRUTH)
    with pytest.raises(MaskError, match=r"no segment has the number 3; there are: 1 Tissue \(lung\), 2 Tissue"):
        mask_on(volume, path, (3,))


def test_a_frame_that_names_no_segment_is_none_of_those_that_are_named(volume, written):
    path = written(segmentation(in_any_order(), types=("Lung", "Lesion")))
    with pytest.raises(MaskError, match="frame 1 names no segment; export the lesions"):
        mask_on(volume, path, (2,))


SOURCE = SourceKeys(
    patient=identity_hash("P1"),
    frame_of_reference=identity_hash("1.2.7"),
    series=(identity_hash("1.2.9"),),
    beside=(identity_hash("1.2.10"),),
)


def of(**facts: str) -> Dataset:
    """A segmentation that states these facts of its source."""
    ds = segmentation(in_any_order())
    series = facts.pop("series", "")
    for name, value in facts.items():
        setattr(ds, name, value)
    if series:
        ds.ReferencedSeriesSequence = [Dataset()]
        ds.ReferencedSeriesSequence[0].SeriesInstanceUID = series
    return ds


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"PatientID": "P2"}, r"is of another patient \(Patient ID\) than its CT"),
        ({"PatientID": "P1", "FrameOfReferenceUID": "1.2.8"}, r"another scan \(Frame of Reference UID\) than its CT"),
        ({"PatientID": "P2", "FrameOfReferenceUID": "1.2.8"}, "another patient .* and another scan"),
        ({"series": "1.2.10"}, r"another series of the same files \(Referenced Series\) than its CT"),
    ],
)
def test_a_segmentation_of_something_else_is_refused(volume, written, facts, message):
    with pytest.raises(MaskError, match=rf"{message}.*\(MIXED_SERIES\)"):
        mask_on(volume, written(of(**facts)), source=SOURCE)


@pytest.mark.parametrize(
    ("facts", "source"),
    [
        ({"PatientID": "P1", "FrameOfReferenceUID": "1.2.7", "series": "1.2.9"}, SOURCE),
        ({"PatientID": "", "series": "1.2.11"}, SOURCE),
        ({"PatientID": "P2", "FrameOfReferenceUID": "1.2.8", "series": "1.2.10"}, SourceKeys()),
    ],
    ids=["the same", "anonymised", "anonymised CT"],
)
def test_what_either_does_not_state_is_no_contradiction(volume, written, facts, source):
    assert np.array_equal(mask_on(volume, written(of(**facts)), source=source), TRUTH)


def a_ct() -> Dataset:
    ds = segmentation(in_any_order())
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.Modality = "CT"
    return ds


def deflated() -> Dataset:
    ds = segmentation(in_any_order())
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: moved(0, 0.7), "frame 1 lies on no slice of the CT"),
        (lambda: moved(2, 1.25), "frame 1 lies on no slice of the CT"),
        (lambda: moved(2, -2.5), "frame 1 lies on no slice of the CT"),
        (stretched, "frame 1 lies on no slice of the CT"),
        (without_places, r"frame 1 states no position, .*\(NO_POSITION\)"),
        (of_another_size, "the frames have 13x11 pixels, the CT has 11x13 there"),
        (of_no_size, "the frames have 11x14 pixels, the slices of the CT 11x13"),
        (cut_off, r"the segmentation cannot be read .*\(UNREADABLE\)"),
        (without_pixels, r"the segmentation cannot be read .*\(UNREADABLE\)"),
        (damaged_frames, r"\(UNREADABLE\)"),
        (too_many_frames, "the header announces 40000000 frames, more than 4 GiB"),
        (a_ct, "a DICOM mask is a Segmentation object.* this is one of modality CT"),
        (deflated, "the data set is deflated"),
        (
            lambda: segmentation(in_any_order(), types=("Lung", "Lesion")),
            "of 2 kinds: 1 Lung, 2 Lesion; give",
        ),
        (
            lambda: labelled(segmentation(in_any_order(), types=("Tissue", "Tissue")), "Lung", "COVID-19 lesion"),
            r"of 2 kinds: 1 Tissue \(lung\), 2 Tissue \(covid lesion\); give the numbers .* column lesion_labels",
        ),
        (inverted, "the mask marks 96% of the volume; the background seems marked"),
    ],
    ids=lambda value: getattr(value, "__name__", "")[:20],
)
def test_what_does_not_fit_is_refused(volume, written, make, message):
    with pytest.raises(MaskError, match=message):
        mask_on(volume, written(make()))


def test_within_the_tolerance_of_rounded_positions_it_fits(volume, written):
    assert np.array_equal(mask_on(volume, written(moved(2, 0.2))), TRUTH)


def test_a_ct_without_geometry_takes_no_segmentation(written):
    volume = CTVolume(np.zeros(SHAPE, dtype=np.int16), None)
    with pytest.raises(MaskError, match="needs the geometry of its CT"):
        mask_on(volume, written(segmentation(in_any_order())))
