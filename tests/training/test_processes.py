"""Runs in processes of their own: killed with SIGKILL and continued, and shared out to two of them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.errors import ConfigError, DamagedFileError
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.run_log import trim_log
from jcs_ct.training.training_run import train
from jcs_ct.training.training_tasks import make_task

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
TRUNK = {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "base_width": 32}
ENCODER = {"channels": [4, 4, 4, 4, 8], "convs": [1, 1, 1, 1, 1]}
COMMON = {
    "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
    "augmentation": {"rotate_degrees": 10, "noise": 0.05, "blur": 1.0},
    "optimiser": {"name": "adamw", "learning_rate": 2e-3, "gradient_clip": 1.0, "warmup_steps": 5},
    "steps": 30,
    "batch_size": 4,
    "ema_decay": 0.9,
    "validate_every": 7,
    "checkpoint_every": 3,
    "balance": "source",
}
CLASSIFIER = {
    **COMMON,
    "task": "classifier",
    "preset": "compact",
    "network": {"backbone": TRUNK, "dropout": 0.2},
    "mixup_alpha": 0.5,
    "activation_map_weight": 1.0,
    "lesion_pixel_weight": 0.5,
    "accumulate": 2,
}
JOINT = {
    **COMMON,
    "task": "segmenter",
    "preset": "compact-joint",
    "network": {"encoder": ENCODER, "combination": {"backbone": TRUNK}},
}
#: Without batch normalisation, which would see the share of a batch only.
PLAIN = {
    **COMMON,
    "task": "segmenter",
    "preset": "compact",
    "network": {"encoder": {**ENCODER, "norm": "none", "conv_bias": True}, "norm": "none"},
    "steps": 12,
    "validate_every": 1,
    "batch_size": 4,
}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def written(folder: Path, name: str, settings: dict) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def killed(recipe: Path, manifest: Path, out: Path, point: str, step: int, *more: Path) -> int:
    arguments = [recipe, manifest, out, point, step, *more]
    command = [sys.executable, str(HERE / "killed_run.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, check=False).returncode


def same(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


#: Where the run is killed, and when; then the steps in the log, the newest state, and whether a file is half there.
KILLS = [
    ("in_a_step", 5, [], 3, False),
    ("in_a_validation", 14, [7], 12, False),
    ("between_log_and_state", 21, [7, 14, 21], 18, False),
    ("before_the_rename", 27, [7, 14, 21], 24, True),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("settings", [CLASSIFIER, JOINT], ids=["classifier", "joint"])
def test_kills_at_every_point_of_a_step_change_no_bit_of_the_weights(
    settings: dict, drawn_slices: Manifest, tmp_path
):
    manifest = tmp_path / "slices.csv"
    drawn_slices.write(manifest)
    recipe = written(tmp_path, "recipe", settings)
    borrowed = () if settings is CLASSIFIER else (untrained_classifier(tmp_path),)
    whole, broken = tmp_path / "whole", tmp_path / "killed"
    for point, step, logged, saved, half in KILLS:
        assert killed(recipe, manifest, broken, point, step, *borrowed) == -signal.SIGKILL, f"never met {point}"
        assert steps_logged(broken) == logged
        assert max(int(path.stem.split("-")[1]) for path in broken.glob("state-*.pt")) == saved
        assert any(path.name.endswith(".part") for path in broken.iterdir()) == half
        assert not (broken / "last.safetensors").exists()
    for folder in (whole, broken):
        task = make_task(Recipe.model_validate(settings), *borrowed)
        train(task, Recipe.model_validate(settings), read_manifest(manifest), folder)
    for weights in ("last.safetensors", "best.safetensors"):
        assert same(whole / weights, broken / weights)
    assert steps_logged(broken) == [7, 14, 21, 28, 30]
    assert len(list(broken.glob("state-*.pt"))) == 2


def steps_logged(run: Path) -> list[int]:
    log = run / "log.jsonl"
    return [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []


def untrained_classifier(folder: Path) -> Path:
    """What a joint segmenter can borrow; that it knows nothing matters to no test here."""
    recipe = Recipe.model_validate(CLASSIFIER)
    preprocessor = make_preprocessor(recipe.preprocessing)
    make_task(recipe).write(folder / "classifier.safetensors", preprocessor, {})
    return folder / "classifier.safetensors"


def losses(run: Path) -> np.ndarray:
    return np.array([json.loads(line)["train_loss"] for line in (run / "log.jsonl").read_text().splitlines()])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_follow_the_loss_of_one(drawn_slices: Manifest, tmp_path):
    manifest = tmp_path / "slices.csv"
    drawn_slices.write(manifest)
    recipe = written(tmp_path, "plain", PLAIN)
    for devices in (1, 2):
        train_on(devices, recipe, manifest, tmp_path / f"run-{devices}")
    one, two = losses(tmp_path / "run-1"), losses(tmp_path / "run-2")
    assert len(one) == len(two) == 12
    # Not equal: Dice is pooled over a process's share of the batch instead of all of it. Cross-entropy and the slices
    # with their augmentation are the same.
    np.testing.assert_allclose(two, one, rtol=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_whose_slices_have_no_mask_share_what_others_learn_from_theirs(drawn_slices: Manifest, tmp_path):
    """With one slice each, and a mask in one of four, most shares of a batch teach the side outputs nothing."""
    rows = [replace(row, mask=None) if row.label and number % 4 else row for number, row in enumerate(drawn_slices)]
    manifest = tmp_path / "slices.csv"
    Manifest(tuple(rows)).write(manifest)
    recipe = written(
        tmp_path, "taught", {**CLASSIFIER, "steps": 8, "batch_size": 2, "accumulate": 1, "infected_share": 0.9}
    )
    train_on(2, recipe, manifest, tmp_path / "run")
    assert (tmp_path / "run/last.safetensors").is_file()


def train_on(devices: int, recipe: Path, manifest: Path, out: Path) -> None:
    """One run of the command, which has to succeed."""
    command = [sys.executable, "-m", "jcs_ct", "train", str(recipe), "-m", str(manifest), "--accept-leaks"]
    command += ["-o", str(out), "--devices", str(devices), "--threads", "1"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_batch_that_cannot_be_shared_out_is_refused(drawn_slices: Manifest, tmp_path):
    recipe = Recipe.model_validate({**PLAIN, "batch_size": 6, "accumulate": 2})
    with pytest.raises(ConfigError, match=r"a batch of 6 in 2 part\(s\) cannot be shared out evenly to 2"):
        train(make_task(recipe), recipe, drawn_slices, tmp_path, devices=2)


def test_a_log_forgets_what_will_be_logged_again(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 2.0}\n{"step": 4.0}\n{"step": 6')
    trim_log(log, 3)
    assert log.read_text() == '{"step": 2.0}\n'


@pytest.mark.parametrize("line", ['{"step": 4.', "[]", "\0\0", '{"epoch": 1}'])
def test_a_damaged_log_is_said_and_kept(tmp_path, line):
    log = tmp_path / "log.jsonl"
    log.write_text(f'{{"step": 2.0}}\n{line}\n')
    before = log.read_text()
    with pytest.raises(DamagedFileError, match=r"log\.jsonl is damaged: .* or move it away: the run goes on"):
        trim_log(log, 3)
    assert log.read_text() == before
