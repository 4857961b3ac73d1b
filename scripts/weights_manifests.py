"""The manifests that the networks in the box were trained on, out of each public set's own.

    python scripts/weights_manifests.py WORK

WORK holds what `jcs data make` and `jcs data paint` wrote: ct100.csv, ucsd.csv, lungs267.csv, painted.csv,
zenodo20.csv, sarscov2.csv, iq-othnccd.csv and pneumonia224.csv. The first four keep their splits, and every third
painted slice is enough. The others only teach: none of their patients tests, few validate. Written beside them:

- sources.csv: all of them; the classifier's last layer and the operating point.
- others.csv: without sarscov2; the classifier's first training.
- taught.csv: sarscov2's train slices without their labels; the training with a teacher.
- volumes.csv: CT100, finding-lungs and zenodo20; the segmenter.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest

JUDGED = ("ct100", "ucsd", "lungs267", "painted")
TEACHING = ("zenodo20", "sarscov2", "iq-othnccd", "pneumonia224")
#: The fold of ``sarscov2`` that validates; fold 4 is not in the set.
VALIDATES = 3
#: Of these, in the order of their names, every n-th patient validates.
EVERY = {"iq-othnccd": 6, "pneumonia224": 5}
PAINTED_KEPT = 3


def teaching_rows(source: str, manifest: Manifest) -> tuple[ManifestRow, ...]:
    """A set's rows in the splits of the shipped weights: no test, and few patients that validate."""
    if source == "sarscov2":
        return tuple(replace(row, split="val" if row.fold == VALIDATES else "train") for row in manifest)
    patients = sorted({row.patient for row in manifest})
    validating = set(patients[:: EVERY[source]]) if source in EVERY else set()
    return tuple(replace(row, split="val" if row.patient in validating else "train") for row in manifest)


def weights_manifests(made: dict[str, Manifest]) -> dict[str, Manifest]:
    """The four manifests by name.

    Args:
        made: Each set's own manifest, by its source.
    """
    rows: dict[str, tuple[ManifestRow, ...]] = {
        **{source: tuple(made[source]) for source in JUDGED},
        **{source: teaching_rows(source, made[source]) for source in TEACHING},
    }
    rows["painted"] = rows["painted"][::PAINTED_KEPT]

    def joined(sources: Iterable[str]) -> Manifest:
        return Manifest(tuple(row for source in sources for row in rows[source]))

    sources = joined(rows)
    unlabelled = (
        replace(row, label=None) if (row.source, row.split) == ("sarscov2", "train") else row for row in sources
    )
    return {
        "sources": sources,
        "others": joined(source for source in rows if source != "sarscov2"),
        "taught": Manifest(tuple(unlabelled)),
        "volumes": joined(("ct100", "lungs267", "zenodo20")),
    }


def main() -> None:
    """Write the manifests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of the sets' manifests")
    work: Path = parser.parse_args().work
    missing = [source for source in (*JUDGED, *TEACHING) if not (work / f"{source}.csv").is_file()]
    if missing:
        parser.error(f"{work} lacks {', '.join(f'{source}.csv' for source in missing)}; `jcs data make` writes them")
    made = {source: read_manifest(work / f"{source}.csv") for source in (*JUDGED, *TEACHING)}
    for name, manifest in weights_manifests(made).items():
        manifest.write(work / f"{name}.csv")
        print(f"{len(manifest)} slices -> {work / name}.csv")


if __name__ == "__main__":
    main()
