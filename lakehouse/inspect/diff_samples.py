"""Describes the result of a comparison: percentages, changed columns, reasons of quarantine, and a few rows."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.ingest import Comparison, IngestContext
from lakehouse.ingest.held import commonest_reasons
from lakehouse.inspect.json_rows import json_rows
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, GOES_MISSING, INSERT, IS_BACK, UPDATE
from lakehouse.spark.persist import persist_rows

_OPERATION = "_cdc_operation"
_MAX_REASONS = 100


def describe_changes(
    context: IngestContext, comparison: Comparison, counts: dict[str, int], samples: int
) -> dict[str, Any]:
    """Return the changes of a snapshot: counts, those by column and reason with the largest first, and examples.

    Args:
        context: The table's ingest.
        comparison: The snapshot, compared with the rows before it.
        counts: The counts of the ledger entry.
        samples: The number of rows to show of each kind of change.
    """
    live_rows = comparison.counts.live_rows  # of the slices of the snapshot
    rows_before = comparison.count_before() if live_rows is None else live_rows
    changed_columns: dict[str, int] = {}
    quarantine_reasons: list[dict[str, Any]] = []
    with persist_rows(comparison.change_set(1)) as changes:
        if comparison.counts.updated:
            names = changes.where(F.col(_OPERATION) == UPDATE).select(F.explode(CHANGED_COLUMNS).alias("name"))
            by_name = names.groupBy("name").agg(F.count("*").alias("rows")).collect()
            by_name.sort(key=lambda row: (-row["rows"], row["name"]))
            changed_columns = {row["name"]: row["rows"] for row in by_name}
        if comparison.counts.quarantined:
            quarantine_reasons = [
                {
                    "rule": each.rule,
                    "column": each.column,
                    "reason": each.reason,
                    "rows": each.rows,
                    "value": each.value,
                    "line": each.line,
                    "advice": each.advice(context.config) or None,
                }
                for each in commonest_reasons(comparison, _MAX_REASONS)
            ]
        return {
            "counts": counts,
            "rows_before": rows_before,
            "percent": {name: percent(n, rows_before) for name, n in counts.items() if name != "rows_read"},
            "columns": changed_columns,
            "missing": _missing_keys(comparison),
            "quarantine": quarantine_reasons,
            "samples": _sample_rows(context, comparison, changes, samples),
        }


def _missing_keys(comparison: Comparison) -> dict[str, int] | None:
    """Return what the snapshot does to keys that it lacks, or that were missing; None if they are just deleted."""
    counts = comparison.counts
    if counts.missing is None:
        return None
    return {
        "goes_missing": counts.went_missing,
        "is_back": counts.marks - counts.went_missing,
        "would_expire": counts.expired,
        "missing": counts.missing,
    }


def percent(part: int, total: int) -> float | None:
    """Return a percentage with six significant digits, so that it is 0 only for a part of 0.

    >>> percent(1, 3), percent(1, 5_000_000), percent(2, 0)
    (33.3333, 2e-05, None)
    """
    return float(f"{100 * part / total:.6g}") if total else None


def _sample_rows(
    context: IngestContext, comparison: Comparison, changes: DataFrame, limit: int
) -> dict[str, list[dict[str, Any]]]:
    """Return the first rows of each kind of change by key, so that the same comparison shows the same rows."""
    keys, names = context.config.keys, context.config.shown_columns
    identity = context.config.identifying_columns

    def first_rows(operation: str) -> DataFrame:
        return changes.where(F.col(_OPERATION) == operation).orderBy(*keys).limit(limit)

    counts = comparison.counts
    samples: dict[str, list[dict[str, Any]]] = {"inserted": [], "updated": [], "deleted": []}
    if counts.inserted and limit:
        samples["inserted"] = json_rows(first_rows(INSERT).select(*names))
    if counts.updated and limit:
        # The key of each row, and the columns that differ with their values before and after.
        shown = [F.struct(*identity).alias("_cdc_key"), F.struct(*names).alias("_cdc_after"), CHANGED_COLUMNS]
        after = first_rows(UPDATE).select(*keys, *shown)
        before = comparison.rows_before(after.select(*keys)).select(*keys, F.struct(*names).alias("_cdc_before"))
        joined = F.broadcast(after).join(before, on=list(keys), how="inner").orderBy(*keys)
        samples["updated"] = [
            {
                "key": row["_cdc_key"],
                "changed": {
                    name: {"before": row["_cdc_before"][name], "after": row["_cdc_after"][name]}
                    for name in row[CHANGED_COLUMNS]
                },
            }
            for row in json_rows(joined.select("_cdc_key", "_cdc_before", "_cdc_after", CHANGED_COLUMNS))
        ]
    if counts.deleted and limit:
        samples["deleted"] = json_rows(first_rows(DELETE).select(*names))
    if counts.marks and limit:
        samples["goes_missing"] = json_rows(first_rows(GOES_MISSING).select(*names))
        samples["is_back"] = json_rows(first_rows(IS_BACK).select(*names))
    return samples
