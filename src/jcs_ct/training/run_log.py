"""What a run leaves for people: a line a validation, sample pictures, and a TensorBoard log where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcs_ct.errors import MissingExtraError
from jcs_ct.files import explain_unwritable, own_json, write_bytes

#: One line a validation.
LOG = "log.jsonl"
#: Folder of the TensorBoard log below the run's.
BOARD = "tensorboard"


@dataclass(frozen=True)
class RunExtras:
    """What a run shows beside its log.

    Args:
        samples: Validation slices on the picture of every validation; 0 draws none.
        tensorboard: Write losses, rates and figures for TensorBoard too (extra ``tensorboard``).
    """

    samples: int = 6
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ValueError(f"samples must be at least 0, got {self.samples}")


DEFAULT_EXTRAS = RunExtras()


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a line to a run's log.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
    except OSError as error:
        raise explain_unwritable(folder / LOG, error) from error


def trim_log(log: Path, step: int) -> None:
    """Forget what a run that was killed logged behind the step that it continues from: it will be logged again.

    Raises:
        DamagedFileError: a line is none of a log's.
    """
    if log.is_file():
        instead = "move it away: the run goes on, and logs what comes from now on"
        lines = log.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        steps = [own_json(line, ("step",), log, instead=instead)["step"] for line in whole]
        kept = b"".join(line for line, logged in zip(whole, steps, strict=True) if logged <= step)
        write_bytes(log, kept)


class Board:
    """A TensorBoard log; what lies behind the step that a run continues from is forgotten there too.

    Args:
        folder: Of the run.
        step: Steps that are taken already.

    Raises:
        MissingExtraError: the extra ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "--tensorboard", "tensorboard", instead=f"leave it out, {LOG} has the same figures"
            ) from error
        self._writer = SummaryWriter(str(folder / BOARD), purge_step=step + 1 if step else None)

    def write(self, part: str, figures: Mapping[str, float], step: int) -> None:
        """Add figures of a step under ``part/name``."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{part}/{name}", value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()
