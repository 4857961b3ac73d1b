import numpy as np
import pytest

from jcs_ct.data.augmentation.marks import burn_marks, burn_text, draw_frame, remove_marks


def picture() -> np.ndarray:
    """A grey body with two dark lungs and fine noise."""
    y, x = np.mgrid[0:120, 0:160]
    grey = np.full((120, 160), 0.1, dtype=np.float32)
    grey[((x - 80) / 60) ** 2 + ((y - 60) / 50) ** 2 < 1] = 0.75
    for centre in (55, 105):
        grey[((x - centre) / 18) ** 2 + ((y - 60) / 32) ** 2 < 1] = 0.25
    return grey + np.random.default_rng(0).normal(0, 0.01, grey.shape).astype(np.float32)


@pytest.mark.parametrize("mark", [burn_text, draw_frame, burn_marks])
def test_marks_are_the_generators_and_leave_the_picture_itself_alone(mark):
    before = picture()
    grey = before.copy()
    first, second, other = (mark(grey, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert np.array_equal(grey, before)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert (first != grey).any()
    assert first.dtype == np.float32
    assert first[50:70, 70:90].tolist() == grey[50:70, 70:90].tolist()


def test_a_frame_is_of_one_level_on_whole_sides():
    for seed in range(30):
        framed = draw_frame(picture(), np.random.default_rng(seed))
        edges = (framed[0], framed[-1], framed[:, 0], framed[:, -1])
        assert any(np.ptp(edge) == 0 for edge in edges)


def test_text_of_any_size_fits_the_smallest_picture():
    for seed in range(50):
        assert burn_text(np.zeros((32, 32), dtype=np.float32), np.random.default_rng(seed)).shape == (32, 32)


def test_letters_are_removed_and_the_picture_stays():
    clean = picture()
    marked = clean.copy()
    marked[58:66, 50] = marked[58, 50:55] = marked[10:12, 10:20] = 1.0
    restored = remove_marks(marked)
    assert np.abs(restored - clean).max() < 0.1
    assert np.array_equal(remove_marks(clean), clean)


def test_letters_are_removed_from_a_large_picture_too():
    clean = np.kron(picture(), np.ones((4, 4), dtype=np.float32))
    marked = clean.copy()
    marked[240:270, 200:204] = 1.0
    assert np.abs(remove_marks(marked) - clean).max() < 0.1


def test_what_is_large_and_bright_is_no_mark():
    bone = picture()
    bone[90:100, 60:100] = 1.0
    assert np.array_equal(remove_marks(bone)[90:100, 60:100], bone[90:100, 60:100])
