"""Fixtures and settings of all tests. Nothing here imports Spark: tests/unit runs without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from lakehouse.storage.paths import Lake

# The duration of an example depends on the machine and its load.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))
