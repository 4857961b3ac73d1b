"""A small data set of drawn slices, so that training can be tested in seconds."""

import numpy as np
import pytest
import torch
from PIL import Image

from jcs_ct.data.manifest import Manifest, ManifestRow


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Equality bit for bit is promised on one thread; for the module, so that its fixtures train on one too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def drawn_slices(tmp_path_factory) -> Manifest:
    """24 slices of 12 patients: two dark lungs, and in every second patient a bright disc with its mask."""
    folder = tmp_path_factory.mktemp("slices")
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:48]
    rows = []
    for number in range(24):
        patient = number // 2
        infected = patient % 2
        grey = np.full((48, 48), 150.0)
        for centre in (15, 33):
            grey[((x - centre) / 8) ** 2 + ((y - 24) / 16) ** 2 < 1] = 40
        lesion = (x - 15) ** 2 + (y - generator.integers(18, 30)) ** 2 < 16 * infected
        grey[lesion] = 120
        grey = np.clip(grey + generator.normal(0, 6, grey.shape), 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
        Image.fromarray(lesion.astype(np.uint8) * 255).save(folder / f"{number}-mask.png")
        split = "val" if patient >= 8 else "train"
        mask = folder / f"{number}-mask.png"
        rows.append(ManifestRow(folder / f"{number}.png", f"p{patient}", infected, mask, split, "drawn"))
    return Manifest(tuple(rows))
