"""Slices of one scan on both sides of a split are found, whoever is said to own them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.manifest.leaks import (
    NEAR_DUPLICATE_BITS,
    find_leaks,
    join_duplicates,
    one_slice_sources,
    perceptual_hash,
    windowed_grey,
)
from jcs_ct.data.manifest.manifest_checks import check_manifest
from jcs_ct.phantom import PhantomConfig, make_phantom, write_png


def scan(seed: int, count: int) -> np.ndarray:
    """(count, 64, 64) slices of one made-up scan, each like the next."""
    noise = np.random.default_rng(seed).normal(size=(count + 8, 64, 64))
    smooth = ndimage.gaussian_filter(noise, (8, 4, 4))[4:-4]
    return np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))


@pytest.fixture
def rows(tmp_path) -> list[ManifestRow]:
    """Two scans of six slices in one folder, a patient each, all in train."""
    found = []
    for seed in (1, 2):
        for number, plane in enumerate(scan(seed, 6)):
            path = tmp_path / f"s{seed}_{2 * number:03d}.png"
            Image.fromarray(plane).save(path)
            found.append(ManifestRow(path, f"p{seed}", number % 2, source="own"))
    return found


def check(folder: Path, rows: list[ManifestRow]):
    Manifest(tuple(rows)).write(folder / "slices.csv")
    return check_manifest(folder / "slices.csv")


def moved(row: ManifestRow, **fields: object) -> ManifestRow:
    return ManifestRow(**{**vars(row), **fields})


def test_scans_in_a_split_each_are_no_leak(rows, tmp_path):
    parted = [moved(row, split="test" if row.patient == "p2" else "train") for row in rows]
    assert check(tmp_path, parted).leaks == ()


def test_a_scan_on_both_sides_is_found_under_any_name(rows, tmp_path):
    parted = [moved(row, patient=row.path.stem, split=("train", "test")[n % 2]) for n, row in enumerate(rows)]
    leaks = check(tmp_path, parted).leaks
    pairs = {tuple(part.split("/")[-1].split(".png")[0] for part in str(leak).split(" and ")[:2]) for leak in leaks}
    assert {(f"s{seed}_{n:03d}", f"s{seed}_{n + 2:03d}") for seed in (1, 2) for n in range(0, 10, 2)} <= pairs
    assert not any(first[:2] != second[:2] for first, second in pairs)


def test_a_leak_refuses_the_manifest_unless_it_is_accepted(rows, tmp_path):
    copy = tmp_path / "copy.jpg"
    Image.open(rows[0].path).resize((50, 50)).save(copy, quality=60)
    Manifest((*rows, ManifestRow(copy, "other", 0, split="test", source="own"))).write(tmp_path / "slices.csv")
    command = ["data", "check", str(tmp_path / "slices.csv")]
    refused = CliRunner().invoke(app, command)
    assert "has 1 leak(s)" in str(refused.exception)
    assert "s1_000.png (train) and" in str(refused.exception)
    assert "copy.jpg (test) are near-duplicates" in str(refused.exception)
    accepted = CliRunner().invoke(app, [*command, "--accept-leaks", "--json"])
    assert accepted.exit_code == 0, accepted.output
    said = json.loads(accepted.stdout)
    assert len(said["leaks"]) == 1
    assert said["counts"][0]["patients"] == 2


def test_folds_leak_too(rows, tmp_path):
    folded = [moved(row, fold=n % 2) for n, row in enumerate(rows)]
    leaks = check(tmp_path, folded).leaks
    assert "leak: patient or group 'p1' is in the folds 0, 1" in map(str, leaks)
    assert any("(train, fold 0) and" in str(leak) for leak in leaks)


def test_neighbours_by_name_may_differ_more_than_strangers():
    def code(bits: int) -> np.ndarray:
        return np.packbits(np.arange(256) < bits).view(np.uint64)

    names = ("a_001.png", "a_002.png", "b.png", "a_009.png")
    rows = [ManifestRow(Path(name), name, 0, split=split) for name, split in zip(names, ("train", "test") * 2)]
    alike = scan(1, 1)[0] / np.float32(255)
    leaks = find_leaks(rows, [code(0), code(40), code(40), code(40)], read=lambda row: alike)
    assert [(leak.first.name, leak.second.name, leak.bits, leak.is_neighbour) for leak in leaks] == [
        ("a_002.png", "b.png", 0, False),
        ("b.png", "a_009.png", 0, False),
        ("a_001.png", "a_002.png", 40, True),
    ]
    assert not find_leaks(rows[:2], [code(0), code(45)])


def test_a_patient_for_every_slice_is_said(rows, tmp_path):
    assert not one_slice_sources(rows)
    alone = [moved(row, patient=row.path.stem) for row in rows]
    (note,) = one_slice_sources(alone)
    assert "every patient of own has one slice" in note
    assert note in check(tmp_path, alone).notes


def test_patients_with_near_duplicates_are_joined_and_split_together(rows, tmp_path):
    copy = tmp_path / "copy.png"
    Image.open(rows[0].path).save(copy)
    more = [ManifestRow(copy, "p0", 0, source="own")]
    for seed in (3, 4):
        Image.fromarray(scan(seed, 1)[0]).save(tmp_path / f"{seed}.png")
        more.append(ManifestRow(tmp_path / f"{seed}.png", f"p{seed}", 0, source="own"))
    joined = join_duplicates(Manifest((*rows, *more)))
    assert {row.patient: row.group for row in joined} == {"p0": "p0", "p1": "p0", "p2": "", "p3": "", "p4": ""}
    Manifest((*rows, *more)).write(tmp_path / "all.csv")
    done = CliRunner().invoke(
        app,
        [
            "data",
            "split",
            str(tmp_path / "all.csv"),
            "-o",
            str(tmp_path / "f.csv"),
            "--folds",
            "4",
            "--join-duplicates",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "1 group(s) of 2 patients stay together" in done.output
    folds = {row.patient: row.fold for row in read_manifest(tmp_path / "f.csv")}
    assert folds["p0"] == folds["p1"]
    assert check_manifest(tmp_path / "f.csv").leaks == ()


def test_what_the_values_span_is_said(rows, tmp_path):
    hu = np.linspace(-1000, 300, 4096, dtype=np.float32).reshape(64, 64)
    Image.fromarray(hu).save(tmp_path / "hu.tif")
    stated = [moved(row, level_hu=-350.0, width_hu=1500.0) for row in rows]
    notes = check(tmp_path, [*stated, ManifestRow(tmp_path / "hu.tif", "p9", 0)]).notes
    assert notes == (
        "slices without a source: -1000 to 300 HU, stored as HU",
        "own: -1100 to 400 HU, 8-bit, under the stated window (level -350, width 1500 HU)",
    )
    (note,) = check(tmp_path, rows).notes
    assert (
        note == "own: -1350 to 150 HU, 8-bit, taken as a lung window (level -600, width 1500 HU); no window is stated"
    )


def test_slices_that_share_coarse_shapes_only_are_no_duplicates(tmp_path):
    """Two phantoms of different seeds have upper abdomens within 26 bits, and nothing else in common."""
    rows = []
    for name, seed in (("train", 2), ("test", 3)):
        write_png(make_phantom(PhantomConfig(slices=16, lesions=6, seed=seed, size=128)), tmp_path / name)
        rows.append(ManifestRow(tmp_path / name / "images/0012.png", name, 1, split=name))
    codes = [perceptual_hash(windowed_grey(row)) for row in rows]
    assert int(np.bitwise_count(codes[0] ^ codes[1]).sum()) <= NEAR_DUPLICATE_BITS
    assert find_leaks(rows, codes) == ()
    image = Image.open(rows[0].path)
    image.resize((70, 70)).save(tmp_path / "copy.jpg", quality=50)
    rows[1] = ManifestRow(tmp_path / "copy.jpg", "test", 1, split="test")
    assert len(find_leaks(rows, [codes[0], perceptual_hash(windowed_grey(rows[1]))])) == 1


def test_a_hash_is_kept_by_size_and_brightness():
    plane = scan(5, 1)[0].astype(np.float32) / 255
    half = ndimage.zoom(plane, 0.5, order=1)
    bits = [
        int(np.bitwise_count(perceptual_hash(plane) ^ perceptual_hash(other)).sum()) for other in (half, plane * 0.8)
    ]
    assert max(bits) <= NEAR_DUPLICATE_BITS
