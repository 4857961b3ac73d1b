"""Break a good series in every way the geometry gate knows, and print what the gate says of each.

    python scripts/gate_table.py [STUDY ...] [--json]

Always breaks a small phantom; STUDY is a folder with one good axial DICOM series, broken in the same ways. For every
fault: the gate's code and message, what ``--lenient`` gives, and for what is accepted whether every HU and the
volume of a voxel are right. HU are checked against slope * stored + intercept as pydicom reads them. Exit code 1 when
a fault is judged otherwise than stated here.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.dataset import Dataset

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.imaging.study import Study
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom
from jcs_ct.volume import BACKGROUND_HU

Slices = list[Dataset]
ACCEPTED = "read"
_TILT_DEG = 14.0
#: As many slices from the middle of a series are enough to break it.
MOST_SLICES = 24


@dataclass(frozen=True)
class Fault:
    """One way to break a series.

    Args:
        edit: From the good slices, top down, to the broken ones; unchanged slices are passed on as they are.
        expected: The gate's code, or ``read``.
        lenient: The same under ``--lenient``.
        flag: Code of the quality flag of an accepted series.
        cut: Slice whose file is cut off on disk.
    """

    edit: Callable[[Slices], Slices]
    expected: str
    lenient: str = ACCEPTED
    flag: str | None = None
    cut: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the gate said of one fault."""

    fault: str
    source: str
    code: str
    message: str
    lenient: str
    flags: tuple[str, ...]
    hu_right: bool | None
    voxel_right: bool | None
    as_stated: bool


def changed(dataset: Dataset, **values: Any) -> Dataset:
    """A copy with other attributes; None removes one."""
    other = copy.deepcopy(dataset)
    for name, value in values.items():
        if value is None:
            del other[name]
        else:
            setattr(other, name, value)
    return other


def one(place: int, **values: Any) -> Callable[[Slices], Slices]:
    """Change one slice."""
    return lambda slices: [changed(s, **values) if n == place else s for n, s in enumerate(slices)]


def every(**values: Any) -> Callable[[Slices], Slices]:
    """Change every slice."""
    return lambda slices: [changed(s, **values) for s in slices]


def moved(offset_mm: Callable[[int, float], Sequence[float]]) -> Callable[[Slices], Slices]:
    """Move each slice by ``offset_mm(number, step_mm)``."""

    def edit(slices: Slices) -> Slices:
        step = step_mm(slices)
        return [
            changed(s, ImagePositionPatient=[round(p + o, 6) for p, o in zip(position(s), offset_mm(n, step))])
            for n, s in enumerate(slices)
        ]

    return edit


def position(dataset: Dataset) -> tuple[float, ...]:
    """Image Position (Patient)."""
    return tuple(float(value) for value in dataset.ImagePositionPatient)


def step_mm(slices: Slices) -> float:
    """Distance between the first two slices."""
    return math.dist(position(slices[0]), position(slices[1]))


def _missing(slices: Slices) -> Slices:
    return [s for n, s in enumerate(slices) if n != 5]


def _duplicate(slices: Slices) -> Slices:
    return [*slices, changed(slices[4], SOPInstanceUID=f"{slices[4].SOPInstanceUID}9"[:64], InstanceNumber=999)]


def _turned(axis_deg: float) -> list[float]:
    angle = math.radians(axis_deg)
    return [1, 0, 0, 0, round(math.cos(angle), 9), round(math.sin(angle), 9)]


def _two_kernels(slices: Slices) -> Slices:
    return [changed(s, ConvolutionKernel="SMOOTH") if n % 2 else s for n, s in enumerate(slices)]


def _half_size(slices: Slices) -> Slices:
    broken = one(2, Rows=slices[2].Rows // 2)(slices)
    if not broken[2].file_meta.TransferSyntaxUID.is_compressed:
        broken[2].PixelData = broken[2].PixelData[: len(broken[2].PixelData) // 2]
    return broken


def _coarser(slices: Slices) -> Slices:
    row_mm, column_mm = slices[3].PixelSpacing
    return one(3, PixelSpacing=[round(row_mm * 1.1, 6), column_mm])(slices)


def _shifted_intercept(slices: Slices) -> Slices:
    return one(4, RescaleIntercept=str(float(slices[4].RescaleIntercept) + 24))(slices)


def _reversed(slices: Slices) -> Slices:
    count = len(slices)
    return [changed(s, InstanceNumber=count - n) for n, s in reversed(list(enumerate(slices)))]


def _guids(slices: Slices) -> Slices:
    series = "896911BF-1143-4C8D-8F04-F3CD1A7F6204"
    return every(SeriesInstanceUID=series, StudyInstanceUID=series.lower(), FrameOfReferenceUID="")(slices)


def _interleaved(shift: float, **second: Any) -> Callable[[Slices], Slices]:
    """Every slice once more, ``shift`` steps further down and changed: another acquisition in the same series."""

    def edit(slices: Slices) -> Slices:
        step = step_mm(slices)
        again = moved(lambda n, _: (0, 0, -round(shift * step, 2)))(every(**second)(slices))
        return [*slices, *(changed(s, SOPInstanceUID=f"{s.SOPInstanceUID}9"[:64]) for s in again)]

    return edit


def _split(slices: Slices) -> Slices:
    place = 2 * len(slices) // 3
    return [*slices[:place], *every(SeriesInstanceUID="1.2.826.0.1.3680043.8.498.1")(slices[place:])]


def _with_pixels(dataset: Dataset, plane: NDArray[Any]) -> Dataset:
    other = copy.deepcopy(dataset)
    if other.file_meta.TransferSyntaxUID.is_compressed:
        other.decompress()
    other.PixelData = np.ascontiguousarray(plane, dtype=dataset.pixel_array.dtype).tobytes()
    return other


def _upside_down_below(slices: Slices) -> Slices:
    place = len(slices) // 2
    return [*slices[:place], *(_with_pixels(s, s.pixel_array[::-1]) for s in slices[place:])]


def _pixels_around(first: int, last: int) -> Callable[[Slices], Slices]:
    """The pixels of a run of slices the other way around; positions stay."""
    return lambda slices: [
        _with_pixels(s, slices[first + last - n].pixel_array) if first <= n <= last else s
        for n, s in enumerate(slices)
    ]


def _empty_pixels(slices: Slices) -> Slices:
    return [_with_pixels(s, np.zeros_like(s.pixel_array)) if n == 4 else s for n, s in enumerate(slices)]


def _two_frames(slices: Slices) -> Slices:
    """Every slice with the next one behind it in its file, and nothing that says so but the number of frames."""
    pairs = [
        _with_pixels(s, np.stack([s.pixel_array, other.pixel_array]))
        for s, other in zip(slices[::2], slices[1::2], strict=True)
    ]
    return every(NumberOfFrames="2")(pairs)


def _sign_of_dense_bone(slices: Slices) -> Slices:
    """12 bits that are stated to be signed and are not, with bone that needs the highest of them."""
    broken = []
    for s in slices:
        stored = s.pixel_array - s.pixel_array.min()
        rows, columns = (side // 2 for side in stored.shape)
        stored[rows : rows + 4, columns : columns + 4] = 2000 + 20 * np.arange(16).reshape(4, 4)
        stored = stored.astype(np.int32)
        stored = np.where(stored >= 2048, stored - 4096, stored)
        broken.append(_with_pixels(s, stored))
    return every(BitsStored=12, HighBit=11, PixelRepresentation=1, RescaleSlope="1", RescaleIntercept="-1024")(broken)


_CODES_FOR_GOOD = ("MIXED_SIZE", "NO_HU", "NOT_CT", "LOCALIZER", "NOT_AXIAL", "TRUNCATED", "UNSUPPORTED")
_REFUSED_FOR_GOOD = {code: code for code in _CODES_FOR_GOOD}


def _refused(edit: Callable[[Slices], Slices], code: GateCode, **options: Any) -> Fault:
    return Fault(edit, code, _REFUSED_FOR_GOOD.get(code, ACCEPTED), **options)


FAULTS = {
    "none": Fault(list, ACCEPTED),
    "missing slice": _refused(_missing, GateCode.GAP),
    "slice twice": _refused(_duplicate, GateCode.DUPLICATE_POSITION),
    "tilt by shear": _refused(
        moved(lambda n, step: (0, n * step * math.tan(math.radians(_TILT_DEG)), 0)), GateCode.TILT
    ),
    "tilt by orientation": _refused(every(ImageOrientationPatient=_turned(_TILT_DEG)), GateCode.TILT),
    "tilt in the header only": _refused(every(GantryDetectorTilt="12.5"), GateCode.TILT),
    "one slice turned": _refused(one(3, ImageOrientationPatient=_turned(5)), GateCode.MIXED_ORIENTATION),
    "one slice of other pixels": _refused(_coarser, GateCode.MIXED_SPACING),
    "unequal spacing": _refused(moved(lambda n, step: (0, 0, -0.65 * step * (n > 4))), GateCode.MIXED_SPACING),
    "one slice of another size": _refused(_half_size, GateCode.MIXED_SIZE),
    "two kernels in one series": _refused(_two_kernels, GateCode.MIXED_SERIES),
    "one slice of another patient": _refused(one(3, PatientID="another"), GateCode.MIXED_SERIES),
    "one slice of another centre": _refused(moved(lambda n, _: (-5.0 * (n == 3), 0, 0)), GateCode.MIXED_SERIES),
    "a second phase at 0.48 of a step": _refused(_interleaved(0.48, AcquisitionNumber=2), GateCode.MIXED_SERIES),
    "a second phase at half a step": _refused(_interleaved(0.5), GateCode.MIXED_SERIES),
    "one scan over two series": Fault(_split, ACCEPTED, flag="JOINED_SERIES"),
    "pixels of one slice lost": _refused(_empty_pixels, GateCode.TRUNCATED),
    "lower half upside down": Fault(_upside_down_below, GateCode.MIXED_ORIENTATION, GateCode.MIXED_ORIENTATION),
    "pixels of two slices exchanged": _refused(_pixels_around(5, 6), GateCode.SLICE_ORDER),
    "pixels of six slices the other way around": _refused(_pixels_around(2, 7), GateCode.SLICE_ORDER),
    "intercept lost": _refused(every(RescaleIntercept="0"), GateCode.NO_HU),
    "two frames in a file": _refused(_two_frames, GateCode.UNSUPPORTED),
    "dense bone under a wrong sign": _refused(_sign_of_dense_bone, GateCode.NO_HU),
    "no position": _refused(one(3, ImagePositionPatient=None), GateCode.NO_POSITION),
    "no orientation": _refused(every(ImageOrientationPatient=None), GateCode.NO_POSITION),
    "pixels cut off": _refused(list, GateCode.TRUNCATED, cut=6),
    "one slice of another intercept": Fault(_shifted_intercept, ACCEPTED, flag="HU_VARIES"),
    "one slice without slope": _refused(one(6, RescaleSlope=None), GateCode.NO_HU),
    "reversed order": Fault(_reversed, ACCEPTED),
    "GUIDs for UIDs": Fault(_guids, ACCEPTED),
    "empty dates": Fault(every(StudyDate="", SeriesDate="", AcquisitionDate="", ContentDate=""), ACCEPTED),
    "three slices": _refused(lambda slices: slices[:3], GateCode.TOO_FEW_SLICES),
    "coronal": _refused(every(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), GateCode.NOT_AXIAL),
    "localizer": _refused(every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), GateCode.LOCALIZER),
    "another modality": _refused(every(Modality="MR"), GateCode.NOT_CT),
}


def read_slices(folder: Path) -> Slices:
    """The files of a good series, top down; of a long one its middle part."""
    headers = [dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    headers.sort(key=lambda dataset: -position(dataset)[2])
    first = max(0, (len(headers) - MOST_SLICES) // 2)
    return [dcmread(header.filename) for header in headers[first : first + MOST_SLICES]]


def write_broken(fault: Fault, slices: Slices, folder: Path) -> Slices:
    """Write the broken series; unchanged slices are links to the good files. Returns what was written."""
    folder.mkdir(parents=True)
    good = {id(dataset) for dataset in slices}
    broken = fault.edit(slices)
    for number, dataset in enumerate(broken):
        path = folder / f"{number:04d}.dcm"
        if fault.cut == number:
            content = Path(dataset.filename).read_bytes()
            path.write_bytes(content[: int(0.6 * len(content))])
        elif id(dataset) in good:
            path.symlink_to(Path(dataset.filename).absolute())
        else:
            dataset.save_as(path)  # with preamble and meta as read: real series leave some of the meta empty
    return broken


def expected_hu(dataset: Dataset) -> NDArray[np.float64]:
    """HU of one slice by its own header; padding is background."""
    stored = dataset.pixel_array
    hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return np.where((hu <= -2000) | (stored == dataset.get("PixelPaddingValue", -(2**31))), BACKGROUND_HU, hu)


def check_values(study: Study, written: Slices) -> tuple[bool, bool]:
    """Whether every HU, and the volume of a voxel, are those of the files."""
    ordered = sorted(written, key=lambda dataset: -position(dataset)[2])
    same = len(ordered) == study.volume.shape[0] and all(
        np.array_equal(plane, expected_hu(dataset)) for plane, dataset in zip(study.volume.hu, ordered, strict=True)
    )
    row_mm, column_mm = (float(value) for value in ordered[0].PixelSpacing)
    voxel_ml = step_mm(ordered) * row_mm * column_mm / 1000
    stated = study.volume.voxel_ml
    return same, stated is not None and math.isclose(stated, voxel_ml, rel_tol=1e-3)


def judge(name: str, slices: Slices, source: str, folder: Path) -> Verdict:
    """Break the series in one way and ask the gate, strictly and leniently."""
    fault = FAULTS[name]
    written = write_broken(fault, slices, folder)
    hu_right = voxel_right = None
    flags: tuple[str, ...] = ()
    try:
        study = open_study(folder)
        code, message = ACCEPTED, "; ".join(f"{flag.message} ({flag.code})" for flag in study.flags)
        flags = tuple(str(flag.code) for flag in study.flags)
        hu_right, voxel_right = check_values(study, written)
    except StudyError as error:
        code, message = str(error.code), str(error)
    lenient = lenient_code(folder)
    as_stated = (code, lenient) == (fault.expected, fault.lenient) and hu_right is not False
    as_stated = as_stated and voxel_right is not False and (fault.flag is None or fault.flag in flags)
    return Verdict(name, source, code, message, lenient, flags, hu_right, voxel_right, as_stated)


def lenient_code(folder: Path) -> str:
    """``read`` or the code of a series under ``--lenient``."""
    try:
        open_study(folder, lenient=True)
    except StudyError as error:
        return str(error.code)
    return ACCEPTED


def verdicts(folder: Path, source: str, names: Sequence[str] = tuple(FAULTS)) -> Iterator[Verdict]:
    """One verdict a fault."""
    with pydicom_config.disable_value_validation():
        slices = read_slices(folder)
        for name in names:
            with tempfile.TemporaryDirectory() as scratch:
                yield judge(name, slices, source, Path(scratch) / "series")


def phantom_series(folder: Path) -> Path:
    """A phantom of 10 small slices as DICOM."""
    write_dicom(make_phantom(PhantomConfig(slices=10, size=64, lesions=3, seed=4)), folder)
    return folder / "dicom"


def table(rows: Sequence[Verdict]) -> Iterator[str]:
    """Markdown."""
    yield "| fault | of | verdict | what the gate says | `--lenient` | HU, voxel volume |"
    yield "|---|---|---|---|---|---|"
    words = {None: "-", True: "right", False: "**WRONG**"}
    for row in rows:
        right = words[None if row.hu_right is None else bool(row.hu_right and row.voxel_right)]
        code = row.code if row.as_stated else f"**{row.code}, expected {FAULTS[row.fault].expected}**"
        yield f"| {row.fault} | {row.source} | {code} | {row.message} | {row.lenient} | {right} |"


def main() -> int:
    """Print the table; 1 when a verdict is not the stated one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path, help="folders with one good axial series each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(verdicts(phantom_series(Path(scratch)), "phantom"))
    for study in options.studies:
        rows += verdicts(study, study.name)
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else "\n".join(table(rows)))
    return int(not all(row.as_stated for row in rows))


if __name__ == "__main__":
    sys.exit(main())
