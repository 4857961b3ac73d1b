from pathlib import Path

from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.manifest.patient_folds import fold_by_patient, split_by_patient


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
    assert "test: 5 patients, 10 rows, 4 infected" in done.output
    assert read_manifest(tmp_path / "new.csv").rows == split_by_patient(manifest(tmp_path), 5, seed=0).rows


def test_folds_fill_a_column_and_keep_patients_together(tmp_path):
    folded = fold_by_patient(manifest(tmp_path), 5, seed=0)
    assert len({(row.patient, row.fold) for row in folded}) == 25
    for fold in range(5):
        of_label = [{row.patient for row in folded if row.fold == fold and row.label == label} for label in (1, 0)]
        assert [len(patients) for patients in of_label] == [2, 3]
    assert {row.split for row in folded} == {"train"}
    assert folded == fold_by_patient(manifest(tmp_path), 5, seed=0)
    assert folded != fold_by_patient(manifest(tmp_path), 5, seed=1)


def test_a_test_split_may_stay_out_of_the_folds(tmp_path):
    divided = split_by_patient(manifest(tmp_path), 5, seed=0)
    folded = fold_by_patient(divided, 4, seed=0, keep_test=True)
    held = {row.path for row in divided.split("test")}
    assert {row.path for row in folded.split("test")} == {row.path for row in folded if row.fold is None} == held
    assert {row.fold for row in folded if row.path not in held} == {0, 1, 2, 3}


def test_the_command_fills_folds_or_refuses_what_contradicts_itself(tmp_path):
    manifest(tmp_path).write(tmp_path / "all.csv")
    command = ["data", "split", str(tmp_path / "all.csv"), "-o", str(tmp_path / "folds.csv")]
    done = CliRunner().invoke(app, [*command, "--folds", "5", "--seed", "3"])
    assert done.exit_code == 0, done.output
    assert "fold 4: 5 patients, 10 rows, 4 infected" in done.output
    assert read_manifest(tmp_path / "folds.csv").rows == fold_by_patient(manifest(tmp_path), 5, seed=3).rows
    both = CliRunner().invoke(app, [*command, "--folds", "5", "--parts", "5"])
    assert "give one of them" in str(both.exception)
    alone = CliRunner().invoke(app, [*command, "--keep-test"])
    assert "--keep-test goes with --folds" in str(alone.exception)
