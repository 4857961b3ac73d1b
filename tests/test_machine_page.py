"""The page for programs says what the code does: exit codes, codes of errors, variables of the environment."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jcs_ct
from jcs_ct.cli import endings
from jcs_ct.cli.documents import SCHEMA_VERSION
from jcs_ct.errors import REMEDIES

SOURCES = Path(jcs_ct.__file__).parent
PAGE = SOURCES.parents[1] / "docs" / "reference" / "machine.md"


def section(heading):
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1)


def rows(text):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return cells[2:]


def test_exit_codes():
    stated = {int(code): outcome for code, outcome, _ in rows(section("Exit codes"))}
    assert stated == endings.OUTCOMES
    listed = [re.sub(r"\s+", " ", line) for line in endings.__doc__.splitlines() if line[:1].isdigit()]
    assert listed == [f"{code} {outcome} {meaning}" for code, outcome, meaning in rows(section("Exit codes"))]


def test_codes_and_remedies():
    stated = {code.strip("`"): remedy for code, remedy in rows(section("JSON"))}
    assert stated == {str(code): remedy for code, remedy in REMEDIES.items()}
    assert f'"schema_version": "{SCHEMA_VERSION}"' in section("JSON")


def read_variables():
    """Names that the package reads from the environment, found in its syntax trees."""
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            name = _name_read(node)
            if name is None:
                continue
            if isinstance(name, ast.Constant):
                yield name.value
            else:
                assert isinstance(name, ast.Name), f"{path}:{node.lineno} reads a variable of a made-up name"
                yield constants[name.id]


def _name_read(node):
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        return node.slice
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
        return node.args[0]
    return None


def test_environment():
    stated = {name for names, _ in rows(section("Environment")) for name in re.findall(r"`(\w+)`", names)}
    assert stated == set(read_variables())
