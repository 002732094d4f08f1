"""Defines the error by which the driver leaves a snapshot to Spark."""

from __future__ import annotations


class NeedsSparkError(Exception):
    """Only Spark reads or compares the rows as the rules say. It never leaves this package."""
