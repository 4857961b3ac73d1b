import unicodedata
from pathlib import Path

import pytest

from jcs_ct.data.manifest import ManifestRow
from jcs_ct.data.manifest.shared_names import alike_name_notes


def rows(*patients: tuple[str, str], source: str = "s", fold: int | None = None) -> list[ManifestRow]:
    return [
        ManifestRow(Path(f"{number}.png"), patient, 1, split=split, source=source, fold=fold)
        for number, (patient, split) in enumerate(patients)
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("007", "7"),
        ("7.0", "7"),
        ("P1", "p1"),
        ("a b", "ab"),
        ("case-07b", "case-7b"),
        (unicodedata.normalize("NFC", "Jürgen"), unicodedata.normalize("NFD", "Jürgen")),
    ],
)
def test_one_patient_written_in_two_ways_is_noticed_where_splits_part_it(one, other):
    (note,) = alike_name_notes(rows((one, "train"), (other, "test"), ("x", "test")))
    assert f"{min(one, other)!r} and {max(one, other)!r}. If each is one person" in note
    assert alike_name_notes(rows((one, "train"), (other, "train"))) == []
    assert len(alike_name_notes([*rows((one, "train"), fold=0), *rows((other, "train"), fold=1)])) == 1
    assert alike_name_notes([*rows((one, "train")), *rows((other, "test"), source="t")]) == []


@pytest.mark.parametrize(("one", "other"), [("10", "1"), ("100", "10"), ("7.5", "7"), ("1.07", "17"), ("a1", "b1")])
def test_other_names_are_other_patients(one, other):
    assert alike_name_notes(rows((one, "train"), (other, "test"))) == []
