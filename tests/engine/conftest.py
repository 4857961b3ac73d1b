"""Small networks, and which backends this installation has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jcs_ct.engine import ReadyClassifier, ReadySegmenter
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.layers import FrozenBatchNorm2d
from jcs_ct.models.res2net import Res2NetConfig
from jcs_ct.models.segmenter import CombinationConfig, Segmenter, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig
from jcs_ct.preprocessing import SlicePreprocessor

PREPROCESSOR = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
TRUNK = Res2NetConfig(in_channels=1, stem_channels=(4, 4, 8), planes=(8, 8, 8, 8), blocks=(1, 1, 1, 1), base_width=32)
ENCODER = VGGConfig(in_channels=1, channels=(8, 8, 8, 8, 8), convs=(1, 1, 1, 1, 1), norm="batch", conv_bias=False)


@pytest.fixture
def tiny(one_thread) -> Callable[..., ReadyClassifier | ReadySegmenter]:
    """``tiny("classifier")``, ``tiny("segmenter")`` (joint) with seeded weights and statistics."""

    def make(task: str, seed: int = 0) -> ReadyClassifier | ReadySegmenter:
        torch.manual_seed(seed)
        network = (
            Classifier(ClassifierConfig(TRUNK, dropout=0.5))
            if task == "classifier"
            else Segmenter(SegmenterConfig(ENCODER, CombinationConfig(TRUNK, conv_bias=False), norm="batch"))
        )
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
                module.running_var.data.uniform_(0.5, 1.5)
                module.running_mean.data.normal_(0, 0.2)
        kind = ReadyClassifier if task == "classifier" else ReadySegmenter
        return kind(network.eval(), PREPROCESSOR, "tiny", "", f"tiny-{task}")

    return make


@pytest.fixture
def hu() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(-600, 300, (5, 70, 80)).astype(np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("JCS_CT_CACHE", str(folder))
    return folder
