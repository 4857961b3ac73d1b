"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real CT data, which is never part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real CT data in ../shared/data, which is absent here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``--models``: random compact networks, for which every lung slice is infected."""
    import torch

    from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint
    from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
    from jcs_ct.operating_point import OperatingPoint
    from jcs_ct.preprocessing import SlicePreprocessor

    folder = tmp_path_factory.mktemp("models")
    preprocessor = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
    point = OperatingPoint(slice_probability=0.0, positive_slice_threshold=1, lesion_probability=0.0)
    networks = {
        "classifier": ("compact", build_classifier, classifier_preset("compact")),
        "segmenter": ("compact-joint", build_segmenter, segmenter_preset("compact-joint")),
    }
    for task, (preset, build, config) in networks.items():
        torch.manual_seed(0)
        info = CheckpointInfo(task, preset, config.to_dict(), preprocessor, point)
        save_checkpoint(folder / f"{task}.safetensors", build(config), info)
    return folder
