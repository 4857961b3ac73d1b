"""The record that a finished run leaves: with what it was made, and what it was kept from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jcs_ct.errors import ConfigError
from jcs_ct.files import write_text

_FILE = "run.json"


@dataclass(frozen=True)
class ExperimentRecord:
    """One finished run.

    Args:
        settings: All that its weights and answers follow from. Plain values.
        checkpoint_sha256: Of the weights that were chosen.
        judged: Names of the slices it was kept from.
        found: What was chosen on the validation slices, as a classifier's cut.
    """

    settings: Mapping[str, Any]
    checkpoint_sha256: str
    judged: tuple[str, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)

    def refuse_other(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Keep a run from being taken for one with other settings.

        Raises:
            ConfigError: with the names of the settings that differ.
        """
        changed = sorted(
            name for name in {*self.settings, *settings} if self.settings.get(name) != settings.get(name)
        )
        if changed:
            raise ConfigError(
                f"{folder} was finished with other settings ({', '.join(changed)}); choose another output folder, or "
                "give those"
            )


def read_record(folder: Path) -> ExperimentRecord | None:
    """The record of a finished run; None where it is not finished.

    Raises:
        ConfigError: a record that cannot be read.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ExperimentRecord(
            content["settings"], content["checkpoint_sha256"], tuple(content["judged"]), content["found"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no record of a run ({error}); remove {folder} to train it again") from error


def write_record(folder: Path, record: ExperimentRecord) -> None:
    """Write the record, whole or not at all: from then on the run is finished."""
    write_text(folder / _FILE, json.dumps(asdict(record), indent=1) + "\n")
