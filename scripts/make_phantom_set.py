"""Make many phantom studies as PNG for training: OUT/000, OUT/001 ..., about 60 % of them positive.

The study number alone decides seed, slices, lesions and sign, so a set can be made again or continued.
OUT/READY appears when every study is there.

    python scripts/make_phantom_set.py OUT --studies 80 --workers 2
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from pathlib import Path

from jcs_ct.files import write_text
from jcs_ct.phantom import PhantomConfig, make_phantom, write_png


def config_of(number: int, first_seed: int) -> PhantomConfig:
    """Settings of a study: three positives, two negatives, in turn; 20 to 24 slices, 2 to 14 lesions."""
    return PhantomConfig(
        slices=20 + number % 5,
        lesions=2 + (5 * number) % 13,
        seed=first_seed + number,
        negative=number % 5 in (1, 3),
    )


def make(number: int, *, out: Path, first_seed: int) -> str:
    """Make and write one study unless it is complete (``truth.json`` is written last)."""
    folder = out / f"{number:03d}"
    if not (folder / "truth.json").exists():
        write_png(make_phantom(config_of(number, first_seed)), folder)
    return folder.name


def main() -> None:
    """Read the options and make the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--studies", type=int, default=80)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    task = functools.partial(make, out=options.out, first_seed=options.first_seed)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for done, name in enumerate(pool.imap_unordered(task, range(options.studies)), start=1):
            print(f"{done}/{options.studies} {name}", flush=True)
    write_text(options.out / "READY", f"{options.studies} studies\n")


if __name__ == "__main__":
    main()
