"""What a comparison comes to, in plain values: percentages, changed columns, reasons of quarantine, and a few rows.

Rows leave Spark as JSON text, which is exact for every type and every date; only numbers have to be told apart again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.ingest import compare, diff
from lakehouse.ingest.context import Comparison, IngestContext
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, INSERT, UPDATE
from lakehouse.schema import table_schema

_OPERATION = "_cdc_operation"
_JSON_OPTIONS = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "timeZone": "UTC",
}
_TRAILING_ZEROS = re.compile(r"\.?0+(?=Z?$)")


def describe_changes(work: IngestContext, found: Comparison, counts: dict[str, int], samples: int) -> dict[str, Any]:
    """What the snapshot would do to the rows before it, and to which of them, for example."""
    before = found.full_state.count()
    with persist_rows(compare.change_set(work, found, 1)) as changed:
        return {
            "counts": counts,
            "rows_before": before,
            "percent": {k: percent(n, before) for k, n in counts.items() if k != "rows_read"},
            "columns": _changed_columns(changed) if found.counts.updated else {},
            "quarantine": _quarantine_reasons(work, found) if found.counts.quarantined else [],
            "samples": _sample_rows(work, found, changed, samples),
        }


@contextmanager
def persist_rows(rows: DataFrame) -> Iterator[DataFrame]:
    """Rows that are asked for several times, computed once."""
    rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield rows
    finally:
        rows.unpersist()


def percent(part: int, whole: int) -> float | None:
    """To six digits, so that a part which is not nothing is never 0.

    >>> percent(1, 3), percent(1, 5_000_000), percent(2, 0)
    (33.3333, 2e-05, None)
    """
    return float(f"{100 * part / whole:.6g}") if whole else None


def _changed_columns(changed: DataFrame) -> dict[str, int]:
    """How many updated rows differ in each column, most first."""
    names = changed.where(F.col(_OPERATION) == UPDATE).select(F.explode(CHANGED_COLUMNS).alias("name"))
    found = names.groupBy("name").agg(F.count("*").alias("rows")).collect()
    return {row["name"]: row["rows"] for row in sorted(found, key=lambda row: (-row["rows"], row["name"]))}


def _quarantine_reasons(work: IngestContext, found: Comparison) -> list[dict[str, Any]]:
    told = ["rule", "column", "reason"]
    refused = diff.quarantine_rows(found.received_rows, found.verdicts, work.table)
    rows = refused.groupBy(*told).agg(F.count("*").alias("rows"))
    return [row.asDict() for row in rows.orderBy(F.desc("rows"), *told).collect()]


def _sample_rows(
    work: IngestContext, found: Comparison, changed: DataFrame, most: int
) -> dict[str, list[dict[str, Any]]]:
    """The first rows of each kind by key, so that the same comparison shows the same rows."""
    names, counts = table_schema.stored_schema(work.table).names, found.counts

    def first(operation: str, count: int) -> DataFrame | None:
        rows = changed.where(F.col(_OPERATION) == operation)
        return rows.orderBy(*work.table.keys).limit(most) if count and most else None

    inserted, updated = first(INSERT, counts.inserted), first(UPDATE, counts.updated)
    deleted = first(DELETE, counts.deleted)
    return {
        "inserted": json_rows(inserted.select(*names)) if inserted else [],
        "updated": _update_samples(updated, found.state, work.table.keys, names) if updated else [],
        "deleted": json_rows(deleted.select(*names)) if deleted else [],
    }


def _update_samples(rows: DataFrame, state: DataFrame, keys: list[str], names: list[str]) -> list[dict[str, Any]]:
    """Each row's key, and the columns that differ: as they were and as they would be."""
    before = state.select(*keys, F.struct(*names).alias("_cdc_before"))
    after = rows.select(*keys, F.struct(*keys).alias("_cdc_key"), F.struct(*names).alias("_cdc_after"), CHANGED_COLUMNS)
    both = F.broadcast(after).join(before, on=list(keys), how="inner").orderBy(*keys)
    return [
        {
            "key": row["_cdc_key"],
            "changed": {
                c: {"before": row["_cdc_before"][c], "after": row["_cdc_after"][c]} for c in row[CHANGED_COLUMNS]
            },
        }
        for row in json_rows(both.select("_cdc_key", "_cdc_before", "_cdc_after", CHANGED_COLUMNS))
    ]


def json_rows(rows: DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON takes them: decimals as text, times in ISO 8601 (UTC with Z), binary in base64, NaN as text."""
    texts = rows.select(F.to_json(F.struct("*"), _JSON_OPTIONS)).collect()
    return [json_value(json.loads(row[0], parse_float=str, parse_int=str), rows.schema) for row in texts]


def json_value(value: Any, kind: T.DataType) -> Any:
    """A value that Spark wrote as JSON, by its type; its numbers are still text.

    >>> json_value("0E-8", T.DecimalType(10, 8)), json_value(["1"], T.ArrayType(T.IntegerType())), json_value("NaN", T.DoubleType())
    ('0.00000000', [1], 'NaN')
    """
    match kind:
        case _ if value is None:
            return None
        case T.StructType():
            return {f.name: json_value(value[f.name], f.dataType) for f in kind}
        case T.ArrayType():
            return [json_value(element, kind.elementType) for element in value]
        case T.DecimalType():
            return f"{Decimal(value):f}"
        case T.IntegralType():
            return int(value)
        case T.FractionalType():
            return value if value in ("NaN", "Infinity", "-Infinity") else float(value)
        case T.TimestampType() | T.TimestampNTZType():
            return _TRAILING_ZEROS.sub("", value)
    return value
