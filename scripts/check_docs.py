"""Check that what the documentation says can be done: commands, snippets, examples and links.

In every Markdown file given (default: README.md, CHANGELOG.md and docs/):

- lines of ``bash`` and ``console`` blocks that call ``jcs`` are parsed by the command line's own parser: the command,
  its options and its arguments must exist and be complete; ``make`` targets and ``python`` scripts must exist;
- ``python`` blocks must compile, and run without an error when ``<!-- run -->`` stands before them;
- ``json`` blocks must parse, and satisfy the report's schema when ``<!-- schema: report -->`` stands before them;
- relative links must lead to a file, and to a heading when they name one.

Exit code 1 and one line a problem when something is wrong, 0 otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUN_LIMIT_S = 120

_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(\w*)")
_MARKER = re.compile(r"^\s*<!--\s*(.+?)\s*-->\s*$")
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_INLINE_CODE = re.compile(r"`[^`]*`")
_SEPARATORS = {"|", "||", "&&", ";", ">", ">>", "<", "2>", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where its first line stands, its language, the marker before it, and its text."""

    line: int
    language: str
    marker: str
    text: str


@dataclass(frozen=True)
class Problem:
    """Something that does not hold, and where."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def split_blocks(text: str) -> tuple[list[Block], list[tuple[int, str]]]:
    """Markdown -> its fenced blocks, and the (line number, line) pairs outside them."""
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    inside: list[str] | None = None
    fence, indent, language, marker, start = "", "", "", "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if inside is None and match:
            indent, fence, language = match.groups()
            inside, start = [], number + 1
        elif inside is not None and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            blocks.append(Block(start, language.lower(), marker, "\n".join(inside)))
            inside, marker = None, ""
        elif inside is not None:
            inside.append(line.removeprefix(indent))
        else:
            prose.append((number, line))
            if line.strip():
                found = _MARKER.match(line)
                marker = found.group(1) if found else ""
    if inside is not None:
        blocks.append(Block(start, language.lower(), marker, "\n".join(inside)))
    return blocks, prose


def shell_commands(block: Block) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of every simple command of a shell block; ``console`` blocks count their ``$`` lines only."""
    pending, first = "", 0
    for offset, line in enumerate(block.text.splitlines()):
        if not pending:
            if block.language == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            first = block.line + offset
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        lexer = shlex.shlex(pending, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        pending = ""
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _SEPARATORS:
                words.append(word)
                continue
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                words.pop(0)  # variables set for this command
            if words:
                yield first, words
            words = []
            if word in (">", ">>", "<", "2>"):
                words = ["<file>"]


def check_command(words: Sequence[str], command_line: Any) -> str | None:
    """What is wrong with one simple command, or None.

    Args:
        words: The command, split.
        command_line: The ``jcs`` command line as a click command.
    """
    program = words[0]
    if program == "jcs":
        return _check_jcs(list(words[1:]), command_line)
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        unknown = [word for word in words[1:] if "=" not in word and not word.startswith("-") and word not in targets]
        return f"the Makefile has no target {', '.join(unknown)}" if unknown else None
    if re.fullmatch(r"(\S*/)?python3?(\.\d+)?", program) and len(words) > 1 and words[1].endswith(".py"):
        return None if (ROOT / words[1]).is_file() else f"there is no {words[1]}"
    return None


def _check_jcs(arguments: list[str], command_line: Any) -> str | None:
    command, name = command_line, "jcs"
    root_options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    while arguments and arguments[0] in root_options and command is command_line:
        arguments.pop(0)
    while getattr(command, "commands", None) is not None:
        if not arguments or arguments[0] == "--help":
            return None
        if arguments[0] not in command.commands and getattr(command, "invoke_without_command", False):
            break  # a group that is a command itself: `jcs serve`
        word = arguments.pop(0)
        if word not in command.commands:
            return f"`{name}` has no command or option {word!r}"
        command, name = command.commands[word], f"{name} {word}"
    if "--help" in arguments:
        return None
    context = command.context_class(command, info_name=name)
    # Typer brings its own copy of click from some version on: the error is that of the click in use.
    usage_error = import_module(f"{command.context_class.__module__.rpartition('.')[0]}.exceptions").UsageError
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    except usage_error as error:
        return f"`{name}`: {error.message}"
    missing = [
        parameter.name for parameter in command.params if parameter.required and not values.get(parameter.name)
    ]
    if missing:
        return f"`{name}` needs {', '.join(missing)}"
    unknown = _unknown_recipes(values)
    if unknown:
        return f"`{name}`: no recipe of this name: {', '.join(unknown)}"
    return f"`{name}` takes no argument {', '.join(rest)}" if rest else None


def _unknown_recipes(values: Mapping[str, Any]) -> list[str]:
    """Recipes given by name that the package does not have; a path is the reader's own."""
    from jcs_ct.recipes import recipe_names

    given = [str(values[key]) for key in ("recipe", "classifier_recipe") if values.get(key)]
    return [recipe for recipe in given if not re.search(r"[./$]", recipe) and recipe not in recipe_names()]


def check_python(block: Block) -> str | None:
    """What is wrong with a Python block, or None; it is run when it is marked."""
    try:
        compile(block.text, "snippet", "exec")
    except SyntaxError as error:
        return f"the snippet does not compile: {error.msg} (its line {error.lineno})"
    if block.marker != "run":
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", block.text],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=RUN_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the snippet runs for more than {RUN_LIMIT_S} s"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"the snippet fails: {last}"


def check_json(block: Block) -> str | None:
    """What is wrong with a JSON block, or None."""
    try:
        value = json.loads(block.text)
    except json.JSONDecodeError as error:
        return f"the example is not JSON: {error}"
    if block.marker != "schema: report":
        return None
    from jsonschema import Draft202012Validator

    from jcs_ct.reporting import report_schema

    errors = [
        f"{'.'.join(map(str, error.absolute_path)) or 'report'}: {error.message}"
        for error in Draft202012Validator(report_schema()).iter_errors(value)
    ]
    return f"the example does not satisfy the report's schema: {'; '.join(errors)}" if errors else None


def anchors(text: str) -> set[str]:
    """Anchors of a Markdown text's headings, as GitHub makes them."""
    found: set[str] = set()
    for _, line in split_blocks(text)[1]:
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            number = 1
            unique = slug
            while unique in found:
                unique, number = f"{slug}-{number}", number + 1
            found.add(unique)
    return found


def check_links(path: Path, prose: Sequence[tuple[int, str]]) -> Iterator[Problem]:
    """Relative links that lead nowhere."""
    for number, line in prose:
        for target in _LINK.findall(_INLINE_CODE.sub("", line)):
            if re.match(r"[a-z][a-z+.-]*:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                yield Problem(path, number, f"the link leads nowhere: {target}")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
                yield Problem(path, number, f"{file.name} has no heading for the link {target}")


def check_file(path: Path, command_line: Any) -> Iterator[Problem]:
    """Every problem of one Markdown file."""
    blocks, prose = split_blocks(path.read_text(encoding="utf-8"))
    for block in blocks:
        if block.language in ("bash", "sh", "shell", "console"):
            for line, words in shell_commands(block):
                message = check_command(words, command_line)
                if message:
                    yield Problem(path, line, message)
        checks = {"python": check_python, "json": check_json}
        if block.language in checks:
            message = checks[block.language](block)
            if message:
                yield Problem(path, block.line, message)
    yield from check_links(path, prose)


def jcs_command_line() -> Any:
    """The command line as a click command."""
    import typer

    from jcs_ct.cli import app

    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the files named (or all documentation); 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files (default: README, CHANGELOG, docs)")
    chosen = parser.parse_args(arguments).files
    files = chosen or [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    command_line = jcs_command_line()
    problems = [problem for path in files for problem in check_file(path, command_line)]
    for problem in problems:
        print(problem)
    print(f"{len(files)} file(s) checked, {len(problems)} problem(s)", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
