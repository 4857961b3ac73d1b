"""Build the documentation as a site, offline: `make site` -> build/site/index.html.

The pages are laid out as in the repository, so that their links hold in both. A page for each public name of the
package is made from its docstring, and the notebook becomes a page. Links that lead nowhere end it with code 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build/site-pages"
#: Pages that lie outside docs/, and files that pages link to.
BESIDE_DOCS = (
    "README.md",
    "INTENDED_USE.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "src/jcs_ct/weights/MODEL_CARD.md",
)


def copy_pages(to: Path) -> None:
    """Every page and picture where it lies in the repository; not the 300 predictions."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(ROOT / "docs", to / "docs", ignore=shutil.ignore_patterns("predictions"))
    for name in BESIDE_DOCS:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)


def public_names() -> dict[str, str]:
    """Public name -> the module that has it, as ``jcs_ct`` itself says."""
    import jcs_ct

    homes = {}
    for name in jcs_ct.__all__:
        found = getattr(jcs_ct, name)
        homes[name] = getattr(found, "__module__", None) or "jcs_ct"
    return homes


def write_api(to: Path) -> None:
    """A page a public name, and an index of all with the first sentence of each."""
    import jcs_ct

    to.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, module in public_names().items():
        if isinstance(getattr(jcs_ct, name), str):
            rows.append((name, f"{getattr(jcs_ct, name)!r}"))
            continue
        lines = (getattr(jcs_ct, name).__doc__ or "").strip().splitlines()
        rows.append((f"[{name}]({name}.md)", lines[0] if lines else ""))
        (to / f"{name}.md").write_text(f"# {name}\n\n::: {module}.{name}\n", encoding="utf-8")
    table = "\n".join(f"| {name} | {sentence.replace('|', '/')} |" for name, sentence in rows)
    intro = "`import jcs_ct` offers these names. Research use only, not a medical device."
    (to / "index.md").write_text(f"# API\n\n{intro}\n\n| name | |\n|---|---|\n{table}\n", encoding="utf-8")


def notebook_page(notebook: Path) -> str:
    """A notebook as Markdown: its texts, its code, and what the code printed."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        printed = "".join(line for output in cell.get("outputs", ()) for line in output.get("text", ()))
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Lay out the pages and build; mkdocs's exit code."""
    copy_pages(PAGES)
    write_api(PAGES / "docs/reference/api")
    for notebook in sorted((ROOT / "docs").rglob("*.ipynb")):
        page = PAGES / notebook.relative_to(ROOT).with_suffix(".md")
        page.write_text(notebook_page(notebook), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--quiet"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # a notice about successors of mkdocs
    return subprocess.run(command, cwd=ROOT, env=quiet, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
