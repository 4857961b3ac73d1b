"""scripts/over_seeds.py: networks of several seeds, compared."""

import numpy as np
import pytest
from over_seeds import main, over_seeds

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.metrics.bootstrap import Resampling

MANY = Resampling(draws=400, seed=3)
PATIENTS = [f"p{number}" for number in range(40)]


def drawn_scores(*means, noise=1.0):
    """(seeds, 40) of a network whose seeds have these means; patients are alike hard for all networks."""
    hard = np.random.default_rng(0).normal(0, 8, 40)
    own = np.random.default_rng(int(10 * sum(means))).normal(0, noise, (len(means), 40))
    return hard - hard.mean() + own - own.mean(axis=1, keepdims=True) + np.array(means)[:, None]


def test_a_difference_is_paired_and_known_where_seeds_agree():
    found = over_seeds(drawn_scores(72, 72, 72), PATIENTS, MANY, drawn_scores(70, 70, 70))
    assert found.value == pytest.approx(2.0)
    assert found.low > 1.0, "patients differ by 8 points, the networks on each of them by 1"
    assert found.high < 3.0
    alone = over_seeds(drawn_scores(72, 72, 72), PATIENTS, MANY)
    assert alone.value == pytest.approx(72.0)
    assert alone.high - alone.low > 3.0


def test_a_difference_that_another_seed_would_undo_is_none():
    steady = over_seeds(drawn_scores(72, 72, 72), PATIENTS, MANY, drawn_scores(70, 70, 70))
    found = over_seeds(drawn_scores(77, 68, 71), PATIENTS, MANY, drawn_scores(66, 73, 71))
    assert found.value == pytest.approx(steady.value)
    assert found.low < 0 < found.high


def scores_file(folder, methods):
    lines = ["method,case,dice_percent,iou_percent,hausdorff_px"]
    lines += [f"{name},s{case},{dice + case},50,10" for name, dice in methods.items() for case in range(4)]
    (folder / "per_image.csv").write_text("\n".join(lines) + "\n")
    rows = [
        ManifestRow(folder / f"s{case}.png", f"p{case}", 1, mask=folder / f"s{case}.png", split="test", source="a")
        for case in range(4)
    ]
    Manifest(tuple(rows)).write(folder / "slices.csv")
    return [str(folder / "per_image.csv"), "-m", str(folder / "slices.csv"), "--draws", "50"]


def test_the_table_has_a_row_a_network_with_all_its_seeds(tmp_path, capsys):
    asked = scores_file(tmp_path, {"plain-0": 60, "plain-1": 62, "more-0": 70, "more-1": 74})
    main([*asked, "--baseline", "plain"])
    said = capsys.readouterr().out
    assert "4 slices of 4 patients" in said
    plain, more = (line for line in said.splitlines() if line.startswith(("| plain", "| more")))
    assert plain.startswith("| plain | 62.5 | ")
    assert "| 61.5, 63.5 | – | 50.0 | 10.0 |" in plain
    assert "| 71.5, 75.5 | +11.0 |" in more


@pytest.mark.parametrize(
    ("methods", "baseline", "problem"),
    [
        ({"plain": 60}, "plain", "the method 'plain' is not called NAME-SEED"),
        ({"plain-0": 60}, "other", "no network 'other'; there are plain"),
        ({"plain-0": float("nan")}, "plain", "plain lacks dice_percent of some of the 4 slices"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, methods, baseline, problem):
    with pytest.raises(SystemExit, match=problem):
        main([*scores_file(tmp_path, methods), "--baseline", baseline])
