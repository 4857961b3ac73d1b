"""`jcs train`: a recipe and a manifest in, a checkpoint out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import parse_settings, step_progress


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/compact-classifier.yaml.")],
    manifest: Annotated[Path, typer.Option("--manifest", "-m", help="CSV of slices, from `jcs data make`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder; a run that is there continues.")],
    classifier: Annotated[
        Path | None, typer.Option(help="Trained classifier (.safetensors) that a joint segmenter borrows.")
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a checkpoint of the same preset, an imported ImageNet trunk or encoder, or "
            "'auto', which downloads the ImageNet weights that fit unless they are in torch's cache."
        ),
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

    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.training.config import load_recipe
    from jcs_ct.training.loop import train as run_training
    from jcs_ct.training.tasks import make_task

    if threads:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe, parse_settings(settings))
    table = read_manifest(manifest)
    task = make_task(loaded, classifier, pretrained)
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # set in the processes that Fabric starts beside this one
    with step_progress(loaded.steps, silent=not is_first) as progress:
        state = run_training(task, loaded, table, output, devices=devices, progress=progress)
    if not is_first:
        return
    last = state.history[-1] if state.history else {}
    typer.echo(", ".join(f"{name} {value:.4g}" for name, value in last.items()))
    typer.echo(f"best weights: {output / 'best.safetensors'}")
