"""Provides the shared Spark session, and marks the tests that need none, which `make test-fast` runs too."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_session import spark

__all__ = ["spark"]


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "spark" not in getattr(item, "fixturenames", ()):
            item.add_marker("no_jvm")
