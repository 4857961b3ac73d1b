"""Options that several commands have: one name, one meaning, one help."""

from __future__ import annotations

from typing import Annotated

import typer

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
    typer.Option(help="Networks: 'compact' for those in the box, or a folder made by `jcs calibrate`."),
]
ReferenceSpacingOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="Slice spacing in mm that the threshold is meant for: it is scaled to each study's own. Without it "
        "--threshold is taken as it is.",
    ),
]
