"""DICOM headers and Hounsfield units, in this process; multi-frame files through the whole way."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, JPEG2000Lossless, JPEGLSLossless, RLELossless
from pydicom.valuerep import DSfloat

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import HeaderWindow, list_series, open_study
from jcs_ct.imaging.dicom_headers import read_headers
from jcs_ct.imaging.dicom_voxels import decode_slices, hounsfield
from jcs_ct.imaging.elements import to_number
from jcs_ct.imaging.headers import SliceHeader
from jcs_ct.volume import BACKGROUND_HU


def group(**values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


@pytest.fixture
def enhanced(write_series, tmp_path):
    """An Enhanced CT file of 8 frames, stored bottom up, each with its own rescale."""

    def write(edit=None):
        series = write_series(slices=8)
        ds = pydicom.dcmread(series.files[0])
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        ds.NumberOfFrames = 8
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
            delattr(ds, name)
        del ds.RescaleIntercept, ds.ConvolutionKernel, ds.KVP, ds.SliceThickness
        shared = Dataset()
        shared.PlaneOrientationSequence = group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        shared.PixelMeasuresSequence = group(PixelSpacing=[0.8, 0.7], SliceThickness=2)
        shared.FrameVOILUTSequence = group(WindowCenter=[-600, 40], WindowWidth=[1500, 400])
        shared.CTReconstructionSequence = group(ConvolutionKernel="Br60")
        ds.SharedFunctionalGroupsSequence = Sequence([shared])
        frames, pixels = [], []
        for place in range(8):
            number = 7 - place
            frame = Dataset()
            frame.PlanePositionSequence = group(ImagePositionPatient=[-10, -20, 100 - 2.0 * number])
            frame.PixelValueTransformationSequence = group(
                RescaleSlope=1, RescaleIntercept=-1024 - number, RescaleType="HU"
            )
            frames.append(frame)
            pixels.append((series.truth[number] + 1024 + number).astype("<i2"))
        ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
        ds.PixelData = np.stack(pixels).tobytes()
        if edit is not None:
            edit(ds)
        path = tmp_path / "enhanced.dcm"
        ds.save_as(path, enforce_file_format=True)
        return path, series.truth

    return write


def test_enhanced_multi_frame(enhanced):
    path, truth = enhanced()
    study = open_study(path)
    assert np.array_equal(study.volume.hu, truth)
    assert study.volume.spacing_mm == pytest.approx((2.0, 0.8, 0.7))
    assert study.volume.to_lps_mm((0, 0, 0)) == pytest.approx((-10, -20, 100))
    assert study.paths == (path,)
    assert study.frame_numbers == (8, 7, 6, 5, 4, 3, 2, 1)
    assert study.acquisition["kernel"] == "Br60"
    assert study.header_windows == (HeaderWindow(-600, 1500), HeaderWindow(40, 400))
    (listed,) = list_series(path)
    assert (listed.file_count, listed.slice_count) == (1, 8)


def test_enhanced_with_a_missing_frame_is_a_gap(enhanced):
    def edit(ds):
        frames = list(ds.PerFrameFunctionalGroupsSequence)
        size = len(ds.PixelData) // 8
        ds.PerFrameFunctionalGroupsSequence = Sequence(frames[:3] + frames[4:])
        ds.PixelData, ds.NumberOfFrames = ds.PixelData[: 3 * size] + ds.PixelData[4 * size :], 7

    path, _ = enhanced(edit)
    with pytest.raises(StudyError, match=r"4\.00 mm between slices 4 and 5, median 2\.00 mm") as refused:
        open_study(path)
    assert refused.value.code is GateCode.GAP


def test_a_concatenation_is_read_whole_or_refused(enhanced, tmp_path):
    path, truth = enhanced()
    folder = tmp_path / "parts"
    folder.mkdir()
    for part, (start, stop) in enumerate([(0, 3), (3, 8)], start=1):
        ds = pydicom.dcmread(path)
        size = len(ds.PixelData) // 8
        ds.PixelData, ds.NumberOfFrames = ds.PixelData[start * size : stop * size], stop - start
        ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[start:stop]
        ds.ConcatenationUID, ds.InConcatenationNumber, ds.InConcatenationTotalNumber = "1.2.826.7", part, 2
        ds.ConcatenationFrameOffsetNumber = start
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.8.{part}"
        ds.save_as(folder / f"part{part}.dcm", enforce_file_format=True)
    assert np.array_equal(open_study(folder).volume.hu, truth)
    (folder / "part1.dcm").unlink()
    with pytest.raises(StudyError, match="an image in 2 parts lacks part 1") as refused:
        open_study(folder)
    assert refused.value.code is GateCode.TRUNCATED


def test_enhanced_that_describes_fewer_frames_than_it_states(enhanced):
    path, _ = enhanced(lambda ds: setattr(ds, "NumberOfFrames", 9))
    with pytest.raises(StudyError, match="the header states 9 frames and describes 8") as refused:
        open_study(path)
    assert refused.value.code is GateCode.UNREADABLE


@pytest.mark.parametrize("files", [1, 6])
def test_frames_that_no_functional_group_places(write_series, files):
    def edit(number, ds):
        ds.NumberOfFrames = 2
        ds.PixelData *= 2

    series = write_series(slices=files, edit=edit)
    with pytest.raises(StudyError, match="holds 2 frames and does not say where each of them lies") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.UNSUPPORTED


HEADER = SliceHeader(slope=2.0, intercept=-1000.0)


def test_hounsfield_is_linear():
    hu = hounsfield(np.array([[0, 500, 1000]], np.int16), HEADER)
    assert hu.dtype == np.float32
    assert hu.tolist() == [[-1000, 0, 1000]]


@pytest.mark.parametrize("undeclared", [-2000, -2048, -3024])
def test_hounsfield_of_padding(undeclared):
    plain = replace(HEADER, slope=1.0, intercept=0.0)
    assert hounsfield(np.array([undeclared, -1100]), plain).tolist() == [BACKGROUND_HU, -1100]
    ranged = replace(plain, padding=-1500, padding_limit=-1200)
    assert hounsfield(np.array([-1500, -1300, -1200, -1199]), ranged).tolist() == [BACKGROUND_HU] * 3 + [-1199]


def test_hounsfield_needs_a_rescale():
    with pytest.raises(StudyError, match="no rescale slope"):
        hounsfield(np.zeros(2), replace(HEADER, slope=None))


def test_bits_above_bits_stored_are_dropped(write_series):
    def edit(number, ds):
        stored = np.frombuffer(ds.PixelData, "<i2").astype(np.uint16)
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.PixelData = (stored | 0x8000).tobytes()  # an old overlay in the highest bit

    series = write_series(edit=edit)
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PixelSpacing", "a\\b"),
        ("ImagePositionPatient", "1\\2"),
        ("RescaleSlope", "nan"),
        ("RescaleIntercept", ""),
        ("GantryDetectorTilt", "1.0.0"),
        ("InstanceNumber", "first"),
    ],
)
def test_values_that_are_no_numbers_are_absent(write_series, name, value):
    series = write_series(slices=1)
    path = series.files[0]
    ds = pydicom.dcmread(path)
    tag = pydicom.datadict.tag_for_keyword(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds[tag] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value), value.encode(), 0, False, True
        )
        ds.save_as(path)
        (header,) = read_headers(path, 0)
    attribute = {
        "PixelSpacing": "pixel_spacing",
        "ImagePositionPatient": "position",
        "RescaleSlope": "slope",
        "RescaleIntercept": "intercept",
        "GantryDetectorTilt": "gantry_tilt",
        "InstanceNumber": "instance_number",
    }[name]
    assert getattr(header, attribute) is None
    assert header.rows == 16


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_read_or_refused(write_series, seed):
    """Random damage anywhere ends in a study or a StudyError, and an accepted geometry is the true one."""
    generator = np.random.default_rng(seed)
    series = write_series(slices=8)
    truth = open_study(series.folder).volume.affine
    for path in series.files:
        data = bytearray(path.read_bytes())
        if generator.random() < 0.5:
            data[int(generator.integers(132, len(data) - 512))] = int(generator.integers(256))
        path.write_bytes(data)
    try:
        study = open_study(series.folder)
    except StudyError as error:
        assert str(error).endswith(f"({error.code})")  # noqa: PT017
    else:
        assert study.volume.affine == pytest.approx(truth)


def test_encapsulated_pixels_of_fewer_frames_than_announced(write_series):
    """pydicom's generator of frames ends before it is asked to, which is a StopIteration."""

    def edit(number, ds):
        ds.compress(RLELossless, generate_instance_uid=False)
        if number == 3:
            ds.NumberOfFrames = 2

    path = write_series(edit=edit).files[3]
    with pytest.raises(StudyError, match="the pixel data cannot be decoded") as refused:
        decode_slices(path, read_headers(path, 0))
    assert refused.value.code is GateCode.UNREADABLE
    assert "the pixel data cannot be decoded (StopIteration)" in str(refused.value)


def stored_as(bits_stored, high_bit, signed, change):
    """Edit a slice's pixels as int32 numbers from 0 to 2024 and say how they are stored."""

    def edit(number, ds):
        values = change(np.frombuffer(ds.PixelData, "<i2").astype(np.int32).reshape(ds.Rows, ds.Columns))
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits_stored, high_bit, int(signed)
        ds.PixelData = values.astype(np.int64).astype("<u2").tobytes()

    return edit


def padded(values, padding):
    values = values.copy()
    values[0] = padding
    return values


@pytest.mark.parametrize(
    "edit",
    [
        stored_as(12, 15, False, lambda values: values << 4),
        stored_as(12, 15, False, lambda values: values),
        stored_as(13, 15, True, lambda values: values << 3),
        stored_as(12, 11, False, lambda values: values | 0x8000),
    ],
    ids=["left-justified", "right-justified in spite of High Bit", "left-justified signed", "overlay above"],
)
def test_values_lie_where_the_pixels_say(write_series, edit):
    series = write_series(edit=edit)
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)


@pytest.mark.parametrize("declared", [True, False])
def test_padding_outside_the_stored_bits_is_background(write_series, declared):
    store = stored_as(12, 11, False, lambda values: padded(values, 63536))

    def edit(number, ds):
        store(number, ds)
        if declared:
            ds.add_new("PixelPaddingValue", "US", 63536)

    series = write_series(edit=edit)
    hu = open_study(series.folder).volume.hu
    assert (hu[:, 0] == BACKGROUND_HU).all()
    assert np.array_equal(hu[:, 1:], series.truth[:, 1:])


def test_signed_numbers_that_outgrew_bits_stored_keep_their_value(write_series):
    def edit(number, ds):
        hu = np.frombuffer(ds.PixelData, "<i2").astype(np.int32) - 1024
        hu[:3] = (2500, 2600, 3000)  # metal, edited in 16 bits under a header of 12
        ds.BitsStored, ds.HighBit, ds.RescaleIntercept = 12, 11, "0"
        ds.PixelData = hu.astype("<i2").tobytes()

    series = write_series(edit=edit)
    assert open_study(series.folder).volume.hu[4, 0, :3].tolist() == [2500, 2600, 3000]


@pytest.mark.parametrize("metal", [(3900, 4200, 4600, 3900), (3900, 4300, 4300, 3900)], ids=["values", "one value"])
def test_unsigned_numbers_that_outgrew_bits_stored_keep_their_value(write_series, metal):
    def edit(number, ds):
        stored = np.frombuffer(ds.PixelData, "<i2").astype(np.int32).reshape(ds.Rows, ds.Columns)
        if number % 2:
            stored[2:4, 2:6] = metal
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.PixelData = stored.astype("<u2").tobytes()

    series = write_series(edit=edit)
    hu = open_study(series.folder).volume.hu
    with_metal = np.flatnonzero((hu[:, 2, 2:6] == np.array(metal) - 1024).all(axis=1))
    assert len(with_metal) == len(hu) // 2
    others = np.setdiff1d(np.arange(len(hu)), with_metal)
    assert np.array_equal(hu[others], series.truth[others])


def test_an_overlay_over_part_of_a_slice_is_dropped(write_series):
    def edit(number, ds):
        stored = np.frombuffer(ds.PixelData, "<i2").astype(np.uint16).reshape(ds.Rows, ds.Columns)
        stored[1:3, 1:5] |= 0x1000
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.PixelData = stored.tobytes()

    series = write_series(edit=edit)
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)


def test_pixels_that_contradict_their_high_bit_are_no_hu(write_series):
    series = write_series(edit=stored_as(12, 15, False, lambda values: (values << 4) | 3))
    with pytest.raises(StudyError, match="pixels fill more than the 12 bits up to High Bit 15") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.NO_HU


@pytest.mark.parametrize(("bits", "signed"), [(12, False), (13, False), (12, True)])
def test_pixels_that_lie_left_without_a_word_of_high_bit_are_no_hu(write_series, bits, signed):
    shift = 16 - bits
    series = write_series(edit=stored_as(bits, bits - 1, signed, lambda values: (values - 1000 * signed) << shift))
    with pytest.raises(StudyError, match="they lie left in their words, and High Bit does not say so") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.NO_HU


BONE = np.array([[1900, 2000, 2040, 2100], [1950, 2046, 2200, 2300], [1900, 2030, 2120, 2046]])


def with_bone(syntax, states, means):
    """Edit a slice that holds dense bone: whether its 12 bits are signed, and whether the header says so."""

    def edit(number, ds):
        stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).astype(np.int32)
        stored[4:7, 4:8] = BONE
        if means:
            stored -= 1024
            stored[0] = -976 - 1024  # padding
            ds.RescaleIntercept = "0"
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, int(means)
        ds.PixelData = stored.astype("<i2").tobytes()
        if syntax is not None:
            ds.compress(syntax, generate_instance_uid=False)
        ds.PixelRepresentation = int(states)

    return edit


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_dense_bone_never_becomes_air_under_a_wrong_sign(write_series, syntax):
    with pytest.raises(StudyError, match="Pixel Representation is probably wrong") as refused:
        open_study(write_series(shape=(32, 32), edit=with_bone(syntax, states=True, means=False)).folder)
    assert refused.value.code is GateCode.NO_HU


def test_bits_above_a_sign_that_is_wrong_keep_dense_bone(write_series):
    """In 16 bits that are not compressed, the unused ones say that the numbers are positive."""
    hu = open_study(write_series(shape=(32, 32), edit=with_bone(None, states=True, means=False)).folder).volume.hu
    assert (hu[:, 4:7, 4:8] == BONE - 1024).all()


def test_a_stream_with_the_other_sign_than_its_header_is_no_hu(write_series):
    with pytest.raises(StudyError, match="the JPEG 2000 stream states signed numbers") as refused:
        open_study(write_series(shape=(32, 32), edit=with_bone(JPEG2000Lossless, states=False, means=True)).folder)
    assert refused.value.code is GateCode.NO_HU


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_signed_numbers_and_padding_below_all_are_read(write_series, syntax):
    hu = open_study(write_series(shape=(32, 32), edit=with_bone(syntax, states=True, means=True)).folder).volume.hu
    assert (hu[:, 4:7, 4:8] == BONE - 1024).all()
    assert (hu[:, 0] == BACKGROUND_HU).all()


def test_what_a_header_says_of_text_and_of_a_child_is_passed_on(write_series):
    def edit(number, ds):
        ds.BurnedInAnnotation = "YES" if number == 3 else "NO"
        ds.PatientBirthDate, ds.StudyDate = "20110402", "20200401"

    codes = {flag.code for flag in open_study(write_series(edit=edit).folder).flags}
    assert {"BURNED_IN", "CHILD"} <= codes


def test_decimal_commas():
    assert [to_number(text) for text in ("0,8", "-1024,0", "1,5e2", "1,000,000")] == [0.8, -1024.0, 150.0, None]


def test_numbers_of_python_alone_are_no_decimal_strings():
    thirteen = DSfloat("1_3")
    assert thirteen == 13.0, "pydicom takes it"
    assert [to_number(value) for value in (thirteen, "1_3", "\u0661")] == [None, None, None]
    assert to_number(DSfloat("1.3")) == 1.3
