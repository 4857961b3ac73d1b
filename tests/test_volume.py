import numpy as np
import pytest

from jcs_ct.volume import CTVolume, LabelVolume, bounding_box, corners_apart_mm


def test_volume_knows_spacing_and_positions() -> None:
    affine = np.diag([-2.0, 0.5, 0.7, 1.0])[:, [2, 1, 0, 3]]
    volume = CTVolume(np.zeros((3, 4, 5), np.int16), affine)
    assert volume.spacing_mm is not None
    assert volume.is_measurable
    assert volume.shape == (3, 4, 5)
    assert volume.voxel_ml == pytest.approx(abs(np.linalg.det(affine[:3, :3])) / 1000)


def test_volume_without_geometry_withholds_millimetres() -> None:
    volume = CTVolume(np.zeros((3, 4, 5), np.int16), None)
    assert not volume.is_measurable
    assert volume.spacing_mm is None
    assert volume.voxel_ml is None
    assert volume.to_lps_mm((0, 0, 0)) is None


def test_volume_is_read_only() -> None:
    volume = CTVolume(np.zeros((3, 4, 5), np.int16), None)
    with pytest.raises(ValueError, match="read-only"):
        volume.hu[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("hu", "message"),
    [
        (np.zeros((4, 5), np.int16), "3-D"),
        (np.zeros((1, 4, 5), np.float64), "int16 or float32"),
        (np.zeros((0, 4, 5), np.int16), "empty"),
        (np.where(np.arange(60) == 33, np.float32(np.nan), 0).reshape(3, 4, 5), "the first in slice 1"),
        (np.full((1, 4, 5), -np.inf, np.float32), "in slice 0: set what was not imaged to -1024"),
    ],
)
def test_volume_refuses_what_it_cannot_be(hu: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTVolume(hu, None)


def test_singular_affine_is_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        LabelVolume(np.zeros((1, 2, 2), np.uint8), np.diag([1.0, 0.0, 1.0, 1.0]))


def test_bounding_box() -> None:
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[1, 2, 1:4] = True
    assert bounding_box(mask) == (slice(1, 2), slice(2, 3), slice(1, 4))
    assert bounding_box(mask, margin=2) == (slice(0, 3), slice(0, 4), slice(0, 5))
    assert bounding_box(mask[1], margin=1) == (slice(1, 4), slice(0, 5))
    with pytest.raises(ValueError, match="an empty mask has no bounding box"):
        bounding_box(mask[0])


def test_corners_apart() -> None:
    first, second = np.eye(4), np.diag([1.0, 1.0, 1.1, 1.0])
    second[0, 3] = 3.0
    assert corners_apart_mm(first, second, (10, 20, 41)) == pytest.approx(5.0)
