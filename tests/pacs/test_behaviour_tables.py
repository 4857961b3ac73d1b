"""Every line of the tables of servers' behaviour names tests, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "pacs-servers.md"
NAME = re.compile(r"`(test_\w+)(?:\[([^\]`]+)\])?`")
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("|---") and not line.rstrip().endswith("| test |")
]


def existing_tests() -> dict[str, str]:
    """Name -> its decorators, of every test beside this one."""
    return {
        node.name: " ".join(ast.unparse(one) for one in node.decorator_list)
        for path in sorted(HERE.glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_page_has_its_tables():
    assert len(ROWS) > 80
    assert {len(row) for row in ROWS} == {3}


def test_each_line_names_existing_tests():
    exist = existing_tests()
    problems = [f"no test: {row[0]}" for row in ROWS if not NAME.findall(row[2])]
    for name, case in (found for row in ROWS for found in NAME.findall(row[2])):
        if name not in exist:
            problems.append(f"{name} does not exist")
        elif case and repr(case) not in exist[name]:
            problems.append(f"{name} has no case {case}")
    assert problems == []
