"""Check that what would be released is what a user needs: `make release-check`.

1. Version, CITATION.cff, CHANGELOG and tag agree.
2. sdist and wheel are built (the wheel out of the sdist), every file of the package lies in both, and nothing else.
3. For each Python (``--python``, default: this one) the wheel is installed into a fresh environment, with the newest
   dependencies that its metadata allow or, with ``--lowest``, the oldest (``pip check`` finds those that do not fit);
   the demo and the tutorials are run in an empty folder, outside the checkout.

Exit code 1 when anything fails; a line with seconds and megabytes for every step in any case.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from run_docs import run_pages
from wheel_environment import ROOT, call, copy_sources, prove_installed

TUTORIALS = (ROOT / "docs/tutorials/first-report.md", ROOT / "docs/tutorials/first-training.md")
EXTRAS = "service,pacs,openvino"


def version_problems(root: Path, tag: str | None) -> Iterator[str]:
    """What does not agree about the version.

    Args:
        root: The checkout.
        tag: The tag to release, as ``v0.1.0``; None for a version that is still being worked on.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    stated = re.search(r'^__version__ = "(.+)"$', (root / "src/jcs_ct/__init__.py").read_text(), re.MULTILINE)
    if stated is None or stated.group(1) != version:
        yield f"jcs_ct.__version__ is {stated and stated.group(1)}, pyproject.toml says {version}"
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    if citation["version"] != version:
        yield f"CITATION.cff has version {citation['version']}, pyproject.toml says {version}"
    changes = (root / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d[^\]]*)\](?: - (\S+))?$", changes, re.MULTILINE)
    if tag is None:
        return
    if tag != f"v{version}":
        yield f"the tag is {tag}, pyproject.toml says {version}"
    if not released or released[0][0] != version:
        yield f"CHANGELOG.md has no section [{version}] on top of the released ones"
    elif not re.fullmatch(r"\d{4}-\d\d-\d\d", released[0][1]):
        yield f"CHANGELOG.md states no date for [{version}]"
    elif str(citation.get("date-released")) != released[0][1]:
        yield f"CITATION.cff was released {citation.get('date-released')}, CHANGELOG.md says {released[0][1]}"
    unreleased = re.search(r"## \[Unreleased\]\n(.*?)(?=^## |\Z)", changes, re.MULTILINE | re.DOTALL)
    if unreleased and re.search(r"^- ", unreleased.group(1), re.MULTILINE):
        yield f"CHANGELOG.md has changes under Unreleased; move them to [{version}]"


def build(work: Path) -> tuple[Path, Path]:
    """sdist and wheel of a copy of this checkout."""
    sources = copy_sources(work / "sources")
    call([sys.executable, "-m", "build", "--outdir", work / "dist", sources])
    return next((work / "dist").glob("*.tar.gz")), next((work / "dist").glob("*.whl"))


def content_problems(sdist: Path, wheel: Path) -> Iterator[str]:
    """Files of the package that the archives lack, and files that the wheel should not have."""
    listed = call(["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/jcs_ct"], cwd=ROOT)
    wanted = {name.removeprefix("src/") for name in listed.splitlines() if (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2].removeprefix("src/") for name in archive.getnames()}
    for kind, names in (("wheel", installed), ("sdist", packed)):
        missing = sorted(wanted - names)
        if missing:
            yield f"the {kind} lacks {len(missing)} file(s) of the package: {', '.join(missing[:5])}"
    strangers = sorted(name for name in installed - wanted if not re.match(r"jcs_ct-[^/]+\.dist-info/", name))
    if strangers:
        yield f"the wheel has files that are none of the package: {', '.join(strangers[:5])}"


def install(wheel: Path, folder: Path, python: str, *, lowest: bool, torch: str) -> str:
    """A fresh environment with the wheel and some extras -> its size and the versions that matter."""
    call(["uv", "venv", "--quiet", "--seed", "--python", python, folder])
    interpreter = folder / "bin/python"
    # torch goes first and by pip, which takes the build that is asked for; the resolvers then leave it alone.
    call([interpreter, "-m", "pip", "install", "--quiet", torch])
    wanted = f"jcs-ct[{EXTRAS}] @ {wheel.as_uri()}"
    if lowest:
        kept = call([interpreter, "-c", "from importlib.metadata import version; print(version('torch'))"]).strip()
        # The bounds are those of pyproject.toml: seen from a wheel, what it needs is no longer a direct dependency.
        extras = [part for extra in EXTRAS.split(",") for part in ("--extra", extra)]
        resolving = ["--resolution", "lowest-direct", f"torch=={kept}", *extras, "-r", ROOT / "pyproject.toml"]
        call(["uv", "pip", "install", "--quiet", "--python", interpreter, *resolving])
        call([interpreter, "-m", "pip", "install", "--quiet", "--no-deps", wheel])
    else:
        call([interpreter, "-m", "pip", "install", "--quiet", wanted])
    call([interpreter, "-m", "pip", "check"])
    names = ("torch", "numpy", "pydicom", "highdicom", "pydantic", "typer")
    shown = f"from importlib.metadata import version; print(*(f'{{n}} {{version(n)}}' for n in {names}), sep=', ')"
    return call([interpreter, "-c", shown]).strip()


def megabytes(folder: Path) -> float:
    """What a folder takes on the disk."""
    blocks = sum(path.lstat().st_blocks for path in folder.rglob("*"))
    return blocks * 512 / 1e6


def run_demo(environment: Path, folder: Path) -> None:
    """The demo with the installed package, in an empty folder.

    Raises:
        RuntimeError: with the end of what it printed, when a verdict is wrong or it fails.
    """
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "scripts/demo.py", folder / "demo.py")
    call([environment / "bin/python", "demo.py"], cwd=folder)


def check_python(wheel: Path, python: str, work: Path, *, lowest: bool, torch: str) -> Iterator[str]:
    """Install for one Python and run demo and tutorial; yields what failed."""
    label = f"Python {python}{', oldest dependencies' if lowest else ''}"
    environment = work / "venv"
    try:
        started = time.perf_counter()
        versions = install(wheel, environment, python, lowest=lowest, torch=torch)
        prove_installed(environment, work)
        _say(label, "installed", started, f"{megabytes(environment):.0f} MB; {versions}")
        started = time.perf_counter()
        run_demo(environment, work / "demo")
        _say(label, "demo", started, "both verdicts are right")
    except RuntimeError as error:
        yield f"{label}: {error}"
        return
    failed = [ending for ending in run_pages(TUTORIALS, environment, work) if ending.state == "FAILED"]
    yield from (f"{label}: {ending}" for ending in failed)


def _say(label: str, step: str, started: float, detail: str) -> None:
    print(f"{label}: {step} in {time.perf_counter() - started:.0f} s: {detail}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check all that is asked for; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tag", help="the tag to release, as v0.1.0 (default: none, a version in the making)")
    parser.add_argument("--python", action="append", help="an interpreter or version; may be repeated")
    parser.add_argument("--lowest", action="store_true", help="the oldest dependencies that the metadata allow")
    parser.add_argument("--torch", default="torch", help="what pip installs first, as torch==2.13.0")
    parser.add_argument("--build-only", action="store_true", help="leave out installing and running")
    parser.add_argument("--dist", type=Path, help="copy sdist and wheel here when all is well")
    asked = parser.parse_args(arguments)
    beside = Path(sys.executable).parent  # uv lies there
    os.environ["PATH"] = f"{beside}{os.pathsep}{os.environ['PATH']}"
    problems = list(version_problems(ROOT, asked.tag))
    with tempfile.TemporaryDirectory(prefix="jcs-release-") as temporary:
        work = Path(temporary)
        started = time.perf_counter()
        sdist, wheel = build(work)
        problems += content_problems(sdist, wheel)
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in (sdist, wheel))
        _say("release", "built", started, sizes)
        for number, python in enumerate([] if asked.build_only else asked.python or [sys.executable]):
            folder = work / str(number)
            folder.mkdir()
            problems += check_python(wheel, python, folder, lowest=asked.lowest, torch=asked.torch)
            shutil.rmtree(folder)
        if asked.dist and not problems:
            asked.dist.mkdir(parents=True, exist_ok=True)
            for path in (sdist, wheel):
                shutil.copy2(path, asked.dist)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(f"release check: {len(problems)} problem(s)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
