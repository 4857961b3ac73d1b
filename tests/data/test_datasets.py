from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jcs_ct.data.augmentation.copy_paste import LesionPasting
from jcs_ct.data.datasets import UNKNOWN, SliceDataset, sampling_weights
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.preprocessing import SlicePreprocessor, Window

PLAIN = SlicePreprocessor(size=32, channels=1, mean=(0.0,), std=(1.0,))


def row(folder: Path, name: str, label: int | None, *, mask: bool = False, **more) -> ManifestRow:
    grey = np.full((48, 40), 128, dtype=np.uint8)
    grey[-1, 0] = 127  # rows of one grey at the lower edge are taken for a half-written picture
    Image.fromarray(grey).save(folder / f"{name}.png")
    if mask:
        pixels = np.zeros((48, 40), dtype=np.uint8)
        pixels[12:36, 10:30] = 255
        Image.fromarray(pixels).save(folder / f"{name}-mask.png")
    return ManifestRow(folder / f"{name}.png", name, label, folder / f"{name}-mask.png" if mask else None, **more)


def test_a_batch_says_which_masks_are_known(tmp_path):
    rows = (row(tmp_path, "a", 1, mask=True), row(tmp_path, "b", 1), row(tmp_path, "c", 0))
    dataset = SliceDataset(Manifest(rows), PLAIN)
    batch = dataset.batch([0, 1, 2], augmentation=None, generator=np.random.default_rng(0))
    assert batch.images.shape == (3, 1, 32, 32)
    assert batch.has_mask.tolist() == [True, False, True]
    assert batch.labels.tolist() == [[0, 1], [0, 1], [1, 0]]
    assert batch.masks[0].mean() == pytest.approx(0.25, abs=0.03)
    assert batch.masks[1:].sum() == 0


def test_a_known_window_is_undone(tmp_path):
    # Grey 128 under a window of -1100..400 HU is -347 HU, which the lung window shows at 0.669.
    plain = SliceDataset(Manifest((row(tmp_path, "a", 0),)), PLAIN)[0].grey
    known = SliceDataset(Manifest((row(tmp_path, "b", 0, level_hu=-350.0, width_hu=1500.0),)), PLAIN)[0].grey
    assert plain.mean() == pytest.approx(128 / 255, abs=0.003)
    assert known.mean() == pytest.approx(float(Window()(np.array([-347.1]))[0]), abs=0.003)


def test_the_cache_changes_nothing(tmp_path):
    manifest = Manifest((row(tmp_path, "a", 1, mask=True),))
    cached, fresh = SliceDataset(manifest, PLAIN), SliceDataset(manifest, PLAIN, cache=False)
    assert torch.equal(cached[0].grey, fresh[0].grey)
    assert torch.equal(cached[0].mask, cached[0].mask)


def test_rows_without_a_label_are_drawn_by_their_share_or_not_at_all(tmp_path):
    labelled, unlabelled = row(tmp_path, "a", 0), row(tmp_path, "b", None)
    with pytest.raises(ValueError, match="rows without a label are for an unlabelled_share"):
        SliceDataset(Manifest((labelled, unlabelled)), PLAIN)
    with pytest.raises(ValueError, match="a share of them needs such rows"):
        SliceDataset(Manifest((labelled,)), PLAIN, unlabelled_share=0.25)
    dataset = SliceDataset(Manifest((unlabelled, labelled)), PLAIN, unlabelled_share=0.25)
    assert dataset.labels == (UNKNOWN, 0)
    assert dataset.weights("source", infected_share=0.5) == pytest.approx([0.25, 0.75])
    dataset.place(torch.device("cpu"))
    for device in (None, torch.device("cpu")):  # made where it is read, and where the slices lie
        drawn = dataset.draw([0, 1, 0], augmentation=None, generator=np.random.default_rng(0))
        batch = dataset.made(drawn, device)
        assert batch.labels.tolist() == [[0, 0], [1, 0], [0, 0]]
        assert batch.has_mask.tolist() == [False, True, False]


def test_sources_count_alike_within_a_label():
    rows = [ManifestRow(Path("x"), "p", 1, source="big")] * 9 + [ManifestRow(Path("y"), "q", 1, source="small")]
    rows += [ManifestRow(Path("z"), "r", 0, source="big")] * 10
    weights = sampling_weights(Manifest(tuple(rows)), "source", infected_share=0.75)
    assert weights[:9].sum() == pytest.approx(0.375)
    assert weights[9] == pytest.approx(0.375)
    assert weights[10:].sum() == pytest.approx(0.25)
    assert sampling_weights(Manifest(tuple(rows)), "label")[10:].sum() == pytest.approx(0.5)
    assert sampling_weights(Manifest(tuple(rows)), "none") == pytest.approx(np.full(20, 0.05))
    rows += [ManifestRow(Path("u"), "s", None, source="big")] * 4 + [
        ManifestRow(Path("v"), "t", None, source="small")
    ]
    more = sampling_weights(Manifest(tuple(rows)), "source", infected_share=0.75, unlabelled_share=0.2)
    assert more[:20] == pytest.approx(0.8 * weights)
    assert (more[20:24].sum(), more[24]) == pytest.approx((0.1, 0.1))
    plain = sampling_weights(Manifest(tuple(rows)), "none", unlabelled_share=0.2)
    assert plain == pytest.approx([0.04] * 25)


def test_pasting_draws_alike_for_every_share_and_takes_no_draw_where_it_is_off(tmp_path):
    lungs, lesion = np.full((48, 48), 180, dtype=np.uint8), np.zeros((48, 48), dtype=np.uint8)
    lungs[8:40, 8:20] = lungs[8:40, 28:40] = 40
    lungs[-1, 0] = 179  # rows of one grey at the lower edge are taken for a half-written picture
    lesion[16:30, 9:19] = 255
    Image.fromarray(lungs).save(tmp_path / "clean.png")
    lungs[lesion > 0] = 120
    Image.fromarray(lungs).save(tmp_path / "ill.png")
    Image.fromarray(lesion).save(tmp_path / "mask.png")
    clean, ill = tmp_path / "clean.png", tmp_path / "ill.png"
    dataset = SliceDataset(
        Manifest((ManifestRow(clean, "a", 0), ManifestRow(ill, "b", 1, tmp_path / "mask.png"))), PLAIN
    )
    pasting = LesionPasting.among(dataset.manifest, 1.0)

    def batch(share=(0, 1), **more):
        generator = np.random.default_rng(2)
        found = dataset.batch([0, 0, 0, 0], augmentation=None, generator=generator, share=share, **more)
        return found, generator.bit_generator.state

    whole, _ = batch(pasting=pasting)
    assert whole.labels.tolist() == [[0, 1]] * 4
    assert whole.masks.flatten(1).any(dim=1).all()
    halves = [batch((part, 2), pasting=pasting)[0] for part in range(2)]
    assert torch.equal(halves[0].images, whole.images[::2])
    assert torch.equal(halves[1].masks, whole.masks[1::2])
    plain, state = batch()
    assert state == np.random.default_rng(2).bit_generator.state
    assert not plain.masks.any()
    assert plain.labels.tolist() == [[1, 0]] * 4


def test_a_batch_can_be_made_coarser(tmp_path):
    dataset = SliceDataset(Manifest((row(tmp_path, "a", 1, mask=True),)), PLAIN)
    batch = dataset.batch([0], augmentation=None, generator=np.random.default_rng(0))
    coarse = batch.resized(16)
    assert coarse.images.shape == (1, 1, 16, 16)
    assert coarse.images.mean() == pytest.approx(float(batch.images.mean()), abs=1e-3)
    assert set(coarse.masks.unique().tolist()) == {0.0, 1.0}
    assert coarse.masks.mean() == pytest.approx(float(batch.masks.mean()), abs=0.03)
    assert coarse.labels is batch.labels
