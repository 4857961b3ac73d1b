"""A wheel of this checkout, and virtual environments that have it installed: what users get, apart from the sources.

Shared by ``run_docs.py`` and ``release_check.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def clean_environment(**more: str) -> dict[str, str]:
    """The process's variables without those that would let an interpreter see this checkout."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in hidden} | more


def call(arguments: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Run a program -> what it printed.

    Raises:
        RuntimeError: with the end of its output, when it ends with another code than 0.
    """
    done = subprocess.run(
        list(map(str, arguments)),
        cwd=cwd,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with code {done.returncode}:\n{said}")
    return done.stdout


def copy_sources(to: Path) -> Path:
    """Copy what git tracks, or would if it were added, so that building leaves nothing in the checkout."""
    listed = call(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if name.startswith("docs/predictions/") or not (ROOT / name).is_file():
            continue  # 300 pictures that no build needs
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


def build_wheel(work: Path) -> Path:
    """The wheel of this checkout, built from a copy of it under ``work``."""
    sources = copy_sources(work / "sources")
    call([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", work / "wheel", sources])
    return next((work / "wheel").glob("*.whl"))


def layered_environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel, which sees the packages beside this interpreter but not its jcs_ct.

    It starts in seconds, where a whole installation takes minutes and gigabytes; whether the wheel names all it needs
    is for ``release_check.py`` to see. An editable installation does not show through: the ``.pth`` file that makes
    one is read in an interpreter's own folder only.
    """
    call([sys.executable, "-m", "venv", folder])
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (packages / "beneath.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    call([folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel])
    return folder


def prove_installed(environment: Path, cwd: Path) -> str:
    """Where the environment's jcs_ct lies.

    Raises:
        RuntimeError: it lies outside the environment, so that something else would be tested.
    """
    where = call([environment / "bin/python", "-c", "import jcs_ct; print(jcs_ct.__file__)"], cwd=cwd).strip()
    if not Path(where).resolve().is_relative_to(environment.resolve()):
        raise RuntimeError(f"jcs_ct is taken from {where}, not from {environment}")
    return where
