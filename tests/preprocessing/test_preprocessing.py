import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import Delaunay
from torch.nn import functional as F

from jcs_ct.engine.processor import cpu_flags
from jcs_ct.preprocessing import Region, SlicePreprocessor, Window, body_mask
from jcs_ct.preprocessing.resampling import enlarged, shrunk
from jcs_ct.preprocessing.slice_body import _convex_hull

FUSED_APART = 0.0 if "fma" in (cpu_flags() or ()) else 2e-7


def thorax(rows: int = 96, columns: int = 128, *, scale: int = 1) -> np.ndarray:
    """A slice in HU: air, an elliptic body with two lungs, a table below it."""
    y, x = np.mgrid[0:rows, 0:columns] // scale
    hu = np.full((rows, columns), -1000.0, dtype=np.float32)
    hu[((x - 64) / 50) ** 2 + ((y - 44) / 34) ** 2 < 1] = 40
    for centre in (42, 86):
        hu[((x - centre) / 16) ** 2 + ((y - 44) / 24) ** 2 < 1] = -850
    hu[88 * scale : 90 * scale, 10 * scale : 118 * scale] = 200
    return hu


def test_window_maps_its_edges_to_zero_and_one():
    window = Window(level=-600, width=1500)
    assert window(np.array([-3000, -1350, -600, 150, 900])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert window.inverse(np.array([0.0, 0.5, 1.0])).tolist() == [-1350.0, -600.0, 150.0]


def test_window_of_no_width_is_refused():
    with pytest.raises(ValueError, match="greater than 0 HU, got 0"):
        Window(width=0)


def test_body_mask_holds_the_lungs_and_not_the_table():
    body = body_mask(Window()(thorax()))
    assert body[44, 42]
    assert body[44, 86]
    assert not body[89, 12]
    assert not body[2, 2]


def test_lungs_that_touch_the_border_of_a_figure_are_kept_whole():
    """A figure cut to the chest: the wall is open where lung meets the border, on both sides."""
    grey = np.full((120, 160), 0.1, dtype=np.float32)
    rows, columns = np.mgrid[:120, :160]
    wall = ((rows - 60) / 58) ** 2 + ((columns - 80) / 82) ** 2 > 1
    grey[wall] = 0.8
    grey[:, 65:95] = 0.8  # mediastinum
    assert not wall[60, 0]
    body = body_mask(grey)
    assert body[(grey < 0.5) & (columns > 4) & (columns < 155)].mean() > 0.97
    assert body[60, 2:158].all()


def test_what_lies_outside_the_body_does_not_reach_the_network():
    preprocessor = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.45,), std=(0.3,))
    plain = thorax()
    marked = plain.copy()
    marked[0:6, 0:20] = 1000  # burned-in text
    marked[88:90] = -1000  # no table
    tensor, region = preprocessor(plain)
    other, same_region = preprocessor(marked)
    assert region == same_region
    assert np.array_equal(tensor, other)


def lung_preprocessor() -> SlicePreprocessor:
    return SlicePreprocessor(size=64, body_crop=True, region="lungs", channels=1, mean=(0.45,), std=(0.3,))


def test_the_lungs_can_be_cut_out_with_a_margin_and_nothing_outside_the_body_moves_them():
    plain = thorax(192, 256, scale=2)
    _, region = lung_preprocessor()(plain)
    # The lungs span rows 40 to 136 and columns 52 to 204; 5 % around them.
    assert region.top == pytest.approx(35, abs=4)
    assert region.bottom == pytest.approx(141, abs=4)
    assert region.left == pytest.approx(44, abs=4)
    assert region.right == pytest.approx(212, abs=4)
    marked = plain.copy()
    marked[0:12, 0:40] = 1000
    tensor, same_region = lung_preprocessor()(marked)
    assert same_region == region
    assert np.array_equal(tensor, lung_preprocessor()(plain)[0])


def test_one_lung_alone_is_not_cut_out():
    hu = thorax(192, 256, scale=2)
    hu[:, 128:] = np.where(hu[:, 128:] == -850, 40, hu[:, 128:])
    body = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.45,), std=(0.3,))
    assert lung_preprocessor()(hu)[1] == body(hu)[1]


def test_without_lungs_the_body_is_kept():
    solid = np.where(thorax() > -900, 40, -1000).astype(np.float32)
    body = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.45,), std=(0.3,))
    assert lung_preprocessor()(solid)[1] == body(solid)[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"region": "lungs"}, "needs body_crop"), ({"region": "heart"}, "body or lungs, got 'heart'")],
)
def test_a_region_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SlicePreprocessor(**fields)


def test_without_crop_the_whole_slice_is_seen():
    tensor, region = SlicePreprocessor(size=64)(thorax())
    assert tensor.shape == (3, 64, 64)
    assert region == Region(0, 96, 0, 128)


def test_restore_puts_values_back_where_they_came_from():
    preprocessor = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.0,), std=(1.0,))
    hu = thorax()
    tensor, region = preprocessor(hu)
    restored = preprocessor.restore(tensor[0], region, (96, 128))
    assert restored[44, 42] == pytest.approx(Window()(np.array([-850.0]))[0], abs=0.02)
    assert restored[89].max() == 0.0


@pytest.mark.parametrize(
    "part", [Region(20, 50, 30, 90), Region(0, 96, 0, 128), Region(0, 5, 0, 5), Region(80, 96, 0, 9)]
)
def test_a_part_is_restored_as_it_lies_in_the_whole(part):
    preprocessor = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.0,), std=(1.0,))
    tensor, region = preprocessor(thorax())
    whole = preprocessor.restore(tensor[0], region, (96, 128))
    assert np.array_equal(preprocessor.restore(tensor[0], region, (96, 128), part=part), part.of(whole))


def test_it_survives_its_own_dictionary():
    preprocessor = SlicePreprocessor(size=160, window=Window(40, 400), body_crop=True)
    assert SlicePreprocessor.from_dict(preprocessor.to_dict()) == preprocessor


def test_a_slice_without_a_body_is_kept_whole():
    assert body_mask(np.zeros((64, 64), dtype=np.float32)).all()


def test_the_middle_can_be_kept_alone_as_in_the_published_demo():
    """Resized to 256 with the middle 224 cut out is the middle 7/8 resized to 224, up to the outermost pixels."""
    generator = np.random.default_rng(0)
    hu = generator.normal(-600, 300, (512, 512)).astype(np.float32)
    preprocessor = SlicePreprocessor(size=224, centre_share=224 / 256)
    image, region = preprocessor(hu)
    assert region == Region(32, 480, 32, 480)
    whole = SlicePreprocessor(size=256)
    cut = whole.normalise(whole.resize(whole.grey_and_region(hu)[0]))[:, 16:240, 16:240]
    np.testing.assert_allclose(image[:, 1:-1, 1:-1], cut[:, 1:-1, 1:-1], atol=1e-5)
    restored = preprocessor.restore(np.ones((224, 224), np.float32), region, (512, 512))
    assert restored[32:480, 32:480].min() == 1
    assert restored.sum() == 448 * 448
    assert SlicePreprocessor.from_dict(preprocessor.to_dict()) == preprocessor


def test_a_centre_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match=r"centre_share must be at least 0\.1 and at most 1, got 0"):
        SlicePreprocessor(centre_share=0)


def test_settings_saved_before_there_was_a_centre_share_keep_the_whole_slice():
    fields = SlicePreprocessor().to_dict()
    del fields["centre_share"]
    assert SlicePreprocessor.from_dict(fields).centre_share == 1.0


@pytest.mark.parametrize(("shape", "size", "apart"), [((90, 75), 48, 0), ((40, 120), 64, 0), ((300, 61), 48, 2e-7)])
def test_resampling_gives_torchs_numbers(shape, size, apart):
    """To the last bit for up to four pixels a sum, where the processor has fused products (torch's own path)."""
    plane = np.random.default_rng(0).random(shape, dtype=np.float32)
    shrinking = {"mode": "bilinear", "align_corners": False, "antialias": True}
    expected = F.interpolate(torch.from_numpy(plane)[None, None], (size, size), **shrinking)[0, 0].numpy()
    np.testing.assert_allclose(shrunk(plane, (size, size)), expected, rtol=0, atol=apart or FUSED_APART)
    back = F.interpolate(torch.from_numpy(expected)[None, None], shape, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(enlarged(expected, shape), back[0, 0].numpy(), rtol=0, atol=FUSED_APART)


def test_a_convex_hull_is_qhulls():
    """The body's outline is the hull of what is found; SciPy's is the oracle."""
    generator = np.random.default_rng(1)
    for _ in range(20):
        mask = np.zeros((40, 50), dtype=bool)
        for row, column in generator.integers(2, 36, (4, 2)):
            mask[row : row + 4, column : column + 5] = True
        rows, columns = np.nonzero(mask)
        points = np.stack([columns, rows], axis=1)
        inside = Delaunay(points).find_simplex(np.argwhere(np.ones_like(mask))[:, ::-1]) >= 0
        # Pillow draws the outline too: it may pass through pixels whose centres lie just outside.
        hull = _convex_hull(mask)
        assert (hull | ~inside.reshape(mask.shape)).all()
        assert not (hull & ~ndimage.binary_dilation(inside.reshape(mask.shape), np.ones((3, 3)))).any()
