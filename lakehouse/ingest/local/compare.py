"""Compares the rows of a snapshot with the current rows of a table, with DuckDB, by the rules of `ingest/diff.py`.

rows    the rows of the snapshot: their number, the values that the lake stores, whether a value is missing its
        text (`bad`), and whether the key was read
state   the current rows of the table
keys    the keys that several rows have, or a row that is not accepted, with their outcome; if there are any
found   the keys that differ: the number of the row, the operation, and the values of the state
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyspark.sql import types as T

from lakehouse.bronze import scd2
from lakehouse.bronze.read import STATE_FIELDS
from lakehouse.config import Table
from lakehouse.config.row_keys import ROW_COUNT, ROW_ID
from lakehouse.ingest.diff import CONFLICT, DUPLICATE_KEY, Counts
from lakehouse.ingest.local import csv_file
from lakehouse.ingest.local.chain import ChainedChanges, has_negative_zero
from lakehouse.ingest.local.change_sql import changed_columns_sql, changed_value_sql, differs_sql, key_operation_sql
from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.load import (
    NULL,
    READ,
    UNREADABLE,
    LoadedSnapshot,
    PreloadedRows,
    create_rows,
    execute_over,
    fault_sql,
    load_file,
    open_files,
)
from lakehouse.ingest.local.local_file import LocalFile
from lakehouse.ingest.local.sql_casts import create_functions, sql_type
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.ingest.readers.snapshot_reader import NULL_SLICE
from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.cdc import DELETE, GOES_MISSING, INSERT, IS_BACK, UPDATE
from lakehouse.lake.duckdb_sql import WIDE, any_sql, connect, enable_optimizer, literal, parquet, quote
from lakehouse.lake.grace import (
    PROTECTED,
    PROTECTED_BACK,
    STILL_MISSING,
    WITHOUT_ROW,
    Grace,
    epoch_micros,
    operation_sql,
    outcome_sql,
    since_sql,
)
from lakehouse.lake.row_id import row_id_sql
from lakehouse.lake.slice_columns import slice_text_sql
from lakehouse.lake.slices import MAX_SLICES, Slices
from lakehouse.lake.table_rows import TableRows
from lakehouse.schema.numbers import LEADING_ZERO, has_numbers
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage.landing import LandedSnapshot

_BATCH_ROWS = 1 << 18
_IS_LIVE = "_cdc_known AND NOT _cdc_marked"  # of a key in `found`, by the rules of `missing`
_FEW_ROWS = 1_000  # of a change set: DuckDB returns these in less time as values of Python
_KEPT = "kept"  # of a key with several equal rows: one of them is compared
_MAX_FAULTY_ROWS = 200_000  # of a snapshot: more are left to Spark, which does not collect them
_NO_KEYS = (T.FloatType, T.DoubleType)  # zero has two forms


def compare_in_driver(
    settings: ReadSettings,
    snapshot: LandedSnapshot,
    state: TableRows | pa.Table,
    connection: duckdb.DuckDBPyConnection,
    grace: Grace | None = None,
    preloaded: PreloadedRows | None = None,
    time_before: datetime | None = None,
) -> LocalRows | None:
    """Read a snapshot and compare it with the rows before it; return None if only Spark can.

    Args:
        settings: The settings of the readers, of a table that `can_compare` accepts.
        snapshot: The snapshot, with files that are prepared for reading.
        state: The current rows of the table; of a history, with the closed windows.
        connection: A database of `open_database`. The result needs it until the next comparison in it.
        grace: The treatment of keys that the snapshot lacks; None: they are deleted.
        preloaded: The rows of snapshots, perhaps of this one, that were read before.
        time_before: The time of the last snapshot that was accepted in the same pass; None if the state is not its.

    Raises:
        DataRefused: A file cannot be read, or a declared column is missing or occurs twice.
    """
    table, schema = settings.table, stored_schema(settings.table)
    types = [sql_type(field.dataType) for field in schema]
    try:
        loaded = preloaded.find(settings, snapshot) if preloaded else None
        files = loaded.files if loaded else open_files(settings, snapshot)
        where = str(snapshot.folder)
        rows = LocalRows(connection, table, schema, files, [str(t) for t in types], where, grace)
        chained = preloaded.changes_since(loaded, time_before) if preloaded and loaded and time_before else None
        is_same_state = isinstance(state, pa.Table) and not grace and not has_negative_zero(state)
        if chained and loaded and preloaded and is_same_state:
            rows.take_chained(loaded, chained, partial(preloaded.fill_tables, loaded, chained))
        else:
            rows.load(loaded)
            rows.compare(state)
        if rows.counts.quarantined:  # computed now, since Spark may have to do it
            _ = rows.quarantine_rows
        return rows
    except (NeedsSparkError, duckdb.Error, pa.ArrowException):
        return None


def can_compare(table: Table) -> bool:
    """Return whether the driver knows the types of a table's columns, and none of them is personal.

    Args:
        table: The table's configuration.
    """
    schema = stored_schema(table)
    has_types = all(sql_type(field.dataType) for field in schema)
    if table.counts_rows and row_id_sql(schema, schema.names) is None:
        return False
    return not table.pii and has_types and not any(isinstance(schema[key].dataType, _NO_KEYS) for key in table.keys)


def open_database(folder: Path, data_bytes: int, time_zone: str) -> duckdb.DuckDBPyConnection:
    """Return a new database for comparisons, one after the other: each replaces the tables of the one before.

    Args:
        folder: A folder for data that does not fit in memory.
        data_bytes: The size of the largest snapshot.
        time_zone: The zone of times that name none.
    """
    connection = connect(folder / "spilled", data_bytes)
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET max_expression_depth TO 100000")
    connection.execute("SET preserve_insertion_order = false")
    create_functions(connection, time_zone)
    return connection


@dataclass
class LocalRows:
    """The rows of a snapshot, compared in the driver.

    Attributes:
        database: The database with the tables of this module; `connection` fills them first.
        table: The table's configuration.
        schema: The columns that the lake stores.
        files: The files of the snapshot.
        types: The types of the columns, in DuckDB's words.
        where: The folder of the snapshot, for messages.
        grace: The treatment of keys that the snapshot lacks; None: they are deleted.
        slices: The slices that the snapshot contains; None if it is the whole table.
        counts: The counts of the verdicts; set by `compare`.
        state_count: The number of current rows of the table; set by `compare`.
    """

    database: duckdb.DuckDBPyConnection
    table: Table
    schema: T.StructType
    files: list[LocalFile]
    types: list[str]
    where: str
    grace: Grace | None = None
    counts: Counts = field(init=False)
    slices: Slices | None = None
    state_count: int = 0
    _starts: list[int] = field(default_factory=list)  # the number of the first row of each file
    _row_count: int = 0
    _may_have_faults: bool = True
    _special_count: int = 0
    _by_operation: Mapping[str, int] = field(default_factory=dict)
    _has_special_keys: bool = False  # whether there is the table `keys`
    _chained: ChainedChanges | None = None
    _fill_tables: Callable[[], None] | None = None  # the tables of the database are not those of this snapshot yet

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The database with the tables of this module."""
        if self._fill_tables:
            self._fill_tables()
            self._fill_tables = None
        return self.database

    # --- read ---------------------------------------------------------------------------------------------------

    def load(self, loaded: LoadedSnapshot | None) -> None:
        """Read the files into the table `rows`, or copy the rows that were read already."""
        if loaded:
            loaded.copy_rows(self.connection)
            self._starts, self._row_count, self._may_have_faults = loaded.starts, loaded.row_count, loaded.has_faults
        else:
            self._load_files()
        if self.table.counts_rows:
            self._count_equal_rows()

    def take_chained(self, loaded: LoadedSnapshot, chained: ChainedChanges, fill_tables: Callable[[], None]) -> None:
        """Have the changes that were found when several snapshots were compared, instead of `load` and `compare`.

        Args:
            loaded: The rows that were read already.
            chained: The changes.
            fill_tables: Fills the tables of the database, which few snapshots need.
        """
        self._starts, self._row_count, self._may_have_faults = loaded.starts, loaded.row_count, False
        self._chained, self._fill_tables = chained, fill_tables
        self._by_operation, self.state_count = chained.by_operation, chained.rows_before
        self.counts = self._count()

    def _load_files(self) -> None:
        create_rows(self.connection, "rows", self.types)
        self._optimize(False)
        for file in self.files:
            self._starts.append(self._row_count)
            self._row_count = load_file(self.connection, self.table, file, self._row_count)
        self._optimize(True)

    def _count_equal_rows(self) -> None:
        """Set the count of equal rows of a table without a key."""
        row, count = (f"v{self.schema.names.index(name)}" for name in (ROW_ID, ROW_COUNT))
        counts = f"SELECT {row}, count(*) AS total FROM rows WHERE key_state = {READ} GROUP BY {row}"
        self.connection.execute(f"UPDATE rows SET {count} = c.total FROM ({counts}) c WHERE rows.{row} = c.{row}")

    def _optimize(self, enabled: bool) -> None:
        """Turn DuckDB's optimizer on or off for a wide table."""
        if len(self.types) > WIDE:
            enable_optimizer(self.connection, enabled)

    # --- compare ------------------------------------------------------------------------------------------------

    def compare(self, state: TableRows | pa.Table) -> None:
        """Compare the rows with the state: fill the tables `keys` and `found`, and set `counts`.

        Args:
            state: The current rows of the table; of a history, with the closed windows.
        """
        # Most snapshots have each key once. The comparison shows it, and is done again if it shows anything else.
        self._has_special_keys = self._has_faulty_rows() or self._has_repeated_keys(self._match(state))
        if self._has_special_keys:
            self._find_special_keys()
            self._match(state)
        self._finish()

    def _has_faulty_rows(self) -> bool:
        """Return whether a row is bad, or a record could not be split; `keys` is needed then."""
        if any(file.broken for file in self.files):
            return True
        return bool(self._one("SELECT bool_or(bad) FROM rows")[0]) if self._may_have_faults else False

    def _finish(self) -> None:
        """Keep in `found` only the keys of the change set, and set `counts`."""
        live_rows = None
        same_key = " AND ".join(f"k.k{n} = found.b{n}" for n in self._keys)
        has_row = f"EXISTS (SELECT 1 FROM keys k WHERE {same_key})"
        if self.grace and self._has_special_keys:
            self.connection.execute(f"UPDATE found SET _cdc_quarantined = true WHERE n IS NULL AND {has_row}")
        if self.table.slice_by:
            live_rows = self._leave_other_slices()
        if self.grace:  # what is known of absent keys is complete now
            self.connection.execute(f"UPDATE found SET op = {outcome_sql(self.grace.keeps_marked)} WHERE n IS NULL")
            self.connection.execute(f"DELETE FROM found WHERE op = '{PROTECTED}'")
        elif self._has_special_keys:  # keys that have a row in the snapshot are not deleted
            self.connection.execute(f"DELETE FROM found WHERE op = '{DELETE}' AND {has_row}")
        self.counts = replace(self._count(), live_rows=live_rows)
        if self.grace:
            self.connection.execute(f"DELETE FROM found WHERE op IN ({', '.join(map(literal, WITHOUT_ROW))})")

    def _leave_other_slices(self) -> int:
        """Set `slices`, and remove from `found` the keys to delete whose row is in none of them (`ingest/slices.py`).

        Returns:
            The number of rows of the state in the slices of the snapshot.
        """
        columns = [self.schema.names.index(name) for name in self.table.slice_by or ()]
        types = [self.schema.fields[n].dataType for n in columns]

        def texts(values: Iterable[str]) -> list[str]:
            return [slice_text_sql(value, data_type) for value, data_type in zip(values, types, strict=True)]

        compared = self._compared_rows_sql()
        of_rows = ", ".join(f"{text} AS s{i}" for i, text in enumerate(texts(f"r.v{n}" for n in columns)))
        selects = [f"SELECT DISTINCT {of_rows} FROM ({compared}) r"]
        if all(name in file.in_name for file in self.files for name in self.table.slice_by or ()):
            slice_by = self.table.slice_by or ()
            of_names = [", ".join(texts(file.columns[name].value for name in slice_by)) for file in self.files]
            selects.append(f"VALUES {', '.join(f'({of_name})' for of_name in dict.fromkeys(of_names))}")
        are_known = " AND ".join(f"s{i} IS NOT NULL" for i in range(len(columns)))
        union = f"SELECT * FROM ({' UNION '.join(selects)}) WHERE {are_known}"
        self.connection.execute(f"CREATE OR REPLACE TABLE slices AS {union}")
        found = self.connection.execute(f"SELECT * FROM slices LIMIT {MAX_SLICES + 1}").fetchall()
        self.slices = Slices.of(self.table.slice_by or (), found, self.where)
        of_state = texts(f"found.b{n}" for n in columns)
        is_inside = " AND ".join(f"s.s{i} = {text}" for i, text in enumerate(of_state))
        inside = f"EXISTS (SELECT 1 FROM slices s WHERE {is_inside})"
        (compared_count,) = self._one(f"SELECT count(*) FROM ({compared})")
        if self.grace:
            self._set_bounds(self.grace, is_inside, inside)
            query = f"SELECT count(*) FILTER (n IS NOT NULL), count(*) FILTER ({_IS_LIVE} AND {inside}) FROM found"
            changed, known = self._one(query)
            return int(compared_count - changed + known)
        changed, known = self._one(
            f"SELECT count(*) FILTER (op <> '{DELETE}'), count(*) FILTER (op <> '{INSERT}' AND {inside}) FROM found"
        )
        self.connection.execute(f"DELETE FROM found WHERE op = '{DELETE}' AND NOT {inside}")
        return int(compared_count - changed + known)  # an unchanged row is in the slice of the snapshot's row

    def _set_bounds(self, grace: Grace, is_inside: str, inside: str) -> None:
        """Decide whether each absent key is in a slice of the snapshot, and whether its grace has ended there.

        Args:
            grace: The treatment of keys that the snapshot lacks.
            is_inside: Whether a row of `found` is in the slice `s`.
            inside: Whether it is in any slice of the snapshot.
        """
        assert self.slices is not None
        bounds = grace.bounds(self.slices.values)
        columns = {f"s{i}": [each[i] for each in bounds] for i in range(len(self.slices.columns))}
        micros = [None if bound is None else epoch_micros(bound) for bound in bounds.values()]
        types = [*((name, pa.string()) for name in columns), ("bound", pa.int64())]
        self.connection.register("bounds", pa.table([*columns.values(), micros], schema=pa.schema(types)))
        since = f"coalesce(_cdc_since, {_timestamp_sql(grace.time)})"
        is_due = f"EXISTS (SELECT 1 FROM bounds s WHERE {is_inside} AND {since} <= make_timestamp(s.bound))"
        self.connection.execute(f"UPDATE found SET _cdc_contained = {inside}, _cdc_due = {is_due} WHERE n IS NULL")
        self.connection.unregister("bounds")

    def _match(self, state: TableRows | pa.Table) -> int:
        """Fill the table `found` with the keys that differ; set and return the number of rows of the state."""
        end = [T.StructField(scd2.END, T.TimestampType())] if self.table.scd == 2 else []
        absence = STATE_FIELDS if self.grace else ()
        fields = T.StructType([*self.schema, *absence, *end])
        names = pa.schema(
            [pa.field(f"b{n}", _plain_type(f.type)) for n, f in enumerate(small_tables.arrow_schema(fields))]
        )
        plain: list[Path] = []
        batches: Iterable[pa.RecordBatch]
        if isinstance(state, pa.Table):  # rows of another snapshot, none of which is missing
            for each in small_tables.arrow_schema(T.StructType([*absence])):
                if each.name not in state.column_names:
                    state = state.append_column(each, pa.nulls(len(state), each.type))
            batches = state.to_batches()
        else:
            plain = state.plain_files
            batches = state.batches([file for file in state.files if file not in set(plain)], fields)
        count = 0

        def open_rows() -> Iterator[pa.RecordBatch]:
            nonlocal count
            for batch in _cast(batches, names):
                rows = batch.filter(batch.columns[-1].is_null()) if end else batch
                count += rows.num_rows
                yield rows

        parts = ["SELECT * FROM state"]
        if plain:
            parts.append(
                self._read_parquet_sql(plain, state.names, fields)
                + (f" WHERE b{len(fields) - 1} IS NULL" if end else "")
            )
            (count,) = self._one(f"SELECT count(*) FROM ({parts[-1]})")
        columns = ", ".join(f"b{n}" for n in range(len(self.types) + len(absence)))
        joined = (
            f"FROM ({self._compared_rows_sql()}) r"
            f" FULL JOIN (SELECT {columns}, true AS known FROM ({' UNION ALL '.join(parts)})) b"
            f" ON {self._same_key('r', 'b')}"
            f" WHERE r.n IS NULL OR b.known IS NULL OR {differs_sql(self._compared)}"
        )
        if self.grace:
            found = self._outcomes_sql(joined, self.grace)
        else:
            found = f"SELECT r.n, {key_operation_sql()} AS op, b.* EXCLUDE (known) {joined}"
        execute_over(self.connection, "state", names, open_rows(), f"CREATE OR REPLACE TABLE found AS {found}")
        self.state_count = count
        return count

    def _outcomes_sql(self, joined: str, grace: Grace) -> str:
        """Return the SQL for the keys that differ, are absent or were missing, with their outcome and what decides it.

        Args:
            joined: The rows of the snapshot and of the state by key, those that differ.
            grace: The treatment of keys that the snapshot lacks.
        """
        since, operation = (f"b.b{len(self.types) + at}" for at in range(len(STATE_FIELDS)))
        bound = "NULL" if grace.bound is None else _timestamp_sql(grace.bound)
        facts = {
            "_cdc_accepted": "r.n IS NOT NULL",
            "_cdc_quarantined": "false",
            "_cdc_known": "b.known IS NOT NULL",
            "_cdc_same": f"NOT {differs_sql(self._compared)}",
            "_cdc_since": since,
            "_cdc_marked": f"coalesce({since} IS NOT NULL AND {operation} = '{DELETE}', false)",
            "_cdc_contained": "true",
            "_cdc_due": f"coalesce(coalesce({since}, {_timestamp_sql(grace.time)}) <= {bound}, false)",
        }
        columns = ", ".join(f"{value} AS {name}" for name, value in facts.items())
        of_keys = f"SELECT r.n, {columns}, b.* EXCLUDE (known) {joined} OR {since} IS NOT NULL"
        return f"SELECT *, {outcome_sql(grace.keeps_marked)} AS op FROM ({of_keys})"

    def _read_parquet_sql(self, files: list[Path], names: frozenset[str], fields: T.StructType) -> str:
        """Return the SQL for the rows of Parquet files."""
        columns = []
        for n, column in enumerate(fields):
            name, wanted = quote(column.name), sql_type(column.dataType)
            if column.name not in names:
                value = f"CAST(NULL AS {wanted})"
            elif isinstance(column.dataType, T.TimestampType):
                value = f"CAST({name} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
            else:
                value = f"CAST({name} AS {wanted})"
            columns.append(f"{value} AS b{n}")
        return f"SELECT * FROM (SELECT {', '.join(columns)} FROM {parquet(files)})"

    def _has_repeated_keys(self, state_count: int) -> bool:
        """Return whether several rows have one key: more rows matched than keys, or two inserted rows have one."""
        is_new = "NOT f._cdc_known" if self.grace else f"f.op = '{INSERT}'"
        if self.grace:
            inserted, deleted = self._one(
                f"SELECT count(*) FILTER ({is_new}), count(*) FILTER (n IS NULL) FROM found f"
            )
        else:
            self._by_operation = self._count_operations()
            inserted, deleted = (self._by_operation.get(op, 0) for op in (INSERT, DELETE))
        if self._row_count - inserted != state_count - deleted:
            return True
        if inserted < 2:
            return False
        keys = ", ".join(f"r.v{n}" for n in self._keys)
        new_rows = f"SELECT DISTINCT {keys} FROM found f JOIN rows r USING (n) WHERE {is_new}"
        (new_keys,) = self._one(f"SELECT count(*) FROM ({new_rows})")
        return bool(new_keys < inserted)

    def _find_special_keys(self) -> None:
        """Fill the table `keys`: those of bad rows, and those that several rows have."""
        keys = ", ".join(f"v{n} AS k{n}" for n in self._keys)
        names = ", ".join(f"k{n}" for n in self._keys)
        self.connection.execute(
            f"CREATE OR REPLACE TABLE special AS SELECT {names}, count(*) AS total, count(*) FILTER (bad) AS wrong"
            f" FROM (SELECT {keys}, bad FROM rows WHERE key_state = {READ}) GROUP BY {names}"
            " HAVING count(*) > 1 OR count(*) FILTER (bad) > 0"
        )
        (self._special_count,) = self._one("SELECT count(*) FROM special")
        is_content = not self.table.counts_rows
        content = ", ".join(self._normalized(n) for n in range(len(self.types)) if is_content and n not in self._keys)
        content = f"row({content})" if content else "1"
        newest = "true"
        if self.table.duplicates == "latest":
            at = f"v{self.schema.names.index(str(self.table.updated_at))}"
            newest = f"r.{at} IS NOT DISTINCT FROM max(r.{at}) FILTER (NOT r.bad) OVER (PARTITION BY {names})"
        conflict = PROTECTED if self.table.duplicates == "quarantine" else CONFLICT
        self.connection.execute(
            f"CREATE OR REPLACE TABLE keys AS SELECT {names}, any_value(total) AS total, CASE WHEN"
            f" any_value(wrong) > 0 THEN '{PROTECTED}' WHEN count(DISTINCT content) > 1 THEN '{conflict}'"
            f" ELSE '{_KEPT}' END AS verdict,"
            " min(n) FILTER (is_good) AS n"
            f" FROM (SELECT {names}, total, wrong, r.n, NOT r.bad AND {newest} AS is_good,"
            f" CASE WHEN NOT r.bad AND {newest} THEN {content} END AS content"
            f" FROM rows r JOIN special s ON {' AND '.join(f's.k{n} = r.v{n}' for n in self._keys)}"
            f" WHERE r.key_state = {READ}) GROUP BY {names}"
        )

    def _compared_rows_sql(self) -> str:
        """Return the SQL for the rows of the snapshot that are compared: one per key that is accepted."""
        good = f"SELECT * FROM rows WHERE NOT bad AND key_state = {READ}"
        if not self._special_count:
            return good
        is_special = " AND ".join(f"k.k{n} = r.v{n}" for n in self._keys)
        return (
            f"SELECT r.* FROM ({good}) r LEFT JOIN keys k ON {is_special}"
            f" WHERE k.total IS NULL OR (k.verdict = '{_KEPT}' AND k.n = r.n)"
        )

    def _count(self) -> Counts:
        is_counted = not (self.grace or self.table.slice_by or self._has_special_keys)
        by_operation = self._by_operation if is_counted else self._count_operations()
        keys, null_keys, unreadable = dict[str, tuple[int, int]](), 0, 0
        if self._has_special_keys:
            verdicts = self.connection.execute("SELECT verdict, count(*), sum(total) FROM keys GROUP BY verdict")
            keys = {verdict: (count, int(total)) for verdict, count, total in verdicts.fetchall()}
            null_keys, unreadable = self._one(
                f"SELECT count(*) FILTER (key_state = {NULL}), count(*) FILTER (key_state = {UNREADABLE}) FROM rows"
            )
        broken = sum(len(file.broken) for file in self.files)
        conflicts, conflicting_rows = keys.get(CONFLICT, (0, 0))
        kept, kept_rows = keys.get(_KEPT, (0, 0))
        quarantined = broken + null_keys + unreadable + keys.get(PROTECTED, (0, 0))[1]
        inserted, updated, deleted = (by_operation.get(op, 0) for op in (INSERT, UPDATE, DELETE))
        read = self._row_count + broken
        duplicates = kept_rows - kept
        return Counts(
            rows_read=read,
            inserted=inserted,
            updated=updated,
            deleted=deleted,
            unchanged=read - inserted - updated - quarantined - duplicates - conflicting_rows,
            quarantined=quarantined,
            duplicates=duplicates,
            conflicts=conflicts,
            unreadable_keys=broken + unreadable,
            fewer=self._count_fewer() if self.table.counts_rows else 0,
            **(self._count_missing(by_operation) if self.grace else {}),
        )

    def _count_fewer(self) -> int:
        """Return how many rows of a table without a key have a lower count than before."""
        n = self.schema.names.index(ROW_COUNT)
        query = f"SELECT count(*) FROM found b JOIN rows r ON r.n = b.n WHERE op = '{UPDATE}' AND r.v{n} < b.b{n}"
        (fewer,) = self._one(query)
        return int(fewer)

    def _count_operations(self) -> dict[str, int]:
        """Return the number of keys in `found` by their operation."""
        return dict(self.connection.execute("SELECT op, count(*) FROM found GROUP BY op").fetchall())

    def _count_missing(self, by_operation: Mapping[str, int]) -> dict[str, int]:
        """Return the counts of keys by the rules of `missing`."""
        went, back = by_operation.get(GOES_MISSING, 0), (IS_BACK, PROTECTED_BACK)
        (expired,) = self._one(f"SELECT count(*) FROM found WHERE op = '{DELETE}' AND _cdc_since IS NOT NULL")
        return {
            "missing": went + by_operation.get(STILL_MISSING, 0),
            "went_missing": went,
            "marks": went + sum(by_operation.get(each, 0) for each in back),
            "expired": expired,
        }

    # --- results ------------------------------------------------------------------------------------------------

    @property
    def record_count(self) -> int | None:
        """The number of records by an independent reader, or None if every line is a record."""
        counts = [file.record_count for file in self.files if file.record_count is not None]
        return sum(counts) if len(counts) == len(self.files) else None

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        """The columns of the files that the schema does not name."""
        return tuple(sorted({name for file in self.files for name in file.unknown_columns}))

    @property
    def missing_columns(self) -> frozenset[str]:
        """The declared columns that none of the files has."""
        return frozenset.intersection(*(file.missing_columns for file in self.files))

    def leading_zero_columns(self) -> tuple[str, ...]:
        """Return the number columns that have a text with a leading zero, which their type does not keep."""
        found: set[str] = set()
        for file in self.files:
            texts = {
                name: column.text for name, column in file.columns.items() if has_numbers(self.schema[name].dataType)
            }
            batches = iter(file.read())
            first = next(batches, None) if texts else None
            if first is None:
                continue
            flags = ", ".join(
                f"bool_or(regexp_matches(CAST({t} AS VARCHAR), {literal(LEADING_ZERO)}))" for t in texts.values()
            )
            execute_over(
                self.connection,
                "batches",
                first.schema,
                chain([first], batches),
                f"CREATE OR REPLACE TEMP TABLE zeros AS SELECT {flags} FROM batches",
            )
            found |= {name for name, flag in zip(texts, self._one("SELECT * FROM zeros"), strict=True) if flag}
        return tuple(name for name in self.schema.names if name in found)

    def example_keys(self, limit: int) -> list[tuple[Any, ...]]:
        """Return a few keys of rows that contradict each other."""
        texts = (T.DateType, T.TimestampType, T.TimestampNTZType)  # Python does not hold each of their values
        is_text = {n: isinstance(self.schema.fields[n].dataType, texts) for n in self._keys}
        names = ", ".join(f"CAST(k{n} AS VARCHAR)" if is_text[n] else f"k{n}" for n in self._keys)
        return self.connection.execute(
            f"SELECT {names} FROM keys WHERE verdict = '{CONFLICT}' LIMIT {limit}"
        ).fetchall()

    def conflicting_rows(self, limit: int) -> list[str]:
        """Return the rows of a few keys whose rows contradict each other, as they were received; none of Parquet."""
        few = f"SELECT * FROM keys WHERE verdict = '{CONFLICT}' LIMIT {limit}"
        same_key = " AND ".join(f"k.k{n} = r.v{n}" for n in self._keys)
        rows = self.connection.execute(
            f"SELECT r.n FROM rows r JOIN ({few}) k ON {same_key} WHERE r.key_state = {READ} AND NOT r.bad"
        ).fetchall()
        if self.table.format == "parquet":  # it has no lines to look up by them
            return []
        return [text for file, of_file in self._by_file(n for (n,) in rows) for text in file.received(of_file).values()]

    def change_set(self, sequence: int, time: datetime) -> pa.RecordBatchReader:
        """Return the rows of the change set, by the columns that the lake stores and the `_cdc_*` columns.

        Args:
            sequence: The sequence that the change set gets.
            time: The time of the snapshot.
        """
        missing = [change_sets.MISSING_FIELD] if self.grace else []
        schema = small_tables.arrow_schema(T.StructType([*self.schema, *change_sets.FIELDS, *missing]))
        if self._chained:
            return self._chained.change_set(sequence, time, schema).to_reader()
        values = [f"{changed_value_sql(n)} AS v{n}" for n in range(len(self.types))]
        content = [n for n in range(len(self.types)) if n not in self._keys]
        content = self._compared if self.table.counts_rows else content
        changed = changed_columns_sql({n: self.schema.names[n] for n in content})
        stamp = _timestamp_sql(time)
        operation, since = "op", ""
        if self.grace:
            operation, since = operation_sql("op"), f", {since_sql('op', stamp, self.grace.keeps_marked)}"
        query = (
            f"SELECT {', '.join(values)}, {operation}, {stamp}, {sequence}::BIGINT, {changed}{since}"
            f" FROM found b LEFT JOIN rows r ON r.n = b.n"
        )
        self._optimize(False)
        if self.counts.changes <= _FEW_ROWS:
            return _from_rows(self.connection.execute(query).fetchall(), schema).to_reader()
        reader = self.connection.sql(query).to_arrow_reader(_BATCH_ROWS)
        return pa.RecordBatchReader.from_batches(schema, _cast(reader, schema))

    def share_of_equal_values(self, column: str) -> float:
        """Return the share of the rows with a known key whose value of a column is that of the state; 0 without values.

        Of a key column, it is the share of the rows whose key is known.

        Args:
            column: The column.
        """
        n, counts = self.schema.names.index(column), self.counts
        known = counts.unchanged + counts.updated
        if column in self.table.keys:
            return known / max(min(counts.rows_read, self.state_count), 1)
        (values,) = self._one(f"SELECT count(v{n}) FROM rows WHERE NOT bad")
        differing = f"SELECT count(*) FROM found b JOIN rows r ON r.n = b.n WHERE op = '{UPDATE}' AND "
        (changed,) = self._one(differing + differs_sql([n]))
        return (known - changed) / known if known and values else 0.0

    def row_signatures(self, column_sets: list[list[str]], one_in: int) -> list[tuple[str, tuple[int | None, ...]]]:
        """Return the operation of each inserted and deleted row with hashes of its values.

        Args:
            column_sets: The columns of each hash; it is None if all of their values are null.
            one_in: 1: return all rows. n: return the rows whose first hash is a multiple of n.
        """
        sets = [[self.schema.names.index(name) for name in columns] for columns in column_sets]
        values = ", ".join(f"CASE WHEN op = '{DELETE}' THEN b{n} ELSE v{n} END AS c{n}" for n in sets[0])
        hashes = []
        for at, columns in enumerate(sets):
            row, has_value = ", ".join(f"c{n}" for n in columns), any_sql(f"c{n} IS NOT NULL" for n in columns)
            hashes.append(f"CASE WHEN {has_value} THEN hash(row({row})) END AS h{at}")
        changed = f"SELECT op, {values} FROM found b LEFT JOIN rows r ON r.n = b.n WHERE op IN ('{INSERT}', '{DELETE}')"
        chosen = f" WHERE h0 % {one_in} = 0" if one_in > 1 else ""
        found = self.connection.execute(f"SELECT * FROM (SELECT op, {', '.join(hashes)} FROM ({changed})){chosen}")
        return [(operation, tuple(signature)) for operation, *signature in found.fetchall()]

    def rows_before(self, keys: pa.Table) -> pa.Table:
        """Return the state's rows of updated keys, by the columns that the lake stores.

        Args:
            keys: The keys.
        """
        self.connection.register("wanted", keys.rename_columns([f"w{n}" for n in range(keys.num_columns)]))
        same = " AND ".join(f"w.w{i} = b.b{n}" for i, n in enumerate(self._keys))
        columns = ", ".join(f"b{n}" for n in range(len(self.types)))
        query = f"SELECT {columns} FROM found b JOIN wanted w ON {same} WHERE op = '{UPDATE}'"
        rows = self.connection.sql(query).to_arrow_table()
        self.connection.unregister("wanted")
        schema = small_tables.arrow_schema(self.schema)
        return pa.Table.from_batches(_cast(rows.to_batches(), schema), schema)

    @cached_property
    def quarantine_rows(self) -> list[tuple[str | None, ...]]:
        """The rows that go to quarantine: row as received, column, value, reason and rule.

        Raises:
            NeedsSparkError: They are too many, or the format's rows are written by Spark.
        """
        if not self.counts.quarantined:
            return []
        rejected: list[tuple[str | None, ...]] = [
            (row.received, None, row.raw, row.reason, "malformed") for f in self.files for row in f.broken
        ]
        is_protected = " AND ".join(f"k.k{n} = r.v{n}" for n in self._keys)
        numbers = self.connection.execute(
            f"SELECT r.n, r.bad FROM rows r LEFT JOIN keys k ON {is_protected} AND r.key_state = {READ}"
            f" WHERE r.bad OR k.verdict = '{PROTECTED}' ORDER BY r.n LIMIT {_MAX_FAULTY_ROWS + 1}"
        ).fetchall()
        if len(numbers) > _MAX_FAULTY_ROWS:
            raise NeedsSparkError
        is_bad = dict(numbers)
        for file, positions in self._by_file(is_bad):
            start = self._starts[self.files.index(file)]
            rejected += self._rejected(file, {position: is_bad[start + position] for position in positions})
        return rejected

    def _by_file(self, numbers: Iterable[int]) -> Iterator[tuple[LocalFile, list[int]]]:
        """Yield each file that has rows of these numbers, with their positions in it."""
        wanted = sorted(numbers)
        ends = [*self._starts[1:], self._row_count]
        for file, start, end in zip(self.files, self._starts, ends, strict=True):
            if positions := [n - start for n in wanted if start <= n < end]:
                yield file, positions

    def _rejected(self, file: LocalFile, rows: dict[int, bool]) -> list[tuple[str | None, ...]]:
        """Return the rows at these positions of a file as quarantine keeps them, with whether each is bad itself."""
        received, names = file.received(rows.keys()), list(file.columns)
        picked = _rows_at(file.read(), sorted(rows))
        self.connection.register("picked", picked)
        columns = list(file.columns.values())
        casts = ", ".join(f"{column.value} AS v{n}" for n, column in enumerate(columns))
        found = ", ".join(f"{column.text}, {fault_sql(self.table, file, n)}" for n, column in enumerate(columns))
        keys = [key for key in self.table.keys if key in names]
        values_of_keys = [f"v{names.index(key)}" for key in keys]
        selected = ", ".join([found, *values_of_keys])
        result = self.connection.execute(
            f"SELECT {selected} FROM (SELECT *, {casts} FROM picked) ORDER BY n"
        ).fetchall()
        self.connection.unregister("picked")
        rejected: list[tuple[str | None, ...]] = []
        for position, values in zip(sorted(rows), result, strict=True):
            texts = dict(zip(names, values[0 : 2 * len(names) : 2], strict=True))
            faults = dict(zip(names, values[1 : 2 * len(names) : 2], strict=True))
            if not rows[position]:  # a good row, whose key has others
                row_key = dict(zip(keys, values[2 * len(names) :], strict=True))
                value, column = csv_file.to_json({k: _json_key(v) for k, v in row_key.items()}), ", ".join(row_key)
                reason, rule = DUPLICATE_KEY, "duplicate_key"
            else:
                column = next(name for name, fault in faults.items() if fault)
                value = texts[column]
                reason = "; ".join(f"{name}: {fault}" for name, fault in faults.items() if fault)
                has_null_slice = any(faults[name] == NULL_SLICE for name in self.table.slice_by or ())
                rule = "null_slice" if has_null_slice else "malformed"
                rule = "null_key" if any(texts[key] is None for key in keys) else rule
            rejected.append((received[position], column, value, reason, rule))
        return rejected

    # --- SQL ----------------------------------------------------------------------------------------------------

    @property
    def _keys(self) -> list[int]:
        return [self.schema.names.index(key) for key in self.table.keys]

    @property
    def _compared(self) -> list[int]:
        """The positions of the columns that make an update."""
        return [self.schema.names.index(name) for name in self.table.compared_columns]

    def _same_key(self, rows: str, state: str) -> str:
        return " AND ".join(f"{rows}.v{n} = {state}.b{n}" for n in self._keys)

    def _normalized(self, n: int) -> str:
        """Return the SQL for a value with one form of zero."""
        is_float = isinstance(self.schema[n].dataType, T.FloatType | T.DoubleType)
        return f"CASE WHEN r.v{n} = 0 THEN 0 ELSE r.v{n} END" if is_float else f"r.v{n}"

    def _one(self, query: str) -> tuple[Any, ...]:
        (row,) = self.connection.execute(query).fetchall()
        return row


def _timestamp_sql(time: datetime) -> str:
    return f"make_timestamp({epoch_micros(time)})"


def _from_rows(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Return rows of Python values, whose instants are in UTC without a zone, with the types of a schema."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [
        pa.array(values, _plain_type(field.type)).cast(field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _rows_at(batches: Iterable[pa.RecordBatch], positions: list[int]) -> pa.Table:
    """Return the rows at these positions, which are sorted, with their positions as `n`."""
    picked, start = [], 0
    for batch in batches:
        inside = [n - start for n in positions if start <= n < start + batch.num_rows]
        part = batch.take(small_tables.int_array(inside))
        numbers = small_tables.int_array(start + n for n in inside)
        picked.append(pa.RecordBatch.from_arrays([numbers, *part.columns], names=["n", *part.schema.names]))
        start += batch.num_rows
    return pa.Table.from_batches(picked)


def _plain_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of an instant in UTC without its zone; any other type as it is."""
    return pa.timestamp("us") if pa.types.is_timestamp(data_type) else data_type


def _cast(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield batches with the names and types of a schema, which has as many columns."""
    for batch in batches:
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _json_key(value: object) -> object:
    """Return a part of a key as Spark writes it in JSON."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | int | str):
        return value
    raise NeedsSparkError
