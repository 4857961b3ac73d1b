"""Splits that are dealt have both labels where there are patients for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.data.manifest.dealt_splits import deal_splits, split_remarks

SPLITS = ("train", "val", "test")


def rows(patients: dict[str, str]) -> list[ManifestRow]:
    """A row for every sign: ``1`` infected, ``0`` not, ``-`` not known."""
    labels = {"1": 1, "0": 0, "-": None}
    return [
        ManifestRow(Path(f"{name}-{number}.png"), name, labels[sign])
        for name, signs in patients.items()
        for number, sign in enumerate(signs)
    ]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "patients",
    [
        {"a": "1" * 22, "b": "1" * 19, "c": "1" * 29, **{f"n{i}": "0" * (1 + i % 3) for i in range(10)}},
        {"a": "10", "b": "01", "c": "1100", "d": "-"},
        {"a": "10", "b": "1", "c": "1", "d": "0", "e": "0"},
        {**{f"i{i}": "1" for i in range(3)}, **{f"u{i}": "0" * 9 for i in range(3)}},
    ],
)
def test_every_split_has_both_labels_where_patients_allow(patients, seed):
    dealt = deal_splits(rows(patients), seed=seed)
    for split in SPLITS:
        assert {0, 1} <= {row.label for row in dealt if row.split == split}
    assert len({(row.patient, row.split) for row in dealt}) == len(patients)
    assert [row.path for row in dealt] == [row.path for row in rows(patients)]


def test_shares_are_kept_of_every_kind_and_groups_stay_together():
    patients = {f"{label}{i}": label * (1 + i % 4) for label in "10" for i in range(60)}
    dealt = deal_splits(rows(patients), seed=1)
    for label in (0, 1):
        own = [row for row in dealt if row.label == label]
        shares = [sum(row.split == split for row in own) / len(own) for split in SPLITS]
        assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    assert dealt != deal_splits(rows(patients), seed=2)
    joined = [ManifestRow(row.path, row.patient, row.label, group="g" if row.label else "") for row in rows(patients)]
    assert len({row.split for row in deal_splits(joined, seed=1) if row.group}) == 1


def test_train_and_val_come_first_and_what_is_lacking_is_said():
    dealt = Manifest(deal_splits(rows({"a": "10", "b": "10"}), seed=0))
    assert {row.split for row in dealt} == {"train", "val"}
    assert split_remarks(dealt) == [
        "no patient is left for the split test",
        "val: 1 patient; infected slices come from 1, uninfected from 1; figures of so few patients say little",
    ]
    assert split_remarks(Manifest(deal_splits(rows({"a": "10"}), seed=0))) == []
    one_of_both = Manifest(tuple(replace(row, split="val") for row in rows({"a": "10", "b": "0"})))
    assert split_remarks(one_of_both)[-1].startswith(
        "val: 2 patients; infected slices come from 1, uninfected from 2;"
    )
    many = {f"{label}{i}": label for label in "10" for i in range(40)}
    assert split_remarks(Manifest(deal_splits(rows(many), seed=0))) == []
