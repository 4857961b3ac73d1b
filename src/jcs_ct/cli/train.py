"""`jcs train`: a recipe and a manifest in, a checkpoint out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.cli.console import parse_settings
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.endings import START_OVER, Interrupts, stoppable
from jcs_ct.cli.inputs import RECIPE_INPUT, SOME_INPUT
from jcs_ct.cli.options import DeviceOption, ThreadsOption
from jcs_ct.cli.outputs import FOLDER_OUTPUT
from jcs_ct.cli.training_progress import step_progress
from jcs_ct.cli.used_manifests import open_used

if TYPE_CHECKING:
    from jcs_ct.data.covid_cs.feature_lists import FeatureLists
    from jcs_ct.data.manifest import Manifest


def _saved_step(folder: Path) -> int | None:
    """The step of the newest state of a run; None where none is saved."""
    return max((int(path.stem.removeprefix("state-")) for path in folder.glob("state-*.pt")), default=None)


def _left(options: Mapping[str, Any]) -> Callable[[], str]:
    """What a stopped run leaves: the newest state it saved."""
    folder: Path = options["output"]

    def left() -> str:
        step = _saved_step(folder)
        return f"no state is saved in {folder}" if step is None else f"{folder} holds the run up to step {step}"

    return left


def _go_on(options: Mapping[str, Any]) -> str:
    step = _saved_step(options["output"])
    return START_OVER if step is None else f"the same command goes on after step {step}"


@stoppable(_left, _go_on)
def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe: a name out of `jcs recipes list`, or a path."), RECIPE_INPUT
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Run folder; a run that is there continues."), FOLDER_OUTPUT
    ],
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", "-m", help="CSV or Parquet of slices, from `jcs data make`."),
        SOME_INPUT,
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="List of first-stage features (COVID-CS) to train on instead of a manifest.", metavar="LIST"
        ),
        SOME_INPUT,
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="List of features that chooses the weights.", metavar="LIST"), SOME_INPUT
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that the lists' names count from; each list's own when not given."),
        SOME_INPUT,
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="Trained classifier (.safetensors) that a joint segmenter borrows; without it, one that starts from "
            "a joint segmenter keeps its own."
        ),
        SOME_INPUT,
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a checkpoint of the same preset, an imported ImageNet trunk or encoder, or "
            "'auto', which downloads the ImageNet weights that fit unless they are in torch's cache."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Trained segmenter (.safetensors) whose encoder's features a classifier learns, too "
            "(encoder_feature_weight)."
        ),
        SOME_INPUT,
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting of the recipe, as --set optimiser.learning_rate=1e-4; may be repeated."
        ),
    ] = None,
    threads: ThreadsOption = 0,
    device: DeviceOption = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many GPUs (or CPU processes) share every batch.")] = 1,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes that make batches ahead; a GPU waits for its batches without them."),
    ] = 0,
    samples: Annotated[
        int, typer.Option(min=0, help="Validation slices on the picture of every validation; 0 draws none.")
    ] = 6,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write a TensorBoard log too (extra 'tensorboard').")
    ] = False,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Train a classifier or a segmenter; a run that was stopped goes on from its last saved state.

    A state is saved every so many steps (the recipe's checkpoint_every), and on Ctrl-C or SIGTERM after the step.

    Writes best.safetensors (by validation), last.safetensors, log.jsonl, a picture of a few validation slices each
    time (samples/) and the state to resume from. The manifest is looked at first, as `jcs data check` does: wrong
    labels and masks, and leaks between its splits, are refused.

    Example:  jcs train compact-classifier -m slices.csv -o runs/classifier
    """
    from jcs_ct.training.recipe import load_recipe

    loaded = load_recipe(recipe, parse_settings(settings))
    data = _data(manifest, features, validation, root, accept_leaks=accept_leaks)

    import torch  # now that recipe and data are known to be right

    from jcs_ct.training.run_log import RunExtras
    from jcs_ct.training.training_run import train as run_training
    from jcs_ct.training.training_tasks import make_task

    if threads:
        torch.set_num_threads(threads)
    task = make_task(loaded, classifier, pretrained, teacher)
    if features is not None and pretrained is None:
        typer.echo(_FIRST_STAGE_NOTE, err=True)
    interrupts = Interrupts()
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # set in the processes that Fabric starts beside this one
    shown = RunExtras(samples, tensorboard)
    with step_progress(loaded.steps, silent=not is_first, log=output / "log.jsonl") as progress:
        state = run_training(
            task,
            loaded,
            data,
            output,
            devices=devices,
            device=device,
            workers=workers,
            shown=shown,
            progress=progress,
            stopping=interrupts.deferred,
        )
    if state.step < loaded.steps:
        interrupts.answer()
    if not is_first:
        return
    kept = output / loaded.weights_file
    best = _best(state.history) if loaded.choose_weights == "best" else {}
    say_result({"folder": str(output), "step": state.step, "weights": str(kept), "validation": best or None})
    if not best:
        typer.echo(f"last weights: {kept} (step {state.step})")
        return
    last = state.history[-1]
    if last != best:
        typer.echo(f"last step, {last['step']:.0f}: {_figures(last)}")
    typer.echo(f"best weights: {kept} (step {best['step']:.0f}: {_figures(best)})")


def _best(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The validation that best.safetensors is of: the first of the highest score."""
    return max(history, key=lambda one: one["score"], default={})


def _figures(validation: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in validation.items() if name != "step")


_FIRST_STAGE_NOTE = (
    "note: features skip the first stage, so it stays untrained: the network will read such features only. To read "
    "slices with it, start from the network that wrote them (--pretrained)"
)


def _data(
    manifest: Path | None, features: Path | None, validation: Path | None, root: Path | None, *, accept_leaks: bool
) -> Manifest | FeatureLists:
    from jcs_ct.data.covid_cs.feature_lists import FeatureLists, read_list
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.errors import ConfigError

    if (manifest is None) == (features is None):
        raise ConfigError("give slices by --manifest or features by --features, one of the two")
    if manifest is not None:
        if validation is not None or root is not None:
            raise ConfigError("--validation and --root are for --features; a manifest has a val split and a folder")
        if os.environ.get("LOCAL_RANK", "0") != "0":  # another process looks at it
            return read_manifest(manifest)
        return open_used(manifest, used=("train", "val"), accept_leaks=accept_leaks).manifest
    assert features is not None  # one of the two is there
    return FeatureLists(read_list(features, root), () if validation is None else read_list(validation, root))
