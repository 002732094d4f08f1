"""Defines three snapshots of a small shop and its models, and reads its lake: for tests of killed runs."""

from __future__ import annotations

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
