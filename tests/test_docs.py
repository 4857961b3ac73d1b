"""The documentation holds, and the checker finds what does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def check_docs():
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_docs"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["check_docs"]


@pytest.fixture(scope="module")
def command_line():
    app, data = typer.Typer(), typer.Typer()

    @app.command()
    def diagnose(
        study: str,
        output: str = typer.Option(..., "--output", "-o"),
        threshold: int = typer.Option(25),
        quiet: bool = typer.Option(False, "--quiet", "-q"),
    ):
        """Read."""

    @data.command()
    def check(manifest: str):
        """Check."""

    @data.command()
    def make(kind: str, folder: str):
        """Make."""

    serve = typer.Typer(invoke_without_command=True)

    @serve.callback()
    def page(port: int = typer.Option(8000)):
        """Serve."""

    @serve.command()
    def users(name: str):
        """List."""

    app.add_typer(data, name="data")
    app.add_typer(serve, name="serve")

    @app.callback()
    def root(verbose: bool = typer.Option(False, "--verbose")):
        """Root."""

    return typer.main.get_command(app)


@pytest.fixture
def problems(check_docs, command_line, tmp_path):
    def find(text: str) -> list[str]:
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        return [f"{problem.line}: {problem.message}" for problem in check_docs.check_file(path, command_line)]

    return find


def _bash(*lines: str, language: str = "bash") -> str:
    return "\n".join([f"```{language}", *lines, "```", ""])


@pytest.mark.parametrize(
    "line",
    [
        "jcs diagnose my-study/ -o report/",
        "jcs diagnose my-study --output=report --threshold 3 -q  # quietly",
        "OMP_NUM_THREADS=1 jcs --verbose data check slices.csv > log.txt && echo done",
        "jcs --help",
        "jcs diagnose --help",
        "jcs serve --port 8001",
        "jcs serve users jane",
        "make test | tee log.txt",
        "python scripts/check_docs.py",
        "jcs diagnose a \\\n  -o b",
    ],
)
def test_commands_that_exist_pass(problems, line):
    assert problems(_bash(line)) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jcs diagnos a -o b", "`jcs` has no command or option 'diagnos'"),
        ("jcs --verbos diagnose a -o b", "`jcs` has no command or option '--verbos'"),
        ("jcs data chek x", "`jcs data` has no command or option 'chek'"),
        ("jcs diagnose a -o b --tresh 3", "`jcs diagnose`: No such option: --tresh"),
        ("jcs diagnose a", "`jcs diagnose` needs output"),
        ("jcs diagnose -o b", "`jcs diagnose` needs study"),
        ("jcs diagnose a b -o c", "`jcs diagnose` takes no argument b"),
        ("jcs serve --prot 8001", "`jcs serve`: No such option: --prot"),
        ("true && jcs data check", "`jcs data check` needs manifest"),
        ("make coffee", "the Makefile has no target coffee"),
        ("python scripts/absent.py", "there is no scripts/absent.py"),
    ],
)
def test_commands_that_do_not_exist_are_found(problems, line, message):
    (found,) = problems(_bash(line))
    assert found.startswith(f"2: {message}")


def test_console_blocks_check_what_is_typed_and_not_what_is_printed(problems):
    text = _bash("$ jcs wrong", "jcs printed", language="console")
    assert problems(text) == ["2: `jcs` has no command or option 'wrong'"]


def test_problems_are_found_in_indented_blocks_and_after_other_text(problems):
    text = "# Title\n\n1. first\n\n   ```bash\n   jcs data check x\n   jcs wrong\n   ```\n"
    assert problems(text) == ["7: `jcs` has no command or option 'wrong'"]


def test_python_blocks_compile_and_run_when_marked(problems):
    assert problems("```python\nundefined_name\n```\n") == []
    assert problems("<!-- run -->\n```python\nprint(1 + 1)\n```\n") == []
    assert problems("```python\nx = = 1\n```\n")[0].startswith("2: the snippet does not compile")
    failing = problems("<!-- run -->\n\n```python\nundefined_name\n```\n")
    assert failing == ["4: the snippet fails: NameError: name 'undefined_name' is not defined"]


def test_a_marker_counts_for_the_next_block_only(problems):
    assert problems("<!-- run -->\n```python\n1\n```\n\n```python\nundefined_name\n```\n") == []


def test_json_blocks(problems):
    assert problems('```json\n{"a": 1}\n```\n') == []
    assert problems("```json\n{a}\n```\n")[0].startswith("2: the example is not JSON")
    (found,) = problems('<!-- schema: report -->\n```json\n{"schema_version": "0.1"}\n```\n')
    assert "does not satisfy the report's schema" in found


def test_links(problems, tmp_path):
    (tmp_path / "other.md").write_text("# One `heading`, here\n\n```bash\n# no heading\n```\n", encoding="utf-8")
    good = (
        "[a](other.md) [b](other.md#one-heading-here) [c](https://example.org/x) `[d](absent.md)` [e](#top)\n# Top\n"
    )
    assert problems(good) == []
    assert problems("[a](absent.md)") == ["1: the link leads nowhere: absent.md"]
    assert problems("[a](other.md#no-heading)") == ["1: other.md has no heading for the link other.md#no-heading"]


def test_the_documentation_holds(check_docs, capsys):
    assert check_docs.main([]) == 0, capsys.readouterr().out
