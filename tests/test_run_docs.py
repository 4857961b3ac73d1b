"""What readers are told to type is run: blocks that fail, need another code, or never end are told apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_docs import SHORTER, page_blocks, run_page, run_pages, typed_lines, write_shortener


@pytest.fixture
def endings(tmp_path):
    """Text of a page -> how its blocks ended, in an environment whose programs are this one's."""

    def run(text: str) -> list[str]:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        return [
            f"{ending.line} {ending.state} {ending.said.splitlines()[0] if ending.said else ''}".strip()
            for ending in run_page(page, Path(sys.prefix), tmp_path / "work")
        ]

    return run


def block(text: str, *, language: str = "bash", marker: str = "") -> str:
    return f"{f'<!-- {marker} -->' if marker else ''}\n```{language}\n{text}\n```\n"


def test_blocks_run_in_order_in_one_empty_folder(endings):
    text = block('test -z "$(ls)"; echo 1 > a') + block("assert open('a').read() == '1\\n'", language="python")
    assert endings(text) == ["3 ran", "7 ran"]


def test_a_failing_block_fails_and_the_rest_is_left(endings):
    text = block("false; true") + block("true")
    assert endings(text) == [
        "3 FAILED it ended with code 1, and 0 was expected",
        "7 not run the block in line 3 failed",
    ]


def test_only_what_is_typed_in_a_console_is_run(endings):
    (only,) = page_blocks(block("$ echo a \\\n  b\nfalse", language="console"))
    assert typed_lines(only) == "echo a \\\n  b"
    assert endings(block("$ true\nfalse", language="console")) == ["3 ran"]


def test_a_mark_needs_a_reason(endings):
    text = block("false", marker="not run: needs a PACS") + block("false", marker="not run:")
    assert endings(text) == ["3 not run needs a PACS", "7 FAILED it ended with code 1, and 0 was expected"]


def test_another_code_can_be_what_the_page_says(endings):
    assert endings(block("exit 3", marker="exit code: 3")) == ["3 ran"]


def test_the_code_that_the_page_says_must_come(endings):
    assert endings(block("true", marker="exit code: 3")) == ["3 FAILED it ended with code 0, and 3 was expected"]


def test_what_never_ends_is_interrupted_once_it_says_the_text(endings):
    code = "import time; print('up', flush=True); time.sleep(99)"
    assert endings(block(f'python -c "{code}"', marker="run until: up")) == ["3 ran"]


def test_what_ends_before_it_says_the_text_fails(endings):
    assert endings(block("echo down", marker="run until: up")) == [
        "3 FAILED it ended with code 0 before it printed 'up'"
    ]


def test_what_a_page_takes_for_granted_is_made_and_not_counted(endings):
    assert endings("<!-- before:\necho 1 > a\n-->\n" + block("test -f a")) == ["6 ran"]


def test_pages_are_run_at_the_same_time_and_told_in_their_order(tmp_path):
    waits = "touch ../../{own}; for _ in $(seq 200); do test -f ../../{other} && exit; sleep 0.1; done; exit 1"
    pages = [tmp_path / "first.md", tmp_path / "second.md"]
    pages[0].write_text(block(waits.format(own="a", other="b")) + block("true"))
    pages[1].write_text(block(waits.format(own="b", other="a")))
    endings = run_pages(pages, Path(sys.prefix), tmp_path / "work", jobs=2)
    assert [f"{ending.page}:{ending.line} {ending.state}" for ending in endings] == [
        "first.md:3 ran",
        "first.md:7 ran",
        "second.md:3 ran",
    ]


def test_long_commands_are_shortened(tmp_path):
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    real = environment / "bin/jcs"
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)
    write_shortener(tmp_path / "bin", environment)

    def said(*arguments: str) -> str:

        return subprocess.run(
            [tmp_path / "bin/jcs", *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert said("phantom", "a b") == " ".join(["phantom", "a b", *SHORTER["phantom"]])
    assert said("phantom", "--help") == "phantom --help"
    assert said("info", "phantom") == "info phantom"


def test_a_notebook_s_cells_share_their_names(tmp_path):
    code = [{"cell_type": "code", "source": [text]} for text in ("a = 1", "assert a == 1")]
    cells = [code[0], {"cell_type": "markdown", "source": ["b"]}, code[1]]
    page = tmp_path / "page.ipynb"
    page.write_text(json.dumps({"cells": cells}))
    assert [ending.state for ending in run_page(page, Path(sys.prefix), tmp_path / "work")] == ["ran"]
