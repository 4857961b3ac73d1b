from pathlib import Path

from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.patient_folds import split_by_patient


def manifest(folder: Path) -> Manifest:
    rows = []
    for label, count in ((1, 10), (0, 15)):
        for patient in range(count):
            for part in "ab":
                path = folder / f"{label}-{patient}{part}.png"
                path.write_bytes(b"")
                rows.append(ManifestRow(path, f"{label}-{patient}", label, split="train", source="a"))
    return Manifest(tuple(rows))


def patients(table: Manifest, split: str, label: int) -> set[str]:
    return {row.patient for row in table if row.split == split and row.label == label}


def test_a_split_keeps_patients_together_and_shares_labels_out(tmp_path):
    divided = split_by_patient(manifest(tmp_path), 5, seed=0)
    shares = {
        (split, label): len(patients(divided, split, label)) for split in ("train", "val", "test") for label in (1, 0)
    }
    assert shares == {("train", 1): 6, ("train", 0): 9, ("val", 1): 2, ("val", 0): 3, ("test", 1): 2, ("test", 0): 3}
    assert len(divided) == 50
    assert len({(row.patient, row.split) for row in divided}) == 25
    assert divided != split_by_patient(manifest(tmp_path), 5, seed=1)


def test_the_command_writes_what_it_says(tmp_path):
    manifest(tmp_path).write(tmp_path / "all.csv")
    done = CliRunner().invoke(app, ["data", "split", str(tmp_path / "all.csv"), "-o", str(tmp_path / "new.csv")])
    assert done.exit_code == 0, done.output
    assert "test: 5 patients, 10 rows" in done.output
    assert read_manifest(tmp_path / "new.csv").rows == split_by_patient(manifest(tmp_path), 5, seed=0).rows
