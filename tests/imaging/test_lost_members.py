"""Members of a series that are empty, cut or overwritten are never passed over, wherever in the run they lie."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import open_study


def codes(study):
    return [str(flag.code) for flag in study.flags]


def test_a_slice_whose_series_was_overwritten_does_not_vanish(write_series):
    series = write_series(slices=20)
    for path in (series.files[0], series.files[-1]):
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID = generate_uid()
        ds.save_as(path)
    study = open_study(series.folder)
    assert np.array_equal(study.volume.hu, series.truth)
    assert "JOINED_SERIES" in codes(study)


@pytest.mark.parametrize("place", [0, 9, 19])
@pytest.mark.parametrize(
    ("keep", "named"), [(0, "X{:04d}"), (0, "{:d}.dcm"), (100, "a3f9c0{:02x}"), (400, "X{:d}"), (0.5, "X{:d}")]
)
def test_a_cut_member_is_never_passed_over(write_series, place, keep, named):
    series = write_series(slices=20)
    files = [path.rename(path.with_name(named.format(number))) for number, path in enumerate(series.files)]
    whole = files[place].read_bytes()
    files[place].write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(StudyError) as refused:
        open_study(series.folder)
    assert refused.value.code in (GateCode.UNREADABLE, GateCode.TRUNCATED, GateCode.GAP)


def test_an_overwritten_head_is_a_lost_member_and_a_letter_is_none(write_series):
    series = write_series(slices=20)
    (series.folder / "readme.txt").write_text("")
    (series.folder / "VERSION").write_text("")
    assert open_study(series.folder).volume.shape[0] == 20
    series.files[-1].write_bytes(bytes(2000))
    with pytest.raises(
        StudyError, match=r"1 file\(s\) are called as the study's images are and hold none"
    ) as refused:
        open_study(series.folder)
    assert refused.value.code is GateCode.UNREADABLE
    study = open_study(series.folder, lenient=True)
    assert study.volume.shape[0] == 19
    assert Counter(codes(study))["UNREADABLE"] == 1


@pytest.mark.parametrize("ending", ["bmp", "jp2", "webp", "gif", "dcm"])
def test_half_of_the_slices_as_another_kind_of_file_is_never_passed_over(tmp_path, ending):
    for number in range(10):
        grey = np.random.default_rng(number).integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
        if number % 2:
            (tmp_path / f"{number}.png").unlink()
            (tmp_path / f"slice.{number}.{ending}").write_bytes(b"BM" + bytes(200))
    with pytest.raises(StudyError, match=r"5 file\(s\) .* give all slices as one kind of file") as refused:
        open_study(tmp_path)
    assert refused.value.code is GateCode.UNREADABLE
