"""The whole result set: maps, report, overlays, PDF, their references and what a checker says of them."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import subprocess
import warnings
from io import SEEK_END, BufferedReader

import highdicom
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pydicom import config as pydicom_config
from pydicom import dcmread

from jcs_ct import NOTICE
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.imaging import open_study
from jcs_ct.imaging.identifiers import read_identifiers
from jcs_ct.imaging.study import QualityFlag
from jcs_ct.operating_point import Verdict, VerdictBasis
from jcs_ct.reporting import dicom_maps, dicom_pdf, dicom_sc, dicom_sr
from jcs_ct.reporting.dicom_identity import Correction, report_series_uid
from jcs_ct.reporting.dicom_results import write_dicom_results
from jcs_ct.reporting.dicom_source import read_source_series
from jcs_ct.reporting.model_limits import shipped_figures
from jcs_ct.volume import CTVolume

#: Messages of dciodvfy that were reviewed; reasons in docs/reference/dicom-conformance.md.
REVIEWED = (
    "Unrecognized defined term = <99JCS>",
    "Unrecognized defined term = <QUANTITY>",
    "would be needed to build DICOMDIR",
)


@pytest.fixture
def results(make_series, make_findings, tmp_path):
    """Everything of one positive study."""
    study = make_series()
    diagnosis = make_findings(study)
    folder = tmp_path / "out"
    paths = write_dicom_results(study, diagnosis, folder)
    return study, diagnosis, folder, paths


def _names(folder, paths):
    return [path.relative_to(folder).as_posix() for path in paths]


def _verdicts(group):
    """Our own question-answer pairs of a measurement group."""
    pairs = group.get_qualitative_evaluations()
    return {item.name.value: item.value.meaning for item in pairs if item.name.scheme_designator == "99JCS"}


@pytest.mark.parametrize("stated", ["YES", "NO", ""])
def test_pictures_of_slices_with_text_burned_in_say_so(make_series, make_findings, tmp_path, stated):
    study = make_series(BurnedInAnnotation=stated)
    paths = write_dicom_results(study, make_findings(study), tmp_path / "out")
    said = {path.name: dcmread(path).get("BurnedInAnnotation") for path in paths}
    shown = [value for name, value in said.items() if name.endswith((".sc.dcm", ".pdf.dcm"))]
    assert set(shown) == {"YES" if stated == "YES" else "NO"}


def test_files_have_fixed_names(results):
    _, _, folder, paths = results
    overlays = [f"overlay/slice-{number:04d}.sc.dcm" for number in range(2, 8)]
    assert _names(folder, paths) == [
        "lesions.seg.dcm",
        "activation.pm.dcm",
        "findings.sr.dcm",
        *overlays,
        "report.pdf.dcm",
    ]
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)


def test_every_object_carries_patient_study_equipment_and_notice(results):
    study, _, _, paths = results
    source = dcmread(study.paths[0])
    for path in paths:
        dataset = dcmread(path)
        assert path.read_bytes()[:128] == bytes(128)
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
        assert (str(dataset.PatientName), dataset.PatientID) == ("Hôte^Zoé", "ID-4711")
        assert NOTICE in dataset.SeriesDescription
        assert dataset.Manufacturer == "jcs-ct"
        assert dataset.DeviceSerialNumber == "ab" * 32
        assert f"segmenter sha256 {'cd' * 20}" in list(dataset.SoftwareVersions)
    instances = [dcmread(path).SOPInstanceUID for path in paths]
    assert len(set(instances)) == len(paths)


def test_a_name_of_one_component_is_kept_and_never_printed(make_series, make_findings, tmp_path):
    study = make_series(PatientName="Mononym")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        paths = write_dicom_results(study, make_findings(study), tmp_path / "out")
    assert not [warning for warning in seen if "Mononym" in str(warning.message)]
    assert {str(dcmread(path).PatientName) for path in paths} == {"Mononym"}


def test_the_same_findings_give_the_same_identifiers_and_others_do_not(results, tmp_path):
    study, diagnosis, _, paths = results
    first = [dcmread(path).SOPInstanceUID for path in paths]
    again = write_dicom_results(study, diagnosis, tmp_path / "again")
    assert [dcmread(path).SOPInstanceUID for path in again] == first
    diagnosis.activation[2, 0, 0] = 0.5
    other = write_dicom_results(study, diagnosis, tmp_path / "other")
    assert not set(first) & {dcmread(path).SOPInstanceUID for path in other}


def test_activation_comes_back_as_float_at_its_positions(results):
    study, diagnosis, folder, _ = results
    dataset = dcmread(folder / "activation.pm.dcm")
    frames = dataset.pixel_array
    assert frames.dtype == np.float32
    assert dataset.NumberOfFrames == 5
    opened = highdicom.pm.ParametricMap.from_dataset(dataset).get_volume().array
    assert any(np.array_equal(frames, opened[::step]) for step in (1, -1))
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        index = np.linalg.solve(study.volume.affine, [*position, 1.0])
        np.testing.assert_allclose(index[1:3], 0, atol=1e-4)
        assert index[0] == pytest.approx(round(index[0]), abs=1e-4)
        np.testing.assert_array_equal(frame, diagnosis.activation[round(index[0])].astype(np.float32))
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Class activation"


@pytest.mark.parametrize("layout", ["axial, superior to inferior", "rows run to the front", "oblique"])
def test_maps_have_a_frame_for_every_slice_between_infected_ones(make_series, make_findings, tmp_path, layout):
    study = make_series(layout)
    diagnosis = make_findings(study, infected=(1, 2, 5))
    write_dicom_results(study, diagnosis, tmp_path / "out", kinds=("pm",))
    dataset = dcmread(tmp_path / "out" / "activation.pm.dcm")
    groups = dataset.PerFrameFunctionalGroupsSequence
    positions = np.array([one.PlanePositionSequence[0].ImagePositionPatient for one in groups], dtype=float)
    (shared,) = dataset.SharedFunctionalGroupsSequence
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    steps = np.diff(positions @ np.cross(cosines[:3], cosines[3:]))
    np.testing.assert_allclose(steps, shared.PixelMeasuresSequence[0].SliceThickness, atol=1e-4)
    held = {
        round(np.linalg.solve(study.volume.affine, [*place, 1.0])[0]): frame.max()
        for place, frame in zip(positions, dataset.pixel_array, strict=True)
    }
    assert {index for index, most in held.items() if most > 0} == {1, 2, 5}
    assert sorted(held) == [1, 2, 3, 4, 5]


def test_frames_of_a_map_are_made_as_they_are_read():
    slices = np.linspace(0, 1, 3000, dtype=np.float16)
    planes = np.broadcast_to(slices[:, None, None], (3000, 512, 512))  # 3 GB of float32 that are never held
    frames = BufferedReader(dicom_maps._FloatFrames(planes, [2999, 7, 1500]))
    size = 512 * 512 * 4
    assert frames.seek(0, SEEK_END) == 3 * size
    assert frames.read() == b""
    frames.seek(size - 400)
    across = np.frombuffer(frames.read(800), "<f4")
    assert np.array_equal(across, np.repeat(slices[[2999, 7]], 100).astype(np.float32))
    frames.seek(-8, SEEK_END)
    assert np.array_equal(np.frombuffer(frames.read(), "<f4"), slices[[1500, 1500]].astype(np.float32))


def test_a_map_that_no_object_can_hold_is_refused(make_series, make_findings, tmp_path, monkeypatch):
    study = make_series()
    monkeypatch.setattr(dicom_maps, "_MOST_BYTES", 1000)
    with pytest.raises(OutputError, match=r"frames of \d+x\d+ pixels take \d+ bytes and one DICOM object holds 1000"):
        write_dicom_results(study, make_findings(study), tmp_path / "out", kinds=("pm",))


def test_the_structured_report_ties_volumes_to_segments(results):
    _, diagnosis, folder, _ = results
    report = highdicom.sr.srread(folder / "findings.sr.dcm")
    segmentation = dcmread(folder / "lesions.seg.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    for group, lesion in zip(groups, diagnosis.lesions, strict=True):
        (volume, density) = group.get_measurements()
        assert (volume.unit.value, density.unit.value) == ("cm3", "[hnsf'U]")
        assert volume.value == pytest.approx(lesion.volume_ml, rel=1e-3)
        assert density.value == pytest.approx(lesion.mean_hu, abs=0.05)
        referenced = [item for item in group[0].ContentSequence if "ReferencedSOPSequence" in item]
        (target,) = referenced[0].ReferencedSOPSequence
        assert target.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert target.ReferencedSegmentNumber == lesion.lesion_id
        described = segmentation.SegmentSequence[lesion.lesion_id - 1]
        assert group.tracking_uid == described.TrackingUID


@pytest.mark.parametrize("correction", [None, Correction("jane", 3)])
def test_lesions_name_what_made_them(make_series, make_findings, tmp_path, correction):
    study = make_series()
    write_dicom_results(study, make_findings(study), tmp_path, kinds=("seg", "sr"), correction=correction)
    by_reader, segmenter = "jcs-ct, lesions corrected by a reader", "jcs-ct segmenter compact-joint"
    for segment in dcmread(tmp_path / "lesions.seg.dcm").SegmentSequence:
        (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
        family = made_by.AlgorithmFamilyCodeSequence[0].CodeMeaning
        assert made_by.AlgorithmName == (segmenter if correction is None else by_reader)
        assert family == ("Artificial Intelligence" if correction is None else "Manual Processing")
        assert (segment.SegmentAlgorithmName, segment.SegmentAlgorithmType) == (
            (segmenter, "AUTOMATIC") if correction is None else (by_reader, "SEMIAUTOMATIC")
        )
    content = highdicom.sr.srread(tmp_path / "findings.sr.dcm").content
    named = {_algorithm_of(group)[0] for group in content.get_volumetric_roi_measurement_groups()}
    assert named == {segmenter if correction is None else by_reader}
    (study_group,) = content.get_image_measurement_groups()
    name, parameters = _algorithm_of(study_group)
    assert name == "jcs-ct classifier compact-classifier", "the verdict stays the network's"
    assert ("correction_version=3" in parameters) == (correction is not None)
    assert any("lesion_probability" in one for one in parameters) == (correction is None)


def _algorithm_of(group):
    """Name and parameters of the algorithm of a measurement group (TID 4019)."""
    texts = [item for item in group[0].ContentSequence if item.ValueType == "TEXT"]
    stated = [(item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue) for item in texts]
    return dict(stated)["Algorithm Name"], [text for name, text in stated if name == "Algorithm Parameters"]


def test_the_structured_report_states_verdict_burden_and_notice(results):
    _, diagnosis, folder, _ = results
    report = highdicom.sr.srread(folder / "findings.sr.dcm")
    (group,) = report.content.get_image_measurement_groups()
    figures = {measurement.name.value: measurement.value for measurement in group.get_measurements()}
    assert figures["JCS001"] == pytest.approx(diagnosis.burden.percent_opacity, rel=1e-4)
    assert figures["JCS003"] == 5
    assert figures["JCS004"] == 3
    assert figures["JCS006"] == pytest.approx(diagnosis.burden.opacification_volume_ml, rel=1e-3)
    assert _verdicts(group) == {"JCS009": "Positive", "JCS010": "Research use only, not a medical device"}
    texts = [item.TextValue for item in dcmread(folder / "findings.sr.dcm").ContentSequence if "TextValue" in item]
    assert any(text.startswith(NOTICE) and "These can look the same as COVID-19: " in text for text in texts)


def test_volumes_are_withheld_where_the_geometry_is_not_trusted(make_series, make_findings, tmp_path):
    study = make_series()
    lenient = dataclasses.replace(study, volume=CTVolume(study.volume.hu, None))
    diagnosis = make_findings(lenient)
    paths = write_dicom_results(lenient, diagnosis, tmp_path / "out", kinds=("seg", "sr"))
    report = highdicom.sr.srread(paths[1])
    groups = report.content.get_volumetric_roi_measurement_groups()
    units = {item.unit.value for group in groups for item in group.get_measurements()}
    (whole,) = report.content.get_image_measurement_groups()
    units |= {item.unit.value for item in whole.get_measurements()}
    assert units == {"[hnsf'U]", "%", "1"}


def test_what_is_withheld_is_withheld_in_every_object(make_series, make_findings, tmp_path):
    study = make_series()
    found = make_findings(study)
    withheld = dataclasses.replace(
        found,
        verdict=Verdict.WITHHELD,
        basis=VerdictBasis.TOO_FEW_SLICES,
        positive_slice_threshold=None,
        lesions=tuple(dataclasses.replace(lesion, side="unknown") for lesion in found.lesions),
        burden=dataclasses.replace(found.burden, zones=None),
    )
    seg, sr, _ = write_dicom_results(study, withheld, tmp_path / "out", kinds=("seg", "sr", "pdf"))
    report = highdicom.sr.srread(sr)
    (group,) = report.content.get_image_measurement_groups()
    assert _verdicts(group)["JCS009"] == "Undetermined"
    assert "JCS004" not in {measurement.name.value for measurement in group.get_measurements()}
    for lesion in report.content.get_volumetric_roi_measurement_groups():
        assert all(site.laterality is None for site in lesion.finding_sites)
    for segment in dcmread(seg).SegmentSequence:
        assert "AnatomicRegionModifierSequence" not in segment.AnatomicRegionSequence[0]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_a_positive_study_has_an_opacity_as_its_finding(make_series, make_findings, tmp_path, verdict):
    study = make_series()
    found = dataclasses.replace(make_findings(study, positive=verdict is Verdict.POSITIVE), verdict=verdict)
    write_dicom_results(study, found, tmp_path, kinds=("sr",))
    (whole,) = highdicom.sr.srread(tmp_path / "findings.sr.dcm").content.get_image_measurement_groups()
    assert [whole.finding_type is None, whole.finding_category is None] == [verdict is not Verdict.POSITIVE] * 2


@pytest.mark.parametrize(
    ("value", "stated"), [(188.324238, 188.32), (6.764597, 6.7646), (0.00043214, 0.00043214), (0.0, 0.0)]
)
def test_a_figure_of_the_structured_report_has_five_digits(value, stated):
    assert dicom_sr._rounded(value) == stated


def test_a_negative_study_has_a_report_and_one_overlay(make_series, make_findings, tmp_path):
    study = make_series()
    folder = tmp_path / "out"
    positive = write_dicom_results(study, make_findings(study), folder)
    paths = write_dicom_results(study, make_findings(study, positive=False), folder)
    assert _names(folder, paths) == ["findings.sr.dcm", "overlay/slice-0005.sc.dcm", "report.pdf.dcm"]
    left = [path for path in positive if path.exists()]
    assert set(left) <= set(paths), "nothing of the earlier result may stay"
    report = highdicom.sr.srread(paths[0])
    (group,) = report.content.get_image_measurement_groups()
    assert _verdicts(group)["JCS009"] == "Negative"
    assert report.content.get_volumetric_roi_measurement_groups() == []


def test_the_caption_says_what_the_colours_of_an_overlay_are(results):
    study, diagnosis, _, _ = results
    source = read_source_series(study)
    said = dicom_sc.caption(source, diagnosis, dicom_sc.source_overlay_slices(source, diagnosis)[0])
    red, green, blue = dicom_sc.CONTOUR_RGB
    assert min(green, blue) > 2 * red, "which is cyan"
    red, green, blue = dicom_sc.ACTIVATION_RGB
    assert red > 2 * green > 4 * blue, "which is orange"
    assert "Cyan line: lesion; orange: activation map" in said


def test_overlays_keep_the_slice_and_write_the_notice_below_it(results):
    study, diagnosis, folder, _ = results
    rows, columns = study.volume.shape[1:]
    for path in (folder / "overlay").iterdir():
        dataset = dcmread(path)
        index = dataset.InstanceNumber - 1
        picture = dataset.pixel_array
        assert dataset.PatientOrientation == ["L", "P"]
        plain = dicom_sc.render_overlay(study, diagnosis, index)
        lettered = dicom_sc.add_edge_letters(plain, (1, 0, 0, 0, 1, 0))
        assert (lettered != plain).any(), "R and L are in the pixels"
        np.testing.assert_array_equal(picture[:rows, :columns], lettered)
        assert (picture[rows:] == 255).any(), "the caption is in the pixels"
        assert not picture[:rows, columns:].any()
        referred = dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert referred == dcmread(study.paths[index]).SOPInstanceUID


def test_letters_of_contradicted_axes_are_doubted(make_series, make_findings):
    diagnosis = make_findings(make_series())
    assert not diagnosis.axes_are_contradicted
    flag = QualityFlag("AXES_CONTRADICTED", "the spine lies where the breastbone should")
    assert dataclasses.replace(diagnosis, flags=(*diagnosis.flags, flag)).axes_are_contradicted
    plain = np.zeros((60, 60, 3), dtype=np.uint8)
    sure, unsure = (dicom_sc.add_edge_letters(plain, (1, 0, 0, 0, 1, 0), unsure=unsure) for unsure in (False, True))
    assert (unsure > 0).sum() > (sure > 0).sum()


def test_contours_lie_on_the_lesions_and_nothing_else_is_painted_without_findings(make_series, make_findings):
    study = make_series()
    diagnosis = make_findings(study)
    contour = (dicom_sc.render_overlay(study, diagnosis, 3) == dicom_sc.CONTOUR_RGB).all(axis=2)
    labels = diagnosis.lesion_labels[3]
    assert contour.sum() > 0
    assert (labels[contour] > 0).all()
    assert not contour[9, 25], "the inside of a lesion is not painted over"
    plain = dicom_sc.render_overlay(study, diagnosis, 0)
    assert (plain[..., 0] == plain[..., 1]).all()
    assert (plain[..., 1] == plain[..., 2]).all()


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        ((1, 0, 0, 0, 1, 0), ("L", "P")),
        ((-1, 0, 0, 0, -1, 0), ("R", "A")),
        ((0, 0.9, 0.1, 0, 0.1, -0.9), ("P", "F")),
        ((0, -1, 0, 0, 0, 1), ("A", "H")),
    ],
)
def test_patient_orientation_is_the_main_direction(orientation, expected):
    assert dicom_sc.patient_orientation(orientation) == expected


def test_nothing_on_the_pdfs_first_page_covers_anything_else(make_series, make_findings):
    """As full as it gets: the limits of the networks in the box, many quality flags, more lesions than are shown."""
    diagnosis, weights = make_findings(make_series()), shipped_figures().weights
    flag = QualityFlag("CODE", "a sentence that is long enough to fill more than a whole line of the page " * 2)
    full = dataclasses.replace(
        diagnosis,
        lesions=diagnosis.lesions * 20,
        flags=(flag,) * 8,
        models={
            role: {"name": role, "sha256": getattr(weights, role).sha256} for role in ("classifier", "segmenter")
        },
        operating_point=dataclasses.replace(
            diagnosis.operating_point, slice_probability=weights.classifier.slice_probability
        ),
    )
    page = dicom_pdf._findings_page(full)
    dicom_pdf._add_footer(page, make_series(), "page 1 of 2")
    canvas = FigureCanvasAgg(page)
    canvas.draw()
    places = [axes.get_tightbbox() for axes in page.axes] + [text.get_window_extent() for text in page.texts]
    assert len(places) == 8
    assert all(0 <= place.x0 < place.x1 <= page.bbox.x1 for place in places)
    covered = [pair for pair in itertools.combinations(range(8), 2) if places[pair[0]].overlaps(places[pair[1]])]
    assert covered == []
    said = page.texts[2].get_text()
    assert "look the same as COVID-19" in said
    assert "Not evaluated in" in said


def test_the_pdf_is_whole_and_names_nobody(results):
    study, _, folder, _ = results
    dataset = dcmread(folder / "report.pdf.dcm")
    pdf = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 2
    assert not any(secret in pdf for secret in (b"4711", "Hôte".encode(), b"19600102"))
    assert NOTICE in dataset.DocumentTitle
    assert len(dataset.SourceInstanceSequence) == len(study.paths)


def test_a_kind_that_is_not_known_is_refused(make_series, make_findings, tmp_path):
    study = make_series()
    with pytest.raises(ConfigError, match="got png"):
        write_dicom_results(study, make_findings(study), tmp_path, kinds=("seg", "png"))


def test_a_folder_that_cannot_be_written_is_refused(make_series, make_findings, tmp_path):
    study = make_series()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        write_dicom_results(study, make_findings(study), tmp_path / "file" / "out", kinds=("seg",))


def test_a_disk_that_fills_up_leaves_the_earlier_result_set_as_it_was(results, monkeypatch):
    study, diagnosis, folder, _ = results
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(*arguments):
        raise OutputError("the disk is full (DISK_FULL)", code="DISK_FULL")

    monkeypatch.setattr(dicom_pdf, "write_encapsulated_pdf", full)
    with pytest.raises(OutputError, match="DISK_FULL"):
        write_dicom_results(study, diagnosis, folder, revision="another")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(folder.glob(".*"))


def test_only_results_of_the_kinds_asked_for_take_the_place_of_earlier_ones(results, make_findings):
    study, _, folder, paths = results
    before = {path: path.read_bytes() for path in paths}
    healthy = make_findings(study, positive=False)
    assert write_dicom_results(study, healthy, folder, kinds=("seg", "pm"), revision="another") == ()
    left = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    gone = {folder / "lesions.seg.dcm", folder / "activation.pm.dcm"}
    assert left == {path: content for path, content in before.items() if path not in gone}
    (report,) = write_dicom_results(study, healthy, folder, kinds=("sr",), revision="another")
    assert report.read_bytes() != before[report]
    (overlay,) = write_dicom_results(study, healthy, folder, kinds=("sc",), revision="another")
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(
        [report, overlay, folder / "report.pdf.dcm"]
    )


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian package dicom3tools)")
@pytest.mark.parametrize("source", ["single", "multi-frame", "guid", "lenient", "negative"])
def test_dciodvfy_finds_nothing_that_was_not_reviewed(source, make_series, make_multiframe, make_findings, tmp_path):
    if source == "multi-frame":
        study = make_multiframe("oblique")
    elif source == "guid":
        study = make_series(StudyInstanceUID="896911bf-1143-4c8d-8f04-f3cd1a7f6204", SOPInstanceUID="", StudyDate="")
    else:
        study = make_series("oblique, about z")
    if source == "lenient":
        study = dataclasses.replace(study, volume=CTVolume(study.volume.hu, None))
    findings = make_findings(study, positive=source != "negative")
    earlier = read_identifiers(write_dicom_results(study, findings, tmp_path / "earlier", revision="earlier"))
    paths = write_dicom_results(study, findings, tmp_path / "out", supersedes=earlier)
    for path in paths:
        checked = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        lines = (checked.stdout + checked.stderr).splitlines()
        messages = [line for line in lines if line.startswith(("Error", "Warning"))]
        assert [line for line in messages if not any(known in line for known in REVIEWED)] == []


def test_a_real_series_with_guids_and_empty_dates(shared_data, make_series, make_findings, monkeypatch, tmp_path):
    monkeypatch.setattr(pydicom_config.settings, "_reading_validation_mode", pydicom_config.IGNORE)
    study = open_study(shared_data / "volumes" / "covid_002")
    tiny = make_findings(make_series())
    labels = np.zeros(study.volume.shape, dtype=np.uint16)
    labels[60:70, 300:330, 100:130] = 1
    lesion = dataclasses.replace(
        tiny.lesions[0],
        volume_ml=9000 * study.volume.voxel_ml,
        centroid_lps_mm=study.volume.to_lps_mm((64.5, 314.5, 114.5)),
    )
    diagnosis = dataclasses.replace(
        tiny,
        slices=tuple(
            dataclasses.replace(tiny.slices[0], slice_index=index, infected=60 <= index < 62)
            for index in range(study.volume.shape[0])
        ),
        activation=np.zeros(study.volume.shape, dtype=np.float16),
        lesion_labels=labels,
        lesions=(lesion,),
    )
    paths = write_dicom_results(study, diagnosis, tmp_path / "out")
    volume = highdicom.seg.segread(paths[0]).get_volume(combine_segments=True)
    index = np.argwhere(volume.array > 0)
    assert len(index) * volume.voxel_volume / 1000 == pytest.approx(lesion.volume_ml, rel=1e-3)
    centroid = (volume.affine @ [*index.mean(axis=0), 1.0])[:3]
    assert np.abs(centroid - lesion.centroid_lps_mm).max() < 0.1
    for path in paths:
        dataset = dcmread(path)
        assert dataset.StudyInstanceUID == f"2.25.{0x896911BF11434C8D8F04F3CD1A7F6204}"
        assert dataset.SOPInstanceUID.is_valid
        assert dataset.StudyDate == ""


def test_ground_glass_and_consolidation_stand_in_the_report(make_series, make_findings, tmp_path):
    study = make_series()
    diagnosis = make_findings(study)
    assert diagnosis.burden is not None
    burden = dataclasses.replace(diagnosis.burden, percent_ground_glass=12.5, percent_consolidation=3.25)
    write_dicom_results(study, dataclasses.replace(diagnosis, burden=burden), tmp_path, kinds=("sr", "pdf"))
    report = highdicom.sr.srread(tmp_path / "findings.sr.dcm")
    (whole,) = report.content.get_image_measurement_groups()
    measured = {item.name.value: item.value for item in whole.get_measurements()}
    assert (measured["JCS012"], measured["JCS013"]) == (12.5, 3.25)
    unknown = dataclasses.replace(burden, percent_ground_glass=None, percent_consolidation=None)
    write_dicom_results(study, dataclasses.replace(diagnosis, burden=unknown), tmp_path, kinds=("sr",))
    (whole,) = highdicom.sr.srread(tmp_path / "findings.sr.dcm").content.get_image_measurement_groups()
    assert not {"JCS012", "JCS013"} & {item.name.value for item in whole.get_measurements()}


@pytest.mark.parametrize(
    ("said", "procedure"),
    [
        ({"BodyPartExamined": "CHEST"}, ("24627-2", "LN")),
        ({"BodyPartExamined": "ABDOMEN"}, ("25045-6", "LN")),
        ({}, ("25045-6", "LN")),
    ],
    ids=["chest", "abdomen", "not said"],
)
def test_the_procedure_is_that_of_the_body_part(make_series, make_findings, tmp_path, said, procedure):
    study = make_series(**said)
    write_dicom_results(study, make_findings(study), tmp_path, kinds=("sr",))
    items = dcmread(tmp_path / "findings.sr.dcm").ContentSequence
    (code,) = [
        item.ConceptCodeSequence[0]
        for item in items
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Procedure reported"
    ]
    assert (code.CodeValue, code.CodingSchemeDesignator) == procedure


def test_a_named_revision_has_the_same_identifiers_whatever_was_found(make_series, make_findings, tmp_path):
    study = make_series()
    diagnosis = make_findings(study)
    first = write_dicom_results(study, diagnosis, tmp_path / "1", revision="job")
    other = dataclasses.replace(diagnosis, positive_slice_threshold=diagnosis.positive_slice_threshold + 1)
    second = write_dicom_results(study, other, tmp_path / "2", revision="job")
    assert [one.instance for one in read_identifiers(first)] == [one.instance for one in read_identifiers(second)]
    (report,) = read_identifiers([tmp_path / "1" / "findings.sr.dcm"])
    assert report.series == report_series_uid("job")
    assert report_series_uid("job") != report_series_uid("other job")


def test_every_object_states_the_patient_and_the_study_of_the_source(make_series, make_findings, tmp_path):
    stated = {
        "PatientName": "山田　太郎",
        "PatientID": "患者/1",
        "IssuerOfPatientID": "HOSPITAL A",
        "PatientBirthDate": "19600102",
        "PatientSex": "F",
        "PatientAge": "060Y",
        "PatientWeight": "61.5",
        "StudyDate": "20200401",
        "StudyTime": "101112",
        "StudyID": "S1",
        "StudyDescription": "CT chest",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Hôte^Zoé",
    }
    study = make_series(SpecificCharacterSet="ISO_IR 192", **stated)
    diagnosis = make_findings(study)
    earlier = read_identifiers(write_dicom_results(study, diagnosis, tmp_path / "1", kinds=("sr",), revision="first"))
    written = write_dicom_results(study, diagnosis, tmp_path / "2", revision="second", supersedes=earlier)
    assert {path.name.split(".")[1] for path in written} == {"seg", "pm", "sr", "sc", "pdf", "ko"}
    for path in written:
        dataset = dcmread(path)
        assert {keyword: str(dataset.get(keyword)) for keyword in stated} == stated, path.name


def test_superseded_results_are_named_by_a_rejection_note_and_by_the_new_report(make_series, make_findings, tmp_path):
    study = make_series()
    diagnosis = make_findings(study)
    earlier = read_identifiers(write_dicom_results(study, diagnosis, tmp_path / "1", revision="first"))
    written = write_dicom_results(study, diagnosis, tmp_path / "2", revision="second", supersedes=earlier)
    assert written[-1].name == "superseded.ko.dcm"
    note = dcmread(written[-1])
    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert note.StudyInstanceUID == dcmread(study.paths[0]).StudyInstanceUID
    assert note.PatientID == "ID-4711"
    referred = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in note.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    assert referred == {one.instance for one in earlier}
    report = dcmread(tmp_path / "2" / "findings.sr.dcm")
    predecessor = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == dcmread(tmp_path / "1" / "findings.sr.dcm").SOPInstanceUID
    write_dicom_results(study, diagnosis, tmp_path / "2", revision="third")
    assert not written[-1].exists()
