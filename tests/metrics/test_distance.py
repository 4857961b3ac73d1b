"""Hausdorff distances against MONAI and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy.spatial.distance import directed_hausdorff

from jcs_ct.metrics import distance
from jcs_ct.metrics.distance import hausdorff_distance, hausdorff_distances


def blobs(seed: int, shape: tuple[int, ...] = (40, 50)) -> np.ndarray:
    """A few overlapping boxes."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=bool)
    for _ in range(3):
        start = [int(generator.integers(0, n - 6)) for n in shape]
        mask[tuple(slice(s, s + int(generator.integers(2, 6))) for s in start)] = True
    return mask


def onehot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.filterwarnings("ignore::FutureWarning:monai.*")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("percentile", [100.0, 95.0])
@pytest.mark.parametrize("spacing", [None, (0.7, 1.9)])
def test_equals_monai(seed: int, percentile: float, spacing: tuple[float, float] | None) -> None:
    prediction, mask = blobs(seed), blobs(seed + 100)
    expected = compute_hausdorff_distance(
        onehot(prediction), onehot(mask), include_background=True, percentile=percentile, spacing=spacing
    )
    found = hausdorff_distance(prediction, mask, percentile=percentile, spacing=spacing)
    assert found == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(40, 50), (9, 16, 20)])
def test_over_all_pixels_equals_scipy(seed: int, shape: tuple[int, ...]) -> None:
    prediction, mask = blobs(seed, shape), blobs(seed + 100, shape)
    spacing = np.linspace(0.5, 1.5, len(shape))
    first, second = np.argwhere(prediction) * spacing, np.argwhere(mask) * spacing
    expected = max(directed_hausdorff(first, second)[0], directed_hausdorff(second, first)[0])
    assert hausdorff_distance(prediction, mask, spacing=spacing, points="all") == pytest.approx(expected)
    assert hausdorff_distance(mask, prediction, spacing=spacing, points="all") == pytest.approx(expected)


def test_empty_cases() -> None:
    empty, some = np.zeros((31, 41), dtype=bool), np.zeros((31, 41), dtype=bool)
    some[3, 4] = True
    assert hausdorff_distance(empty, empty) == 0.0
    assert hausdorff_distance(some, some) == 0.0
    assert hausdorff_distance(some, empty) == hausdorff_distance(empty, some) == 50.0
    assert hausdorff_distance(some, empty, spacing=(2.0, 2.0), percentile=95) == 100.0


def test_several_percentiles_take_the_work_of_one(monkeypatch) -> None:
    pairs = [(blobs(1), blobs(2)), (blobs(1), np.zeros((40, 50), dtype=bool))]
    expected = [tuple(hausdorff_distance(*pair, percentile=value) for value in (100.0, 95.0)) for pair in pairs]
    maps = []
    transform = distance.ndimage.distance_transform_edt
    monkeypatch.setattr(
        distance.ndimage, "distance_transform_edt", lambda *args, **kw: maps.append(1) or transform(*args, **kw)
    )
    assert [hausdorff_distances(*pair, percentiles=(100.0, 95.0)) for pair in pairs] == expected
    assert len(maps) == 2


def test_outlines_tell_a_ring_from_its_filled_twin() -> None:
    disc = np.hypot(*(np.mgrid[:41, :41] - 20)) <= 15
    ring = disc & (np.hypot(*(np.mgrid[:41, :41] - 20)) > 9)
    assert hausdorff_distance(disc, ring, points="all") == pytest.approx(np.hypot(9, 1))
    assert hausdorff_distance(disc, ring) == pytest.approx(6.0, abs=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 0}, "percentile"),
        ({"spacing": (1.0,)}, "2 values"),
        ({"spacing": (1.0, 0.0)}, "greater than 0"),
        ({"points": "surface"}, "boundary or all"),
    ],
)
def test_wrong_options(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hausdorff_distance(blobs(1), blobs(2), **options)
