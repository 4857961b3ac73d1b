"""`scripts/weights_manifests.py`: which slices the networks in the box were trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from weights_manifests import JUDGED, TEACHING, weights_manifests

from jcs_ct.data.manifest import Manifest, ManifestRow


def rows(source: str, patients: int, *, split: str = "train") -> Manifest:
    """Two slices of every patient, the first infected; ``sarscov2`` in folds as it is handed out."""
    return Manifest(
        tuple(
            ManifestRow(
                Path(f"{source}-{patient}-{label}.png"),
                f"{source}-{patient:03d}",
                label,
                split=split,
                source=source,
                fold=patient % 4 if source == "sarscov2" else None,
            )
            for patient in range(patients)
            for label in (1, 0)
        )
    )


@pytest.fixture(scope="module")
def manifests():
    made = {source: rows(source, 12, split="test") for source in JUDGED}
    made |= {source: rows(source, 13, split="test") for source in TEACHING}
    return weights_manifests(made)


def patients(manifest: Manifest, source: str, split: str) -> set[int]:
    return {int(row.patient[-3:]) for row in manifest if (row.source, row.split) == (source, split)}


def test_sets_to_judge_by_keep_their_splits_and_the_others_test_nothing(manifests):
    assert all(row.split == "test" for row in manifests["sources"] if row.source in JUDGED)
    assert not {row.source for row in manifests["sources"].split("test")} & set(TEACHING)


def test_few_patients_of_the_teaching_sets_validate_and_none_stands_in_two_splits(manifests):
    sources = manifests["sources"]
    assert patients(sources, "iq-othnccd", "val") == {0, 6, 12}
    assert patients(sources, "pneumonia224", "val") == {0, 5, 10}
    assert patients(sources, "sarscov2", "val") == {3, 7, 11}
    assert patients(sources, "zenodo20", "val") == set()
    for source in TEACHING:
        assert not patients(sources, source, "val") & patients(sources, source, "train")
        assert len(patients(sources, source, "train") | patients(sources, source, "val")) == 13


def test_the_teacher_s_pupil_hears_no_label_of_sarscov2_and_the_others_keep_theirs(manifests):
    taught = manifests["taught"]
    assert {row.label for row in taught if row.source == "sarscov2" and row.split == "train"} == {None}
    assert {row.label for row in taught if row.source != "sarscov2"} == {0, 1}
    assert len(taught) == len(manifests["sources"])
    assert "sarscov2" not in {row.source for row in manifests["others"]}


def test_the_segmenter_s_manifest_has_no_painted_slice(manifests):
    assert {row.source for row in manifests["volumes"]} == {"ct100", "lungs267", "zenodo20"}
    assert sum(row.source == "painted" for row in manifests["sources"]) == 8  # of 24, every third
