"""Compares a table or model at one time with the same at a later time, in the driver.

Entry points: `diff_table` and `diff_model`. Their steps:

1. Add the rows of both times that may differ to a database. Of a table, these are the rows of the keys in the change
   sets between the two times; Spark computes those of a model, of a change feed, and of change sets with other types.
2. Pair them by key.
3. Count the pairs by kind and changed column, and describe a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from lakehouse.bronze import read
from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import ConfigError
from lakehouse.inspect.at_time import RelationsAt
from lakehouse.inspect.diff_samples import percent
from lakehouse.inspect.plain_value import plain_value
from lakehouse.lake.cdc import DELETE
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.duckdb_views import Database, NeedsSparkError, open_database
from lakehouse.lake.hashes import hash_columns
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.runner.context import Run
from lakehouse.spark.session import isolated_session
from lakehouse.storage.paths import parse_time, snapshot_name

Document = dict[str, Any]

COMPARED = "compared"
"""The verdict: nothing is decided about the rows of two times."""

_OLDER, _NEWER = "changes.older", "changes.newer"
_BEFORE, _AFTER, _PAIRS = "before.rows", "after.rows", "before.pairs"
_HASHES = ["_cdc_hash_1", "_cdc_hash_2"]


@dataclass(frozen=True)
class Interval:
    """Two times, the older one first."""

    start: datetime
    end: datetime

    @classmethod
    def from_texts(cls, start: str, end: str, option: str = "") -> Interval:
        """Return the interval of two texts.

        Args:
            start: YYYYMMDD_HHMMSS or an ISO time.
            end: The same, and later.
            option: The option with both of them, for messages; without it they are --from and --to.

        Raises:
            ConfigError: One is no time, or they are in the wrong order.
        """
        found = cls(parse_time(start), parse_time(end))
        if found.start >= found.end and option:
            raise ConfigError(f"{option} {start} {end} has the later time first", expected=f"{option} EARLIER LATER")
        if found.start >= found.end:
            raise ConfigError(f"--from {start} is not before --to {end}", expected="--from before --to")
        return found


@dataclass(frozen=True)
class _Columns:
    """The columns of a table or model: all that are shown, those that identify a row, and those that are compared."""

    names: Sequence[str]
    keys: Sequence[str]
    compared: Sequence[str]


def diff_table(table: TableRef, history: LedgerHistory, interval: Interval, samples: int) -> Document:
    """Return the difference of a table's rows at two times.

    It is the net of the change sets between them: a key that was changed and changed back has no part in it.

    Args:
        table: The table.
        history: The ledger's rows of the table.
        interval: The two times.
        samples: The number of rows to show of each kind of change.

    Raises:
        DataRefused: The change sets of one of the times were dropped.
    """
    config, names = table.config, table.schema.names
    columns = _Columns(config.shown_columns, config.identifying_columns, config.compared_columns)
    try:
        if table.config.feed:
            raise NeedsSparkError
        with open_database() as database:
            count = _add_net_changes(database, table, history, interval)
            return _document(database, table.name, columns, interval, count, samples)
    except NeedsSparkError:
        table = table.with_spark(isolated_session(table.spark, 0))
        before, after = (
            read.rows_as_of(table, history, time).select(*map(quote_identifier, names))
            for time in (interval.start, interval.end)
        )
        return _diff_frames(table.name, columns, before, after, interval, samples)


def diff_model(
    run: Run, model: str, histories: Mapping[str, LedgerHistory], interval: Interval, samples: int
) -> Document:
    """Return the difference of a model's rows at two times: of its SQL, as it is written today, over its inputs.

    Args:
        run: The command.
        model: The model's layer and name.
        histories: The ledger's rows of each table.
        interval: The two times.
        samples: The number of rows to show of each kind of change.

    Raises:
        DataRefused: The change sets of one of the times were dropped.
    """
    spark = isolated_session(run.spark, run.data_bytes(*run.pipeline.tables))
    before, after = (RelationsAt(run, spark, histories, time).rows(model) for time in (interval.start, interval.end))
    by_name = {name.lower(): name for name in after.columns}
    keys = [by_name[key.lower()] for key in run.plans[model].keys]
    columns = _Columns(after.columns, keys, [name for name in after.columns if name not in keys])
    return _diff_frames(model, columns, before, after, interval, samples)


# --- the rows of both times that may differ ---------------------------------------------------------------------------


def _add_net_changes(database: Database, table: TableRef, history: LedgerHistory, interval: Interval) -> int:
    """Add the rows before and after of each key in the change sets between two times; return the number of rows before.

    Raises:
        NeedsSparkError: Only Spark can read the change sets.
    """
    older = read.entries_until(table, history, interval.start)
    until_end = read.entries_until(table, history, interval.end)
    database.add_changes(_OLDER, table, older)
    database.add_changes(_NEWER, table, [entry for entry in until_end if entry.snapshot_time > interval.start])
    keys = ", ".join(map(quote, table.config.keys))
    names = ", ".join(map(quote, table.schema.names))
    ranked = f"row_number() OVER (PARTITION BY {keys} ORDER BY _cdc_sequence DESC) AS _cdc_rank"
    is_live = f"_cdc_rank = 1 AND _cdc_operation <> '{DELETE}'"
    changed = f"SELECT DISTINCT {keys} FROM {_NEWER}"
    of_changed = f"SELECT * FROM {_OLDER} SEMI JOIN ({changed}) AS _cdc_keys USING ({keys})"
    for view, rows in ((_BEFORE, of_changed), (_AFTER, f"SELECT * FROM {_NEWER}")):
        database.add_view(view, f"SELECT {names} FROM (SELECT *, {ranked} FROM ({rows})) WHERE {is_live}")
    last = f"SELECT arg_max(_cdc_operation, _cdc_sequence) AS operation FROM {_OLDER} GROUP BY {keys}"
    (found,) = database.fetch(f"SELECT count(*) AS n FROM ({last}) WHERE operation <> '{DELETE}'")
    return int(found["n"])


def _diff_frames(
    name: str, columns: _Columns, before: DataFrame, after: DataFrame, interval: Interval, samples: int
) -> Document:
    """Return the difference of two frames; only the rows that differ are collected."""
    count, differing = before.count(), (before, after)
    if not any(_has_map(field.dataType) for field in after.schema):  # a map has no hash
        sides = [rows.select("*", *hash_columns(rows.columns, rows.schema, _HASHES)) for rows in (before, after)]
        first, second = (
            side.join(other.select(*_HASHES), on=_HASHES, how="left_anti") for side, other in (sides, reversed(sides))
        )
        differing = first.drop(*_HASHES), second.drop(*_HASHES)
    with open_database() as database:
        for view, rows in zip((_BEFORE, _AFTER), differing, strict=True):
            database.add_frame(view, rows)
        return _document(database, name, columns, interval, count, samples)


def _has_map(data_type: T.DataType) -> bool:
    return "map<" in data_type.simpleString()


# --- pairs ------------------------------------------------------------------------------------------------------------


def _document(
    database: Database, name: str, columns: _Columns, interval: Interval, rows_before: int, limit: int
) -> Document:
    """Return the document of a table or model, of the rows in the views."""
    _pair_rows(database, columns)
    (found,) = database.fetch(
        "SELECT count(*) FILTER (kind = 'inserted') AS inserted, count(*) FILTER (kind = 'updated') AS updated,"
        f" count(*) FILTER (kind = 'deleted') AS deleted FROM {_PAIRS}"
    )
    # By the names that all documents of `diff` have: the rows at the later time are those that are read.
    counts = {"rows_read": rows_before + found["inserted"] - found["deleted"], **found}
    counts |= {"unchanged": rows_before - found["updated"] - found["deleted"], "quarantined": 0, "duplicates": 0}
    return {
        "table": name,
        "from": snapshot_name(interval.start),
        "to": snapshot_name(interval.end),
        "verdict": COMPARED,
        "reason": None,
        "counts": counts,
        "rows_before": rows_before,
        "percent": {kind: percent(number, rows_before) for kind, number in counts.items() if kind != "rows_read"},
        "columns": _changed_columns(database, columns) if found["updated"] else {},
        "quarantine": [],
        "samples": _samples(database, columns, limit),
        "last_change": None,
        "note": None,
    }


def _pair_rows(database: Database, columns: _Columns) -> None:
    """Make a table of the rows that differ: `kind`, and each column as it was (`b0`, ...) and is (`a0`, ...)."""
    at = {name: n for n, name in enumerate(columns.names)}
    sides = ", ".join(f"b.{quote(name)} AS b{n}, a.{quote(name)} AS a{n}" for name, n in at.items())
    same_key = " AND ".join(f"b.{quote(key)} IS NOT DISTINCT FROM a.{quote(key)}" for key in columns.keys)
    differs = " OR ".join(f"b{at[name]} IS DISTINCT FROM a{at[name]}" for name in columns.compared) or "false"
    joined = (
        f"SELECT {sides}, b._cdc_is_here AS has_b, a._cdc_is_here AS has_a"
        f" FROM (SELECT *, true AS _cdc_is_here FROM {_BEFORE}) AS b"
        f" FULL JOIN (SELECT *, true AS _cdc_is_here FROM {_AFTER}) AS a ON {same_key}"
    )
    kind = "CASE WHEN has_b IS NULL THEN 'inserted' WHEN has_a IS NULL THEN 'deleted' ELSE 'updated' END AS kind"
    # A table, since each of the queries below would join again.
    database.connection.execute(
        f"CREATE TABLE {_PAIRS} AS SELECT {kind}, * FROM ({joined}) WHERE has_b IS NULL OR has_a IS NULL OR {differs}"
    )


def _changed_columns(database: Database, columns: _Columns) -> dict[str, int]:
    """Return the number of updates of each column, the most frequent first."""
    content = [n for n, name in enumerate(columns.names) if name not in columns.keys]
    counts = ", ".join(f"count(*) FILTER (b{n} IS DISTINCT FROM a{n}) AS n{n}" for n in content)
    (found,) = database.fetch(f"SELECT {counts} FROM {_PAIRS} WHERE kind = 'updated'")
    numbers = {columns.names[n]: int(found[f"n{n}"]) for n in content if found[f"n{n}"]}
    return dict(sorted(numbers.items(), key=lambda each: (-each[1], each[0])))


def _samples(database: Database, columns: _Columns, limit: int) -> dict[str, list[Document]]:
    """Return the first rows of each kind by key; of an update, the changed columns before and after."""
    at = {name: n for n, name in enumerate(columns.names)}
    content = [name for name in columns.names if name not in columns.keys]
    changed = ", ".join(f"b{at[name]} IS DISTINCT FROM a{at[name]} AS d{at[name]}" for name in content)

    def first_rows(kind: str, side: str) -> list[Document]:
        order = ", ".join(f"{side}{at[key]}" for key in columns.keys)
        flags = f", {changed}" if changed and kind == "updated" else ""
        query = f"SELECT *{flags} FROM {_PAIRS} WHERE kind = '{kind}' ORDER BY {order} LIMIT {int(limit)}"
        return [plain_value(row) for row in database.fetch(query)] if limit else []

    return {
        "inserted": [{name: row[f"a{n}"] for name, n in at.items()} for row in first_rows("inserted", "a")],
        "updated": [
            {
                "key": {key: row[f"a{at[key]}"] for key in columns.keys},
                "changed": {
                    name: {"before": row[f"b{at[name]}"], "after": row[f"a{at[name]}"]}
                    for name in content
                    if row[f"d{at[name]}"]
                },
            }
            for row in first_rows("updated", "a")
        ],
        "deleted": [{name: row[f"b{n}"] for name, n in at.items()} for row in first_rows("deleted", "b")],
    }
