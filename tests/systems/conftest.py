"""Provides the shared Spark session, in which the commands of the tests run, and a PostgreSQL server."""

from __future__ import annotations

from servers.fixtures import database, postgres_server
from shared_session import spark

__all__ = ["database", "postgres_server", "spark"]
