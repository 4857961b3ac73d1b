"""Make a cohort of many small phantom studies: a few are drawn, the others are copies with identifiers of their own.

    python benchmarks/batch_cohort.py cohort/ --studies 10000

Every copy has its own Study, Series, Frame of Reference and SOP Instance UIDs and its own patient, so that it is a
study of its own for the search, the gate and the ledger; its pixels are those of one of the drawn ones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID

from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

_UID_LENGTH = 52


def drawn(folder: Path, number: int, *, size: int, slices: int) -> list[bytes]:
    """The files of one phantom, every UID of one length and the patient's number six digits long."""
    config = PhantomConfig(slices=slices, size=size, lesions=6, seed=number, negative=number % 2 == 1)
    write_dicom(make_phantom(config), folder)
    files = []
    for index, path in enumerate(sorted((folder / "dicom").glob("*.dcm"))):
        dataset = dcmread(path)
        for place, name in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")):
            setattr(dataset, name, _uid(place))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid(3, index)
        dataset.PatientID = "P000000"
        dataset.ManufacturerModelName = f"Phantom scanner {number % 4 + 1}"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path.read_bytes())
    return files


def _uid(place: int, index: int = 0) -> UID:
    """A UID whose digits hold the copy's number, 0 here, in a place that can be found."""
    return UID(f"1.2.826.0.1.3680043.8.498.77{place}.1{index:04d}.1000000.1".ljust(_UID_LENGTH, "1")[:_UID_LENGTH])


def copy(files: list[bytes], number: int, folder: Path) -> None:
    """The same files as another study of another patient."""
    folder.mkdir(parents=True)
    for index, content in enumerate(files):
        changed = content.replace(b".1000000.", f".1{number:06d}.".encode()).replace(
            b"P000000", f"P{number:06d}".encode()
        )
        (folder / f"{index + 1:04d}.dcm").write_bytes(changed)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=10000)
    parser.add_argument("--drawn", type=int, default=20)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        originals = [
            drawn(Path(scratch, str(number)), number, size=options.size, slices=options.slices)
            for number in range(options.drawn)
        ]
    for number in range(options.studies):
        group = f"{number // 100:04d}"
        copy(originals[number % len(originals)], number + 1, options.folder / group / f"s{number:06d}")
    print(f"{options.studies} studies in {options.folder}")


if __name__ == "__main__":
    main()
