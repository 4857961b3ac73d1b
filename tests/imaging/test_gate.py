"""The gate on plain header facts: no files, no children."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jcs_ct.errors import GateCode
from jcs_ct.imaging import gate_axes
from jcs_ct.imaging import gate_geometry as gate
from jcs_ct.imaging.gate import examine
from jcs_ct.imaging.gate_finding import Severity
from jcs_ct.imaging.headers import CT_SOP_CLASSES, SliceHeader, identity_hash
from jcs_ct.imaging.sandbox import SandboxLimits
from jcs_ct.imaging.unpacking import ArchiveLimits

CT = min(CT_SOP_CLASSES)


def stack(count=20, step_mm=2.0, **values):
    """Headers of a good series, from the top."""
    common = {
        "modality": "CT",
        "sop_class": CT,
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "rows": 8,
        "columns": 8,
        "bits_allocated": 16,
        "bits_stored": 12,
        "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "pixel_spacing": (0.7, 0.7),
        "slope": 1.0,
        "intercept": -1024.0,
        "pixel_bytes": 128,
    }
    return [
        SliceHeader(file_index=n, instance_number=n + 1, position=(0.0, 0.0, -step_mm * n), **{**common, **values})
        for n in range(count)
    ]


def refused(headers, *, lenient=False):
    return [finding.code for finding in examine(headers).refusals(lenient=lenient)]


def notes(headers):
    return [finding.code for finding in examine(headers).findings if finding.severity is Severity.NOTE]


def moved(header, left=0.0, posterior=0.0, superior=0.0):
    x, y, z = header.position
    return replace(header, position=(x + left, y + posterior, z + superior))


def test_a_good_series_passes_without_a_note():
    examination = examine(stack(100))
    assert examination.findings == ()
    assert examination.is_measurable
    assert examination.stack.extent_mm == pytest.approx(198.0)


@settings(deadline=None)  # a busy machine is no error
@given(st.permutations(range(12)))
def test_order_does_not_depend_on_the_files_order(order):
    headers = stack(12)
    examination = examine([headers[index] for index in order])
    assert [order[index] for index in examination.order] == list(range(12))


@settings(deadline=None)  # a busy machine is no error
@given(
    st.floats(-25, 25), st.floats(-14, 14), st.floats(0.3, 10), st.tuples(st.floats(0.3, 1.2), st.floats(0.3, 1.2))
)
def test_affine_reproduces_any_oblique_stack(about_x, about_z, step_mm, pixel_spacing):
    a, b = np.radians(about_x), np.radians(about_z)
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    row, column, normal = (turn_z @ turn_x).T
    start = np.array([-100.0, -80.0, 60.0])
    headers = [
        replace(
            header,
            orientation=(*row, *column),
            position=tuple(start - normal * step_mm * number),
            pixel_spacing=pixel_spacing,
        )
        for number, header in enumerate(stack(12))
    ]
    examination = examine(headers)
    assert refused(headers) == []
    expected = start - normal * step_mm * 7 + column * pixel_spacing[0] * 3 + row * pixel_spacing[1] * 5
    assert (examination.stack.affine @ [7, 3, 5, 1])[:3] == pytest.approx(expected, abs=1e-6)


def test_one_missing_slice_and_several():
    headers = stack(60)
    assert refused(headers[:40] + headers[41:]) == [GateCode.GAP]
    examination = examine(headers[:20] + headers[21:40] + headers[42:])
    assert examination.findings[0].message == (
        "slice spacing is irregular: 6.00 mm between slices 39 and 40, median 2.00 mm; "
        "3 slices are probably missing, export the series again"
    )


def test_two_spacings_in_one_series_are_mixed_not_a_gap():
    headers = stack(20) + [
        replace(header, position=(0.0, 0.0, -38.0 - 6.0 * (n + 1))) for n, header in enumerate(stack(15))
    ]
    assert refused(headers) == [GateCode.MIXED_SPACING]


def test_one_percent_of_spacing_is_tolerated_and_more_is_not():
    headers = stack(20, step_mm=10.0)
    assert refused([*headers[:-1], moved(headers[-1], superior=-0.09)]) == []
    assert refused([*headers[:-1], moved(headers[-1], superior=-0.5)]) == [GateCode.MIXED_SPACING]


def test_all_slices_at_one_position_are_duplicates():
    headers = [replace(header, position=(0.0, 0.0, 0.0)) for header in stack(6)]
    assert refused(headers) == [GateCode.DUPLICATE_POSITION]
    assert examine(headers).stack.affine is None


def test_interleaved_duplicates_do_not_hide_a_gap():
    headers = stack(30)
    assert refused([*headers[:10], *headers[11:], headers[20]]) == [GateCode.DUPLICATE_POSITION, GateCode.GAP]


def test_shear_and_one_stray_slice_are_told_apart():
    headers = stack(20)
    sheared = [moved(header, posterior=0.02 * n) for n, header in enumerate(headers)]
    assert refused(sheared) == [GateCode.TILT]
    assert refused([*headers[:7], moved(headers[7], left=3.0), *headers[8:]]) == [GateCode.MIXED_SERIES]


def test_one_slice_of_another_modality_refuses_the_series():
    headers = stack()
    assert refused([*headers[:5], replace(headers[5], modality="MR"), *headers[6:]]) == [GateCode.NOT_CT]


def test_stated_gantry_tilt_is_refused_and_zero_is_not():
    assert refused(stack(gantry_tilt=-15.0)) == [GateCode.TILT]
    assert refused(stack(gantry_tilt=0.0)) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"modality": "PT"}, GateCode.NOT_CT),
        ({"modality": "", "sop_class": "1.2.840.10008.5.1.4.1.1.7"}, GateCode.NOT_CT),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7"}, GateCode.NOT_CT),
        ({"samples": 3, "pixel_bytes": 512}, GateCode.NOT_CT),
        ({"photometric": "PALETTE COLOR"}, GateCode.NOT_CT),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, GateCode.LOCALIZER),
        ({"image_type": ("DERIVED", "PRIMARY", "PERFUSION", "RCBF")}, GateCode.NO_HU),
        ({"rescale_type": "Z_EFF"}, GateCode.NO_HU),
        ({"rescale_type": "SUV"}, GateCode.NO_HU),
        ({"image_type": ("DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC")}, GateCode.NO_HU),
        ({"image_type": ("DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"), "rescale_type": "US"}, GateCode.NO_HU),
        ({"slope": 0.0}, GateCode.NO_HU),
        ({"intercept": None}, GateCode.NO_HU),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.55"}, GateCode.UNSUPPORTED),
        ({"rows": 0}, GateCode.UNREADABLE),
        ({"bits_allocated": 12}, GateCode.UNREADABLE),
        ({"bits_stored": 17}, GateCode.UNREADABLE),
        ({"frames": 10**9}, GateCode.UNREADABLE),
        ({"pixel_bytes": 127}, GateCode.TRUNCATED),
        ({"pixel_bytes": 144}, GateCode.UNREADABLE),
        ({"pixel_bytes": 0, "whole": False}, GateCode.TRUNCATED),
        ({"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, GateCode.NOT_AXIAL),
    ],
)
def test_what_is_no_axial_ct_is_refused_even_when_lenient(changes, code):
    assert refused(stack(**changes), lenient=True)[0] == code


@pytest.mark.parametrize(
    "changes",
    [
        {"position": None},
        {"orientation": None},
        {"pixel_spacing": None},
        {"pixel_spacing": (0.0, 0.7)},
        {"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)},
        {"orientation": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
    ],
)
def test_a_slice_without_geometry(changes):
    headers = stack()
    headers[3] = replace(headers[3], **changes)
    assert refused(headers) == [GateCode.NO_POSITION]
    assert refused(headers, lenient=True) == []
    examination = examine(headers[::-1])
    assert not examination.is_measurable
    assert [headers[::-1][index].instance_number for index in examination.order] == list(range(1, 21))


def test_a_few_bytes_of_padding_behind_the_pixels_are_no_fault():
    assert refused(stack(pixel_bytes=130)) == []


@pytest.mark.parametrize("spacing", [(0.001, 0.001), (0.7, 700.0)])
def test_spacings_that_no_ct_has_are_not_measured(spacing):
    headers = stack(pixel_spacing=spacing)
    assert refused(headers) == [GateCode.NO_POSITION]
    assert not examine(headers).is_measurable


def test_notes():
    assert notes(stack(20)) == ["PARTIAL_CHEST"]
    assert notes(stack(40, step_mm=10.0, slice_thickness=1.0)) == ["SPARSE_SLICES"]
    assert notes(stack(100, lossy=True, image_type=("DERIVED", "SECONDARY", "MPR"))) == [
        "LOSSY_COMPRESSION",
        "DERIVED_SERIES",
    ]
    computed = ("VMI", "VIRTUAL_MONO", "MONO_E 40KEV", "MAT_REMOVED")
    for kind in ("MIP", "MIN IP", "AVERAGE", "PROJECTION IMAGE", "MPR", *computed):
        assert notes(stack(100, image_type=("DERIVED", "PRIMARY", "AXIAL", kind))) == ["DERIVED_SERIES"]
    for stated in ("HU", "hu", "US"):
        assert notes(stack(100, rescale_type=stated)) == []
    for kind in ("AXIAL", "CT_SOM5 SPI", "HELIX"):
        assert notes(stack(100, image_type=("DERIVED", "PRIMARY", kind))) == []
    assert notes(stack(100, modality="")) == ["NO_MODALITY"]
    assert notes(stack(100, burned_in=True)) == ["BURNED_IN"]
    for age, said in ((None, []), (0.0, []), (0.25, ["CHILD"]), (15.9, ["CHILD"]), (16.0, []), (90.0, [])):
        assert notes(stack(100, age_years=age)) == said
    assert notes([*stack(99), replace(stack(100)[99], intercept=0.0)]) == [GateCode.HU_VARIES]


def in_plane(degrees, **values):
    """A good series whose slices are turned in their plane."""
    angle = np.radians(degrees)
    row, column = (np.cos(angle), np.sin(angle), 0.0), (-np.sin(angle), np.cos(angle), 0.0)
    return stack(100, orientation=(*row, *column), **values)


@pytest.mark.parametrize("quarter", [0, 90, 180, 270])
@pytest.mark.parametrize(
    ("degrees", "codes", "flags"),
    [
        (0.5, [], []),
        (14, [], ["OBLIQUE"]),
        (16, [GateCode.NOT_AXIAL], []),
        (45, [GateCode.NOT_AXIAL], []),
        (74, [GateCode.NOT_AXIAL], []),
        (76, [], ["OBLIQUE"]),
    ],
)
def test_turns_in_the_plane_beside_quarter_turns(quarter, degrees, codes, flags):
    headers = in_plane(quarter + degrees)
    assert refused(headers) == refused(headers, lenient=True) == codes
    assert [code for code in notes(headers) if code == "OBLIQUE"] == flags


def cut(count=100, plane="coronal", step_mm=2.0, **values):
    """A series of coronal or sagittal slices of 100 x 100 pixels."""
    across = {"coronal": (0.0, 1.0, 0.0), "sagittal": (1.0, 0.0, 0.0)}[plane]
    along = {"coronal": (1.0, 0.0, 0.0), "sagittal": (0.0, 1.0, 0.0)}[plane]
    return [
        replace(
            header,
            orientation=(*along, 0.0, 0.0, -1.0),
            position=tuple(step_mm * number * np.array(across)),
            rows=100,
            columns=100,
            pixel_spacing=(2.5, 2.5),
            pixel_bytes=20000,
            **values,
        )
        for number, header in enumerate(stack(count))
    ]


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_axial_slices_are_cut_out_of_others_of_sound_geometry(plane):
    assert refused(cut(plane=plane)) == []
    assert notes(cut(plane=plane)) == [f"{plane.upper()}_SLICES"]
    assert examine(cut(plane=plane)).turn.order[0] == 1
    assert refused(cut(plane=plane, step_mm=4.0)) == [GateCode.NOT_AXIAL]
    short = notes(cut(40, plane=plane))
    assert short == ["PARTIAL_CHEST", f"{plane.upper()}_SLICES"]
    gap = cut(plane=plane)
    del gap[50]
    assert refused(gap) == [GateCode.NOT_AXIAL, GateCode.GAP]
    assert refused(gap, lenient=True) == [GateCode.NOT_AXIAL]
    assert refused(cut(4, plane=plane)) == [GateCode.NOT_AXIAL, GateCode.TOO_FEW_SLICES]


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("HFS", None),
        ("FFS", None),
        ("", None),
        ("HFP", "lay prone (Patient Position HFP): dependent opacities and fluid gather at the front"),
        ("FFP", "lay prone (Patient Position FFP)"),
        (
            "HFDR",
            "lay on the right side (Patient Position HFDR): dependent opacities and fluid gather in the right lung",
        ),
        ("FFDL", "lay on the left side (Patient Position FFDL)"),
    ],
)
def test_how_the_patient_lay_is_said_where_it_moves_what_depends(stated, words):
    found = [f for f in examine(stack(100, patient_position=stated)).findings if f.code == "PATIENT_POSITION"]
    assert [words in finding.message for finding in found] == ([] if words is None else [True])
    assert all(finding.severity is Severity.NOTE for finding in found)


@pytest.mark.parametrize("key", ["patient_key", "study_key", "frame_of_reference_key", "kernel"])
def test_one_series_identity_over_two_origins(key):
    headers = stack()
    headers[5] = replace(headers[5], **{key: "another"})
    assert refused(headers) == [GateCode.MIXED_SERIES]


def test_headers_survive_json():
    import json

    header = stack()[3]
    assert SliceHeader.from_dict(json.loads(json.dumps(header.to_dict()))) == header
    with pytest.raises(TypeError, match="unknown header facts"):
        SliceHeader.from_dict({"patient_name": "x"})


def test_identities_travel_hashed():
    assert identity_hash("1.2.3") == identity_hash("1.2.3") != identity_hash("1.2.4")
    assert len(identity_hash("1.2.3")) == 16


def test_the_reference_names_every_code_and_tolerance():
    text = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "inputs.md").read_text(encoding="utf-8")
    assert [code for code in GateCode if f"`{code}`" not in text] == []
    for stated in (
        f"{gate.SPACING_TOLERANCE:.0%}".replace("%", " %"),
        f"{gate.SPACING_TOLERANCE_MM:g} mm",
        f"within {gate.GRID_TOLERANCE_MM:g} mm",
        f"closer than {gate.DUPLICATE_SHARE:g} of",
        f"| {gate.TILT_TOLERANCE_DEG:g}° |",
        f"{gate_axes.AXIAL_LIMIT_DEG:g}°; flagged `OBLIQUE` from {gate_axes.OBLIQUE_FROM_DEG:g}°",
        f"| {gate_axes.IN_PLANE_LIMIT_DEG:g}°; flagged",
        f"longer than {gate_axes.MAXIMUM_PIXEL_MM:g} mm",
        f"| {gate.CENTRE_TOLERANCE_MM:g} mm |",
        f"fewer than {gate.MINIMUM_SLICES} slices",
        f"less than {gate.WHOLE_CHEST_MM:g} mm",
    ):
        assert stated in text
    limits, archive = SandboxLimits(), ArchiveLimits()
    assert f"| {limits.memory_bytes >> 30} GiB beyond" in text
    assert f"| {limits.seconds_per_item:g} s |" in text
    assert f"| {limits.cpu_seconds} s |" in text
    assert f"| {archive.total_bytes >> 30} GiB, and {archive.ratio:g} times" in text
