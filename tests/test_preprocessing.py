import numpy as np
import pytest
import torch

from jcs_ct.preprocessing import Region, SlicePreprocessor, Window, body_mask


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


def test_what_lies_outside_the_body_does_not_reach_the_network():
    preprocessor = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.45,), std=(0.3,))
    plain = thorax()
    marked = plain.copy()
    marked[0:6, 0:20] = 1000  # burned-in text
    marked[88:90] = -1000  # no table
    tensor, region = preprocessor(plain)
    other, same_region = preprocessor(marked)
    assert region == same_region
    assert torch.equal(tensor, other)


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
    assert torch.equal(tensor, lung_preprocessor()(plain)[0])


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
    assert torch.allclose(image[:, 1:-1, 1:-1], cut[:, 1:-1, 1:-1], atol=1e-5)
    restored = preprocessor.restore(torch.ones(224, 224), region, (512, 512))
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
