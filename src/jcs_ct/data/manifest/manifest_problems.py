"""What is wrong with a table or with the files that it names: each with its kind, all of a kind in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jcs_ct.errors import ConfigError

#: Problems that are alike and stand in a line each, and examples where there are more.
_LISTED, _EXAMPLES = 2, 3
#: What a message says of one file, number or word.
_OF_ONE = re.compile(r"'[^']*'|\S*[/\\]\S*|\d+(?:\.\d+)?")


class ProblemKind(StrEnum):
    """What kind of fault it is; the names do not change between minor versions."""

    COLUMN = "COLUMN"
    LABEL = "LABEL"
    LINE = "LINE"
    PATIENT = "PATIENT"
    PARTED = "PARTED"
    FILE = "FILE"
    REPEATED = "REPEATED"
    IMAGE = "IMAGE"
    MASK_AS_IMAGE = "MASK_AS_IMAGE"
    MASK = "MASK"
    UNMASKED = "UNMASKED"
    EMPTY_MASK = "EMPTY_MASK"
    MARKED_MASK = "MARKED_MASK"
    ONE_CLASS = "ONE_CLASS"
    LEAK = "LEAK"


#: What problems of a kind have in common, where there are too many for a line each.
TITLES: Mapping[ProblemKind, str] = {
    ProblemKind.COLUMN: "columns",
    ProblemKind.LABEL: "labels that are no labels",
    ProblemKind.LINE: "lines that cannot be read",
    ProblemKind.PATIENT: "rows of which nothing says whose they are",
    ProblemKind.PARTED: "patients or groups in several parts",
    ProblemKind.FILE: "files that are not there",
    ProblemKind.REPEATED: "images that stand in several rows",
    ProblemKind.IMAGE: "images that cannot be used",
    ProblemKind.MASK_AS_IMAGE: "masks that are listed as images",
    ProblemKind.MASK: "masks that cannot be used",
    ProblemKind.UNMASKED: "slices whose lesions are not known",
    ProblemKind.EMPTY_MASK: "rows that are labelled 1 (infected) and have an empty mask",
    ProblemKind.MARKED_MASK: "rows that are labelled 0 (not infected) and whose mask marks pixels",
    ProblemKind.ONE_CLASS: "labels of one kind",
    ProblemKind.LEAK: "leaks",
}


@dataclass(frozen=True)
class ManifestProblem:
    """One fault.

    Args:
        kind: Of fault.
        what: In a sentence, with the numbers.
        place: The file, line or patient, where ``what`` does not say it.
        remedy: The option that mends it, or what to change; empty where ``what`` says it.
    """

    kind: ProblemKind
    what: str
    place: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


class ManifestError(ConfigError):
    """A table or manifest cannot be used.

    Args:
        head: What it is about; the problems follow.
        problems: All of them.
        leaks: Pairs of slices, or patients, on both sides of a split, as records.
    """

    code = "MANIFEST"

    def __init__(
        self, head: str, problems: Sequence[ManifestProblem], leaks: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        remedies = {problem.remedy for problem in problems}
        super().__init__(
            "\n  ".join([head, *problem_lines(problems)]),
            remedy=remedies.pop() or None if len(remedies) == 1 else None,
        )
        self.problems = tuple(problems)
        self.leaks = tuple(leaks)

    @property
    def details(self) -> Mapping[str, Any]:
        """The problems by kind and the leaks, for machines."""
        return {"problems": problem_records(self.problems), "leaks": list(self.leaks)}


class LeakError(ManifestError):
    """Nothing is wrong with a manifest but that slices or patients stand on both sides of a split."""

    code = "LEAK"


def refuse(head: str, problems: Sequence[ManifestProblem], leaks: Sequence[Mapping[str, Any]] = ()) -> None:
    """Raise one ManifestError of all problems, when there are any; ``{count}`` in ``head`` is their number."""
    if problems:
        kind = LeakError if all(problem.kind is ProblemKind.LEAK for problem in problems) else ManifestError
        raise kind(head.replace("{count}", str(len(problems))), problems, leaks)


def problem_lines(problems: Sequence[ManifestProblem]) -> list[str]:
    """Problems as a person reads them: all of a kind together, many that are alike in one line with examples."""
    lines: list[str] = []
    for kind, found in _by_kind(problems).items():
        for alike in _alike(found):
            if len(alike) > _LISTED:
                lines.append(f"{len(alike)} {TITLES[kind]}, as {'; '.join(_examples(alike))}")
            else:
                lines += [str(problem) for problem in alike]
        lines += _remedy_lines(one.remedy for one in found if one.remedy)
    return lines


def problem_records(problems: Sequence[ManifestProblem]) -> list[dict[str, Any]]:
    """Every kind with its count, its problems and what mends it."""
    return [
        {
            "code": str(kind),
            "count": len(found),
            "problems": [{"place": problem.place or None, "message": problem.what} for problem in found],
            "remedies": list(dict.fromkeys(problem.remedy for problem in found if problem.remedy)),
        }
        for kind, found in _by_kind(problems).items()
    ]


def _remedy_lines(remedies: Iterable[str]) -> list[str]:
    """Each remedy once; of many that are alike but for their files, the first ones and how many there are."""
    groups: dict[str, list[str]] = {}
    for remedy in dict.fromkeys(remedies):
        groups.setdefault(_OF_ONE.sub("", remedy), []).append(remedy)
    lines = []
    for alike in groups.values():
        lines += [f"  -> {remedy}" for remedy in alike[:_EXAMPLES]]
        if len(alike) > _EXAMPLES:
            lines.append(f"  -> and so on for {len(alike) - _EXAMPLES} more")
    return lines


def _examples(found: Sequence[ManifestProblem]) -> list[str]:
    """The first ones; what all of a kind have in common is said once."""
    shown = found[:_EXAMPLES]
    if len({problem.what for problem in found}) == 1 and all(problem.place for problem in found):
        return [*(problem.place for problem in shown[:-1]), str(shown[-1])]
    return [str(problem) for problem in shown]


def _alike(found: Sequence[ManifestProblem]) -> list[list[ManifestProblem]]:
    """The problems by what they say, whatever the files, numbers and words are that they say it of."""
    groups: dict[str, list[ManifestProblem]] = {}
    for problem in found:
        groups.setdefault(_OF_ONE.sub("", problem.what), []).append(problem)
    return list(groups.values())


def _by_kind(problems: Iterable[ManifestProblem]) -> dict[ProblemKind, list[ManifestProblem]]:
    found: dict[ProblemKind, list[ManifestProblem]] = {}
    for problem in problems:
        found.setdefault(problem.kind, []).append(problem)
    return found
