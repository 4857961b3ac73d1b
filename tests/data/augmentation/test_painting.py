"""Lesions painted into real slices: the mask says where, everything else stays."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jcs_ct.data.augmentation.painting import SEEN_HU, paint_manifest, paint_slice
from jcs_ct.data.manifest import Manifest, ManifestRow, read_grey, read_mask
from jcs_ct.errors import ConfigError
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.preprocessing import Window

WINDOW = Window(-350.0, 1500.0)


@pytest.fixture(scope="module")
def healthy():
    phantom = make_phantom(PhantomConfig(slices=5, negative=True, seed=4, size=256))
    return phantom.volume.hu[2].astype(np.float32), phantom.lungs.labels[2] > 0


def painted(healthy, seed=3, count=4):
    hu, lungs = healthy
    return paint_slice(hu, lungs, pixel_mm=1.4, count=count, seed=seed)


def test_lesions_lie_in_the_lungs_and_are_denser(healthy):
    hu, lungs = healthy
    new, mask = painted(healthy)
    assert mask.any()
    assert not mask[~lungs].any()
    assert (new - hu)[mask].mean() > SEEN_HU
    np.testing.assert_array_equal(new[~lungs], hu[~lungs])


def test_vessels_stay_visible_in_the_lesions(healthy):
    hu, _ = healthy
    new, mask = painted(healthy)
    vessels = mask & (hu > -100)
    assert (new >= hu - 71)[vessels].all()


def test_the_seed_decides_everything(healthy):
    first, second, other = painted(healthy), painted(healthy), painted(healthy, seed=5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[1] != other[1]).any()


def healthy_row(folder, healthy, name="a", **more):
    Image.fromarray(np.round(WINDOW(healthy[0]) * 255).astype(np.uint8)).save(folder / f"{name}.png")
    settings = {"label": 0, "level_hu": -350.0, "width_hu": 1500.0, "split": "val", **more}
    return ManifestRow(folder / f"{name}.png", f"patient-{name}", **settings)


def test_a_manifest_keeps_patients_splits_and_windows(tmp_path, healthy):
    source = Manifest((healthy_row(tmp_path, healthy),))
    result = paint_manifest(source, tmp_path / "painted", per_slice=3)
    assert 1 <= len(result) <= 3
    for row in result:
        assert (row.patient, row.split, row.label, row.source) == ("patient-a", "val", 1, "painted")
        assert (row.level_hu, row.width_hu) == (-350.0, 1500.0)
        before, after, mask = read_grey(source.rows[0].path), read_grey(row.path), read_mask(row.mask)
        assert (after - before)[mask].mean() > 0.03
        assert np.abs(after - before)[~mask].mean() < 0.02


def test_slices_of_one_name_keep_files_of_their_own(tmp_path, healthy):
    rows = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        rows.append(replace(healthy_row(tmp_path / name, healthy, "001"), patient=name))
    rows.append(healthy_row(tmp_path, healthy, "alone"))
    painted = paint_manifest(Manifest(tuple(rows)), tmp_path / "painted", per_slice=2)
    assert {row.patient for row in painted} == {"x", "y", "patient-alone"}
    for column in ("path", "mask"):
        assert len({getattr(row, column) for row in painted}) == len(painted)
    alone = [row.path.name for row in painted if row.patient == "patient-alone"]
    assert alone == [f"alone-{copy}.png" for copy in range(len(alone))]
    with pytest.raises(ConfigError, match=r"1 uninfected row\(s\) repeat the file of another"):
        paint_manifest(Manifest((rows[2], replace(rows[2], patient="b"))), tmp_path / "twice")


def test_infected_slices_and_unknown_windows_are_left_out(tmp_path, healthy):
    rows = (
        healthy_row(tmp_path, healthy, "a", label=1),
        healthy_row(tmp_path, healthy, "b", level_hu=None),
    )
    with pytest.raises(ConfigError, match="nothing to paint on: uninfected slices with a known window"):
        paint_manifest(Manifest(rows), tmp_path / "painted")
