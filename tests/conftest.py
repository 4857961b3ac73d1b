"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real CT data, which is never part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real CT data in ../shared/data, which is absent here")
    return SHARED_DATA
