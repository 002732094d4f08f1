"""Takes a backlog of snapshots in one pass: their decisions are kept in memory, and published together.

One snapshot after the other would write bronze and the ledger for each of them, a second or more every time. Here the
rows before the first one are read into memory, and each accepted snapshot changes them there: the next one is compared
with these. The decisions, change sets and quarantine are the same; the ledger gets many rows in one commit, and bronze
takes their net change later (lakehouse/bronze/backlog.py). A kill loses the decisions since the last commit, which the
next run makes again.
"""

from __future__ import annotations

from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from lakehouse import bronze
from lakehouse.bronze import scd2
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.grace import find_grace
from lakehouse.lake import ledger, small_tables
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage.landing import LandedSnapshot

_MAX_BYTES = 64 << 20  # of a snapshot, and of the rows in memory: a larger one is worth a commit of its own
_MAX_DECISIONS = 500  # of one commit of the ledger: so many are made again after a kill


class Backlog:
    """Decisions about a table's snapshots that are not in the ledger yet, and the rows that they lead to.

    Args:
        context: The table's ingest, whose history has these decisions too.
    """

    def __init__(self, context: IngestContext) -> None:
        self._context = context
        self._decisions: list[LedgerEntry] = []
        self._rows: pa.Table | None = None  # None: bronze has to be read

    @staticmethod
    def fits(context: IngestContext, snapshots: list[LandedSnapshot]) -> bool:
        """Return whether pending snapshots are many enough, and small enough, to be taken in one pass.

        Args:
            context: The table's ingest.
            snapshots: The pending snapshots.
        """
        least = context.table.tuning.backlog_snapshots
        is_many = least > 0 and len(snapshots) >= least
        # Bronze has since when a key is missing, which the rows in memory do not.
        is_plain = not context.config.feed and not (snapshots and find_grace(context, snapshots[0].time))
        return is_many and is_plain and all(each.size <= _MAX_BYTES for each in snapshots)

    def rows_before(self, snapshot: LandedSnapshot) -> StateRows | None:
        """Return the rows that a snapshot is compared with, or None if bronze has them and is too large to be read.

        Args:
            snapshot: The snapshot.
        """
        table = self._context.table
        if self._rows is None:
            self.publish()
            bronze.apply_pending(table, self._context.history, snapshot.size)
            self._rows = self._read_bronze()
        if self._rows is None:
            return None
        rows = self._rows
        return StateRows(partial(small_tables.to_frame, table.spark, rows, table.schema), lambda: self._with_end(rows))

    def add(self, entry: LedgerEntry) -> None:
        """Keep a decision until it is published.

        Args:
            entry: The ledger row of the decision.
        """
        self._decisions.append(entry)
        if len(self._decisions) >= _MAX_DECISIONS:
            self.publish()

    def apply(self, comparison: Comparison, sequence: int) -> None:
        """Apply an accepted snapshot's changes to the rows in memory.

        Args:
            comparison: The comparison, whose change set was written.
            sequence: The sequence of the change set.
        """
        if self._rows is None or not comparison.counts.changes:
            return
        table = self._context.table
        changes = comparison.changed_rows(sequence)
        remaining = _without_keys(self._rows, changes, list(table.config.keys))
        present = changes.filter(pc.not_equal(changes["_cdc_operation"], "D"))
        rows = pa.concat_tables([remaining, present.select(table.schema.names).cast(remaining.schema)])
        self._rows = rows.combine_chunks() if rows.nbytes <= _MAX_BYTES else None

    def publish(self) -> None:
        """Append the decisions that were kept to the ledger, in one commit."""
        decisions, self._decisions = self._decisions, []
        if decisions:
            ledger.append_all(self._context.table.spark, self._context.table.lake, decisions)

    def _read_bronze(self) -> pa.Table | None:
        """Return bronze's current rows, or None if they are many or only Spark can read them."""
        table = self._context.table
        found = bronze.find_current_rows(table)
        if found is None:
            return None
        end = [T.StructField(scd2.END, T.TimestampType())] if table.config.scd == 2 else []
        fields, batches, size = T.StructType([*table.schema, *end]), list[pa.RecordBatch](), 0
        for batch in found.batches(list(found.files), fields):
            size += batch.nbytes
            if size > _MAX_BYTES:
                return None
            batches.append(batch)
        rows = pa.Table.from_batches(batches, small_tables.arrow_schema(fields))
        if end:
            rows = rows.filter(rows[scd2.END].is_null()).drop_columns([scd2.END])
        return rows

    def _with_end(self, rows: pa.Table) -> pa.Table:
        """Return rows as bronze has them: those of a history with the end of their windows."""
        if self._context.config.scd == 1:
            return rows
        end = small_tables.arrow_schema(T.StructType([T.StructField(scd2.END, T.TimestampType())])).field(0)
        return rows.append_column(end, pa.nulls(rows.num_rows, end.type))


def _without_keys(rows: pa.Table, changes: pa.Table, keys: list[str]) -> pa.Table:
    """Return the rows whose key is not among those of the changes."""
    if len(keys) == 1:
        return rows.filter(pc.invert(pc.is_in(rows[keys[0]], value_set=changes[keys[0]])))
    numbered = rows.select(keys).append_column("_cdc_n", pa.array(range(rows.num_rows), pa.int64()))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("state", numbered)
        connection.register("changes", changes.select(keys))
        same_key = " AND ".join(f"s.{quote(key)} = c.{quote(key)}" for key in keys)
        query = f"SELECT _cdc_n FROM state s ANTI JOIN changes c ON {same_key} ORDER BY _cdc_n"
        remaining = connection.sql(query).to_arrow_table()["_cdc_n"]
    return rows.take(remaining)
