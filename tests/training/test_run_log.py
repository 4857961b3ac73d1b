"""What a run leaves for people, and that leaving it changes nothing."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

from jcs_ct.errors import MissingExtraError
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.run_log import Board, RunExtras
from jcs_ct.training.sample_pictures import choose_samples
from jcs_ct.training.training_run import train
from jcs_ct.training.training_tasks import make_task

SMALL = {
    "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
    "augmentation": {"rotate_degrees": 10, "noise": 0.05},
    "optimiser": {"name": "adamw", "learning_rate": 2e-3, "gradient_clip": 1.0},
    "steps": 4,
    "batch_size": 4,
    "validate_every": 2,
    "checkpoint_every": 1,
}
TRUNK = {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "base_width": 32}
CLASSIFIER = Recipe.model_validate(
    SMALL
    | {"task": "classifier", "preset": "compact", "network": {"backbone": TRUNK, "dropout": 0.2}, "mixup_alpha": 0.5}
)
SEGMENTER = Recipe.model_validate(
    SMALL | {"task": "segmenter", "preset": "compact", "network": {"encoder": {"channels": [4, 4, 4, 4, 8]}}}
)


def same(first, second) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    """Stands for SIGKILL between two steps."""


def kill_at(step):
    def progress(done, steps, losses):
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize("recipe", [CLASSIFIER, SEGMENTER], ids=["classifier", "segmenter"])
def test_pictures_and_board_change_nothing_in_what_is_learnt_or_resumed(recipe, drawn_slices, tmp_path):
    train(make_task(recipe), recipe, drawn_slices, tmp_path / "plain", shown=RunExtras(samples=0))
    assert not (tmp_path / "plain" / "samples").exists()
    shown = RunExtras(samples=3, tensorboard=True)
    with pytest.raises(Killed):
        train(make_task(recipe), recipe, drawn_slices, tmp_path / "shown", shown=shown, progress=kill_at(3))
    train(make_task(recipe), recipe, drawn_slices, tmp_path / "shown", shown=shown)
    for name in ("last.safetensors", "best.safetensors"):
        assert same(tmp_path / "plain" / name, tmp_path / "shown" / name)
    drawn = tmp_path / "shown" / "samples"
    assert sorted(path.name for path in drawn.iterdir()) == ["step-000002.png", "step-000004.png"]


def test_training_leaves_the_callers_random_numbers_alone(drawn_slices, tmp_path):
    task = make_task(SEGMENTER)
    before = torch.get_rng_state()
    train(task, SEGMENTER, drawn_slices, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_losses_of_a_step_are_those_of_all_its_parts(drawn_slices, tmp_path):
    recipe = CLASSIFIER.model_copy(update={"steps": 1, "accumulate": 3, "activation_map_weight": 1.0})
    task, parts, shown = make_task(recipe), [], []
    plain = task.loss

    def loss(network, batch, generator):
        found = plain(network, batch, generator)
        parts.append({"slices": len(batch.labels)} | {name: float(value.detach()) for name, value in found.items()})
        return found

    task.loss = loss
    train(
        task, recipe, drawn_slices, tmp_path, shown=RunExtras(samples=0),
        progress=lambda step, steps, losses: shown.append(losses),
    )  # fmt: skip
    assert [part["slices"] for part in parts] == [2, 1, 1]
    for name in ("loss", "cross_entropy", "activation_map"):
        mean = sum(part["slices"] / 4 * part[name] for part in parts)
        assert shown[-1][name] == pytest.approx(mean)


def test_a_run_that_ends_in_an_error_closes_its_board(drawn_slices, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(Board, "close", lambda board: closed.append(board))
    with pytest.raises(Killed):
        train(
            make_task(SEGMENTER),
            SEGMENTER,
            drawn_slices,
            tmp_path,
            shown=RunExtras(tensorboard=True),
            progress=kill_at(1),
        )
    assert len(closed) == 1


def test_a_sheet_shows_slice_truth_and_network(drawn_slices, tmp_path):
    train(make_task(SEGMENTER), SEGMENTER, drawn_slices, tmp_path, shown=RunExtras(samples=3))
    sheet = np.asarray(Image.open(tmp_path / "samples" / "step-000004.png")).astype(int)
    assert sheet.shape == (36 + 3 * 244 + 16, 3 * 228 + 4, 3)
    panels = [sheet[36 : 36 + 224, 4 + 228 * column : 228 * (column + 1)] for column in range(3)]
    coloured = [float((np.ptp(panel, axis=2) > 20).mean()) for panel in panels]
    assert coloured[0] == 0, "the slice is grey"
    assert 0.005 < coloured[1] < 0.1, "the lesion's disc is tinted, and only it"
    assert panels[0].std() > 20, "and it is the slice, not a blank"
    assert not np.array_equal(panels[1], panels[2])


def test_the_slices_of_a_sheet_are_spread_and_mostly_infected():
    labels = [1] * 10 + [0] * 20
    assert choose_samples(labels, 6) == (1, 3, 6, 8, 15, 25)
    assert choose_samples(labels, 0) == ()
    assert choose_samples([0, 0], 6) == (0, 1)
    assert choose_samples([1, 1, 1], 6) == (0, 1, 2)
    assert len(set(choose_samples(labels, 100))) == 30


def events(folder) -> list[Event]:
    """Every event of a folder's files: length, its check, the event, its check (TFRecord)."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_the_board_has_the_figures_of_the_log(drawn_slices, tmp_path):
    seen = []
    train(
        make_task(CLASSIFIER), CLASSIFIER, drawn_slices, tmp_path, shown=RunExtras(tensorboard=True),
        progress=lambda step, steps, losses: seen.append(losses["loss"]),
    )  # fmt: skip
    scalars = {}
    for event in events(tmp_path / "tensorboard"):
        for value in event.summary.value:
            scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    assert list(scalars["train/loss"].values()) == pytest.approx(seen)
    assert scalars["train/learning_rate"][1] == pytest.approx(2e-3)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert scalars["validation/auc"] == pytest.approx({record["step"]: record["auc"] for record in log})


def test_a_continued_board_forgets_what_lies_behind_its_step(tmp_path):
    Board(tmp_path, 0).close()
    Board(tmp_path, 7).close()
    starts = [event.step for event in events(tmp_path / "tensorboard") if event.HasField("session_log")]
    assert starts == [8]


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r"--tensorboard needs an extra: pip install 'jcs-ct\[tensorboard\]'"):
        Board(tmp_path, 0)
