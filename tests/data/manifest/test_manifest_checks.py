"""A manifest is held against the files that it names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.datasets import prepare_slice
from jcs_ct.data.manifest import ManifestRow, read_lesions
from jcs_ct.data.manifest.manifest_checks import check_manifest, look_at_files, refuse_problems
from jcs_ct.errors import ConfigError, MaskError
from jcs_ct.preprocessing import SlicePreprocessor


def save(path: Path, plane: np.ndarray) -> Path:
    Image.fromarray(plane).save(path)
    return path


@pytest.fixture
def files(tmp_path) -> Path:
    """ct.png and other.png, and the masks some.png and none.png."""
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    mask = np.zeros((8, 8), dtype=np.uint8)
    for name in ("ct", "other"):
        save(tmp_path / f"{name}.png", ramp)
    save(tmp_path / "none.png", mask)
    mask[3:5, 3:6] = 1
    save(tmp_path / "some.png", mask)
    return tmp_path


def table(folder: Path, *lines: str, head: str = "path,patient,label,mask") -> Path:
    path = folder / "slices.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def test_all_that_is_wrong_with_files_is_reported(files):
    save(files / "m.png", np.zeros((4, 8), dtype=np.uint8))
    save(files / "black.png", np.zeros((8, 8), dtype=np.uint8))
    (files / "b.png").write_bytes(b"no image")
    rows = (
        ManifestRow(files / "ct.png", "1", 0, files / "m.png"),
        ManifestRow(files / "b.png", "2", 0),
        ManifestRow(files / "a\\c.png", "3", 0),
        ManifestRow(files / "black.png", "4", 0),
    )
    with pytest.raises(ConfigError) as refused:
        refuse_problems(files / "slices.csv", look_at_files(rows).problems)
    for said in (
        "4 problem(s)",
        "m.png: the mask has 4x8 pixels, its image 8x8",
        "b.png: the image cannot be read (UnidentifiedImageError)",
        "no such file; its name has backslashes, write / between folders",
        "black.png: all pixels have one value",
    ):
        assert said in str(refused.value)


def test_labels_and_masks_that_contradict_each_other_are_refused_in_training_too(files):
    rows = (
        ManifestRow(files / "ct.png", "1", 0, files / "some.png"),
        ManifestRow(files / "other.png", "2", 1, files / "none.png"),
    )
    path = table(files, "ct.png,1,0,some.png", "other.png,2,1,none.png")
    with pytest.raises(ConfigError, match=r"(?s)labelled 0 .*marks 6 pixel.*labelled 1 .*its mask is empty"):
        check_manifest(path)
    for row in rows:
        with pytest.raises(MaskError, match=f"labelled {row.label}"):
            prepare_slice(row, SlicePreprocessor(size=64))


def test_a_mask_of_two_slices_is_refused_unless_it_is_empty(files):
    path = table(files, "ct.png,1,1,some.png", f"other.png,2,1,../{files.name}/some.png")
    with pytest.raises(ConfigError, match=r"some\.png: is the mask of 2 slices, as ct\.png and other\.png"):
        check_manifest(path)
    done = CliRunner().invoke(app, ["data", "make", "table", str(path), "-o", str(files / "made.csv")])
    assert "some.png: is the mask of 2 slices" in str(done.exception)
    assert not (files / "made.csv").exists()
    assert len(check_manifest(table(files, "ct.png,1,0,none.png", "other.png,1,0,none.png")).manifest) == 2


def test_an_image_in_two_rows_is_refused_however_its_path_is_typed(files):
    path = table(files, "ct.png,1,1,some.png", f"../{files.name}/ct.png,2,0,")
    with pytest.raises(ConfigError, match=r"ct\.png: stands in 2 rows, of the patient\(s\) 1, 2; keep one"):
        check_manifest(path)


def test_what_is_not_read_and_what_labels_mean_is_said(files):
    labels = np.zeros((8, 8), dtype=np.uint8)
    labels[3, 3:6] = 1, 2, 3
    save(files / "labels.png", labels)
    lines = ("ct.png,1,1,labels.png,some.png", "other.png,2,0,none.png,")
    path = table(files, *lines, head="path,patient,label,mask,masks")
    notes = check_manifest(path).notes
    assert notes[:2] == (
        "columns that are not read: masks",
        "1 mask(s) have several labels (1, 2, 3): all count as lesion; column lesion_labels says which",
    )
    done = CliRunner().invoke(app, ["data", "check", str(path)])
    assert done.exit_code == 0
    assert all(f"note: {note}" in done.output for note in notes)


def test_a_row_says_which_labels_of_its_mask_are_lesion(files):
    labels = np.zeros((8, 8), dtype=np.uint8)
    labels[3, 3:6] = 1, 2, 3
    save(files / "labels.png", labels)
    head = "path,patient,label,mask,lesion_labels"
    checked = check_manifest(table(files, "ct.png,1,1,labels.png,1 2", head=head))
    assert not any("several labels" in note for note in checked.notes)
    (row,) = checked.manifest
    lesions = read_lesions(row)
    assert lesions is not None
    assert np.argwhere(lesions).tolist() == [[3, 3], [3, 4]]
    with pytest.raises(ConfigError, match="its mask is empty"):
        check_manifest(table(files, "ct.png,1,1,labels.png,9", head=head))
    with pytest.raises(ConfigError, match=r"lesion_labels must be whole numbers from 1 on.*'0 x'"):
        check_manifest(table(files, "ct.png,1,1,labels.png,0 x", head=head))
