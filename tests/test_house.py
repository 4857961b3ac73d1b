"""The house: a name stands once, and the page that shows it names what is there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import jcs_ct

PACKAGE = Path(jcs_ct.__file__).parent
ROOT = PACKAGE.parents[1]
PAGE = (ROOT / "docs/concepts/architecture.md").read_text()


def test_a_module_name_stands_once_but_for_the_commands():
    """A command may be named like the room that does its work; nothing else shares a name."""
    modules = [path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__") and path.parts[-2] != "cli"]
    assert {name: count for name, count in Counter(path.stem for path in modules).items() if count > 1} == {}
    scripts = Counter(
        path.name for room in ("scripts", "benchmarks", "tests") for path in (ROOT / room).rglob("*.py")
    )
    assert {name for name, count in scripts.items() if count > 1} <= {"conftest.py"}
    assert {path.stem for path in modules} & {Path(name).stem for name in scripts} == set()


def test_a_public_function_of_the_rooms_that_read_studies_stands_once():
    rooms = [PACKAGE / name for name in ("reading", "reporting", "jobs", "batch", "pacs")]
    found = re.compile(r"^def ([a-z]\w+)\(", re.MULTILINE)
    names = Counter(name for room in rooms for path in room.rglob("*.py") for name in found.findall(path.read_text()))
    assert {name for name, count in names.items() if count > 1} == set()


def test_a_public_class_stands_once():
    found = re.compile(r"^class ([A-Z]\w+)", re.MULTILINE)
    names = Counter(name for path in PACKAGE.rglob("*.py") for name in found.findall(path.read_text()))
    assert {name for name, count in names.items() if count > 1} == set()


def test_the_walks_name_files_that_are_there():
    walks = [re.findall(r"`([a-z_/0-9]+\.py)`", text) for text in PAGE.split("\n**A ")[1:]]
    assert len(walks) == 3
    assert [name for walk in walks for name in walk if "/" in name and not (PACKAGE / name).exists()] == []
    assert all(len(re.findall(r"^\d+\. ", text, re.MULTILINE)) <= 9 for text in PAGE.split("\n**A ")[1:])


def test_every_room_stands_in_the_table():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "weights")}
    rooms |= {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    named = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert rooms - named == set()


def test_the_numbers_of_a_full_disk_and_a_gibibyte_stand_once():
    said = re.compile(r"errno\.(ENOSPC|EDQUOT)\b|\b1024\*\*3|\b2\*\*30")
    assert [path.name for path in PACKAGE.rglob("*.py") if said.search(path.read_text())] == ["disk_space.py"]
