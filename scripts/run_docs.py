"""Run what the documentation tells a reader to type: every shell and Python block, in order, with an installed wheel.

Each page given (default: README.md, docs/tutorials, docs/how-to) starts in an empty folder of its own. A wheel of
this checkout is built and installed apart from it, unless ``--environment`` names an environment that has one.

- ``bash`` and ``console`` blocks run under ``bash -euo pipefail``; of a ``console`` block its ``$`` lines. ``python``
  blocks run by themselves in the same folder.
- ``<!-- not run: WHY -->`` before a block leaves it out; the reason is part of the report.
- ``<!-- exit code: 3 -->`` before a block: it must end with this code, as the page says.
- ``<!-- run until: TEXT -->`` before a block that would run for ever: it must print TEXT, and end when interrupted.
- ``<!-- before: COMMAND -->`` anywhere makes what a page takes for granted, such as the reader's own study.

Long commands are shortened by options put behind them (``SHORTER``): smaller phantoms, a few steps of training. Pages
are run several at a time, one a core; the blocks of a page one after the other. Exit code 1, and the end of what it
printed, when a block fails; a list of all blocks with seconds or reasons in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from check_docs import Block, split_blocks
from wheel_environment import ROOT, build_wheel, clean_environment, layered_environment, prove_installed

LIMIT_S = 1200
#: Pages at a time at most: some need a gigabyte.
MOST_PAGES = 4
_FEW_STEPS = (
    "steps=4",
    "coarse_size=0",
    "preprocessing.size=64",
    "batch_size=4",
    "ema_decay=0.5",
    "validate_every=2",
    "optimiser.warmup_steps=1",
)
SHORT_TRAINING = tuple(part for setting in _FEW_STEPS for part in ("--set", setting))
SHORT_CLASSIFIER = tuple(part for setting in _FEW_STEPS for part in ("--set-classifier", setting))
#: Options behind commands that start with these words, the first that fit; the last of an option given twice counts.
SHORTER: dict[str, tuple[str, ...]] = {
    "phantom": ("--size", "128"),
    "train": SHORT_TRAINING,
    "crossval compact-joint": (*SHORT_TRAINING, *SHORT_CLASSIFIER, "--draws", "20"),
    "crossval": (*SHORT_TRAINING, "--draws", "20"),
    "ablate": (*SHORT_TRAINING, "--draws", "20"),
    "transfer": (*SHORT_TRAINING, "--draws", "20"),
    "evaluate speed": ("--slices", "6"),
    "serve --folder": ("--port", "0"),
}
_BEFORE = re.compile(r"<!--\s*before:\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Ending:
    """How a block ended: ``ran``, ``not run`` or ``FAILED``, its seconds, and the reason or the end of its output."""

    page: str
    line: int
    state: str
    seconds: float
    said: str

    def __str__(self) -> str:
        shown = f"{self.state} ({self.seconds:.0f} s)" if self.state == "ran" else f"{self.state}: {self.said}"
        return f"{self.page}:{self.line}: {shown}"


def page_blocks(text: str) -> list[Block]:
    """The blocks of a page that a reader would type, and its ``before`` commands, in their order."""
    before = [
        Block(text.count("\n", 0, found.start()) + 1, "bash", "before", found.group(1))
        for found in _BEFORE.finditer(text)
    ]
    typed = [block for block in split_blocks(text)[0] if block.language in ("bash", "sh", "console", "python")]
    return sorted([*before, *typed], key=lambda block: block.line)


def notebook_blocks(notebook: Path) -> list[Block]:
    """A notebook's code as one block, since its cells share their names."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return [Block(1, "python", "", code)]


def typed_lines(block: Block) -> str:
    """What of a block is typed: in a ``console`` block its ``$`` lines and what continues them."""
    if block.language != "console":
        return block.text
    lines: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            lines.append(line[2:])
        elif lines and lines[-1].endswith("\\"):
            lines.append(line)
    return "\n".join(lines)


def write_shortener(folder: Path, environment: Path) -> None:
    """A ``jcs`` that puts the options of ``SHORTER`` behind what it is given, and calls the installed one."""
    cases = "\n".join(f'  "{words} "*) set -- "$@" {" ".join(options)} ;;' for words, options in SHORTER.items())
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "jcs"
    script.write_text(f'#!/bin/sh\ncase "$* " in\n  *--help*) ;;\n{cases}\nesac\nexec "{environment}/bin/jcs" "$@"\n')
    script.chmod(0o755)


def run_page(page: Path, environment: Path, work: Path, **variables: str) -> Iterator[Ending]:
    """Run one page's blocks in an empty folder, with these variables as well; after a failure the rest is not run."""
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    folder = work / "pages" / re.sub(r"\W+", "-", name)
    folder.mkdir(parents=True)
    programs = work / "bin" / folder.name
    write_shortener(programs, environment)
    path = f"{programs}:{environment / 'bin'}:{os.environ['PATH']}"
    variables = clean_environment(PATH=path, HOME=str(work), COLUMNS="200", **variables)
    failed = 0
    is_notebook = page.suffix == ".ipynb"
    blocks = notebook_blocks(page) if is_notebook else page_blocks(page.read_text(encoding="utf-8"))
    for block in blocks:
        kind, _, detail = block.marker.partition(":")
        detail = detail.strip()
        if kind == "not run" and detail:
            yield Ending(name, block.line, "not run", 0, detail)
            continue
        if failed:
            yield Ending(name, block.line, "not run", 0, f"the block in line {failed} failed")
            continue
        started = time.perf_counter()
        problem = _run(block, folder, variables, environment)
        seconds = time.perf_counter() - started
        if problem is not None:
            failed = block.line
            yield Ending(name, block.line, "FAILED", seconds, problem)
        elif block.marker != "before":
            yield Ending(name, block.line, "ran", seconds, "")


def _run(block: Block, folder: Path, variables: dict[str, str], environment: Path) -> str | None:
    """What went wrong with a block, or None."""
    kind, _, detail = (part.strip() for part in block.marker.partition(":"))
    text = typed_lines(block)
    if not text.strip():
        return "nothing in the block is typed: a console block's commands start with '$ '"
    if block.language == "python":
        arguments = [str(environment / "bin/python"), "-W", "ignore", "-c", text]
    else:
        arguments = ["bash", "-euo", "pipefail", "-c", text]
    log = folder / f".line-{block.line}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            arguments, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            if kind == "run until":
                problem = _wait_for_text(process, log, detail)
            else:
                problem = _wait(process, int(detail) if kind == "exit code" else 0)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if problem is None:
        return None
    return "\n".join([problem, *(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:])])


def _wait(process: subprocess.Popen[bytes], expected: int) -> str | None:
    try:
        code = process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"it runs for more than {LIMIT_S} s"
    return None if code == expected else f"it ended with code {code}, and {expected} was expected"


def _wait_for_text(process: subprocess.Popen[bytes], log: Path, text: str) -> str | None:
    """Wait until ``text`` is printed, interrupt, and see that the program ends."""
    end = time.monotonic() + LIMIT_S
    while text not in log.read_text(errors="replace"):
        if process.poll() is not None:
            return f"it ended with code {process.returncode} before it printed {text!r}"
        if time.monotonic() > end:
            return f"it has not printed {text!r} after {LIMIT_S} s"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        return "it goes on a minute after it was interrupted"
    return None


def run_pages(pages: Sequence[Path], environment: Path, work: Path, *, jobs: int = 1) -> list[Ending]:
    """Run ``jobs`` pages at a time, saying how each block ended as soon as it has -> endings in the pages' order."""
    started = time.perf_counter()
    # More threads than cores would only wait for each other.
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}

    def run(page: Path) -> list[Ending]:
        endings = []
        for ending in run_page(page, environment, work, **threads):
            print(ending, flush=True)
            endings.append(ending)
        return endings

    with ThreadPoolExecutor(jobs) as pool:
        endings = [ending for page in pool.map(run, pages) for ending in page]
    states = [ending.state for ending in endings]
    print(
        f"{len(pages)} page(s): {states.count('ran')} block(s) ran in {time.perf_counter() - started:.0f} s, "
        f"{states.count('not run')} marked or left, {states.count('FAILED')} failed"
    )
    return endings


def default_pages() -> list[Path]:
    """README, tutorials with their notebooks, and how-to guides."""
    rooms = (ROOT / "docs/tutorials", ROOT / "docs/how-to")
    found = (sorted(path for path in room.iterdir() if path.suffix in (".md", ".ipynb")) for room in rooms)
    return [ROOT / "README.md", *(page for pages in found for page in pages)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pages named (or all); 1 when a block failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="Markdown files (default: README, tutorials, how-to)")
    parser.add_argument("--environment", type=Path, help="virtual environment with the wheel installed")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave what the blocks made there")
    jobs = min(os.cpu_count() or 1, MOST_PAGES)
    parser.add_argument("--jobs", type=int, default=jobs, help="pages at a time (default: one a core, 4 at most)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="jcs-docs-") as temporary:
        work = (asked.keep or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        environment = asked.environment or layered_environment(work / "venv", build_wheel(work))
        prove_installed(environment.resolve(), work)
        pages = [page.resolve() for page in asked.pages] or default_pages()
        endings = run_pages(pages, environment.resolve(), work, jobs=asked.jobs)
    return 1 if any(ending.state == "FAILED" for ending in endings) else 0


if __name__ == "__main__":
    sys.exit(main())
