"""Feature files: quantised, saturating, read as published."""

import re

import numpy as np
import pytest
from scipy import io

from jcs_ct.data.covid_cs.feature_files import StoredFeatures, dequantise, quantise, read_features, write_features
from jcs_ct.errors import ConfigError


def maps(rows: int = 32, columns: int = 48) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    vgg = generator.gamma(1.0, 1.5, (4, rows, columns)).astype(np.float32)
    return vgg, generator.gamma(1.0, 1.5, (6, rows // 2, columns // 2)).astype(np.float32)


def test_values_are_floored_and_saturate_instead_of_wrapping():
    stored, cut = quantise(np.array([0.0, 0.049, 0.05, 1.0, 12.75, 12.79, 12.8, 100.0]))
    assert stored.tolist() == [0, 0, 1, 20, 255, 255, 255, 255]
    assert cut == 2
    assert dequantise(stored).tolist() == pytest.approx([0, 0, 0.05, 1, 12.75, 12.75, 12.75, 12.75])


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_what_no_relu_gives_is_refused(value):
    with pytest.raises(ValueError, match="features must be finite and at least 0, as behind a ReLU"):
        quantise(np.array([1.0, value]))


@pytest.mark.parametrize("rows", [32, 16])
def test_a_file_comes_back_within_one_level(rows, tmp_path):
    vgg, res2net = maps(rows)
    written = write_features(tmp_path / "a.mat", vgg_feats=vgg, res2net_feats=res2net)
    read = read_features(tmp_path / "a.mat")
    assert np.array_equal(read.vgg_feats, written.vgg_feats)
    assert read.slice_shape == (rows, 48)
    assert read.saturated == written.saturated == int((vgg >= 12.8).sum() + (res2net >= 12.8).sum())
    for stored, values in ((read.vgg_feats, vgg), (read.res2net_feats, res2net)):
        error = values - dequantise(stored)
        assert (error[values < 12.8] < 0.05 + 1e-5).all()
        assert (error >= -1e-5).all()


def test_the_file_has_the_published_variables(tmp_path):
    vgg, res2net = maps()
    write_features(tmp_path / "a.mat", vgg_feats=vgg, res2net_feats=res2net)
    content = io.loadmat(tmp_path / "a.mat")
    assert (content["vgg_feats"].shape, content["vgg_feats"].dtype) == ((1, 4, 32, 48), np.uint8)
    assert content["res2net_feats"].shape == (1, 6, 16, 24)


def test_a_published_file_does_not_say_whether_it_wrapped(tmp_path):
    vgg, res2net = (np.floor(20 * values).astype(np.int64).astype(np.uint8)[None] for values in maps())
    io.savemat(tmp_path / "a.mat", {"vgg_feats": vgg, "res2net_feats": res2net})
    read = read_features(tmp_path / "a.mat")
    assert read.saturated is None
    assert np.array_equal(read.vgg_feats, vgg[0])


def test_classification_features_may_have_any_name(tmp_path):
    io.savemat(tmp_path / "a.mat", {"feats": np.zeros((64, 112, 112), np.uint8)})
    read = read_features(tmp_path / "a.mat")
    assert read.vgg_feats is None
    assert (read.res2net_feats.shape, read.slice_shape) == ((64, 112, 112), (224, 224))


def test_what_is_no_feature_file_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(ConfigError, match=r"a\.mat: no such feature file"):
        read_features(path)
    path.write_bytes(b"no MATLAB here" * 40)
    with pytest.raises(ConfigError, match=r"a\.mat: not a readable MATLAB file"):
        read_features(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n".ljust(512, b"\x00"))
    with pytest.raises(ConfigError, match=r"MATLAB 7\.3 file \(HDF5\), expected version 5; save it again"):
        read_features(path)
    io.savemat(path, {"vgg_feats": np.zeros((1, 4, 8, 8))})
    with pytest.raises(
        ConfigError, match=re.escape("vgg_feats must be (1, C, H, W) or (C, H, W) of uint8, got (4, 8")
    ):
        read_features(path)
    io.savemat(path, {"x": np.zeros((4, 8, 8), np.uint8), "y": np.zeros((4, 8, 8), np.uint8)})
    with pytest.raises(ConfigError, match="features need vgg_feats, res2net_feats or both; its variables are x, y"):
        read_features(path)
    write_features(path, vgg_feats=maps()[0], res2net_feats=None)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=r"not a readable MATLAB file .* truncated"):
        read_features(path)


def test_maps_of_two_slices_are_refused():
    with pytest.raises(ValueError, match="res2net_feats must be half of vgg_feats' 8x8, got 5x4"):
        StoredFeatures(np.zeros((4, 8, 8), np.uint8), np.zeros((6, 5, 4), np.uint8))
