"""Whole studies in: order, HU, geometry, faults and their messages."""

from __future__ import annotations

import logging
import re
import shutil

import numpy as np
import pydicom
import pytest

import jcs_ct.imaging as imaging
from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging import HeaderWindow, SeriesFate, inspect_study, list_series, open_study
from jcs_ct.volume import BACKGROUND_HU


def codes(study):
    return [str(flag.code) for flag in study.flags]


def test_slices_are_sorted_from_the_top_whatever_their_names(write_series):
    series = write_series()
    study = open_study(series.folder)
    assert np.array_equal(study.volume.hu, series.truth)
    assert study.paths == series.files
    assert study.volume.hu.dtype == np.int16
    assert study.volume.spacing_mm == pytest.approx((2.0, 0.8, 0.7))
    assert study.volume.to_lps_mm((0, 0, 0)) == pytest.approx((-10.0, -20.0, 100.0))
    assert study.volume.to_lps_mm((3, 2, 5)) == pytest.approx((-10 + 5 * 0.7, -20 + 2 * 0.8, 94.0))


def test_identifier_and_facts_hold_nothing_of_the_patient(write_series, caplog):
    series = write_series(uid="1.2.840.99")
    with caplog.at_level(logging.DEBUG):
        study = open_study(series.folder)
    assert re.fullmatch("[0-9a-f]{16}", study.identifier)
    told = caplog.text + repr(study.acquisition) + repr(study.flags) + repr(list_series(series.folder))
    for secret in ("Doe", "Jane", "secret-17", "20200402", "1.2.840.99"):
        assert secret not in told
    assert study.acquisition["kernel"] == "B60f"
    assert study.acquisition["kvp"] == 120.0


@pytest.mark.parametrize("direction", [1, -1])
def test_axial_series_in_both_directions(write_series, direction):
    def edit(number, ds):
        ds.ImagePositionPatient = [0, 0, direction * 2.0 * number]

    series = write_series(edit=edit)
    study = open_study(series.folder)
    expected = series.truth if direction < 0 else series.truth[::-1]
    assert np.array_equal(study.volume.hu, expected)
    assert study.volume.affine[2, 0] == pytest.approx(-2.0)


def test_reversed_columns_are_turned_and_the_source_grid_is_kept(write_series):
    def edit(number, ds):
        ds.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    series = write_series(edit=edit)
    study = open_study(series.folder)
    assert np.array_equal(study.volume.hu, series.truth[:, :, ::-1])
    assert study.volume.affine[:3, 2] == pytest.approx([0.7, 0, 0])
    assert np.array_equal(study.on_source_grid(study.volume.hu), series.truth)
    assert study.source_affine[:3, 2] == pytest.approx([-0.7, 0, 0])
    assert study.source_affine[:3, 3] == pytest.approx([-10.0, -20.0, 100.0])


def coronal(number, ds):
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [-10.0, -20.0 + 2.0 * number, 100.0]


def test_a_coronal_series_is_cut_axially_and_kept_on_its_grid(write_series):
    series = write_series(edit=coronal)
    study = open_study(series.folder)
    assert codes(study)[-2:] == ["PARTIAL_CHEST", "CORONAL_SLICES"]
    assert np.array_equal(study.volume.hu, series.truth.transpose(1, 0, 2))
    assert study.volume.spacing_mm == pytest.approx((0.8, 2.0, 0.7))
    assert study.volume.to_lps_mm((1, 2, 3)) == pytest.approx((-10 + 2.1, -20 + 4.0, 100 - 0.8))
    on_grid = study.on_source_grid(study.volume.hu)
    for path, plane in zip(study.paths, on_grid, strict=True):
        assert np.array_equal(pydicom.dcmread(path).pixel_array - 1024, plane)


def test_an_axial_series_comes_before_a_coronal_one_and_is_not_replaced_by_it(write_series):
    axial = write_series(slices=6, prefix="A", seed=1)
    larger = write_series(slices=12, prefix="nested", seed=2, edit=coronal)
    study = open_study(larger.folder)
    assert np.array_equal(study.volume.hu, axial.truth)
    assert [one.fate for one in list_series(larger.folder)] == [SeriesFate.CHOSEN, SeriesFate.CANDIDATE]
    named = open_study(larger.folder, series=list_series(larger.folder)[1].identifier)
    assert "CORONAL_SLICES" in codes(named)


def test_a_refused_axial_series_is_not_replaced_by_a_coronal_one(write_series):
    write_series(slices=9, prefix="A", seed=1, edit=drop(5))
    larger = write_series(slices=12, prefix="nested", seed=2, edit=coronal)
    with pytest.raises(StudyError) as refused:
        open_study(larger.folder)
    assert refused.value.code is GateCode.GAP


def test_lenient_slices_of_a_stated_orientation_are_turned(write_series):
    def edit(number, ds):
        ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        return number != 5

    series = write_series(edit=edit)
    study = open_study(series.folder, lenient=True)
    assert study.volume.affine is None
    assert np.array_equal(study.volume.hu, np.delete(series.truth, 5, axis=0)[:, ::-1, ::-1])
    assert not study.volume.axes_are_assumed
    series = write_series("unplaced", edit=lambda number, ds: delattr(ds, "ImageOrientationPatient"))
    study = open_study(series.folder, lenient=True)
    assert study.volume.axes_are_assumed
    assert {"ASSUMED_AXES", "ASSUMED_ORDER"} <= set(codes(study))


def test_oblique_table_is_measured_along_its_normal(write_series):
    angle = np.radians(12.0)
    across = np.array([0.0, -np.sin(angle), np.cos(angle)])

    def edit(number, ds):
        ds.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]
        ds.ImagePositionPatient = [round(float(x), 9) for x in np.array([0, 0, 50.0]) - 2.0 * number * across]

    series = write_series(edit=edit)
    study = open_study(series.folder)
    assert codes(study) == ["OBLIQUE", "PARTIAL_CHEST"]
    assert np.array_equal(study.volume.hu, series.truth)
    assert study.volume.voxel_ml == pytest.approx(2.0 * 0.8 * 0.7 / 1000, rel=1e-4)
    assert study.volume.to_lps_mm((9, 0, 0)) == pytest.approx(tuple([0, 0, 50.0] - 18.0 * across), abs=0.01)


def test_every_slice_is_rescaled_with_its_own_values(write_series):
    def edit(number, ds):
        if number == 4:
            stored = np.frombuffer(ds.PixelData, "<i2") - 1024
            ds.RescaleIntercept, ds.PixelData = "0", stored.astype("<i2").tobytes()

    series = write_series(edit=edit)
    study = open_study(series.folder)
    assert np.array_equal(study.volume.hu, series.truth)
    assert "HU_VARIES" in codes(study)
    assert study.flags[0].message == (
        "1 of 10 slices have another rescale than slope 1, intercept -1024; every slice was read with its own values"
    )


def test_fractional_slope_gives_float_hu(write_series):
    def edit(number, ds):
        ds.RescaleSlope = "0.5"

    series = write_series(edit=edit)
    hu = open_study(series.folder).volume.hu
    assert hu.dtype == np.float32
    assert np.allclose(hu, (series.truth + 1024) * 0.5 - 1024)


@pytest.mark.parametrize(("padding", "stored"), [(-2000, -2000), (None, -2000), (None, -1024), (63536, -2000)])
def test_padding_is_background(write_series, padding, stored):
    def edit(number, ds):
        pixels = np.frombuffer(ds.PixelData, "<i2").copy()
        pixels[:5] = stored
        ds.PixelData = pixels.tobytes()
        if padding is not None:
            ds.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)

    series = write_series(edit=edit)
    hu = open_study(series.folder).volume.hu
    assert (hu[:, 0, :5] == BACKGROUND_HU).all()
    assert np.array_equal(hu[:, 1:], series.truth[:, 1:])


def test_a_padding_value_that_is_tissue_is_not_believed(write_series):
    def edit(number, ds):
        ds.add_new("PixelPaddingValue", "SS", 1024)  # 0 HU: water

    series = write_series(edit=edit)
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)


def test_guid_uids_and_empty_dates_are_accepted(write_series):
    def edit(number, ds):
        ds.SOPInstanceUID = ds.StudyDate = ds.FrameOfReferenceUID = ""
        ds.SeriesNumber = None

    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        series = write_series(edit=edit, uid="09bc8aea-ff9c-4106-8514-294cbcf9a082")
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)


def drop(*numbers):
    return lambda number, ds: number not in numbers


def faulty(number_to_change, **values):
    def edit(number, ds):
        if number == number_to_change:
            for name, value in values.items():
                setattr(ds, name, value) if value is not None else delattr(ds, name)

    return edit


def shear(number, ds):
    ds.ImagePositionPatient = [-10, -20 - 0.5 * number, 100 - 2.0 * number]


def tilt_by_orientation(number, ds):
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0.970295726276, -0.2419218955997]


def uneven(number, ds):
    ds.ImagePositionPatient = [-10, -20, 100 - 2.0 * number - (1.3 if number > 4 else 0)]


def kernels(number, ds):
    ds.ConvolutionKernel = "B60f" if number % 2 else "B30f"


FAULTS = {
    "missing slice": (
        drop(5),
        GateCode.GAP,
        "slice spacing is irregular: 4.00 mm between slices 5 and 6, median 2.00 mm; a slice is probably missing",
    ),
    "duplicate": (
        faulty(5, ImagePositionPatient=[-10, -20, 92.0]),
        GateCode.DUPLICATE_POSITION,
        "1 slice(s) lie at the position of another: slices 5 and 6 are 0.00 mm apart, median 2.00 mm",
    ),
    "tilt by shear": (shear, GateCode.TILT, "positions advance 14.0 degrees off the slices' normal"),
    "tilt by orientation": (tilt_by_orientation, GateCode.TILT, "positions advance 14.0 degrees off"),
    "tilt in the header": (
        lambda number, ds: setattr(ds, "GantryDetectorTilt", "12.5"),
        GateCode.TILT,
        "the header states a gantry tilt of 12.5 degrees that the slice positions do not show",
    ),
    "mixed orientation": (
        faulty(3, ImageOrientationPatient=[0.99619, 0.08716, 0, -0.08716, 0.99619, 0]),
        GateCode.MIXED_ORIENTATION,
        "slices are not parallel: slice 4 is turned by 5.0 degrees",
    ),
    "mixed pixel spacing": (
        faulty(3, PixelSpacing=[0.9, 0.7]),
        GateCode.MIXED_SPACING,
        "pixel spacing differs: rows 0.8000 to 0.9000 mm, columns 0.7000 to 0.7000 mm",
    ),
    "unequal spacing": (
        uneven,
        GateCode.MIXED_SPACING,
        "slice spacing is irregular: 3.30 mm between slices 5 and 6, median 2.00 mm; 1 of 9 steps differ",
    ),
    "mixed series": (kernels, GateCode.MIXED_SERIES, "slices of 2 kernels carry one series identity"),
    "other centre": (
        faulty(3, ImagePositionPatient=[-15, -20, 94]),
        GateCode.MIXED_SERIES,
        "slice 4 lies 5.0 mm beside the line of the others",
    ),
    "no position": (
        faulty(3, ImagePositionPatient=None),
        GateCode.NO_POSITION,
        "1 of 10 slices have no Image Position (Patient)",
    ),
    "too few slices": (
        drop(*range(3, 10)),
        GateCode.TOO_FEW_SLICES,
        "the series has 3 slice(s), at least 5 are needed",
    ),
}
REFUSALS = {
    "mixed size": (
        faulty(2, Rows=8, PixelData=b"\0" * 256),
        GateCode.MIXED_SIZE,
        "slices differ in size: 9 of 16x16, 1 of 8x16 pixels",
    ),
    "no slope": (
        faulty(6, RescaleSlope=None),
        GateCode.NO_HU,
        "1 of 10 slices have no usable rescale slope and intercept, the first is slice 7",
    ),
    "truncated": (
        faulty(6, PixelData=b"\0" * 300),
        GateCode.TRUNCATED,
        "is cut off: expected 512 bytes of pixels, found 300 bytes",
    ),
    "wrong modality": (
        lambda number, ds: setattr(ds, "Modality", "MR"),
        GateCode.NOT_CT,
        "a CT series is needed, the header has modality MR",
    ),
    "localizer": (
        lambda number, ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        GateCode.LOCALIZER,
        "the series is a localizer",
    ),
    "coronal": (
        lambda number, ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
        GateCode.NOT_AXIAL,
        "axial ones can be cut out of sound geometry only, but there is DUPLICATE_POSITION",
    ),
    "a lying header": (
        lambda number, ds: setattr(ds, "NumberOfFrames", 60000000),
        GateCode.UNREADABLE,
        "announces 28.6 GiB of pixels, the limit is 4 GiB",
    ),
}


@pytest.mark.parametrize("fault", FAULTS | REFUSALS)
def test_fault_is_refused_with_its_code_and_numbers(write_series, fault):
    edit, code, message = (FAULTS | REFUSALS)[fault]
    series = write_series(edit=edit)
    with pytest.raises(StudyError, match=re.escape(message)) as refused:
        open_study(series.folder)
    assert refused.value.code is code
    assert str(refused.value).endswith(f"({code})")


def test_a_refused_series_is_listed_with_its_reason(write_series):
    (listed,) = list_series(write_series(edit=drop(5)).folder)
    assert (listed.fate, listed.code, listed.slice_count) == (SeriesFate.REFUSED, GateCode.GAP, 9)
    assert "4.00 mm between slices 5 and 6" in listed.message
    assert listed.spacing_mm is None


@pytest.mark.parametrize("fault", ["missing slice", "duplicate", "no position", "tilt by shear"])
def test_lenient_reads_the_slices_and_withholds_the_geometry(write_series, fault):
    edit, code, message = FAULTS[fault]
    series = write_series(edit=edit)
    study = open_study(series.folder, lenient=True)
    assert study.volume.affine is None
    assert study.volume.shape[0] == len(series.files)
    assert str(code) in codes(study)
    assert any(message in flag.message for flag in study.flags)


@pytest.mark.parametrize("fault", ["no slope", "wrong modality"])
def test_lenient_does_not_read_what_is_no_ct(write_series, fault):
    edit, code, _ = REFUSALS[fault]
    with pytest.raises(StudyError) as refused:
        open_study(write_series(edit=edit).folder, lenient=True)
    assert refused.value.code is code


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_regular(write_series):
    def edit(number, ds):
        ds.ImagePositionPatient = [0, 0, round(100 - 1.25 * number, 1)]

    study = open_study(write_series(edit=edit, slices=20).folder)
    assert study.volume.spacing_mm[0] == pytest.approx(1.25, abs=0.005)


def test_all_faults_are_told_at_once(write_series):
    def edit(number, ds):
        shear(number, ds)
        return number != 5

    with pytest.raises(StudyError, match=r"^2 faults: .*\(GAP\).*\(TILT\)|^2 faults: .*\(TILT\).*\(GAP\)"):
        open_study(write_series(edit=edit).folder)


def test_the_better_series_is_chosen_and_the_other_is_listed(write_series):
    thick = write_series(slices=6, step_mm=6.0, prefix="A", seed=1)
    thin = write_series(slices=12, step_mm=2.0, prefix="nested", seed=2)
    study = open_study(thin.folder)
    assert np.array_equal(study.volume.hu, thin.truth)
    first, second = list_series(thin.folder)
    assert (first.fate, first.slice_count) == (SeriesFate.CHOSEN, 12)
    assert (second.fate, second.slice_count) == (SeriesFate.CANDIDATE, 6)
    named = open_study(thin.folder, series=second.identifier[:8])
    assert np.array_equal(named.volume.hu, thick.truth)
    first, second = inspect_study(thin.folder, series=second.identifier).series
    assert (first.fate, first.message) == (SeriesFate.CANDIDATE, "could be read with --series")
    assert (second.fate, second.message) == (SeriesFate.CHOSEN, "read: asked for")


def test_sharp_kernel_breaks_a_tie_and_two_equals_are_not_chosen_between(write_series):
    def soft(number, ds):
        ds.ConvolutionKernel = "B30f"

    write_series(prefix="A", seed=1, edit=soft)
    sharp = write_series(prefix="B", seed=2)
    assert np.array_equal(open_study(sharp.folder).volume.hu, sharp.truth)
    write_series(prefix="C", seed=3)
    with pytest.raises(
        StudyError, match=r"2 series are equally good, choose one with --series: [0-9a-f]{16}"
    ) as refused:
        open_study(sharp.folder)
    assert refused.value.code is GateCode.MIXED_SERIES


def test_series_of_two_studies_are_not_chosen_between(write_series):
    series = write_series(prefix="A", slices=10)
    write_series(prefix="B", slices=6, study="1.2.4")
    with pytest.raises(StudyError, match="series of 2 studies lie here"):
        open_study(series.folder)


def test_localizers_in_the_same_series_are_set_apart(write_series):
    def edit(number, ds):
        if number == 0:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    series = write_series(edit=edit)
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth[1:])


def test_unknown_series_is_a_usage_error(write_series):
    with pytest.raises(
        ConfigError, match=r"no series has an identifier that starts with 'zz'; there are: [0-9a-f]{16}"
    ):
        open_study(write_series().folder, series="zz")


def test_files_that_are_no_dicom_are_ignored_with_a_flag(write_series):
    series = write_series()
    (series.folder / "readme.txt").write_text("hello")
    nested = series.folder / "deep" / "er"
    nested.mkdir(parents=True)
    shutil.move(series.files[0], nested / "first")
    study = open_study(series.folder)
    assert np.array_equal(study.volume.hu, series.truth)
    assert "OTHER_FILES" in codes(study)


def test_a_damaged_dicom_file_beside_the_series_is_not_passed_over(write_series):
    series = write_series()
    (series.folder / "damaged").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff1.2")
    with pytest.raises(StudyError, match=r"file \d+ of 11 \(in name order\)") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.UNREADABLE
    assert np.array_equal(open_study(series.folder, lenient=True).volume.hu, series.truth)


def test_file_cut_off_on_disk_is_truncated(write_series):
    series = write_series()
    series.files[2].write_bytes(series.files[2].read_bytes()[:-100])
    with pytest.raises(StudyError, match="is cut off: expected 512 bytes of pixels, found 412") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.TRUNCATED


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless"])
def test_compressed_series(write_series, syntax):
    from pydicom import uid

    def edit(number, ds):
        ds.compress(getattr(uid, syntax), generate_instance_uid=False)

    series = write_series(edit=edit, shape=(64, 64), slices=6)
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)
    whole = series.files[3].read_bytes()
    series.files[3].write_bytes(whole[: len(whole) - 60])
    with pytest.raises(StudyError, match="expected compressed pixels to their end") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.TRUNCATED


def test_deflated_is_refused_unless_allowed(write_series):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    def edit(number, ds):
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    series = write_series(edit=edit)
    with pytest.raises(StudyError, match="the data set is deflated") as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.UNSUPPORTED
    assert np.array_equal(open_study(series.folder, allow_deflated=True).volume.hu, series.truth)


def test_nothing_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        open_study(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="is an empty folder; give a folder with DICOM files") as refused:
        open_study(tmp_path / "empty")
    assert refused.value.code is GateCode.NO_IMAGES
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with pytest.raises(StudyError, match=r"^the file is no image that is read here: DICOM") as refused:
        open_study(text)
    assert refused.value.code is GateCode.UNREADABLE


def test_public_names():
    data = {"HeaderWindow", "Inspection", "QualityFlag", "SeriesFate", "SeriesInfo", "Study"}
    assert set(imaging.__all__) == data | {"inspect_study", "list_series", "open_study"}


def test_real_volume_with_guid_uids(shared_data):
    study = open_study(shared_data / "volumes" / "covid_002")
    assert study.volume.shape == (133, 512, 512)
    assert study.volume.spacing_mm == pytest.approx((2.0, 0.603515625, 0.603515625))
    middle = pydicom.dcmread(study.paths[66])
    assert np.array_equal(study.volume.hu[66], middle.pixel_array.astype(np.int16) - 1024)
    assert study.flags == ()


def test_real_file_in_many_transfer_syntaxes_has_the_same_hu(shared_data):
    folder = shared_data / "dicom_ingest" / "nema_wg04_ct1"
    names = ("CT1_RLE", "CT1_J2KR", "CT1_JLSL", "CT1_JPLL")
    volumes = [open_study(folder / name, lenient=True).volume.hu for name in names]
    for hu in volumes[1:]:
        assert np.array_equal(hu, volumes[0])


def outcome(path):
    try:
        return open_study(path, lenient=True).volume.affine
    except StudyError as error:
        return error.code


def test_real_awkward_files_get_a_verdict_or_a_code(shared_data):
    folder = shared_data / "dicom_ingest"
    found = {"_".join(path.name.split("_")[:2]): outcome(path) for path in sorted((folder / "edge_cases").iterdir())}
    assert found == {
        "chest_localizer": GateCode.LOCALIZER,
        "chest_minimal": None,
        "ct_small": None,
        "enhanced_ct": GateCode.NO_HU,
        "no_preamble": GateCode.UNREADABLE,
        "rgb_screenshot": GateCode.NOT_CT,
        "wrong_modality": GateCode.NOT_CT,
    }
    for suffix in ("53", "55"):
        (path,) = (folder / "transfer_syntaxes_ctimage").glob(f"*.4.{suffix}.dcm")
        assert outcome(path) is GateCode.UNSUPPORTED


def test_windows_of_the_header_are_offered_and_change_no_voxel(write_series):
    def edit(number, ds):
        ds.WindowCenter, ds.WindowWidth = [-600, 40], ["1500", "400"]
        if number == 2:
            ds.WindowCenter, ds.WindowWidth = 50, 350
        if number == 3:
            ds.WindowCenter, ds.WindowWidth = [40, -600, 7], [0, 1500]

    series = write_series(edit=edit)
    study = open_study(series.folder)
    assert study.header_windows == (HeaderWindow(-600, 1500), HeaderWindow(40, 400), HeaderWindow(50, 350))
    assert np.array_equal(study.volume.hu, series.truth)


def test_an_inspection_says_what_listing_and_opening_say(write_series, tmp_path):
    series = write_series()
    found = inspect_study(series.folder)
    assert found.series == list_series(series.folder)
    assert np.array_equal(found.result.volume.hu, series.truth)
    refused = inspect_study(write_series("broken", edit=lambda number, ds: number != 4).folder)
    assert (refused.result.code, refused.series[0].code) == (GateCode.GAP, GateCode.GAP)
    (series.folder / "copy.dcm").write_text("no DICOM")
    spoilt = inspect_study(series.folder)
    assert (spoilt.result.code, spoilt.series) == (GateCode.UNREADABLE, list_series(series.folder))
    (listed,) = spoilt.series
    assert (listed.fate, listed.code) == (SeriesFate.REFUSED, GateCode.UNREADABLE)
    assert listed.message.startswith("not read: the best by the rule: 1 file(s) are called as the study's images are")
    (lenient,) = inspect_study(series.folder, lenient=True).series
    assert (lenient.fate, lenient.message) == (SeriesFate.CHOSEN, "read: the best by the rule")
    (series.folder / "copy.dcm").unlink()
    (tmp_path / "letter.txt").write_text("dear colleague")
    nothing = inspect_study(tmp_path / "letter.txt")
    assert (nothing.series, nothing.result.code) == ((), GateCode.UNREADABLE)
    with pytest.raises(ConfigError, match="no series has an identifier that starts with 'zzz'"):
        inspect_study(series.folder, series="zzz")
