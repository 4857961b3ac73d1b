"""`jcs train`: a recipe and a manifest in, a checkpoint out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import parse_settings


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/compact-classifier.yaml.")],
    manifest: Annotated[Path, typer.Option("--manifest", "-m", help="CSV of slices, from `jcs data make`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder; a run that is there continues.")],
    classifier: Annotated[
        Path | None, typer.Option(help="Trained classifier (.safetensors) that a joint segmenter borrows.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set optimiser.learning_rate=1e-4")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves the choice to torch.")] = 0,
    devices: Annotated[int, typer.Option(min=1, help="GPUs (or CPU processes) that share every batch.")] = 1,
) -> None:
    """Train a classifier or a segmenter; a run that was stopped continues where it was.

    Writes best.safetensors (by validation), last.safetensors, log.jsonl and the state to resume from.

    Example:  jcs train recipes/compact-classifier.yaml -m slices.csv -o runs/classifier
    """
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.training.config import load_recipe
    from jcs_ct.training.loop import train as run_training
    from jcs_ct.training.tasks import make_task

    if threads:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe, parse_settings(settings))
    table = read_manifest(manifest)
    task = make_task(loaded, classifier)
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # set in the processes that Fabric starts beside this one
    with Progress(*columns, console=Console(stderr=True), disable=not is_first) as bar:
        shown = bar.add_task("preparing", total=loaded.steps)

        def progress(step: int, steps: int, losses: Mapping[str, float]) -> None:
            bar.update(shown, completed=step, total=steps, description=f"loss {losses['loss']:.4f}")

        state = run_training(task, loaded, table, output, devices=devices, progress=progress)
    if not is_first:
        return
    last = state.history[-1] if state.history else {}
    typer.echo(", ".join(f"{name} {value:.4g}" for name, value in last.items()))
    typer.echo(f"best weights: {output / 'best.safetensors'}")
