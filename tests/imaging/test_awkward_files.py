"""Every file that pydicom, pynetdicom and nibabel ship for their own tests, and awkward real DICOM, read alone.

Each ends in a study or in a coded refusal, within seconds and within memory.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fuzz_inputs
import pytest

pytestmark = pytest.mark.slow

#: Where packages keep such files, below the package's own folder.
SHIPPED = {
    "pydicom": ("data/test_files", "data/charset_files", "data/palettes"),
    "pynetdicom": ("tests/dicom_files",),
    "nibabel": ("tests/data", "nicom/tests/data", "gifti/tests/data"),
}


def shipped_files(package: str) -> list[Path]:
    """The files of an installed package, found without importing it; some distributions leave them out."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    root = Path(found.submodule_search_locations[0])
    files = [path for folder in SHIPPED[package] for path in _files(root / folder)]
    if not files:
        pytest.skip(f"the installed {package} ships no test files")
    return files


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path


def read_alone(files: list[Path]) -> Counter[str]:
    """Outcomes of reading each file by itself, strictly and leniently; fails on one that is no refusal."""

    def one(turn: tuple[str, int]) -> tuple[str, str]:
        path = files[turn[1] // 2]
        return fuzz_inputs.read_path(path, lenient=turn[1] % 2 == 1)

    turns = [("file", number) for number in range(2 * len(files))]
    outcomes: Counter[str] = Counter()
    failures = []
    while turns:
        findings = list(fuzz_inputs.in_process(turns, one))
        turns = turns[len(findings) :]
        outcomes.update(finding.outcome for finding in findings)
        failures += [
            (files[finding.number // 2].name, finding.outcome, finding.detail)
            for finding in findings
            if finding.outcome in fuzz_inputs.FAILURES
        ]
    assert failures == []
    return outcomes


@pytest.mark.parametrize("package", SHIPPED)
def test_files_that_packages_test_themselves_with(package):
    outcomes = read_alone(shipped_files(package))
    assert outcomes["UNREADABLE"] + outcomes["NOT_CT"] > 0
    assert outcomes["usage"] == 0


def test_awkward_real_dicom(shared_data):
    outcomes = read_alone(list(_files(shared_data / "dicom_ingest")))
    assert outcomes["read"] > 10
    assert outcomes["usage"] == 0
