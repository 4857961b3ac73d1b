"""Work on the rows of a large manifest grows with the rows, not with their pairs."""

from __future__ import annotations

import json
from pathlib import Path

from jcs_ct.data.manifest import ManifestRow
from jcs_ct.data.manifest.manifest_checks import Findings
from jcs_ct.data.manifest.manifest_problems import ProblemKind
from jcs_ct.data.sources.contradictions import settle
from jcs_ct.data.sources.nnunet_splits import splits_text


def count_comparisons(monkeypatch):
    """Rows that are compared with one another from now on."""
    compared = []
    equals = ManifestRow.__eq__
    monkeypatch.setattr(ManifestRow, "__eq__", lambda row, other: compared.append(row) or equals(row, other))
    return compared


def test_folds_of_nnunet_look_rows_up(monkeypatch):
    rows = [ManifestRow(Path(f"{number}_0000.png"), str(number), 1, fold=number % 2) for number in range(100)]
    compared = count_comparisons(monkeypatch)
    first, second = json.loads(splits_text(rows))
    assert first == {"train": second["val"], "val": second["train"]}
    assert first["val"] == [str(number) for number in range(0, 100, 2)]
    assert len(compared) == 0


def test_contradictions_look_rows_up(monkeypatch):
    rows = [
        ManifestRow(Path(f"{number}.png"), str(number), int(number > 40), mask=Path(f"{number}-mask.png"))
        for number in range(100)
    ]
    found = Findings(lesion_pixels={row: 0 if row.label and number < 99 else 9 for number, row in enumerate(rows)})
    compared = count_comparisons(monkeypatch)
    settled = settle(rows, found, None)
    assert len(settled.problems) == 41
    assert {problem.kind for problem in settled.problems} == {ProblemKind.MARKED_MASK}
    assert len(settled.rows) == 100
    assert len(compared) == 0
