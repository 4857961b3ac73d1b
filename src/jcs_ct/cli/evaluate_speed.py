"""`jcs evaluate speed`: how long a study takes here (Table II)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.choices import Backend
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.evaluate import OutputOption
from jcs_ct.cli.judged_networks import (
    stoppable_evaluation,
    write_page,
)
from jcs_ct.cli.options import DeviceOption, PrecisionOption


@stoppable_evaluation
def speed(
    output: OutputOption,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="'compact', a folder of weights, or a preset (paper, official) with drawn weights; repeatable."
        ),
    ] = None,
    slices: Annotated[int, typer.Option(min=1, help="Slices of the study.")] = 300,
    measured: Annotated[
        int | None,
        typer.Option(min=1, help="Measure this many slices and scale linearly; the page says so. Default: all."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every method runs once in each.")] = 3,
    peer: Annotated[bool, typer.Option(help="Time a MONAI U-Net on the first segmenter's input, too.")] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Slices that a network takes at a time; the plain way takes one.")
    ] = 8,
    backend: Annotated[
        Backend, typer.Option(help="What runs the networks; the plain way beside it is torch.")
    ] = "auto",
) -> None:
    """Time a study: seconds for an infected and an uninfected one, and the plain way beside (Table II).

    The plain way is the same networks, one slice at a time in fp32, as research code does it. Slices are phantoms in
    memory.

    Example:  jcs evaluate speed -o speed --models compact --models paper --measured 8
    """
    from jcs_ct.checkpoints import load_models
    from jcs_ct.engine import Execution
    from jcs_ct.errors import ConfigError
    from jcs_ct.evaluation.speed.speed_tables import evaluate_speed
    from jcs_ct.evaluation.speed.study_timing import WITHOUT_WEIGHTS, TimedNetworks, phantom_study, untrained_networks

    names = models or ["compact"]
    if len(set(names)) < len(names):
        raise ConfigError(f"each of --models once, got {', '.join(names)}")
    networks = []
    for name in names:
        if name in WITHOUT_WEIGHTS:
            networks.append(untrained_networks(name))
        else:
            loaded = load_models(name)
            networks.append(TimedNetworks(Path(name).name, loaded.classifier, loaded.segmenter))
    with stage_progress() as progress:
        evaluation = evaluate_speed(
            networks,
            phantom_study(measured or slices),
            slices=slices,
            execution=Execution(device=device, precision=precision, batch_size=batch_size, backend=backend),
            rounds=rounds,
            peer=peer,
            progress=progress,
        )
    write_page(output, evaluation)
