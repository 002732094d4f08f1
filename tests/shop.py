"""Defines three snapshots of a small shop and its models, runs them, and reads its lake: for tests of killed runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import Project, nonzero_counts

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
SNAPSHOTS = {
    FIRST: "id,qty,note\na,1,x\nb,2,x\nc,3,y\nd,4,y\ne,5,z\n",
    SECOND: "id,qty,note\na,10,x\nb,2x,x\nc,3,y\nd,4,z\nf,6,\n",  # U, one quarantined row, U, D, I
    THIRD: "id,qty,note\na,1,x\nb,20,x\nc,3,y\nd,4,z\ne,5,z\n",  # back to the first values: U, resolved, D, I
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
    "silver.many": ("SELECT i.id AS id, i.qty AS qty FROM silver.items AS i WHERE i.qty > 2", {"keys": ["id"]}),
    "gold.notes": ("SELECT i.note AS note, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note", {}),
}
STREAM = {"stream_from_bytes": 0}
INTERRUPTIONS = (  # points of crash_points.py at which a run is interrupted in its process, and killed
    "change-set-written",
    "ledger-appended",
    "between-two-models",
    "gold-before-its-merge",
    "gold-merged",
    "before-the-clean-mark",
)
TABLES = ("bronze/items", "silver/items", "silver/many", "gold/notes")
GOLD_AFTER_THIRD = [
    {"note": "x", "qty": 21},
    {"note": "y", "qty": 3},
    {"note": "z", "qty": 9},
]  # after the third snapshot


def lake_content(project: Project) -> dict[str, Any]:
    """Return the contents of a lake, without the times and run ids of its records."""
    accepted = [
        (row["sequence"], row["snapshot_time"], row["kind"], row["path"], nonzero_counts(row))
        for row in project.ledger()
        if row["status"] == "accepted"
    ]
    return {table: project.rows_with_cdc(table) for table in (*TABLES, "quarantine/items")} | {"accepted": accepted}


def waiting_shop(folder: Path) -> Project:
    """Create a project with one snapshot in every layer, and two more in the source.

    A stream starts bronze, which only large tables have otherwise: more can go wrong with one than without.
    """
    project = Project(folder, models=MODELS, tuning=STREAM)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    assert project.run().code == 0
    project.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    project.snapshot(THIRD, items=SNAPSHOTS[THIRD])
    return project


def shop_to_interrupt(waiting: Project, folder: Path, point: str) -> Project:
    """Copy the project for an interruption at a point of `INTERRUPTIONS`."""
    project = waiting.copy(folder)
    if point.startswith("gold"):
        project.tuning = {**STREAM, "full_refresh_below_bytes": 0}  # the interrupted run refreshes incrementally
        project.configure()
    return project


def uninterrupted_shop(waiting: Project, folder: Path) -> Project:
    """Copy the project, and run it without an interruption."""
    project = waiting.copy(folder)
    assert project.run().code == 0
    assert project.rows("gold/notes") == GOLD_AFTER_THIRD
    return project


def assert_completed(interrupted: Project, uninterrupted: Project) -> None:
    """Assert that the next run gives the result of an uninterrupted one, in as many commits; then nothing is left."""
    done = interrupted.run()
    assert done.code == 0, done.document
    assert lake_content(interrupted) == lake_content(uninterrupted)
    assert interrupted.write_counts() == uninterrupted.write_counts()
    assert sorted(p.name for p in (interrupted.lake / "landing/items").iterdir()) == [FIRST, SECOND, THIRD]
    assert interrupted.run().document["nothing_new"]
