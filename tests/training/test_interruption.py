"""Ctrl-C in every stage of training: what is left is whole, and the same command goes on to the same weights."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from jcs_ct.cli import main
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.training import training_run
from jcs_ct.training.training_state import TrainingState

RECIPE = {
    "task": "classifier",
    "preset": "compact",
    "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
    "optimiser": {"name": "adamw", "learning_rate": 2e-3},
    "steps": 4,
    "batch_size": 4,
    "validate_every": 2,
    "checkpoint_every": 2,
}


def told_apart(row: ManifestRow, folder: Path) -> ManifestRow:
    """The slice with coarse shapes that no other has: all are near-duplicates without."""
    pattern = np.random.default_rng(int(row.path.stem)).normal(0, 12, (12, 12)).repeat(4, axis=0).repeat(4, axis=1)
    grey = np.clip(np.asarray(Image.open(row.path)) + pattern, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(folder / row.path.name)
    return replace(row, path=folder / row.path.name)


@pytest.fixture(scope="module")
def command(drawn_slices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    rows = [told_apart(row, folder) for row in drawn_slices]
    Manifest(tuple(rows)).write(folder / "slices.csv")
    sources = [replace(row, source=("here", "there")[number // 4 % 2]) for number, row in enumerate(rows)]
    Manifest(tuple(sources)).write(folder / "sources.csv")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))

    def run(out, *more, name="train", table="slices"):
        own = ("--samples", "0") if name == "train" else ("--accept-leaks",)
        recipe, table = folder / "recipe.yaml", folder / f"{table}.csv"
        arguments = ["jcs", name, recipe, "-m", table, "-o", out, "--device", "cpu", *own, *more]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", [str(argument) for argument in arguments])
            main()
        return ended.value.code

    return run


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert command(folder) == 0
    return load_file(folder / "last.safetensors")


def interrupt_before_inputs(patch):
    patch.setattr(training_run, "open_inputs", lambda *_given, **_named: signal.raise_signal(signal.SIGINT))


def interrupt_in_a_step(patch):
    rates, real = [], training_run.learning_rate

    def in_the_third_step(*given):
        rates.append(given)
        if len(rates) == 5:  # two groups of parameters a step
            signal.raise_signal(signal.SIGINT)
        return real(*given)

    patch.setattr(training_run, "learning_rate", in_the_third_step)


def interrupt_in_a_validation(patch):
    patch.setattr(training_run, "choose_samples", lambda *_: signal.raise_signal(signal.SIGINT))


def interrupt_while_the_last_weights_are_written(patch):
    patch.setattr(training_run, "write_weights", lambda _run, state, _name: state.step == 4 and interrupt())


def interrupt():
    signal.raise_signal(signal.SIGINT)


def interrupt_in_a_save(patch):
    save = torch.save

    def half(content, path):
        save(content, path)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # at once

    patch.setattr("torch.save", half)


@pytest.mark.parametrize(
    ("interrupted", "step"),
    [
        (interrupt_before_inputs, None),
        (interrupt_in_a_step, 3),
        (interrupt_in_a_validation, 2),
        (interrupt_in_a_save, None),
        (interrupt_while_the_last_weights_are_written, 4),
    ],
)
def test_ctrl_c_leaves_a_run_that_goes_on(command, uninterrupted, tmp_path, capsys, interrupted, step):
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch)
        assert command(tmp_path, "--json") == 130
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    if step is None:
        assert f"no state is saved in {tmp_path}" in error["message"]
        assert error["remedy"] == "run the same command again to start over"
    else:
        assert f"{tmp_path} holds the run up to step {step}" in error["message"]
        assert error["remedy"] == f"the same command goes on after step {step}"
    assert [path.name for path in tmp_path.rglob("*") if "part" in path.name] == []
    assert not (tmp_path / "last.safetensors").exists()
    assert command(tmp_path) == 0
    found = load_file(tmp_path / "last.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in uninterrupted.items())


def terminated_in_a_step(*_):
    """The first of two groups of parameters: a second signal would be answered at once."""
    if not TERMINATED:
        TERMINATED.append(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    return 1e-3


TERMINATED: list[int] = []


def test_sigterm_saves_as_ctrl_c_does_and_ends_by_its_own_code(command, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "learning_rate", terminated_in_a_step)
        assert command(tmp_path) == 143
    assert [path.name for path in tmp_path.glob("state-*.pt")] == ["state-0000001.pt"]
    assert f"stopped: {tmp_path} holds the run up to step 1; the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [("crossval", ("--folds", "3", "--fold", "1")), ("transfer", ("--train", "all"))],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_experiment_saves_the_run_it_is_in(command, tmp_path, capsys, monkeypatch, name, options, number, code):
    rates, real = [], training_run.learning_rate

    def in_the_first_step(*given):
        rates.append(given)
        if len(rates) == 1:
            signal.raise_signal(number)
        return real(*given)

    monkeypatch.setattr(training_run, "learning_rate", in_the_first_step)
    further = {"name": name, "table": "sources"}
    assert command(tmp_path, *options, "--draws", "20", **further) == code
    assert [path.name for path in tmp_path.rglob("state-*.pt")] == ["state-0000001.pt"]
    assert "the state of the one in work, are in" in capsys.readouterr().err
    taken = len(rates)
    assert command(tmp_path, *options, "--draws", "20", **further) == 0
    assert len(rates) - taken == 3 * taken  # steps 2 to 4, and no other run
    assert not list(tmp_path.rglob("state-*.pt"))
    assert len(list(tmp_path.rglob("best.safetensors"))) == 1


def test_ctrl_c_in_the_last_step_changes_nothing(command, uninterrupted, tmp_path):
    save = TrainingState.save

    def saved(state, *given):
        if state.step == RECIPE["steps"]:
            interrupt()
        return save(state, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "save", saved)
        assert command(tmp_path) == 0
    found = load_file(tmp_path / "last.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in uninterrupted.items())


def test_progress_starts_at_the_first_step_with_loss_and_validation(command, tmp_path, capsys):
    assert command(tmp_path) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert lines[0].startswith("step 1/4: loss ")
    assert any("; validation " in line and "score" in line for line in lines)
    assert lines[-1].startswith("step 4/4: ")


def test_progress_as_json_lines(command, tmp_path, capsys):
    assert command(tmp_path, "--json") == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines() if line.startswith('{"stage"')]
    assert [line["done"] for line in lines] == [1, 3, 4]
    assert lines[0]["losses"]["loss"] > 0
    assert lines[0]["validation"] is None
    assert lines[1]["validation"]["score"] >= 0
    assert json.loads(captured.out)["outcome"] == "done"


def test_quiet_says_nothing_of_its_steps(command, tmp_path: Path, capsys):
    assert command(tmp_path, "-q") == 0
    assert "step " not in capsys.readouterr().err
