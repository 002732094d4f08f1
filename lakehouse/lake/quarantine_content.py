"""Reads the content of a quarantine in the driver: how many rows wait, for which reasons, and the newest of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.lake.duckdb_views import open_database
from lakehouse.lake.quarantine import COLUMNS

_VIEW = "quarantine.rejected"


@dataclass(frozen=True)
class QuarantineContent:
    """The quarantine of a table or model.

    Attributes:
        unresolved: How many rows wait to be corrected.
        resolved: How many were there before.
        reasons: How many rows wait, by `rule`, `column` and `reason`; the most frequent first.
        rows: The newest rows that wait.
    """

    unresolved: int = 0
    resolved: int = 0
    reasons: tuple[dict[str, Any], ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


def read_content(spark: SparkSession, address: str, stage: str, last: int, limit: int) -> QuarantineContent:
    """Return the content of one stage of a quarantine table.

    Args:
        spark: The session for a table that only Spark can read.
        address: The address of the table.
        stage: `ingest`, `silver` or `gold`.
        last: The last sequence that the ledger accepted; for a model, the newest version that a refresh made.
        limit: The most rows to return.
    """
    # A row of a model is resolved once the version that has it again exists (quarantine.read_of_model).
    is_resolved = "resolved" if stage == "ingest" else "coalesce(resolved AND last_sequence < $last, false)"
    known = (
        f"SELECT * REPLACE ({is_resolved} AS resolved) FROM {_VIEW} WHERE stage = $stage AND first_sequence <= $last"
    )
    parameters = {"stage": stage, "last": last}
    columns = ", ".join(f'"{name}"' for name in COLUMNS if name != "row_hash")
    with open_database() as database:
        database.add_table(_VIEW, spark, address)

        def select(expression: str) -> list[dict[str, Any]]:
            return database.fetch(f"WITH known AS ({known}) {expression}", parameters)

        (counts,) = select("SELECT count_if(NOT resolved) AS unresolved, count_if(resolved) AS resolved FROM known")
        reasons = select(
            'SELECT rule, "column", reason, count(*) AS "rows" FROM known WHERE NOT resolved'
            ' GROUP BY ALL ORDER BY "rows" DESC, rule, "column", reason'
        )
        rows = select(
            f"SELECT {columns} FROM known WHERE NOT resolved"
            f" ORDER BY first_sequence DESC, line NULLS FIRST, row_hash LIMIT {int(limit)}"
        )
    return QuarantineContent(int(counts["unresolved"] or 0), int(counts["resolved"] or 0), tuple(reasons), tuple(rows))
