"""Finds since which snapshot rows of bronze stand, where they landed, and what that snapshot changed in them.

1. read the changes of their keys from the change sets: the last one that gave a row its values, and the one before
2. find the landed snapshot of that change
3. read its files for these rows, with the readers of `ingest`: in the driver, or with Spark
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.row_keys import ROW_COUNT
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.ingest.local.locate import Place, line_numbers, locate_rows, wanted_rows
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, END_AT, INSERT, START_AT, UPDATE
from lakehouse.lake.duckdb_sql import quote, view_name
from lakehouse.lake.duckdb_views import Database, NeedsSparkError
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.models.sql.trace import NUMBER
from lakehouse.runner.context import Run
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import SPARK_ERRORS, isolated_session
from lakehouse.storage import landing
from lakehouse.storage.archives import text_bytes
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.storage.prepare_files import readable_snapshot

Row = Mapping[str, Any]


@dataclass
class Standing:
    """Since when a row of bronze stands, and by what.

    Attributes:
        time: The time of the snapshot that gave it its values.
        values: Its values in the change set, or in bronze if there is none any more.
        changed: The values before and after of the columns that the snapshot changed; None if it inserted the row, or
            if the values before are not known.
        file: The landed file; None if it cannot be told.
        line: The line in it; None if it cannot be told.
    """

    time: datetime
    values: Row
    changed: dict[str, tuple[Any, Any]] | None = None
    file: str | None = None
    line: int | None = None


def find_standing(
    run: Run,
    database: Database,
    table: TableRef,
    history: LedgerHistory,
    relation: str,
    rows: Sequence[Row],
    on_note: Callable[[str], None],
) -> list[Standing]:
    """Return since when each row of a bronze table stands.

    Args:
        run: The command.
        database: The database with the rows.
        table: The table, with the session to use if the driver cannot read something.
        history: The ledger's rows of the table.
        relation: A relation of the database with the rows, numbered by `_why_n`.
        rows: The same rows, in the order of these numbers.
        on_note: Receives each reason why something is not known.
    """
    changes: dict[int, list[Row]] = {}
    if not table.config.feed:  # its events are no changes of rows
        for change in _read_changes(run, database, table, history, relation, on_note):
            changes.setdefault(change[NUMBER], []).append(change)
    found = [_standing(row, changes.get(number, [])) for number, row in enumerate(rows)]
    for time in sorted({each.time for each in found}):
        locate(run, table, time, [each for each in found if each.time == time], on_note)
    return found


def _standing(row: Row, changes: Sequence[Row]) -> Standing:
    """Return since when a row stands, by the changes of its key in the order of their sequences."""
    until = row.get(END_AT)
    with_values = [
        at
        for at, change in enumerate(changes)
        if change["_cdc_operation"] in (INSERT, UPDATE)
        and (row.get(START_AT) is None or change["_cdc_timestamp"] >= row[START_AT])
        and (until is None or change["_cdc_timestamp"] < until)
    ]
    if not with_values:
        return Standing(row["_cdc_timestamp"], row)
    at = with_values[-1]
    last = changes[at]
    standing = Standing(last["_cdc_timestamp"], last)
    before = [change for change in changes[:at] if change["_cdc_operation"] in (INSERT, UPDATE, DELETE)]
    if last["_cdc_operation"] == UPDATE and last[CHANGED_COLUMNS] and before:
        standing.changed = {name: (before[-1].get(name), last.get(name)) for name in last[CHANGED_COLUMNS]}
    return standing


# --- change sets ------------------------------------------------------------------------------------------------------


def _read_changes(
    run: Run,
    database: Database,
    table: TableRef,
    history: LedgerHistory,
    relation: str,
    on_note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Return the changes of the keys of rows, in order, each with the number of its row."""
    keys, view = table.config.keys, f"_changes.{relation}"  # a table may be reached by several ways
    same = " AND ".join(f"c.{quote(key)} IS NOT DISTINCT FROM r.{quote(key)}" for key in keys)
    try:
        try:
            database.add_changes(view, table, history.entries_to_fold)
        except NeedsSparkError:
            key_rows = database.connection.sql(
                f"SELECT DISTINCT {', '.join(map(quote, keys))} FROM {relation}"
            ).to_arrow_table()
            fields = T.StructType([table.schema[key] for key in keys])
            with_spark = table.with_spark(isolated_session(run.spark))
            wanted = small_tables.to_frame(with_spark.spark, key_rows.cast(small_tables.arrow_schema(fields)), fields)
            changes = change_sets.read_change_sets(with_spark, history.entries_to_fold)
            database.add_frame(view, changes.join(F.broadcast(wanted), on=list(keys), how="left_semi"))
    except ConfigError as error:  # `pii` was changed since: values of then and now cannot be compared
        on_note(f"{table.name}: the values before a change are not known: {error.found}")
        return []
    columns = ", ".join(f"c.{quote(column)}" for column in database.columns(view))
    return database.fetch(
        f"SELECT r.{NUMBER}, {columns} FROM {view_name(view)} c JOIN {relation} r ON {same}"
        f" ORDER BY r.{NUMBER}, c._cdc_sequence"
    )


# --- landed files -----------------------------------------------------------------------------------------------------


def locate(
    run: Run, table: TableRef, time: datetime, standing: Sequence[Standing], on_note: Callable[[str], None]
) -> None:
    """Set the file and line of rows that stand since one snapshot.

    Args:
        run: The command.
        table: The table, with the session to use if the driver cannot read something.
        time: The snapshot's time.
        standing: The rows.
        on_note: Receives each reason why something is not known.
    """
    snapshot, name = landing.find_snapshot(run.lake, table.name, time), f"{table.name} of {snapshot_name(time)}"
    if snapshot is None or snapshot.expired:
        on_note(f"the landed files of {name} {'have expired' if snapshot else 'are not there'}")
        return
    try:
        with readable_snapshot(run.lake, table.config, snapshot) as readable:
            places = _places(run, table, readable, [each.values for each in standing])
    except (DataRefused, *SPARK_ERRORS):
        on_note(f"the landed files of {name} cannot be read as the table is declared now")
        return
    for number, place in places.items():
        standing[number].file, standing[number].line = str(snapshot.folder / place.file), place.line
    if len(places) < len(standing):
        on_note(f"the landed files of {name} do not have all rows that stand since then")


def _places(run: Run, table: TableRef, snapshot: LandedSnapshot, rows: Sequence[Row]) -> dict[int, Place]:
    optional = frozenset(column.name for column in table.config.columns)
    settings = ReadSettings(table.spark, table.config, run.pipeline.timezone, optional)
    found = locate_rows(settings, snapshot, rows)
    if found is not None:
        return found
    with_spark = replace(settings, spark=isolated_session(run.spark, text_bytes(snapshot.files)))
    return _locate_with_spark(with_spark, snapshot, rows)


def _locate_with_spark(settings: ReadSettings, snapshot: LandedSnapshot, rows: Sequence[Row]) -> dict[int, Place]:
    """Return where each row is, as `locate_rows` does, with the readers of Spark, which protect personal columns."""
    table = settings.table
    atomic = [field for field in stored_schema(table) if isinstance(field.dataType, T.AtomicType)]
    fields = [field for field in atomic if field.name != ROW_COUNT]  # a row of a file has no count
    schema = T.StructType([T.StructField("i", T.LongType()), *fields])
    values = wanted_rows(rows, fields).rename_columns(schema.names).cast(small_tables.arrow_schema(schema))
    wanted = F.broadcast(small_tables.to_frame(settings.spark, values, schema).alias("w"))

    def same(names: Iterable[str]) -> Column:
        conditions = [F.col(quote_identifier("r", n)).eqNullSafe(F.col(quote_identifier("w", n))) for n in names]
        return F.lit(True) if not conditions else _all(conditions)

    found: dict[int, Place] = {}
    for file, path in zip(snapshot.files, snapshot.paths, strict=True):
        parsed = snapshot_reader.read(settings, replace(snapshot, files=(file,))).rows
        text = snapshot_reader.UNMASKED if snapshot_reader.UNMASKED in parsed.columns else snapshot_reader.RECEIVED
        readable = parsed.where(F.col(snapshot_reader.KEY_STATE) == "read").alias("r")
        is_equal = same(field.name for field in fields)
        matches = readable.join(wanted, on=same(table.keys), how="inner")
        collected = matches.select("w.i", F.col(f"r.{text}"), is_equal).collect()
        numbers = line_numbers(table, file, path, {row[1] for row in collected})
        for number, received, equal in collected:
            place = Place(file.name, numbers.get(received), equal)
            if number not in found or (equal and not found[number].is_equal):
                found[number] = place
    return found


def _all(conditions: Sequence[Column]) -> Column:
    first, *rest = conditions
    for condition in rest:
        first = first & condition
    return first
