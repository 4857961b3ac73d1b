"""The good inputs that ``fuzz_inputs`` damages: one small phantom in every form, with its true geometry."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

SLICES = 7

Files = Mapping[str, bytes]


def as_it_is(files: Files) -> Files:
    """No container."""
    return files


def as_gzip(files: Files) -> Files:
    """Each file compressed by itself."""
    return {f"{name}.gz": gzip.compress(content, 6, mtime=0) for name, content in files.items()}


def as_zip(files: Files) -> Files:
    """All files in one ZIP."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name), content)
    return {"study.zip": stream.getvalue()}


def as_tar(files: Files) -> Files:
    """All files in one TAR."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as package:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            package.addfile(info, io.BytesIO(content))
    return {"study.tar": stream.getvalue()}


@dataclass(frozen=True, eq=False)
class Seed:
    """A good input.

    Args:
        content: Its files by name, before they are put into a container.
        affine: (slice, row, column, 1) -> LPS mm, None where the input has no geometry.
        shape: (slices, rows, columns).
        hu: Its voxels, None where the input has no geometry.
        wrap: Puts the files into their container.
    """

    content: Files
    affine: NDArray[np.float64] | None
    shape: tuple[int, int, int]
    hu: NDArray[np.int16] | None = None
    wrap: Callable[[Files], Files] = as_it_is

    @property
    def files(self) -> Files:
        """What lies on disk, by name."""
        return self.wrap(self.content)


def make_seeds() -> dict[str, Seed]:
    """One good input of each kind, made from one small phantom."""
    phantom = make_phantom(
        PhantomConfig(slices=SLICES, size=32, lesions=2, seed=3, slice_spacing_mm=8.0, pixel_mm=2.5)
    )
    affine, shape, hu = phantom.volume.affine, phantom.volume.shape, phantom.volume.hu
    if affine is None:
        raise SystemExit("a phantom always knows its geometry")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_dicom(phantom, folder)
        slices = {path.name: dcmread(path) for path in sorted((folder / "dicom").iterdir())}
        dicom = {
            name: {file: _encoded(dataset, syntax) for file, dataset in slices.items()}
            for name, syntax in {
                "dicom": ExplicitVRLittleEndian,
                "dicom-implicit": ImplicitVRLittleEndian,
                "dicom-big-endian": ExplicitVRBigEndian,
                "dicom-rle": RLELossless,
            }.items()
        }
        little, big = (_nifti(hu, affine, order, folder) for order in "<>")
    pictures = {f"{n}.png": _png(plane) for n, plane in enumerate(hu)}
    return {
        **{name: Seed(files, affine, shape, hu) for name, files in dicom.items()},
        "dicom-enhanced": Seed({"enhanced.dcm": _enhanced(list(slices.values()))}, affine, shape, hu),
        "nifti": Seed({"ct.nii": little}, affine, shape, hu),
        "nifti-big-endian": Seed({"ct.nii": big}, affine, shape, hu),
        "nifti-gz": Seed({"ct.nii": little}, affine, shape, hu, as_gzip),
        "png": Seed(pictures, None, shape),
        "zip": Seed(dicom["dicom"], affine, shape, hu, as_zip),
        "tar": Seed(dicom["dicom"], affine, shape, hu, as_tar),
    }


def _encoded(dataset: Dataset, syntax: str) -> bytes:
    """One slice as a file in a transfer syntax."""
    copy = deepcopy(dataset)
    if syntax == RLELossless:
        copy.compress(RLELossless, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        copy.PixelData = np.frombuffer(copy.PixelData, "<u2").astype(">u2").tobytes()
    if syntax != RLELossless:
        copy.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    dcmwrite(
        stream,
        copy,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    return stream.getvalue()


def _enhanced(slices: Sequence[Dataset]) -> bytes:
    first = slices[0]
    multi, measures, turned, rescale = deepcopy(first), Dataset(), Dataset(), Dataset()
    multi.SOPClassUID = multi.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    multi.NumberOfFrames = len(slices)
    multi.PixelData = b"".join(one.PixelData for one in slices)
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    turned.ImageOrientationPatient = first.ImageOrientationPatient
    rescale.RescaleSlope, rescale.RescaleIntercept = first.RescaleSlope, first.RescaleIntercept
    rescale.RescaleType = "HU"
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    shared.PixelValueTransformationSequence = [rescale]
    multi.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for one in slices:
        plane, groups = Dataset(), Dataset()
        plane.ImagePositionPatient = one.ImagePositionPatient
        groups.PlanePositionSequence = [plane]
        frames.append(groups)
    multi.PerFrameFunctionalGroupsSequence = frames
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        del multi[name]
    _undefined_lengths(multi)
    stream = io.BytesIO()
    multi.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _undefined_lengths(dataset: Dataset) -> None:
    """Delimit sequences instead of counting their bytes, so that a damaged value does not cost the whole file."""
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _undefined_lengths(item)


def _nifti(hu: NDArray[np.int16], affine: NDArray[np.float64], order: str, folder: Path) -> bytes:
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    to_ras = np.diag([-1, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), to_ras, header)
    image.set_sform(to_ras, code=1)
    image.set_qform(to_ras, code=1)
    image.header.set_xyzt_units("mm")
    path = folder / f"ct-{'little' if order == '<' else 'big'}.nii"
    nibabel.save(image, path)
    return path.read_bytes()


def _png(plane: NDArray[np.int16]) -> bytes:
    stream = io.BytesIO()
    grey = np.clip((plane + 1350.0) * 255 / 1500, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(stream, "PNG")
    return stream.getvalue()
