"""Takes a backlog of snapshots in one pass: their decisions are kept in memory, and published together.

One snapshot after the other would write bronze and the ledger for each of them, a second or more every time. Here the
rows before the first one are read into memory, and each accepted snapshot changes them there: the next one is compared
with these. The decisions, change sets and quarantine are the same; the ledger gets many rows in one commit, and bronze
takes their net change later (lakehouse/bronze/backlog.py). A kill loses the decisions since the last commit, which the
next run makes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property, partial
from itertools import accumulate

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from lakehouse import bronze
from lakehouse.bronze import scd2
from lakehouse.failpoints import failpoint
from lakehouse.ingest.compare import open_database
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.grace import find_grace
from lakehouse.ingest.local import PreloadedRows
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import ledger, small_tables
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage.landing import LandedSnapshot

_MAX_BYTES = 64 << 20  # of a snapshot, and of the rows in memory: a larger one is worth a commit of its own
_MAX_DECISIONS = 500  # of one commit of the ledger: so many are made again after a kill
_WRITERS = 2  # a change set is written while the next snapshot is compared
_MAX_UNWRITTEN = 8  # change sets in memory
_MAX_PRELOADED, _MAX_PRELOADED_BYTES = 64, 4 << 20  # snapshots that are read together


@contextmanager
def collect_decisions(context: IngestContext, snapshots: list[LandedSnapshot]) -> Iterator[None]:
    """Take the snapshots that are decided in the block in one pass, if they are many enough, and small enough.

    Args:
        context: The table's ingest, which gets the backlog.
        snapshots: The pending snapshots.
    """
    if not _are_taken_together(context, snapshots):
        yield
        return
    with ExitStack() as stack:
        context.backlog = Backlog(context, snapshots, stack)
        try:
            yield
        finally:
            context.backlog.publish()
            context.backlog = None


def _are_taken_together(context: IngestContext, snapshots: list[LandedSnapshot]) -> bool:
    least = context.table.tuning.backlog_snapshots
    is_many = least > 0 and len(snapshots) >= least
    # Bronze has since when a key is missing, which the rows in memory do not.
    is_plain = not context.config.feed and not (snapshots and find_grace(context, snapshots[0].time))
    return is_many and is_plain and all(each.size <= _MAX_BYTES for each in snapshots)


class Backlog:
    """Decisions about a table's snapshots that are not in the ledger yet, and the rows that they lead to.

    Args:
        context: The table's ingest, whose history has these decisions too.
        snapshots: The pending snapshots, oldest first.
        stack: Closes what the backlog opens.

    Attributes:
        undelivered: The declared columns that no snapshot has had yet, by the path of the last change set.
    """

    def __init__(self, context: IngestContext, snapshots: list[LandedSnapshot], stack: ExitStack) -> None:
        self.undelivered: dict[str, frozenset[str]] = {}
        self._context, self._stack = context, stack
        self._unread, self._snapshot_bytes = snapshots, max(each.size for each in snapshots)
        self._preloaded: PreloadedRows | None = None
        self._decisions: list[LedgerEntry] = []
        self._rows: pa.Table | None = None  # None: bronze has to be read
        self._rows_since: datetime | None = None  # the snapshot that they are the rows after; None: one before these
        self._writers = stack.enter_context(ThreadPoolExecutor(_WRITERS))
        self._unwritten: list[Future[None]] = []

    @cached_property
    def database(self) -> duckdb.DuckDBPyConnection:
        """The database of all comparisons: to open one takes longer than to compare a few rows."""
        return self._stack.enter_context(open_database(self._context, self._snapshot_bytes))

    def preloaded_rows(self, settings: ReadSettings, snapshot: LandedSnapshot) -> PreloadedRows | None:
        """Return the rows of snapshots that are read together, perhaps of this one; None if it is large.

        Args:
            settings: The settings of the readers.
            snapshot: The snapshot to read, as it is pending, or with files that were prepared for reading.
        """
        at = next((n for n, each in enumerate(self._unread) if each is snapshot), None)
        if at is not None:
            following = self._unread[at : at + _MAX_PRELOADED]
            sizes = accumulate(each.size for each in following)
            together = [each for each, size in zip(following, sizes, strict=True) if size <= _MAX_PRELOADED_BYTES]
            self._unread = self._unread[at + max(len(together), 1) :]
            self._preloaded = PreloadedRows(self.database, settings, together) if len(together) > 1 else None
        return self._preloaded

    def rows_before(self, snapshot: LandedSnapshot) -> StateRows | None:
        """Return the rows that a snapshot is compared with, or None if bronze has them and is too large to be read.

        Args:
            snapshot: The snapshot.
        """
        table = self._context.table
        if self._rows is None:
            self.publish()
            bronze.apply_pending(table, self._context.history, snapshot.size)
            self._rows, self._rows_since = self._read_bronze(), None
        if self._rows is None:
            return None
        rows = self._rows
        as_frame = partial(small_tables.to_frame, table.spark, rows, table.schema)
        return StateRows(as_frame, lambda: self._with_end(rows), time=self._rows_since)

    def add(self, entry: LedgerEntry) -> None:
        """Keep a decision until it is published.

        Args:
            entry: The ledger row of the decision.
        """
        self._decisions.append(entry)
        if len(self._decisions) >= _MAX_DECISIONS:
            self.publish()

    def write_change_set(self, comparison: Comparison, sequence: int, path: str) -> None:
        """Write an accepted snapshot's change set, and apply it to the rows in memory.

        Args:
            comparison: The comparison.
            sequence: The sequence of the change set.
            path: Where to write it, relative to the lake.
        """
        self.undelivered = {path: comparison.missing_columns & {*self._context.table.schema.names}}
        if self._rows is None:
            comparison.write_change_set(sequence, path)
            return
        changes, write = comparison.collect_change_set(sequence, path)
        self._rows_since = comparison.snapshot.time
        self._unwritten.append(self._writers.submit(write))
        if len(self._unwritten) > _MAX_UNWRITTEN:  # an error is raised by `publish`, which then publishes nothing
            wait([self._unwritten[-1 - _MAX_UNWRITTEN]])
        if comparison.counts.changes:
            rows = self._with_changes(self._rows, changes)
            self._rows = rows.combine_chunks() if rows.nbytes <= _MAX_BYTES else None

    def _with_changes(self, rows: pa.Table, changes: pa.Table) -> pa.Table:
        """Return rows after a change set."""
        table = self._context.table
        remaining = self._without_keys(rows, changes.select(table.config.keys))
        present = changes.filter(pc.not_equal(changes["_cdc_operation"], "D"))
        return pa.concat_tables([remaining, present.select(table.schema.names).cast(remaining.schema)])

    def publish(self) -> None:
        """Append the decisions that were kept to the ledger, in one commit, when their change sets are written."""
        decisions, self._decisions = self._decisions, []
        unwritten, self._unwritten = self._unwritten, []
        for each in unwritten:
            each.result()
        if decisions:
            failpoint("before_backlog", self._context.table.name)
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

    def _without_keys(self, rows: pa.Table, keys: pa.Table) -> pa.Table:
        """Return the rows that have none of these keys."""
        names = keys.column_names
        if len(names) == 1:
            return rows.filter(pc.invert(pc.is_in(rows[names[0]], value_set=keys[names[0]])))
        numbered = rows.select(names).append_column("_cdc_n", small_tables.int_array(range(rows.num_rows)))
        self.database.register("present_keys", numbered)
        self.database.register("changed_keys", keys)
        same_key = " AND ".join(f"p.{quote(key)} = c.{quote(key)}" for key in names)
        query = f"SELECT _cdc_n FROM present_keys p ANTI JOIN changed_keys c ON {same_key} ORDER BY _cdc_n"
        remaining = self.database.sql(query).to_arrow_table()["_cdc_n"]
        self.database.unregister("present_keys")
        self.database.unregister("changed_keys")
        return rows.take(remaining)
