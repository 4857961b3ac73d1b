"""Options that several commands have: one name, one meaning, one help."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from jcs_ct.choices import Backend, MapVariant, Precision, SegmentRule
from jcs_ct.cli.inputs import MODELS_INPUT

DeviceOption = Annotated[
    str,
    typer.Option(
        help="Where networks run: auto (a GPU where there is one), cpu, cuda, or cuda:N for one of several."
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves the choice to torch.")]
DrawsOption = Annotated[
    int, typer.Option(min=1, help="Random draws behind every interval and test (bootstrap, permutations).")
]
ModelsOption = Annotated[
    str,
    typer.Option(help="Networks: 'compact' for those shipped with the package, or a folder made by `jcs calibrate`."),
    MODELS_INPUT,
]
ReferenceSpacingOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="Slice spacing in mm that the threshold is meant for: it is scaled to each study's own. Without it "
        "--threshold is taken as it is.",
    ),
]
BackendOption = Annotated[
    Backend, typer.Option(help="What runs the networks; auto is the fastest that is installed.")
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="auto is bf16 where the hardware has it; int8 needs calibrated networks.")
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Slices that a network takes at a time.")]
LenientOption = Annotated[
    bool, typer.Option("--lenient", help="Read studies with broken geometry; volumes and mm are withheld.")
]
DeflatedOption = Annotated[
    bool, typer.Option("--allow-deflated", help="Read the deflated transfer syntax; only from sources you trust.")
]
SegmentOption = Annotated[
    SegmentRule,
    typer.Option(
        help="When lesions are segmented; positive is the paper's rule, and segments a negative study too where a "
        "look at some of its slices finds lesions."
    ),
]
MapOption = Annotated[
    MapVariant, typer.Option("--map", help="A classifier's activation map: the paper's (Eq. 1-2) or Grad-CAM.")
]
ThresholdOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The patient is positive when more slices than this are infected. Taken as it is; the stored rule, "
        "which it replaces, is scaled to a study's slice spacing and size.",
    ),
]


def first_day(text: str | None) -> date | None:
    """The day that ``--since`` names; None where it is left out.

    Raises:
        typer.BadParameter: it names none.
    """
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no day (YYYY-MM-DD)", param_hint="--since") from error
