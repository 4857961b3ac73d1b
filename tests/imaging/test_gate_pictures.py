"""Folders of pictures: one study's slices pass, several patients and masks do not."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.imaging.gate_pictures import check_picture_names

ONE = {
    "numbers": [f"s/{n}.png" for n in range(12)],
    "one series": [f"s/coronacases_001_{n}.jpg" for n in range(12)],
    "size at the end": [f"s/slice{n}_512x512.png" for n in range(12)],
    "hashes": [f"s/{n:08x}ab.png" for n in range(12)],
    "slices of many patients, one each": [f"s/case{n}-a-3.png" for n in range(4)],
    "masks alone": [f"masks/{n}.png" for n in range(4)],
    "one": ["s/a.png"],
}
SEVERAL = {
    "folders": ([f"{p}/{n}.png" for p in "abc" for n in range(4)], "12 pictures lie in 3 folders"),
    "names": ([f"s/{p}_{n}.png" for p in "ab" for n in range(4)], r"those of 2 series \(4 and 4 slices\)"),
    "numbers": ([f"s/{p:03d}_{n}.png" for p in (1, 2) for n in range(4)], "those of 2 series"),
    "mask folder": (
        [f"{p}/{n}.png" for p in ("images", "masks") for n in range(4)],
        "4 of 8 pictures are called masks",
    ),
    "mask names": ([f"s/{n}{p}.png" for p in ("", "_mask") for n in range(4)], "4 of 8 pictures are called masks"),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_series_passes(kind):
    assert check_picture_names([PurePosixPath(name) for name in ONE[kind]]) == []


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_are_refused_and_passed_when_lenient(tmp_path, kind):
    names, message = SEVERAL[kind]
    for number, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16)).astype(np.uint8)).save(path)
    with pytest.raises(StudyError, match=message) as refused:
        open_study(tmp_path / "in")
    assert refused.value.code is GateCode.MIXED_SERIES
    assert open_study(tmp_path / "in", lenient=True).volume.shape[0] == len(names)


def test_masks_beside_images_without_names_to_tell(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        grey = rng.integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(grey if number < 6 else np.where(grey > 128, 255, 0).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    with pytest.raises(StudyError, match="6 of 12 pictures have 4 grey levels or fewer") as refused:
        open_study(tmp_path)
    assert refused.value.code is GateCode.MIXED_SERIES


def test_the_same_picture_twice_and_an_empty_one(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "8.png").write_bytes(b"")
    with pytest.raises(StudyError, match="hold none") as refused:
        open_study(tmp_path)
    assert refused.value.code is GateCode.UNREADABLE
    (tmp_path / "8.png").write_bytes((tmp_path / "2.png").read_bytes())
    with pytest.raises(StudyError, match="the first are slices 3 and 9") as refused:
        open_study(tmp_path)
    assert refused.value.code is GateCode.DUPLICATE_POSITION
