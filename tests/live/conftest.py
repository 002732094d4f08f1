"""What the tests against real servers share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def lake_root(tmp_path: Path) -> str:
    """Where a test puts its lake, as LAKE_ROOT; the one place to change for a lake on another store."""
    return str(tmp_path / "lake")
