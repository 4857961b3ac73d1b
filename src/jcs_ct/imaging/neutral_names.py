"""Names for files that come from outside: as telling as their own to whoever reads a study, and nobody's.

A file's name may hold a patient's, and may lead anywhere. What a reading takes from names is kept: their order, which
are alike, in which folders they lie, hidden marks, endings, and a few words (``study_files``, ``gate_pictures``).
Other words and numbers become such as sort and repeat as they do: ``Jane Doe/im10.PNG`` may be
``wgggk wgggi+/wgggj0.png``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from jcs_ct.imaging.earlier_results import RUN_RECORD, is_result_name
from jcs_ct.imaging.gate_pictures import DRAWN_WORDS
from jcs_ct.imaging.study_files import IGNORED_NAMES, IMAGE_ENDINGS, MAXIMUM_DEPTH, name_pattern, natural_key

#: Endings that are kept: those that are looked at, and usual ones that are not.
_ENDINGS = frozenset(ending for endings in IMAGE_ENDINGS.values() for ending in endings) | frozenset(
    {".nii", ".nii.gz", ".nii.bz2", ".zip", ".tar", ".gz", ".bz2", ".xz", ".tgz", ".txt", ".json", ".xml", ".html"}
)
#: Numbers, what parts words, words, and what is neither.
_TOKEN = re.compile(r"\d+|[-_. ()]+|[a-z]+|[^-_. ()\da-z]+")
_LONGEST_PART = 200
#: Marks a folder: no file has a name with it, so that neither is in the other's way.
_FOLDER = "+"
_LETTERS = "ghijklmnopqrstuvwxyz"


def neutral_paths(names: Sequence[str]) -> list[PurePosixPath]:
    """Paths below one folder for the files of one study, each its own.

    Args:
        names: What the files are called where they come from, with their folders; anything at all.
    """
    paths = [_parts(name) for name in names]
    if paths and all(len(parts) > 1 and parts[0] == paths[0][0] for parts in paths):
        paths = [parts[1:] for parts in paths]  # the folder that was chosen is no part of the study
    recorded = {parts[:-1] for parts in paths if parts[-1] == RUN_RECORD}
    every_part = {part.lower() for parts in paths for part in parts}
    tokens = {token for part in every_part for end in _split(part) for token in _TOKEN.findall(end)}
    ranks = {
        **_ranked({token for token in tokens if token.isdecimal()}),
        **_ranked({token for token in tokens if not token.isdecimal()}),
        **_ranked({_split(part)[0] for part in every_part if name_pattern(part).startswith("$")}),
    }
    given: dict[PurePosixPath, int] = {}
    neutral = []
    for parts in paths:
        of_results = any(parts[:depth] in recorded for depth in range(len(parts)))
        kept = [
            part if of_results and is_result_name(part) else _neutral(part.lower(), ranks, is_folder=depth > 0)
            for depth, part in enumerate(parts[::-1])
        ]
        neutral.append(_free(PurePosixPath(*kept[::-1]), given))
    return neutral


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file, without what leads elsewhere; of folders so many that it is too deep to be read."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")] or ["-"]
    return (*parts[:-1][: MAXIMUM_DEPTH + 2], parts[-1])


def _split(part: str) -> tuple[str, str]:
    """Stem and ending of a lower-case name: a known ending, or what ends a hexadecimal name; else none."""
    head, _, last = part.rpartition(".")
    before, _, second = head.rpartition(".")
    for stem, ending in ((before, f".{second}.{last}"), (head, f".{last}")):
        if stem and (ending in _ENDINGS or (stem == head and name_pattern(part).startswith("$"))):
            return stem, ending
    return part, ""


def _ranked(tokens: set[str]) -> dict[str, int]:
    return {token: rank for rank, token in enumerate(sorted(tokens, key=lambda one: natural_key(PurePosixPath(one))))}


def _neutral(part: str, ranks: dict[str, int], *, is_folder: bool) -> str:
    """The name of one folder or file, in lower case."""
    if part in IGNORED_NAMES:
        return part
    stem, ending = _split(part)
    hexadecimal = name_pattern(part).startswith("$")
    made = f"a{ranks[stem]:07d}" if hexadecimal else "".join(_neutral_tokens(stem, ranks))
    made += ending if ending in _ENDINGS else "".join(_neutral_tokens(ending, ranks))
    if len(made) > _LONGEST_PART:
        made = f"{_word(len(made))}{ending if ending in _ENDINGS else ''}"
    return made + _FOLDER if is_folder else made


def _neutral_tokens(text: str, ranks: dict[str, int]) -> Iterator[str]:
    for token in _TOKEN.findall(text):
        if token.isdecimal():
            yield str(ranks[token])
        elif token in DRAWN_WORDS or token[0] in "-_. ()":
            yield token
        else:
            yield _word(ranks[token]) if token.isascii() and token.isalpha() else f"_{_word(ranks[token])}_"


def _word(rank: int) -> str:
    """A word of five letters, none of them hexadecimal, in the order of the ranks."""
    return "w" + "".join(_LETTERS[rank // len(_LETTERS) ** place % len(_LETTERS)] for place in (3, 2, 1, 0))


def _free(path: PurePosixPath, given: dict[PurePosixPath, int]) -> PurePosixPath:
    """The path, or another in its folder where two names differ in nothing that is kept."""
    stem, ending = _split(path.name)
    while path in given:
        given[path] += 1
        path = path.with_name(f"{stem}-{_word(given[path])}{ending}")
    given[path] = 0
    return path
