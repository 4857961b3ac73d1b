"""Damage good inputs in seeded ways and read them as ``jcs info`` does: never a traceback, never a hang.

    python scripts/fuzz_inputs.py --count 300 [--seed 0] [--kind dicom ...] [--json] [--keep FOLDER]

Every mutation of a DICOM series, an enhanced multi-frame file, a NIfTI volume, PNG slices or a ZIP archive must end
in a study or in a coded refusal, and a study whose geometry is stated must have the true one. Decoding runs under
the limits of the package's own decoding child; to make thousands of mutations affordable the child is forked from
this process instead of starting a new interpreter. Exit code 1 when something else happened; ``--keep`` saves those
inputs.

A mutation is named by its kind and number: the same seed makes the same bytes again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any
from unittest import mock

import nibabel
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, RLELossless

import jcs_ct.imaging.dicom
import jcs_ct.imaging.nifti
import jcs_ct.imaging.slices  # noqa: F401  (the forked children find everything imported)
from jcs_ct.errors import JCSError
from jcs_ct.imaging import list_series, open_study, sandbox, worker
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.dicom import write_dicom

#: Mutations take at most this long, in seconds, before they count as a hang.
HANG_S = 30.0
#: Limits of a decoding child while fuzzing: tighter than the package's, so that a bomb shows.
LIMITS = sandbox.SandboxLimits(memory_bytes=2 * 1024**3, seconds_per_item=10.0, cpu_seconds=20)
SLICES = 7


@dataclass(frozen=True, eq=False)
class Seed:
    """A good input: its files by name, and its true geometry (None where it has none)."""

    files: Mapping[str, bytes]
    affine: NDArray[np.float64] | None
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Finding:
    """What became of one mutation."""

    kind: str
    number: int
    outcome: str  #: ``read``, a gate code, or one of FAILURES
    detail: str
    seconds: float


FAILURES = ("TRACEBACK", "HANG", "CRASH", "WRONG GEOMETRY")


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
        paths = sorted((folder / "dicom").iterdir())
        plain = {path.name: path.read_bytes() for path in paths}
        compressed = {path.name: _compressed(path) for path in paths}
        enhanced = {"enhanced.dcm": _enhanced([dcmread(path) for path in paths])}
        nifti = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]])
        nifti.set_sform(nifti.affine, code=1)
        nifti.set_qform(nifti.affine, code=1)
        nibabel.save(nifti, folder / "ct.nii")
        nibabel.save(nifti, folder / "ct.nii.gz")
        volumes = {name: (folder / name).read_bytes() for name in ("ct.nii", "ct.nii.gz")}
    return {
        "dicom": Seed(plain, affine, shape),
        "dicom-rle": Seed(compressed, affine, shape),
        "dicom-enhanced": Seed(enhanced, affine, shape),
        "nifti": Seed({"ct.nii": volumes["ct.nii"]}, affine, shape),
        "nifti-gz": Seed({"ct.nii.gz": volumes["ct.nii.gz"]}, affine, shape),
        "png": Seed({f"{n}.png": _png(plane) for n, plane in enumerate(hu)}, None, shape),
        "zip": Seed({"study.zip": _zip(plain)}, affine, shape),
    }


def _compressed(path: Path) -> bytes:
    dataset = dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    return _bytes(dataset)


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _enhanced(slices: Sequence[Dataset]) -> bytes:
    first = slices[0]
    multi, measures, turned, rescale = first.copy(), Dataset(), Dataset(), Dataset()
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
    return _bytes(multi)


def _png(plane: NDArray[np.int16]) -> bytes:
    stream = io.BytesIO()
    grey = np.clip((plane + 1350.0) * 255 / 1500, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(stream, "PNG")
    return stream.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Damage bytes in one to three ways; headers, which lie in front, are hit as often as the rest."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 4))):
        reach = len(data) if generator.random() < 0.5 else min(len(data), 1600)
        if reach < 2:
            break
        place = int(generator.integers(reach))
        length = int(generator.integers(1, 33))
        how = generator.choice(["flip", "byte", "number", "cut", "drop", "repeat", "noise", "zero"])
        if how == "flip":
            data[place] ^= 1 << int(generator.integers(8))
        elif how == "byte":
            data[place] = int(generator.integers(256))
        elif how == "number":
            number = int(generator.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
            data[place : place + 4] = number.to_bytes(4, "little")
        elif how == "cut":
            del data[place:]
        elif how == "drop":
            del data[place : place + length]
        elif how == "repeat":
            data[place:place] = data[place : place + length]
        elif how == "noise":
            data[place : place + length] = generator.bytes(length)
        else:
            data[place : place + length] = bytes(length)
    return bytes(data)


def mutation(seed: Seed, kind: str, number: int, base: int) -> dict[str, bytes]:
    """The files of one mutation: one file of the input is damaged, now and then several."""
    generator = np.random.default_rng([base, number, *kind.encode()])
    names = sorted(seed.files)
    chosen = generator.choice(names, size=1 if generator.random() < 0.8 else min(3, len(names)), replace=False)
    return {name: mutate(data, generator) if name in chosen else data for name, data in seed.files.items()}


class _Forked:
    """What the sandbox needs of a ``Popen``, for a forked child that runs the worker."""

    def __init__(self, fd: int | None) -> None:
        job_out, job_in = os.pipe()
        answers_out, answers_in = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(job_in)
            os.close(answers_out)
            self._work(job_out, answers_in)
        os.close(job_out)
        os.close(answers_in)
        self.stdin: IO[bytes] = os.fdopen(job_in, "wb")
        self.stdout: IO[bytes] = os.fdopen(answers_out, "rb", buffering=0)

    @staticmethod
    def _work(job: int, answers: int) -> None:
        """Be the worker; an exception it lets through ends the process with 1, as it would end the real one."""
        status = 1
        try:
            sys.stdin, sys.stdout = os.fdopen(job), os.fdopen(answers, "w")
            worker.main()
            status = 0
        except Exception:  # noqa: BLE001  (the process ends here; the parent sees a crash and reports it)
            traceback.print_exc()
        finally:
            os._exit(status)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)


class _ForkedChild(sandbox._Child):
    """The sandbox's child without a new interpreter."""

    crashes = 0

    def __init__(self, job: Mapping[str, Any], fd: int | None) -> None:
        self._process: Any = _Forked(fd)
        self._buffer = b""
        self._ended = False
        self._send(json.dumps(job).encode())

    def answer(self, seconds: float) -> dict[str, Any] | None:
        answer = super().answer(seconds)
        if answer is None:
            type(self).crashes += 1
        return answer


@contextmanager
def forked_children() -> Iterator[type[_ForkedChild]]:
    """Let the sandbox fork, under the tighter limits; a fork starts with the address space of this process."""
    inherited = psutil.Process().memory_info().vms
    limits = replace(LIMITS, memory_bytes=LIMITS.memory_bytes + inherited)
    with (
        mock.patch.object(sandbox, "_Child", _ForkedChild),
        mock.patch.object(sandbox, "SandboxLimits", return_value=limits),
    ):
        yield _ForkedChild


def read(folder: Path, seed: Seed, *, lenient: bool) -> tuple[str, str]:
    """What ``jcs info`` does with an input -> (outcome, detail)."""
    path = next(folder.iterdir()) if len(seed.files) == 1 else folder
    try:
        list_series(path, lenient=lenient)
        study = open_study(path, lenient=lenient)
    except JCSError as error:
        message = str(error)
        return str(getattr(error, "code", type(error).__name__)), message
    if study.volume.affine is None or seed.affine is None:
        return "read", "no geometry stated"
    wrong = geometry_error(study.volume.affine, study.volume.shape, seed)
    return ("WRONG GEOMETRY", wrong) if wrong else ("read", "")


def geometry_error(affine: NDArray[np.float64], shape: tuple[int, ...], seed: Seed) -> str:
    """How an accepted geometry differs from the true one by over 0.1 mm at a corner; fewer slices may be read."""
    if seed.affine is None:
        return ""
    if shape[1:] != seed.shape[1:] or shape[0] > seed.shape[0]:
        return f"shape {shape}, true {seed.shape}"
    tops = [seed.affine @ [n, 0, 0, 1] for n in range(seed.shape[0])]
    start = int(np.argmin([np.linalg.norm(top[:3] - affine[:3, 3]) for top in tops]))
    worst = 0.0
    for corner in np.ndindex(2, 2, 2):
        index = np.array([*np.multiply(corner, np.subtract(shape, 1)), 1.0])
        true = seed.affine @ np.add(index, [start, 0, 0, 0])
        worst = max(worst, float(np.linalg.norm((affine @ index - true)[:3])))
    return f"a corner lies {worst:.2f} mm off" if worst > 0.1 else ""


def fuzz(seeds: Mapping[str, Seed], count: int, base: int, *, keep: Path | None = None) -> Iterator[Finding]:
    """``count`` mutations, the kinds in turn."""
    kinds = sorted(seeds)
    with forked_children() as child:
        for turn in range(count):
            kind, number = kinds[turn % len(kinds)], turn // len(kinds)
            files = mutation(seeds[kind], kind, number, base)
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "input"
                folder.mkdir()
                for name, data in files.items():
                    (folder / name).write_bytes(data)
                finding = _one(folder, seeds[kind], kind, number, child)
                if keep is not None and finding.outcome in FAILURES:
                    shutil.copytree(folder, keep / f"{kind}-{base}-{number}", dirs_exist_ok=True)
            yield finding


def _one(folder: Path, seed: Seed, kind: str, number: int, child: type[_ForkedChild]) -> Finding:
    child.crashes = 0
    started = time.perf_counter()
    try:
        outcome, detail = read(folder, seed, lenient=number % 4 == 3)
    except Exception:  # noqa: BLE001  (whatever gets through is the finding)
        outcome, detail = "TRACEBACK", traceback.format_exc()
    seconds = time.perf_counter() - started
    if seconds > HANG_S:
        outcome = "HANG"
    elif child.crashes and outcome != "TRACEBACK":
        outcome, detail = "CRASH", f"the decoding child ended {child.crashes} time(s): {detail}"
    return Finding(kind, number, outcome, detail, round(seconds, 3))


def summary(findings: Sequence[Finding]) -> dict[str, Any]:
    """Counts by kind and outcome, and everything that must not happen."""
    counts: dict[str, Counter[str]] = {}
    for finding in findings:
        counts.setdefault(finding.kind, Counter())[finding.outcome] += 1
    return {
        "mutations": len(findings),
        "outcomes": {kind: dict(counter.most_common()) for kind, counter in sorted(counts.items())},
        "failures": [asdict(finding) for finding in findings if finding.outcome in FAILURES],
        "slowest_s": max((finding.seconds for finding in findings), default=0.0),
    }


def main() -> int:
    """Fuzz and print; 1 when something got through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="only this kind of input; may be given several times")
    parser.add_argument("--keep", type=Path, help="save inputs that fail here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = make_seeds()
    if unknown := set(options.kind or ()) - set(seeds):
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; there are {', '.join(seeds)}")
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    chosen = {kind: seed for kind, seed in seeds.items() if not options.kind or kind in options.kind}
    found = summary(list(fuzz(chosen, options.count, options.seed, keep=options.keep)))
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for kind, outcomes in found["outcomes"].items():
            print(f"{kind:<16}" + ", ".join(f"{outcome} {count}" for outcome, count in outcomes.items()))
        for failure in found["failures"]:
            print(f"{failure['outcome']}: {failure['kind']} {failure['number']}: {failure['detail']}")
        print(f"{found['mutations']} mutations, {len(found['failures'])} failures, slowest {found['slowest_s']} s")
    return int(bool(found["failures"]))


if __name__ == "__main__":
    sys.exit(main())
