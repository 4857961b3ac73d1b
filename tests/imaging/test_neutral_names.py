"""Files under neutral names are judged as under their own, and nothing of their own is left."""

from __future__ import annotations

import json
import shutil
from pathlib import PurePosixPath

import pytest

from jcs_ct.imaging.gate_pictures import check_picture_names
from jcs_ct.imaging.neutral_names import neutral_paths
from jcs_ct.imaging.study_files import find_files

DICOM, PNG, NIFTI = bytes(128) + b"DICM", b"\x89PNG\r\n\x1a\n", bytes(344) + b"n+1\0"
RECORD = json.dumps(
    {
        "software": {"name": "jcs-ct"},
        "outputs": [
            {"file": "lesions.nii.gz", "byte_count": 348},
            {"file": "overlay/slice-0001.sc.dcm", "byte_count": 132},
        ],
    }
).encode()

#: Folders by what lies in them.
STUDIES = {
    "a letter beside slices": {f"IM{n:04d}.dcm": DICOM for n in range(4)} | {"README.txt": b"x"},
    "hidden files": {"s/1": DICOM, "s/2": DICOM, ".DS_Store": b"", "s/._1": b"", "Thumbs.db": b"", ".h/9": DICOM},
    "a lost slice": {f"IM{n}": DICOM for n in range(9)} | {"IM9": b"", "VERSION": b"", "DICOMDIR.old": b"x"},
    "a lost slice of another folder": {f"a/IM{n}": DICOM for n in range(3)} | {"b/IM9": b"", "b/IMa9": b""},
    "a lost slice with its ending": {f"{n}.DCM": DICOM for n in range(3)} | {"x.Dcm": b"", "7.txt": b""},
    "hexadecimal names": {f"a3f9c0{n:02x}.dcm": DICOM for n in range(3)} | {"deadbeef.dcm": b"", "0badcafe.x": b""},
    "unique identifiers": {f"1.2.840.{n}.17": DICOM for n in range(11)} | {"1.2.840.3": b"", "1.2.840.4.17": b""},
    "slices out of order": {f"Doe^Jane_{n}_{n * 7 % 5}.png": PNG for n in (1, 2, 10, 11, 100)}
    | {"scout.png": PNG, "10a.png": PNG},
    "several patients": {f"pat{p}/{n}.png": PNG for p in "AB" for n in range(3)},
    "several series": {f"{p}_{n}.png": PNG for p in "ab" for n in range(3)},
    "several numbered series": {f"doe-{p}-{n}.png": PNG for p in (1, 2) for n in range(3)},
    "masks by a word": {f"{n}{mask}.png": PNG for n in range(3) for mask in ("", "_Mask")},
    "masks by a folder": {f"labels/{n}.png": PNG for n in range(3)} | {"1.png": PNG},
    "half the slices": {f"{n}.png": PNG for n in range(3)}
    | {f"s{n}.{end}": b"B" for n, end in enumerate(("BMP", "jp2", "webp"))},
    "umlauts and signs": {f"Müller, Ä={n}'s (é) #{n}.png": PNG for n in (3, 20, 100)},
    "names alike but for case": {"im1.png": PNG, "IM2.PNG": PNG, "Im10.Png": PNG},
    "results of an earlier reading": {"ct.nii": NIFTI, "out/run.json": RECORD, "out/lesions.nii.gz": NIFTI}
    | {"out/overlay/slice-0001.sc.dcm": DICOM, "out/notes.nii": NIFTI},
    "a damaged volume": {"Doe Jane.NII.GZ": b"\x1f\x8b\x08garbage"},
}  # fmt: skip


def lay(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def judged(folder, own):
    """What the reading finds: files of each kind by number in ``own`` order, and what picture names say."""
    found = find_files(folder)
    kinds = {
        kind: [own[path.relative_to(folder)] for path in getattr(found, kind)]
        for kind in ("dicom", "nifti", "pictures", "archives")
    }
    unordered = {
        kind: {own[path.relative_to(folder)] for path in getattr(found, kind)} for kind in ("others", "lost")
    }
    return kinds, unordered, [finding.message for finding in check_picture_names(found.pictures)]


@pytest.mark.parametrize("chosen", ["", "Doe^Jane 1957/"])
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_judged_as_under_its_own_names(tmp_path, study, chosen):
    files = STUDIES[study]
    names = list(files)
    neutral = neutral_paths([chosen + name for name in names])
    own = judged(lay(tmp_path / "own", files), {PurePosixPath(name): name for name in names})
    under = dict(zip(neutral, names, strict=True))
    assert judged(lay(tmp_path / "neutral", {str(path): files[name] for path, name in under.items()}), under) == own


def test_nothing_of_a_name_is_left():
    for name in ("Doe^Jane/19570312/IM000017.dcm", "ÄÖÜ Müller.mask.png", "doe.jane", "3f2a91bc-1957"):
        (path,) = neutral_paths([name])
        left = set("".join(path.parts).lower()) - set("ghijklmnopqrstuvwxyz")
        assert not any(word in str(path).lower() for word in ("doe", "jane", "1957", "17", "ller", "3f2a"))
        assert left <= set("0123456789_-. +adcmskpng")


@pytest.mark.parametrize(
    "names",
    [
        ["../../etc/passwd", "/etc/passwd", "C:\\etc\\passwd", "etc/passwd", "..", ".", "/", "\\"],
        ["a", "a/b", "a/b/c", "A", "a+", "a/"],
        ["/".join("x" * 400), "x" * 1000, "1a" * 400, "\n", "\x7f", "é" * 1000],
        ["same"] * 50,
    ],
)
def test_every_name_has_a_place_of_its_own_below_the_folder(tmp_path, names):
    paths = neutral_paths(names)
    assert len(set(paths)) == len(names)
    for path in paths:
        assert ".." not in path.parts
        assert not path.is_absolute()
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).open("xb").close()
    shutil.rmtree(tmp_path)
