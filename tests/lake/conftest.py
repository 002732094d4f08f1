"""Provides the shared Spark session, in which the commands of the tests run."""

from __future__ import annotations

from shared_session import spark

__all__ = ["spark"]
