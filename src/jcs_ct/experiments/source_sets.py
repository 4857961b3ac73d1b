"""Does a classifier find disease, or the place its pictures come from? Trained without a source, judged on it.

Three kinds of training sets, each judged on every source: all sources, all but one, and one alone. A slice is judged
when its patient took no part in the training, so sources that share patients (as painted slices and those they were
painted on) do not help each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jcs_ct.data.manifest import Manifest, patient_folds
from jcs_ct.data.manifest.slice_names import slice_names
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.fold_runs import FoldRun
from jcs_ct.experiments.methods import Method, method_folder, require_own_folders

#: Of this many folds of the training sources' patients one is held out and one chooses.
FOLDS = 5
#: What slices count as whose row names no source.
NOT_NAMED = "source not named"


@dataclass(frozen=True)
class TrainingSet:
    """A row of the matrix.

    Args:
        name: As ``without ucsd``.
        run: What is trained; None where it cannot be.
        reason: Why it cannot be.
    """

    name: str
    run: FoldRun | None
    reason: str = ""


def read_groups(given: Sequence[str], manifest: Manifest) -> dict[str, str]:
    """``NAME=SOURCE+SOURCE`` -> group by source; every other source is a group of its own.

    Raises:
        ConfigError: not of this form, a source that is not there or is in two groups, or fewer than two groups.
    """
    sources = sorted({row.source for row in manifest})
    group_of: dict[str, str] = {}
    for text in given:
        name, separator, members = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"a group is NAME=SOURCE+SOURCE, got {text!r}")
        for source in members.split("+"):
            if source not in sources or source in group_of:
                why = (
                    "is in two groups"
                    if source in group_of
                    else f"is not among {', '.join(one or NOT_NAMED for one in sources)}"
                )
                raise ConfigError(f"group {name!r}: the source {source!r} {why}")
            group_of[source] = name
    found = {source: group_of.get(source, source or NOT_NAMED) for source in sources}
    if len(set(found.values())) < 2:
        named = ", ".join(source or NOT_NAMED for source in found)
        naming = (
            "" if all(sources) else "; name each data set's by --source of `jcs data make table`, or in the column"
        )
        raise ConfigError(
            f"a transfer needs two sources or more, the manifest's slices come from one ({named}){naming}"
        )
    return found


def training_sets(
    method: Method, judged: Manifest, group_of: Mapping[str, str], *, seed: int = 0
) -> tuple[TrainingSet, ...]:
    """All sources, all but each, each alone; sets that cannot train the method stay as rows that say so.

    Raises:
        ConfigError: sources whose runs would be called alike.
    """
    groups = tuple(sorted(set(group_of.values())))
    kinds = [("all", groups)]
    kinds += [(f"without {name}", tuple(other for other in groups if other != name)) for name in groups]
    kinds += [(f"only {name}", (name,)) for name in groups if len(groups) > 2]
    require_own_folders([name for name, _ in kinds])
    return tuple(_training_set(method, name, members, judged, group_of, seed) for name, members in kinds)


def _training_set(
    method: Method, name: str, groups: tuple[str, ...], judged: Manifest, group_of: Mapping[str, str], seed: int
) -> TrainingSet:
    unseen = {row.unit for row in judged if group_of[row.source] not in groups}
    training = [row for row in judged if row.unit not in unseen]
    try:
        fold_of = patient_folds(training, FOLDS, seed=seed)
        splits = {0: "test", 1: "val"}
        # Who has a slice in a source that is not trained on is judged, and trains nowhere.
        placed = {patient: splits.get(fold, "train") for patient, fold in fold_of.items()}
        rows = tuple(replace(row, split=placed.get(row.unit, "test"), fold=None) for row in judged)
        run = FoldRun(method_folder(name), Manifest(rows), slice_names(judged.rows))
        run.check(method)
        return TrainingSet(name, run)
    except ConfigError as error:
        return TrainingSet(name, None, str(error).splitlines()[-1].strip())


def possible_runs(sets: Sequence[TrainingSet], only: Sequence[str] | None = None) -> dict[str, FoldRun]:
    """The runs of the sets that can be trained, by the set's name.

    Args:
        sets: From :func:`training_sets`.
        only: Names of the sets that are asked for.

    Raises:
        ConfigError: an asked set that cannot be trained, or none that can.
    """
    possible = {each.name: each.run for each in sets if each.run is not None}
    unknown = [name for name in only or () if name not in possible]
    if unknown or not possible:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in sets if each.run is None)
        raise ConfigError(
            f"cannot train {', '.join(unknown) or 'on any set'}; possible: {', '.join(possible) or 'none'}. {reasons}"
        )
    return possible
