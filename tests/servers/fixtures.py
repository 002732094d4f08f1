"""Fixtures of a PostgreSQL server, for the conftest.py of folders whose tests use one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from servers.postgres import Server, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Start one PostgreSQL for all tests of a process; its superuser is `tests`."""
    with postgres() as server:
        yield server


@pytest.fixture
def database(postgres_server: Server) -> Iterator[Server]:
    """Create an empty database for one test."""
    database = postgres_server.new_database(f"test_{uuid.uuid4().hex[:12]}")
    yield database
    database.drop()
