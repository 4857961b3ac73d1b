import json
from pathlib import Path

import pytest

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.judged_slices import (
    Case,
    CaseSet,
    ct100_cases,
    manifest_cases,
    open_cases,
    patient_subgroups,
)


def test_slices_of_one_acquisition_share_a_patient(ct100_like):
    cases = ct100_cases(ct100_like)
    assert [case.name for case in cases] == [f"{number:04d}" for number in range(10)]
    assert cases.patients[0] == cases.patients[5]
    assert len(set(cases.patients)) == 9
    assert cases.folds["fold1"] == [1, 6]


def test_patients_of_one_group_are_resampled_as_one():
    """What splits keep together, since it is nearly the same, is no independent evidence either."""
    rows = tuple(
        ManifestRow(Path(f"{n}.png"), f"p{n}", 0, split="test", group="g" if n < 3 else "") for n in range(5)
    )
    cases = manifest_cases(Manifest(rows))
    assert cases.units == ("g", "g", "g", "p3", "p4")
    assert [name for _, name in cases.patients] == ["p0", "p1", "p2", "p3", "p4"], "a group of patients is no volume"


def test_one_name_in_two_sources_is_two_patients_who_are_resampled_as_one():
    rows = tuple(ManifestRow(Path(f"{n}.png"), "1", 0, split="test", source="ab"[n // 2]) for n in range(4))
    cases = manifest_cases(Manifest(rows))
    assert len(set(cases.patients)) == 2
    assert set(cases.units) == {"1"}


def test_names_never_hold_a_patient_and_stay_unique():
    rows = (
        ManifestRow(Path("a/x.png"), "John Doe", 0, split="test"),
        ManifestRow(Path("b/x.png"), "Jane Doe", 0, split="test", age=61.0, sex="f"),
        ManifestRow(Path("b/y.png"), "Jane Doe", 1, Path("b/m.png"), split="test"),
        ManifestRow(Path("b/z.png"), "Jane Doe", 1, split="test"),
    )
    cases = manifest_cases(Manifest(rows)).cases
    assert [case.name[0] for case in cases] == ["x", "x", "y"]
    assert cases[0].name != cases[1].name
    assert not any("Doe" in case.name for case in cases)
    assert cases[1].subgroups == {"sex": "f", "age": "60 to 79 years"}


def test_no_mask_of_a_folder_is_left_out_without_a_word(tmp_path):
    for name in ("a.png", "b.PNG", "notes.txt"):
        (tmp_path / name).touch()
    assert [case.name for case in open_cases(tmp_path)] == ["a", "b"]
    for name in ("c.tif", "a.PNG"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"3 picture.* no PNG or share a name, as a\.PNG, a\.png, c\.tif"):
        open_cases(tmp_path)


def test_what_cannot_be_judged_is_refused(tmp_path, ct100_like):
    with pytest.raises(ConfigError, match="protocol miniseg needs folds"):
        open_cases(ct100_like / "masks", protocol="miniseg")
    with pytest.raises(ConfigError, match="no PNG in"):
        open_cases(tmp_path)
    with pytest.raises(ConfigError, match="no slice whose lesion pixels are known"):
        manifest_cases(Manifest((ManifestRow(Path("a.png"), "p", 1, split="test"),)))
    with pytest.raises(ValueError, match="names must be unique"):
        CaseSet("x", (Case("a", Path("a"), None, "p"), Case("a", Path("b"), None, "q")))
    (ct100_like / "splits.json").write_text("{}")
    with pytest.raises(ConfigError, match="lacks patient_safe_folds, same_acquisition_groups"):
        ct100_cases(ct100_like)


def test_a_folder_of_masks_says_that_patients_are_not_known(ct100_like):
    assert "every slice its own patient" in open_cases(ct100_like / "masks").title


def test_slices_of_an_acquisition_that_the_folds_part_are_told_apart(ct100_like):
    assert all("acquisition" not in case.subgroups for case in ct100_cases(ct100_like, "miniseg")), (
        "0 and 5 are in one fold"
    )
    splits = json.loads((ct100_like / "splits.json").read_text())
    (ct100_like / "splits.json").write_text(json.dumps({**splits, "same_acquisition_groups": [[0, 5], [1, 2]]}))
    cases = ct100_cases(ct100_like, "miniseg")
    parted = [case.name for case in cases if case.subgroups["acquisition"] == "in several folds"]
    assert parted == ["0001", "0002"]


def test_the_subgroups_of_a_patient_are_what_the_rows_share_that_state_one():
    rows = [
        ManifestRow(Path("a.png"), "p", 1, scanner="A", age=61.0),
        ManifestRow(Path("b.png"), "p", 1, scanner="B", sex="f"),
    ]
    assert patient_subgroups(rows) == {"scanner": "several", "sex": "f", "age": "60 to 79 years"}
