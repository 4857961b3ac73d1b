"""Lists as COVID-CS hands its slices out -> a manifest."""

from __future__ import annotations

from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, read_mask, split_problems
from jcs_ct.errors import ConfigError
from jcs_ct.files import read_text


def covid_cs(folder: Path) -> Manifest:
    """Lists as COVID-CS hands them out: ``train*.txt`` and ``test*.txt``, one ``image mask`` pair a line.

    Paths count from the folder. The patient is the folder that an image lies in; lists that name images of one folder
    in both are refused. Validation patients are taken from the training lists.
    """
    rows: list[ManifestRow] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        split = next((name for name in ("train", "test") if path.name.startswith(name)), None)
        if split is None:
            continue
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            parts = line.split()
            if len(parts) not in (0, 2):
                problems.append(f"{path.name}, line {number}: expected an image and a mask, got {len(parts)} part(s)")
            elif parts:
                image, mask = folder / parts[0], folder / parts[1]
                patient = str(Path(parts[0]).parent)
                label = int(read_mask(mask).any())
                rows.append(ManifestRow(image, patient, label, mask, split, "covid-cs"))
    if problems or not rows:
        raise ConfigError("\n  ".join([f"the lists in {folder} cannot be used:", *(problems or ["there are none"])]))
    training = assign_splits([row for row in rows if row.split == "train"], val=0.1, test=0.0, seed=0)
    joined = (*training, *(row for row in rows if row.split == "test"))
    shared = split_problems(joined)
    if shared:
        raise ConfigError("\n  ".join([f"the lists in {folder} cannot be used:", *shared]))
    return Manifest(joined)
