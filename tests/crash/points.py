"""Names the failpoints that commands reach: the list that `make crash` writes, and those that need a server."""

from __future__ import annotations

from pathlib import Path

REACHED = Path(__file__).with_name("reached.txt")
"""The points that the commands of the crash matrix have reached, a line each."""

SERVER_POINTS = {
    "after_lease": "S3",
    "before_lease_release": "S3",
    "after_publish_staged": "PostgreSQL",
    "after_publish_applied": "PostgreSQL",
    "before_publish_commit": "PostgreSQL",
    "after_publish_commit": "PostgreSQL",
}
"""Points that only commands with a server reach: tests/live breaks commands off there."""
