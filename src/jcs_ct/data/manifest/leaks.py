"""Leaks between the parts of a manifest: slices of one scan on both sides of a split, whoever is said to own them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import gaussian_filter

from jcs_ct.data.manifest.rows import Manifest, ManifestRow
from jcs_ct.data.manifest.slice_files import read_hu
from jcs_ct.preprocessing import Window

#: A perceptual hash has this many bits a side.
_SIDE = 16
#: Bits of 256 in which near-duplicates may differ. Of 2.4 million pairs of slices of different patients in
#: seven public sets three are as close (true twins); of pairs two slices apart in one scan 95 % differ in at most 20.
NEAR_DUPLICATE_BITS = 28
#: Least correlation of the fine detail of near-duplicates: the hash sees coarse shapes only, and two smooth slices of
#: different patients may share those. In `zenodo20` slices two apart in one scan have 0.8 and
#: more, four apart 0.7, copies halved and compressed 0.99, slices of different patients 0.34 at most (400 pairs).
LEAST_DETAIL_CORRELATION = 0.6
#: The same for slices whose names say that they follow each other; 22 of those 2.4 million pairs are as close.
NEIGHBOUR_BITS = 44
#: Fine detail is what a blur of this sigma takes away at this many rows and columns.
_DETAIL_SIZE, _DETAIL_SIGMA = 64, 1.0
#: Numbers of one name stem up to this far apart say that slices follow each other.
_STEPS = 2


@dataclass(frozen=True)
class Leak:
    """Two slices of different parts that seem to be of one scan.

    Args:
        first, second: The images.
        parts: In which split or fold each stands.
        bits: In how many of 256 bits their perceptual hashes differ.
        is_neighbour: Whether their names say that they follow each other.
    """

    first: Path
    second: Path
    parts: tuple[str, str]
    bits: int
    is_neighbour: bool

    def __str__(self) -> str:
        what = "neighbours by name and alike" if self.is_neighbour else "near-duplicates"
        names = f"{self.first} ({self.parts[0]}) and {self.second} ({self.parts[1]})"
        return f"leak: {names} are {what} ({self.bits} of {_SIDE**2} bits differ)"

    def record(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "code": "NEIGHBOURS" if self.is_neighbour else "NEAR_DUPLICATES",
            "images": [str(self.first), str(self.second)],
            "parts": list(self.parts),
            "bits": self.bits,
        }


@dataclass(frozen=True)
class PartedUnit:
    """A patient, or a group of patients, that stands in several folds.

    Args:
        unit: Its name.
        folds: In ascending order.
    """

    unit: str
    folds: tuple[int, ...]

    def __str__(self) -> str:
        return f"leak: patient or group {self.unit!r} is in the folds {', '.join(map(str, self.folds))}"

    def record(self) -> dict[str, Any]:
        """The same for machines."""
        return {"code": "IN_SEVERAL_FOLDS", "unit": self.unit, "folds": list(self.folds)}


def perceptual_hash(grey: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(rows, columns) in [0, 1] -> the 256 bits of its pHash, (4,)."""
    levels = Image.fromarray(np.rint(grey * 255.0).astype(np.uint8))
    bits = imagehash.phash(levels, hash_size=_SIDE).hash
    return np.packbits(bits).view(np.uint64)


def windowed_grey(row: ManifestRow) -> NDArray[np.float32]:
    """A slice as its hash sees it: (rows, columns) in [0, 1] under the lung window."""
    return Window()(read_hu(row.path, row.window))


def fine_detail(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) -> what a blur takes away from it at 64 x 64, with mean 0 and length 1; (4096,)."""
    small: NDArray[np.float32] = np.asarray(
        Image.fromarray(grey).resize((_DETAIL_SIZE,) * 2, Image.Resampling.BILINEAR)
    )
    detail: NDArray[np.float32] = (small - gaussian_filter(small, _DETAIL_SIGMA)).ravel()
    detail -= detail.mean()
    length = np.float32(max(float(np.linalg.norm(detail)), 1e-12))
    return detail / length


def find_leaks(
    rows: Sequence[ManifestRow],
    hashes: Sequence[NDArray[np.uint64]],
    *,
    read: Callable[[ManifestRow], NDArray[np.float32]] = windowed_grey,
) -> tuple[Leak, ...]:
    """Every pair of near-duplicates, or of neighbours that are alike, in different splits or folds.

    Args:
        rows: Slices.
        hashes: The :func:`perceptual_hash` of each.
        read: Gives the slice of a row once more, where hashes are close and the detail decides.
    """
    if len(rows) < 2:
        return ()
    parts = [_part(row) for row in rows]
    return tuple(
        Leak(rows[one].path, rows[other].path, (parts[one], parts[other]), bits, is_neighbour=is_neighbour)
        for one, other, bits, is_neighbour in _alike(rows, hashes, parts, read)
    )


def fold_leaks(rows: Sequence[ManifestRow]) -> list[PartedUnit]:
    """Every patient, or group of patients, that stands in several folds."""
    folds: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.fold is not None:
            folds[row.unit].add(row.fold)
    return [PartedUnit(unit, tuple(sorted(found))) for unit, found in sorted(folds.items()) if len(found) > 1]


def one_slice_sources(rows: Sequence[ManifestRow]) -> list[str]:
    """The sources of which every patient has one slice, though names look like numbered slices of scans."""
    by_source: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    notes = []
    for source, own in sorted(by_source.items()):
        if len(own) > 1 and len({row.patient for row in own}) == len(own) and any(_neighbours(own)):
            notes.append(
                f"every patient of {source or 'the manifest'} has one slice, and names count on: is a patient's name "
                "the name of a slice? Then say the patient with `jcs data make table --patient-pattern`"
            )
    return notes


def join_duplicates(manifest: Manifest, *, neighbours: bool = True) -> Manifest:
    """The same rows, patients who share slices put into one group, so that splits keep them together.

    Args:
        manifest: Slices.
        neighbours: Whether neighbours by name that are alike join their patients, too, as :func:`find_leaks` counts
            them; else near-duplicates only.

    Raises:
        ConfigError: a slice that cannot be read, or a study.
    """
    hashes = [perceptual_hash(windowed_grey(row)) for row in manifest.rows]
    return Manifest(join_alike(manifest.rows, hashes, neighbours=neighbours).rows)


@dataclass(frozen=True)
class JoinedRows:
    """Rows whose groups keep together who shares slices.

    Args:
        rows: With their groups.
        pairs: One pair of images for every two units that were joined.
    """

    rows: tuple[ManifestRow, ...]
    pairs: tuple[tuple[Path, Path], ...]


def join_alike(
    rows: Sequence[ManifestRow],
    hashes: Sequence[NDArray[np.uint64]],
    *,
    neighbours: bool = True,
    read: Callable[[ManifestRow], NDArray[np.float32]] = windowed_grey,
) -> JoinedRows:
    """As :func:`join_duplicates`, with hashes that are known already and the pairs that joined.

    Args:
        rows: Slices.
        hashes: The :func:`perceptual_hash` of each.
        neighbours: As for :func:`join_duplicates`.
        read: As for :func:`find_leaks`.
    """
    units = [row.unit for row in rows]
    joined = DisjointSet(units)
    pairs = []
    for one, other, _, is_neighbour in _alike(rows, hashes, units, read):
        if (neighbours or not is_neighbour) and not joined.connected(units[one], units[other]):
            joined.merge(units[one], units[other])
            pairs.append((rows[one].path, rows[other].path))
    names = {unit: min(subset) for subset in joined.subsets() if len(subset) > 1 for unit in subset}
    return JoinedRows(tuple(replace(row, group=names.get(row.unit, row.group)) for row in rows), tuple(pairs))


def _alike(
    rows: Sequence[ManifestRow],
    hashes: Sequence[NDArray[np.uint64]],
    parts: Sequence[str],
    read: Callable[[ManifestRow], NDArray[np.float32]],
) -> Iterator[tuple[int, int, int, bool]]:
    """(first, second, bits, whether neighbours by name) of slices in different parts that seem to be of one scan."""
    if len(rows) < 2:
        return
    codes, known = np.stack(hashes), set()
    for one, other, bits in _near_duplicates(rows, codes, np.array(parts), read):
        known.add((one, other))
        yield one, other, bits, False
    for one, other in _neighbours(rows):
        bits = int(np.bitwise_count(codes[one] ^ codes[other]).sum())
        if parts[one] != parts[other] and bits <= NEIGHBOUR_BITS and (one, other) not in known:
            yield one, other, bits, True


def _part(row: ManifestRow) -> str:
    return row.split if row.fold is None else f"{row.split}, fold {row.fold}"


def _near_duplicates(
    rows: Sequence[ManifestRow],
    codes: NDArray[np.uint64],
    parts: NDArray[np.str_],
    read: Callable[[ManifestRow], NDArray[np.float32]],
) -> Iterator[tuple[int, int, int]]:
    """(first, second, bits) of slices in different parts, alike by hash and by detail; first before second."""

    @lru_cache(maxsize=1024)
    def detail(index: int) -> NDArray[np.float32]:
        return fine_detail(read(rows[index]))

    for one, other, bits in _close_pairs(codes, parts):
        if float(detail(one) @ detail(other)) >= LEAST_DETAIL_CORRELATION:
            yield one, other, bits


def _close_pairs(codes: NDArray[np.uint64], parts: NDArray[np.str_]) -> Iterator[tuple[int, int, int]]:
    """(first, second, bits) of slices in different parts whose hashes are close, first before second."""
    for one in range(len(codes) - 1):
        bits = np.bitwise_count(codes[one + 1 :] ^ codes[one]).sum(axis=1)
        for other in np.flatnonzero((bits <= NEAR_DUPLICATE_BITS) & (parts[one + 1 :] != parts[one])):
            yield one, one + 1 + int(other), int(bits[other])


def _neighbours(rows: Sequence[ManifestRow]) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose files lie in one folder under one stem with numbers that follow each other."""
    stems: dict[tuple[Path, str], list[tuple[int, int]]] = defaultdict(list)
    for index, row in enumerate(rows):
        found = re.fullmatch(r"(.*?)(\d+)(\D*)", row.path.stem)
        if found is not None:
            stems[row.path.parent, found[1] + found[3]].append((int(found[2]), index))
    for numbered in stems.values():
        numbered.sort()
        for (low, one), (high, other) in pairwise(numbered):
            if high - low <= _STEPS:
                yield min(one, other), max(one, other)
